"""What searching reads of an index at one generation: mapped files, and what came and went since they were made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..store.rows import MODALITIES, Modality, Snapshot
from .derived import header_at
from .engines import AUTO
from .lately import Lately
from .vectors import Space, Vectors

if TYPE_CHECKING:
    from ...similarity import Similarity
    from ..collection import Spoken
    from .candidates import Candidates, Plan
    from .gallery import Gallery

__all__ = ["EXACT_UP_TO", "Shelf", "View", "spread"]

Array = np.ndarray[Any, Any]

EXACT_UP_TO = 20_000
"""Items of a modality up to which scoring all of them answers quickly enough that no candidates are needed."""

_QUERIES = 200
"""Queries of each asking modality that agreement is measured with."""

_BEHIND = 0.1
_FEW = 1000
"""A file is made again when more than this share of its rows, and more than these few, came or went since."""

_TAIL_BYTES = 64 * 2**20
"""Or when what came since takes more memory than this."""

_SAMPLE = 4096


class View:
    """One generation. Thread-safe.

    Attributes:
        lately: what was asked of it as a whole.

    Args:
        folder: the index folder.
        snapshot: the generation; its settings are read now.
        similarity: gives the run's similarity, called when a gallery is first needed.
        before: the view of an earlier generation, whose maps and rows are gone on with.
        newest: whether files of this generation may take the place of others.
        spoken: as for `making.collection`.
    """

    def __init__(
        self,
        folder: Path,
        snapshot: Snapshot,
        similarity: Callable[[], Similarity],
        before: View | None = None,
        newest: bool = True,
        spoken: Spoken | None = None,
    ) -> None:
        self.generation = snapshot.generation
        self._folder, self._similarity, self._lock = folder, similarity, threading.RLock()
        self._newest, self._spoken = newest, spoken
        self._engine, self._wanted = str(snapshot.setting("engine")), float(snapshot.setting("agreement"))
        self._precision = str(snapshot.setting("precision"))
        self._spaces: dict[str, Any] = snapshot.setting("spaces")
        self._shelves: dict[Modality, Shelf] = {}
        self._before = dict(before._shelves) if before is not None else {}
        self._unwritten: dict[str, str] = dict(before._unwritten) if before is not None else {}
        self.lately = Lately()

    def space(self, modality: Modality) -> Space | None:
        """How the modality's rows become an embedding; None before the first item."""
        found = self._spaces.get(modality)
        return None if found is None else Space(found["kind"], found["layout"], self._precision)

    def shelf(self, modality: Modality, snapshot: Snapshot) -> Shelf | None:
        """All items of the modality; None before the first one. `snapshot` is of this generation."""
        space = self.space(modality)
        if space is None:
            return None
        with self._lock:
            if modality not in self._shelves:
                gallery = self._gallery(modality, space, snapshot)
                self._shelves[modality] = self._stocked(modality, gallery, snapshot)
            return self._shelves[modality]

    # ---- rows

    def _gallery(self, modality: Modality, space: Space, snapshot: Snapshot) -> Gallery:
        from .gallery import Gallery

        before = self._before.get(modality)
        found = None if before is None else self._advanced(before.gallery, modality, space, snapshot)
        if found is None or _behind(found):
            base = Vectors.open(self.vectors_at(modality), space)
            opened = None if base is None else self._behind_of(base, modality, space, snapshot)
            found = opened or found
        if found is None or _behind(found):
            found = self._written(modality, space, snapshot)
        return Gallery(*found, self._similarity())

    def _advanced(
        self, old: Gallery, modality: Modality, space: Space, snapshot: Snapshot
    ) -> tuple[Vectors, Vectors, Array] | None:
        """The old gallery's rows with what came and went since."""
        changes = snapshot.changes_since(old.tail.generation, modality)
        if changes is None or old.base.space != space:
            return None
        new = Vectors.read(snapshot, modality, space, old.tail.last)
        return old.base, Vectors.joined(old.tail, new), np.union1d(old.gone, changes.gone)

    def _behind_of(
        self, base: Vectors, modality: Modality, space: Space, snapshot: Snapshot
    ) -> tuple[Vectors, Vectors, Array] | None:
        """A mapped file with what came and went since; None where it is not of this store's history."""
        changes = snapshot.changes_since(base.generation, modality)
        if changes is None:
            return None
        return base, Vectors.read(snapshot, modality, space, base.last), changes.gone

    def _written(
        self, modality: Modality, space: Space, snapshot: Snapshot, *, always: bool = False
    ) -> tuple[Vectors, Vectors, Array]:
        path = self.vectors_at(modality)
        none = np.empty(0, np.int64)
        if self._newest or always:
            with self._writing(path):
                Vectors.write(path, snapshot, modality, space)
        base = Vectors.open(path, space)
        if base is not None and base.generation == self.generation:
            return base, Vectors.read(snapshot, modality, space, base.last), none
        # It could not be written, or another reader has put its own generation in place since.
        base = Vectors.read(snapshot, modality, space)
        return base, Vectors.read(snapshot, modality, space, base.last), none

    def vectors_at(self, modality: Modality) -> Path:
        """Where the modality's rows lie."""
        return self._folder / f"vectors-{modality}.bin"

    # ---- candidates

    def engine(self, modality: Modality, count: int) -> str:
        """The engine's name for that many items of the modality."""
        if self._engine != AUTO:
            return self._engine
        return "exact" if count <= EXACT_UP_TO else "faiss"

    def candidates_at(self, modality: Modality, name: str) -> Path:
        """Where the structure of that engine lies."""
        return self._folder / f"candidates-{modality}.{name}"

    def _stocked(self, modality: Modality, gallery: Gallery, snapshot: Snapshot) -> Shelf:
        name = self.engine(modality, len(gallery))
        before = self._before.get(modality)
        if name == "exact" or not len(gallery):
            return Shelf(gallery, None)
        from .candidates import Candidates

        old = before.candidates if before is not None else None
        candidates = old if old is not None and not self._late(old, modality, gallery, snapshot) else None
        if candidates is None:
            opened = Candidates.open(self.candidates_at(modality, name), name)
            candidates = opened if opened is not None and self._usable(opened, snapshot) else None
        changes = None if candidates is None else snapshot.changes_since(candidates.generation, modality)
        return Shelf(gallery, candidates, changes is None or not len(changes.gone))

    def restock(self, modality: Modality) -> None:
        """Look for candidates again when the modality is next asked for."""
        with self._lock:
            shelf = self._shelves.pop(modality, None)
            if shelf is not None:
                self._before[modality] = Shelf(shelf.gallery, None)

    def _usable(self, candidates: Candidates, snapshot: Snapshot) -> bool:
        """Whether the structure is of this store's history, and was measured for the agreement that is wanted."""
        return candidates.wanted == self._wanted and snapshot.changes_since(candidates.generation) is not None

    def _late(self, candidates: Candidates, modality: Modality, gallery: Gallery, snapshot: Snapshot) -> bool:
        """Whether the structure cannot be used, or too many items came and went since."""
        changes = snapshot.changes_since(candidates.generation, modality)
        if changes is None or not self._usable(candidates, snapshot):
            return True
        came = len(gallery.rows) - int(np.searchsorted(gallery.rows, candidates.last, side="right"))
        return came + len(changes.gone) > max(_FEW, _BEHIND * len(gallery))

    def due(self, snapshot: Snapshot) -> list[Modality]:
        """Modalities whose candidates are missing, or too far behind."""
        late: list[Modality] = []
        for modality in MODALITIES:
            shelf = self.shelf(modality, snapshot)
            if shelf is None or not len(shelf.gallery) or self.engine(modality, len(shelf.gallery)) == "exact":
                continue
            if shelf.candidates is None or self._late(shelf.candidates, modality, shelf.gallery, snapshot):
                late.append(modality)
        return late

    def build(self, modality: Modality, snapshot: Snapshot, told: Callable[[str], object]) -> None:
        """Make the modality's candidates of this generation, measure them and put them in place."""
        from ...threads import one_thread
        from .candidates import Candidates

        shelf = self.shelf(modality, snapshot)
        assert shelf is not None, "only what is due is built"
        gallery, name = shelf.gallery, self.engine(modality, len(shelf.gallery))
        with one_thread():
            asking = self._asking(modality, snapshot)
            made = Candidates.build(name, gallery, asking, self._wanted, told)
        if made is None:
            return
        path = self.candidates_at(modality, name)
        with self._writing(path):
            made.write(path)
        # From now on mapped, not held in memory.
        mapped = None if path.name in self._unwritten else Candidates.open(path, name)
        with self._lock:
            self._shelves[modality] = Shelf(gallery, mapped or made)
        if path.name in self._unwritten:
            told(self._unwritten[path.name])

    def remake(self, modality: Modality, snapshot: Snapshot, told: Callable[[str], object]) -> None:
        """Make all that is derived of the modality anew, as of this generation, and put it in place."""
        space = self.space(modality)
        if space is None:
            return
        told(f"rows of {modality}s")
        written, count = self._written(modality, space, snapshot, always=True), snapshot.count(modality)
        if not count or self.engine(modality, count) == "exact":
            with self._lock:
                self._shelves.pop(modality, None)
                self._before.pop(modality, None)
            for path in self._folder.glob(f"candidates-{modality}.*"):
                path.unlink(missing_ok=True)
            return
        from .gallery import Gallery

        gallery = Gallery(*written, self._similarity())
        with self._lock:
            old = self._shelves.get(modality) or Shelf(gallery, None)
            self._shelves[modality] = Shelf(gallery, old.candidates, old.whole)
        self.build(modality, snapshot, told)

    # ---- where nothing can be written

    @property
    def notes(self) -> list[str]:
        """What could not be written and is held in memory, a line each."""
        return list(self._unwritten.values())

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Searches go on where the disk is full or the folder is not this user's to write in; `notes` tells."""
        try:
            yield
            self._unwritten.pop(path.name, None)
        except OSError as error:
            self._unwritten[path.name] = (
                f"{path.name} is held in memory: {path.parent} cannot be written ({error.strerror or error}); "
                "make room or give this user the right to write there"
            )

    def _asking(self, searched: Modality, snapshot: Snapshot) -> dict[Modality, Any]:
        """Queries of both modalities, spread evenly over the index's own items, or else over its bank's queries."""
        from .candidates import Asking

        out: dict[Modality, Any] = {}
        for asking in MODALITIES:
            shelf = self.shelf(asking, snapshot)
            if shelf is None or not len(shelf.gallery):
                given = None if self._spoken is None else self._spoken(asking, _QUERIES)
                if given is not None:
                    out[asking] = Asking(given)
                continue
            chosen = spread(shelf.gallery.positions())
            own = shelf.gallery.rows[chosen] if asking == searched else None
            out[asking] = Asking(shelf.gallery.embedding(chosen), own)
        return out

    def plans(self, modality: Modality, snapshot: Snapshot) -> dict[str, Plan]:
        """Asking modality -> how candidates are asked for, as last measured; empty where the search is exact."""
        from .candidates import plans_of

        name = self.engine(modality, snapshot.count(modality))
        header = None if name == "exact" else header_at(self.candidates_at(modality, name))
        if header is None or header["wanted"] != self._wanted or snapshot.changes_since(header["generation"]) is None:
            return {}
        return plans_of(header)


class Shelf:
    """A gallery with the structure that finds its candidates, where there is one.

    Attributes:
        whole: whether everything in the structure is still there.
        lately: filters and facets that were asked for.
    """

    def __init__(self, gallery: Gallery, candidates: Candidates | None, whole: bool = True) -> None:
        self.gallery, self.candidates, self.whole = gallery, candidates, whole
        self.lately = Lately()

    @cached_property
    def late(self) -> tuple[Array, Array]:
        """Positions and proxies of the items that came after the candidates were built."""
        assert self.candidates is not None, "without candidates nothing is late"
        first = int(np.searchsorted(self.gallery.rows, self.candidates.last, side="right"))
        positions = np.arange(first, len(self.gallery.rows))
        if self.gallery.alive is not None:
            positions = positions[self.gallery.alive[first:]]
        parts = [given for _, given in self.gallery.proxies(positions)] if len(positions) else []
        return positions, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    @cached_property
    def sample(self) -> Array:
        """Positions of up to 4096 items, in an order drawn once and for all."""
        there = self.gallery.positions()
        return there[np.random.default_rng(0).choice(len(there), min(_SAMPLE, len(there)), replace=False)]


def spread(positions: Array) -> Array:
    """Those whose items agreement is measured with: up to 200, evenly over all."""
    return positions[np.unique(np.linspace(0, len(positions) - 1, _QUERIES).round().astype(np.int64))]


def _behind(found: tuple[Vectors, Vectors, Array]) -> bool:
    base, tail, gone = found
    if tail.data.nbytes > _TAIL_BYTES:
        return True
    return len(tail) + len(gone) > max(_FEW, _BEHIND * len(base))
