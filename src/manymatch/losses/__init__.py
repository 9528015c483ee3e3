"""Room 5: score losses, regularisers, and the named sum."""

from .base import Objective, Regulariser, Rescored, ScoreLoss, Scores, Term, score
from .diversity import Diversity
from .infonce import InfoNCE
from .mmd import MMD
from .triplet import Triplet

__all__ = [
    "MMD",
    "Diversity",
    "InfoNCE",
    "Objective",
    "Regulariser",
    "Rescored",
    "ScoreLoss",
    "Scores",
    "Term",
    "Triplet",
    "score",
]
