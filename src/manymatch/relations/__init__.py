"""Room 6: modules across items, training only."""

from .association import AssociationGraph
from .base import Related, Relation
from .hypergraph import Hypergraph

__all__ = ["AssociationGraph", "Hypergraph", "Related", "Relation"]
