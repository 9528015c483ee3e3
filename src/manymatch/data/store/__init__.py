"""Features of frozen backbones on disk: computed once, read in place, never in memory as a whole."""

from .catalogue import Damaged
from .checking import Checked, check_store
from .records import Kind
from .store import FeatureStore, Shelf, StoreFeatures, Where, default_folder, open_store, picture_digest

__all__ = [
    "Checked",
    "Damaged",
    "FeatureStore",
    "Kind",
    "Shelf",
    "StoreFeatures",
    "Where",
    "check_store",
    "default_folder",
    "open_store",
    "picture_digest",
]
