"""Keeping an index in order: check, repair, compact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import making
from ..searchable import Searchable

if TYPE_CHECKING:
    from ...methods import Model
    from .checkup import Checkup, Told
    from .mending import Compacted

__all__ = ["Upkeep"]


def _quiet(what: str, done: int, total: int) -> None:
    return None


class Upkeep(Searchable):
    """An index that can be looked at from all sides and put in order."""

    def check(self, told: Told = _quiet) -> Checkup:
        """Verify checksums, counts, the run, derived files, and that approximate search finds what it promises.

        Args:
            told: called with what is looked at, how much of it is done, and how much there is (0: not known).
        """
        from .checking import check

        return check(self.path, self._store, self._collection, self._copied, told)

    def repair(self, told: Told = _quiet) -> Checkup:
        """Remove and make again what is derived and not as it should be; what a check then still finds.

        Raises:
            DataError: another process keeps writing, or nothing can be written there.
        """
        from .mending import repair

        return repair(self.path, self._store, self._collection, self._copied, told)

    def compact(self, told: Told = _quiet) -> Compacted:
        """Forget what was deleted, give its room back, and make anew what is derived. Safe to kill.

        Raises:
            DataError: another process keeps writing, or the disk is full.
        """
        from .mending import compact

        return compact(self.path, self._store, self._collection, told)

    def _copied(self) -> Model:
        """The copy of the run in the folder. Raises CheckpointError, IndexMismatch."""
        from ... import runs

        model = runs.load(self.path / making.RUN, bank=False)
        making.expect(self._store, model)
        return model
