"""Room 7: the method contract, the model it builds, then one file per published system. File name = method name."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ..errors import UnknownName
from .base import Method
from .model import Batch, Model
from .recipe import Recipe, Stage
from .settings import change

__all__ = [
    "Batch",
    "Method",
    "Model",
    "Recipe",
    "Stage",
    "change",
    "method",
    "method_class",
    "methods",
    "methods_table",
]

_NOT_METHODS = {"base", "batch", "composite", "encoding", "joint", "model", "recipe", "settings", "towers"}


def methods() -> list[str]:
    """Names of all methods in this room."""
    return sorted(m.name for m in iter_modules(__path__) if m.name not in _NOT_METHODS)


def method_class(name: str) -> type[Method]:
    """The method of that name. Raises UnknownName with the nearest known one."""
    if name not in methods():
        raise UnknownName("method", name, methods())
    module: Any = import_module(f".{name}", __name__)
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.name == name
    )


def method(name: str, **settings: Any) -> Method:
    """A method with its default numbers, those of `preset`, and then yours, in this order.

    Args:
        name: as in `methods()`.
        settings: fields of the method; texts are read as the field's type.

    Raises:
        UnknownName: no such method, field or preset; offers the nearest.
        DataError: a value that is not of the field's type.
    """
    cls = method_class(name)
    preset = settings.get("preset", "")
    if preset and preset not in cls.presets:
        raise UnknownName(f"preset of {name}", str(preset), cls.presets)
    return cls(**change(name, cls, {**cls.presets.get(preset, {}), **settings}))


def methods_table() -> list[dict[str, Any]]:
    """One row per method: name, paper, summary, fitted or trained, similarity, fields with defaults and presets."""
    rows = []
    for name in methods():
        cls = method_class(name)
        defaults = {
            f.name: f.default if f.default is not MISSING else None for f in fields(cls) if f.name not in cls.fixed
        }
        rows.append(
            {
                "name": name,
                "paper": cls.paper,
                "summary": cls.summary,
                "kind": cls.kind if cls.fitted else "trained",
                "similarity": type(cls().similarity()).__name__,
                "fields": defaults,
                "presets": {k: dict(v) for k, v in cls.presets.items()},
            }
        )
    return rows
