"""Room 11: photos and captions, kept, found and looked at."""

from .index import Index
from .results import Hit, Results
from .rows import Added

__all__ = ["Added", "Hit", "Index", "Results"]
