"""What a check of an index looked at and found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AGAIN", "MEND", "RESTORE", "Checkup", "Finding", "Told"]

Told = Callable[[str, int, int], object]
"""Called with what is looked at, how much of it is done, and how much there is (0: not known)."""

AGAIN = "index-add it again"
MEND = "repair with: manymatch index-check X --repair"
RESTORE = "restore a backup of the folder, or build the index again from its data"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: "database", "setting", "item", "text", "history", "run", "derived", "agreement", "picture", "leftover" or
            "server".
        where: the file, with the item's id or the setting's name.
        what, found, expected: what it is about, what is there, and what should be.
        todo: what to do.
        harmless: answers are right and nothing is lost meanwhile.
    """

    kind: str
    where: str
    what: str
    found: str
    expected: str
    todo: str
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: found {self.found}, expected {self.expected}; {self.todo}"

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__}


@dataclass
class Checkup:
    """What a check looked at and found.

    Attributes:
        findings: in the order they were met.
        looked: what was verified, one line each, agreement included.
        skipped: what could not be, and why.
        mended: what a repair did.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def problems(self) -> list[Finding]:
        """Findings that are not harmless."""
        return [finding for finding in self.findings if not finding.harmless]

    def say(
        self, kind: str, where: str, what: str, found: str, expected: str, todo: str, harmless: bool = False
    ) -> None:
        """Add a finding."""
        self.findings.append(Finding(kind, where, what, found, expected, todo, harmless))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "path": self.path,
            "problems": len(self.problems),
            "findings": [finding.to_json() for finding in self.findings],
            "looked": self.looked,
            "skipped": self.skipped,
            "mended": self.mended,
            "seconds": round(self.seconds, 3),
        }
