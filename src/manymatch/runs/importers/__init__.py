"""Official checkpoints to our models: one file a system, each saying which of their names is which of ours.

`import-checkpoint SYSTEM FILE` finds `importers/SYSTEM.py`, whose `IMPORTER` is an `Importer`. A new system is one more
file.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ...errors import UnknownName
from .base import Importer, Sizes

__all__ = ["Importer", "Sizes", "importer", "systems"]


def systems() -> list[str]:
    """Names of all systems whose checkpoints can be imported."""
    return sorted(m.name for m in iter_modules(__path__) if m.name != "base")


def importer(system: str) -> Importer:
    """The importer of that system. Raises UnknownName with the nearest known one."""
    if system not in systems():
        raise UnknownName("system", system, systems())
    module: Any = import_module(f".{system}", __name__)
    return module.IMPORTER
