"""Room 6: modules across items, training only."""

from .base import Related, Relation

__all__ = ["Related", "Relation"]
