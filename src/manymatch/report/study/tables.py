"""TOML tables read field by field: what is missing, unknown or of another type is told by file and key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data.files import regular_file
from ...errors import DataError, UnknownName

__all__ = ["Table", "read_toml"]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_KINDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read_toml(path: str | Path) -> Table:
    """The whole file as a table. Raises DataError where it cannot be read or is not TOML."""
    path = regular_file(path, "study")
    try:
        return Table(path, "", tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise DataError(f"study: {str(path)!r} cannot be read as TOML ({error})") from None


class Table:
    """One table of a file.

    Args:
        file: where it stands.
        key: its name in the file, such as `row[3]`; empty for the file itself.
        values: what it holds.
    """

    def __init__(self, file: Path, key: str, values: Mapping[str, Any]) -> None:
        self.file, self.key, self._values = file, key, values

    def wrong(self, key: str, found: object, expected: str) -> DataError:
        """The error that says what stands at a key, and what should."""
        shown = repr(found) if len(repr(found)) <= 80 else f"{repr(found)[:77]}..."
        return DataError(f"study: {str(self.file)!r}, {self.name(key)}: found {shown}, expected {expected}")

    def name(self, key: str) -> str:
        """A key of this table as messages call it."""
        return ".".join(part for part in (self.key, key) if part)

    def knows(self, *keys: str) -> None:
        """Raises UnknownName for a key that is none of these."""
        for key in self._values:
            if key not in keys:
                raise UnknownName(f"key of {f'[{self.key}]' if self.key else 'a study'} in {self.file.name}", key, keys)

    def has(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """A value of one type; a whole number is a number too. Raises DataError."""
        found = self._values.get(key, default)
        if key in self._values and not _is(found, kind):
            raise self.wrong(key, found, _KINDS[kind])
        return float(found) if kind is float and found is not None else found

    def need(self, key: str, kind: type) -> Any:
        """As `get`, of a key that must be there."""
        if key not in self._values:
            raise DataError(f"study: {str(self.file)!r} has no {self.name(key)}, expected {_KINDS[kind]}")
        return self.get(key, kind)

    def several(self, key: str, kind: type, default: Sequence[Any] = ()) -> tuple[Any, ...]:
        """A list of one type; a single value is a list of one. Raises DataError."""
        found = self._values.get(key, list(default))
        values = found if isinstance(found, list) else [found]
        if not all(_is(value, kind) for value in values):
            raise self.wrong(key, found, f"a list of which each is {_KINDS[kind]}")
        return tuple(values)

    def table(self, key: str) -> Table:
        """A table inside this one, empty where it is not there. Raises DataError."""
        found = self._values.get(key, {})
        if not isinstance(found, dict):
            raise self.wrong(key, found, "a table")
        return Table(self.file, self.name(key), found)

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of a list `[[key]]`, each named as it names itself. Raises DataError."""
        found = self._values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self.wrong(key, found, f"tables, each begun with [[{key}]]")
        for number, each in enumerate(found, 1):
            name = each.get("name")
            yield Table(self.file, f"{key}[{name if isinstance(name, str) else number}]", each)

    def settings(self, key: str) -> dict[str, str]:
        """A table of plain values as `--set` writes them, `part.field` for a table in it. Raises DataError."""
        inner = self.table(key)
        out: dict[str, str] = {}
        for name, value in inner._values.items():
            if isinstance(value, dict):
                out |= {f"{name}.{field}": text for field, text in inner.settings(name).items()}
            else:
                out[name] = inner._text(name, value)
        return out

    def _text(self, key: str, value: Any) -> str:
        if isinstance(value, list) and value and not any(isinstance(each, list | dict) for each in value):
            return ",".join(self._text(key, each) for each in value)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float):
            return str(value)
        raise self.wrong(key, value, "text, a number, true or false, or a list of these")

    def path(self, key: str) -> Path | None:
        """A file or folder, `${NAME}` from the environment, relative to where the file lies."""
        return self._path(key, self.get(key, str)) if self.has(key) else None

    def paths(self, key: str) -> tuple[Path, ...]:
        """As `path`, of a list."""
        return tuple(self._path(key, each) for each in self.several(key, str))

    def _path(self, key: str, text: str) -> Path:
        def value(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                raise DataError(
                    f"study: {str(self.file)!r}, {self.name(key)}: {text!r} names the environment variable "
                    f"{found[1]!r}, which is not set"
                )
            return os.environ[found[1]]

        return self.file.parent / _VARIABLE.sub(value, text)


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)
