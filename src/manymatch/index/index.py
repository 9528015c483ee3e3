"""The index: build, open, add, delete, search. One folder: the truth, a copy of the run, and derived files."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import DataError, Error
from . import making
from .collection import Collection
from .filters import Where
from .growing import Growing
from .placement import Placement
from .store.rows import MODALITIES, Added, Modality
from .store.store import FORMAT, Store

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..data.store import Where as Stored
    from ..embeddings import Embedding
    from ..methods import Model
    from ..similarity import Similarity

__all__ = ["Index"]

_PATIENCE = 5.0
"""Seconds that closing waits for what is made in the background."""


class Index(Growing):
    """An index folder. Made by `Index.build` or `Index.open`; safe to use from many threads and processes.

    The run it was built with is loaded when a query first needs it, so that listing and storing are quick.
    """

    def __init__(self, path: Path, store: Store, collection: Collection, model: Model | None = None) -> None:
        super().__init__(path, store, collection, model)
        self._keeping: threading.Thread | None = None
        self._closing = threading.Event()

    # ---- making and opening

    @classmethod
    def build(
        cls,
        model: Model,
        pairs: Pairs,
        out: str | Path,
        *,
        engine: Literal["exact", "faiss", "qdrant"] | None = None,
        precision: Literal["float16", "float32"] = "float16",
        agreement: float | None = None,
        url: str | None = None,
        placement: Placement | None = None,
        progress: Callable[[Added, int], object] | None = None,
        told: Callable[[str], object] | None = None,
        store: Stored = None,
    ) -> Self:
        """Index every image and caption of `pairs`, in batches, each committed before the next begins.

        A folder that already is an index of the same run is added to, so an interrupted build can be called again;
        what is there as it is now is not encoded again (`sync`).

        Args:
            engine: where candidates come from; None chooses by the number of items.
            precision: of the stored embeddings. float16 moves cosines by less than 5e-5 from a width of 512 on.
            agreement: share of the exact first ten that approximate search has to find; the number of candidates
                follows from it. 0.99 unless told.
            url: of the Qdrant server, for the engine "qdrant"; its key is read from QDRANT_API_KEY.
            placement: how a new collection there is laid out over its machines.
            progress: called after each commit with the images added and replaced so far, and the number in all.
            told: called with what `sync` tells, and the name of each step of building and measuring candidates.
            store: as `add_all`.

        Raises:
            IndexMismatch: the folder is an index of another run, or of another precision.
            DataError: nothing to index, a picture cannot be read, or an embedding is not finite.
            UnknownName: an engine or precision that does not exist.
        """
        if not len(pairs):
            raise DataError(f"{pairs.name}: no images, so nothing to index; read data with at least one")
        # What the model cannot read must not leave an empty index of this run behind.
        model.prepare_images(pairs.images[:1])
        index = cls.begin(
            model, out, engine=engine, precision=precision, agreement=agreement, url=url, placement=placement
        )
        index.add_all(pairs, progress, store=store, told=told)
        index.refresh(told)
        return index

    @classmethod
    def begin(
        cls,
        model: Model,
        out: str | Path,
        *,
        engine: Literal["exact", "faiss", "qdrant"] | None = None,
        precision: Literal["float16", "float32"] = "float16",
        agreement: float | None = None,
        url: str | None = None,
        placement: Placement | None = None,
    ) -> Self:
        """An index of this run without items, or the one that is there already. Arguments and errors as `build`."""
        wish = making.Wish(engine, precision, agreement, url, placement)
        return cls._opened(Path(out), making.prepared(model, Path(out), wish), model)

    @classmethod
    def open(cls, path: str | Path, model: Model | None = None) -> Self:
        """Open an index folder.

        Args:
            model: the run it was built with, where it is loaded already; by default the copy in the folder is loaded
                when a query first needs it.

        Raises:
            DataError: no index there, or a damaged one.
            IndexMismatch: another format, or another run than `model`.
        """
        store = Store(Path(path) / making.FILE)
        if model is not None:
            making.expect(store, model)
        return cls._opened(Path(path), store, model)

    @classmethod
    def _opened(cls, folder: Path, store: Store, model: Model | None) -> Self:
        # The collection asks for the similarity only once a search does, when `made` has the index.
        made: list[Self] = []

        def similarity() -> Similarity:
            return made[0].model.similarity

        def spoken(asking: Modality, count: int) -> Embedding | None:
            return made[0].spoken(asking, count)

        made.append(cls(folder, store, making.collection(folder, store, similarity, spoken), model))
        return made[0]

    def close(self) -> None:
        """Let go of connections and maps. An index that is used again opens what it needs."""
        self._closing.set()
        if self._keeping is not None and self._keeping is not threading.current_thread():
            # Candidates take minutes to build and cannot be left half way; those who close do not wait that long.
            self._keeping.join(_PATIENCE)
        self._collection.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- changing

    def refresh(self, told: Callable[[str], object] | None = None) -> None:
        """Make what searches derive from the items now: mapped rows, candidates, and their measured agreement.

        One process at a time does so; the next then does what is left to do. Searches do well without: they read what
        was added since from the store, and score every item where there are no candidates. Call it after large changes.

        Args:
            told: called with the name of each step.
        """
        self._collection.refresh(told)

    def calibrate(self, pairs: Pairs, truth: str | None = None) -> None:
        """Learn from held-out pairs how probable a score makes a right answer, and keep it in the index.

        Args:
            pairs: encoded by the run; not those it was trained on.
            truth: what the right answers are; the widest that the pairs have unless told (`evaluation.calibrate`).

        Raises:
            DataError: too few pairs, or scores that are not finite.
        """
        from ..evaluation.calibrating import calibrate

        found = calibrate(self.model, pairs, truth=truth)
        with self._store.writing() as change:
            change.set("calibration", found.to_json())

    # ---- keeping

    def warm(self) -> None:
        """Load the run and open what searches read, so that the first one does not wait for it."""
        _ = self.model
        with self._collection.reading() as reading:
            for modality in MODALITIES:
                reading.pool(modality, Where())

    def keep_up(self, every: float = 30.0) -> None:
        """From now on bring what is derived up to date in the background; searches go on meanwhile. `close` ends it.

        Args:
            every: seconds between looks at whether candidates are missing or far behind.
        """
        with self._lock:
            if self._keeping is None or not self._keeping.is_alive():
                self._closing.clear()
                self._keeping = threading.Thread(
                    target=self._keep, args=(every,), name="manymatch-refresh", daemon=True
                )
                self._keeping.start()

    def _keep(self, every: float) -> None:
        while True:
            try:
                # Of several servers of one index, one makes what all of them read.
                self._collection.refresh(wait=False)
            except (Error, OSError) as error:
                # Searches go on without candidates; what is wrong with the folder may be mended meanwhile.
                warnings.warn(f"{self.path}: {error}", RuntimeWarning, stacklevel=1)
            if self._closing.wait(every):
                return

    # ---- looking

    def settings(self) -> dict[str, Any]:
        """What the index keeps of itself: run, similarity, precision, engine, calibration and the like."""
        with self._store.reading() as snapshot:
            return snapshot.settings()

    def info(self) -> dict[str, Any]:
        """What the index is, as JSON: counts, the run, whether items have biases, how they are stored and searched."""
        settings = self.settings()
        with self._collection.reading() as reading:
            counts = {f"{modality}s": reading.count(modality) for modality in MODALITIES}
            pools = [reading.pool(modality, Where()) for modality in MODALITIES]
            bank = any(pool is not None and pool.biased(asking) for pool in pools for asking in MODALITIES)
        names = ("model", "similarity", "fingerprint", "precision", "spaces")
        return {
            "path": str(self.path),
            "format": FORMAT,
            **counts,
            **{name: settings[name] for name in names},
            "calibrated": bool(settings["calibration"]),
            "bank": bank,
            **self._collection.about(),
        }
