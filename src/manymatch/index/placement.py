"""How a new Qdrant collection is laid out over its machines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from ..errors import DataError, UnknownName

__all__ = ["Placement"]

_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Placement:
    """None leaves a choice to the server.

    Attributes:
        shards: parts that machines share, `shard_number`.
        replicas: machines that hold each part, `replication_factor`.
        confirmed: replicas that must have a change before it is acknowledged, `write_consistency_factor`.
        on_disk: proxies are mapped from the disk rather than held in memory.
        int8: proxies are held in memory once more in one byte a number, and looked at there first.
    """

    shards: int | None = None
    replicas: int | None = None
    confirmed: int | None = None
    on_disk: bool = True
    int8: bool = False

    @classmethod
    def parse(cls, forms: Iterable[str]) -> Placement:
        """From `shards=12`, `int8=true` and the like. Raises UnknownName, DataError."""
        known = {field.name: field.type for field in fields(cls)}
        found: dict[str, int | bool] = {}
        value: int | bool | None
        for form in forms:
            name, _, text = form.partition("=")
            if name not in known:
                raise UnknownName("placement", name, known)
            if known[name] == "bool":
                value, wanted = _TRUTHS.get(text), "true or false"
            else:
                value = int(text) if text.isdecimal() and int(text) else None
                wanted = "a whole number of at least 1"
            if value is None:
                raise DataError(f"--placement {form!r}: {name} is {text!r}, expected {wanted}")
            found[name] = value
        return cls(**found)  # type: ignore[arg-type]
