"""Room 8: the run folder, and runs made of official checkpoints."""

from .devices import device_named
from .folder import (
    is_run,
    load,
    load_bank,
    make_folder,
    names_network,
    read_run,
    save_bank,
    save_search,
    save_tensors,
)
from .imported import import_checkpoint

__all__ = [
    "device_named",
    "import_checkpoint",
    "is_run",
    "load",
    "load_bank",
    "make_folder",
    "names_network",
    "read_run",
    "save_bank",
    "save_search",
    "save_tensors",
]
