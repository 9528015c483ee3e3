"""The derived files of one generation, opened when first asked for and remade where they are stale or damaged."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..similarity import Similarity
from .candidates import Asking, Candidates
from .engines import AUTO
from .gallery import Gallery, one_thread
from .rows import Modality, Snapshot
from .vectors import Space, Vectors

__all__ = ["EXACT_UP_TO", "View"]

EXACT_UP_TO = 20_000
"""Items of a modality up to which scoring all of them answers quickly enough that no candidates are needed."""

_QUERIES = 200
"""Queries of each asking modality that agreement is measured with."""

_MODALITIES: tuple[Modality, ...] = ("image", "caption")


class View:
    """What searching reads at one generation. Thread-safe.

    Args:
        folder: the index folder.
        snapshot: the generation; its settings are read now.
        similarity: gives the run's similarity, called when a gallery is first needed.
    """

    def __init__(self, folder: Path, snapshot: Snapshot, similarity: Callable[[], Similarity]) -> None:
        self.generation = snapshot.generation
        self._folder, self._similarity, self._lock = folder, similarity, threading.RLock()
        self._engine, self._wanted = str(snapshot.setting("engine")), float(snapshot.setting("agreement"))
        self._precision = str(snapshot.setting("precision"))
        self._spaces: dict[str, Any] = snapshot.setting("spaces")
        self._galleries: dict[Modality, Gallery] = {}
        self._candidates: dict[Modality, Candidates | None] = {}

    def space(self, modality: Modality) -> Space | None:
        """How the modality's rows become an embedding; None before the first item."""
        found = self._spaces.get(modality)
        return None if found is None else Space(found["kind"], found["layout"], self._precision)

    def gallery(self, modality: Modality, snapshot: Snapshot) -> Gallery | None:
        """All items of the modality; None before the first one. `snapshot` is of this generation."""
        space = self.space(modality)
        if space is None:
            return None
        with self._lock:
            if modality not in self._galleries:
                vectors = self._vectors(modality, snapshot)
                self._galleries[modality] = Gallery(vectors, space, self._similarity())
            return self._galleries[modality]

    def _vectors(self, modality: Modality, snapshot: Snapshot) -> Vectors:
        path = self._folder / f"vectors-{modality}.bin"
        found = Vectors.open(path, self.generation)
        if found is None:
            Vectors.write(path, snapshot, modality, self._precision)
            # Another reader may put its own generation in place before this one opens what it wrote.
            found = Vectors.open(path, self.generation) or Vectors.read(snapshot, modality, self._precision)
        return found

    def engine(self, modality: Modality, count: int) -> str:
        """The engine's name for that many items of the modality."""
        if self._engine != AUTO:
            return self._engine
        return "exact" if count <= EXACT_UP_TO else "faiss"

    def agreement(self, modality: Modality, count: int) -> dict[str, float] | None:
        """Asking modality -> agreement of its approximate search, as last measured; None where nothing was yet."""
        name = self.engine(modality, count)
        plans = Candidates.plans_at(self._folder / f"candidates-{modality}.{name}", self.generation)
        return None if plans is None else {who: p.agreement for who, p in plans.items() if p.count is not None}

    def candidates(self, modality: Modality, snapshot: Snapshot) -> Candidates | None:
        """The candidate structure; None where every item is scored."""
        gallery = self.gallery(modality, snapshot)
        if gallery is None or not len(gallery) or self.engine(modality, len(gallery)) == "exact":
            return None
        with self._lock:
            if modality not in self._candidates:
                self._candidates[modality] = self._open_candidates(modality, gallery, snapshot)
            return self._candidates[modality]

    def _open_candidates(self, modality: Modality, gallery: Gallery, snapshot: Snapshot) -> Candidates | None:
        name = self.engine(modality, len(gallery))
        path = self._folder / f"candidates-{modality}.{name}"
        found = Candidates.open(path, self.generation, name)
        if found is None:
            with one_thread():
                asking = self._asking(modality, snapshot)
                found = Candidates.build(name, gallery, asking, self._wanted)
            if found is not None:
                found.write(path, self.generation)
                # From now on mapped, not held in memory.
                found = Candidates.open(path, self.generation, name) or found
        return found

    def _asking(self, searched: Modality, snapshot: Snapshot) -> dict[str, Asking]:
        """Queries of both modalities, spread evenly over the index's own items."""
        out: dict[str, Asking] = {}
        for asking in _MODALITIES:
            gallery = self.gallery(asking, snapshot)
            if gallery is None or not len(gallery):
                continue
            chosen = np.unique(np.linspace(0, len(gallery) - 1, _QUERIES).round().astype(np.int64))
            out[asking] = Asking(gallery.embedding(chosen), chosen if asking == searched else None)
        return out
