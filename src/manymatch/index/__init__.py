"""Room 11: photos and captions, kept, found and looked at.

`index.py` is the face. `collection.py` is the contract between asking and keeping; `local/` keeps items in a folder
(mapped files and candidates over the truth in `store/`), `qdrant/` on a server. `answers/` goes from a question to an
answer and knows neither. `care/` checks, mends and compacts.
"""

from .again import Synced
from .answers.results import Hit, Results
from .index import Index
from .store.rows import Added

__all__ = ["Added", "Hit", "Index", "Results", "Synced"]
