"""Captions on their way from a file to an item: what is text stays with its id, what is not is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import storable
from ..pairs import Problem

__all__ = ["Captions", "listed", "plain", "shown", "split_below", "split_named"]

_SPLITS = {
    **dict.fromkeys(("train", "training", "trn", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "minival"), "val"),
    "test": "test",
}


def split_named(name: str) -> str | None:
    """The split that a file or folder name says it is: `captions_train2017` is "train", `dev` is "val"."""
    found = [_SPLITS[word] for word in re.findall("[a-z]+", name.lower()) if word in _SPLITS]
    return found[0] if found else None


def split_below(folder: Path, file: Path) -> str | None:
    """The split that a file's name says it is, else the nearest folder's of those that lie inside `folder`."""
    inside = file.relative_to(folder).parts if folder in file.parents else (file.name,)
    return next((found for name in reversed(inside) if (found := split_named(name))), None)


def plain(value: Any) -> bool:
    """Whether it can be written as JSON again: no NaN or infinity, no half characters, not nested too deeply."""
    try:
        return storable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError):
        return False


def shown(value: Any) -> str:
    """A value as messages show it, in ASCII and cut short."""
    # repr of a large or deep value costs more than the message is worth.
    text = ascii(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass
class Captions:
    """The captions of one image, in the order they were added.

    Attributes:
        file: where they stand.
        texts: the usable ones.
        ids: the file's own id of each, None where it has none.
        numbers: which of all that were added the usable ones are.
        problems: what is wrong with the others.
    """

    file: Path
    texts: list[str] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _added: int = 0

    def add(
        self, where: str, value: Any, identity: Any = None, line: int | None = None, number: int | None = None
    ) -> None:
        """Keep a caption, or say why not; `where` names it inside its file: "annotations[3]"."""
        number, self._added = self._added if number is None else number, self._added + 1
        if not storable(value):
            self.report("caption is not text", f"{where} is {shown(value)}; it is left out", line)
        elif not value.strip():
            self.report("empty caption", f"{where} is empty; it is left out", line)
        else:
            self.texts.append(value)
            self.ids.append(identity)
            self.numbers.append(number)

    def report(self, kind: str, detail: str, line: int | None = None) -> None:
        """List something that is wrong with a caption of this image."""
        self.problems.append(Problem(str(self.file), line, kind, detail))

    def known_ids(self) -> list[Any] | None:
        """The ids, one a caption, when there is any."""
        return self.ids if any(each is not None for each in self.ids) else None


def listed(names: Iterable[str], most: int = 3) -> str:
    """A few names for a message: "a, b, c and 4 more"."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
