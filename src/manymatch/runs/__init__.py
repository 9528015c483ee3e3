"""Room 8: the run folder."""

from .folder import load, read_run, save_search, save_tensors

__all__ = ["load", "read_run", "save_search", "save_tensors"]
