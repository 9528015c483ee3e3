"""Room 6: modules across items, training only."""

from .base import Related, Relation
from .hypergraph import Hypergraph

__all__ = ["Hypergraph", "Related", "Relation"]
