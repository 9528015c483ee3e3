"""What a user can mend. Anything else that escapes is our bug and keeps its trace.

    Error
    ├── DataError         a file, a row or an argument that does not hold what it should
    ├── UnknownName       a name nothing answers to; the message offers the nearest known one
    ├── CheckpointError   a run folder that is missing, incomplete or of another format
    └── IndexMismatch     an index that another run, format or similarity made

A message says what was wrong, where, what was found against what was expected, and what to do.
The command line prints it as one line and exits with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["CheckpointError", "DataError", "Error", "IndexMismatch", "UnknownName"]

_LONGEST = 2_000
"""Characters of a message. What was found in a hostile file may be a megabyte, and none of it belongs on a screen."""


class Error(Exception):
    """Base of every error a user can mend. A message of more than 2,000 characters is cut and says so."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(_cut(arg) if isinstance(arg, str) else arg for arg in args))


class DataError(Error):
    """A file, a row or an argument does not hold what it should."""


class UnknownName(Error):
    """A name nothing answers to.

    Args:
        kind: what was looked for, as the user calls it ("method", "field of dive").
        name: what was asked for.
        known: every name that would have worked.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}known: {', '.join(names) or 'none'}")
        self.kind, self.name, self.known = kind, name, tuple(names)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.kind, self.name, self.known))


class CheckpointError(Error):
    """A run folder is missing, incomplete, or written in another format."""


class IndexMismatch(Error):
    """An index was made by another run, format or similarity."""


def _cut(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    return f"{message[:_LONGEST]}... ({len(message):,} characters)"
