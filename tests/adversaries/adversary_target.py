"""A server, its keys, and what lies beside its collection and must never leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from served import Served

__all__ = ["CANARY", "Target"]

CANARY = b"CANARY-that-no-answer-may-hold"


@dataclass(frozen=True)
class Target:
    """A server, its keys, and the folder that holds its collection and the secrets beside."""

    server: Served
    folder: Path
    read: str
    write: str

    @property
    def url(self) -> str:
        return self.server.url
