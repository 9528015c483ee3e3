"""Room 11: photos and captions, kept, found and looked at."""

from .answers.results import Hit, Results
from .index import Index
from .store.rows import Added

__all__ = ["Added", "Hit", "Index", "Results"]
