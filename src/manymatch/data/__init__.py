"""Room 2: pairs, their sources, features, batches, text and the toy world."""

from .features import Features, Pixels
from .matches import Matches
from .pairs import Images, Item, Pairs, Problem

__all__ = ["Features", "Images", "Item", "Matches", "Pairs", "Pixels", "Problem"]
