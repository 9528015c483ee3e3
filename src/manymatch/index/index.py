"""The index: build, open, add, delete, search. One folder: the truth, a copy of the run, and derived files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from PIL import Image

from ..embeddings import Embedding
from ..errors import DataError, IndexMismatch, UnknownName
from ..similarity import Similarity
from .add import embedded_records, encoded_records, put
from .contents import Contents
from .engines import AUTO, check_engine
from .gallery import one_thread
from .results import Results
from .rows import Added, Modality, Snapshot, Stored
from .search import Asked, Ranked, check_page, encode, hits_of, modality_of, name_of, rank
from .store import FORMAT, Store
from .view import View

if TYPE_CHECKING:
    from ..data.pairs import Pairs, Pictures
    from ..methods import Model

__all__ = ["Index"]

_FILE = "index.sqlite"
_RUN = "run"
_BATCH = 256
"""Images of one acknowledged batch of `build`."""

_WANTED = 0.99
"""Agreement with exact search that the number of candidates is chosen for."""


class Index(Contents):
    """An index folder. Made by `Index.build` or `Index.open`; safe to use from many threads and processes.

    The run it was built with is loaded when a query first needs it, so that listing and storing are quick.
    """

    def __init__(self, path: Path, store: Store, model: Model | None = None) -> None:
        super().__init__(path, store)
        self._model = model
        self._view: View | None = None
        self._lock = threading.RLock()

    # ---- making and opening

    @classmethod
    def build(
        cls,
        model: Model,
        pairs: Pairs,
        out: str | Path,
        *,
        engine: Literal["exact", "faiss"] | None = None,
        precision: Literal["float16", "float32"] = "float16",
        progress: Callable[[Added, int], object] | None = None,
    ) -> Self:
        """Index every image and caption of `pairs`, in batches, each committed before the next begins.

        A folder that already is an index of the same run is added to, so an interrupted build can be called again.

        Args:
            engine: where candidates come from; None chooses by the number of items.
            precision: of the stored embeddings. float16 moves cosines by less than 5e-5 from a width of 512 on.
            progress: called after each commit with the images added and replaced so far, and the number in all.

        Raises:
            IndexMismatch: the folder is an index of another run, or of another precision.
            DataError: nothing to index, a picture cannot be read, or an embedding is not finite.
            UnknownName: an engine or precision that does not exist.
        """
        if not len(pairs):
            raise DataError(f"{pairs.name}: no images, so nothing to index; read data with at least one")
        # What the model cannot read must not leave an empty index of this run behind.
        model.prepare_images(pairs.images[:1])
        index = cls._prepare(model, Path(out), engine, precision)
        total = Added()
        for start in range(0, len(pairs), _BATCH):
            total += index.add(pairs.take(range(start, min(start + _BATCH, len(pairs)))))
            if progress is not None:
                progress(total, len(pairs))
        index.refresh()
        return index

    @classmethod
    def _prepare(cls, model: Model, folder: Path, engine: str | None, precision: str) -> Self:
        """An empty index of this run, or the one that is there already."""
        if precision not in ("float16", "float32"):
            raise UnknownName("precision", precision, ("float16", "float32"))
        name = check_engine(engine or AUTO)
        if (folder / "run.json").is_file():
            raise DataError(f"index: {str(folder)!r} is a run folder; choose another --out, the run is copied into it")
        if (folder / _FILE).exists() and not Store.is_blank(folder / _FILE):
            index = cls.open(folder, model)
            index._choose(engine, precision)
            return index
        from .. import runs

        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"index: {str(folder)!r} cannot be a folder ({error.strerror}); choose another") from None
        runs.save_search(model, folder / _RUN)
        settings = {
            "fingerprint": model.fingerprint(),
            "similarity": type(model.similarity).__name__,
            "model": model.name,
            "precision": precision,
            "engine": name,
            "agreement": _WANTED,
        }
        return cls(folder, Store.create(folder / _FILE, settings), model)

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
        folder = Path(path)
        index = cls(folder, Store(folder / _FILE))
        if model is not None:
            index._expect(model)
            index._model = model
        return index

    def _choose(self, engine: str | None, precision: str) -> None:
        with self._store.writing() as change:
            stored = change.setting("precision")
            if stored != precision:
                raise IndexMismatch(
                    f"{self.path}: stored in {stored}, asked for {precision}; "
                    f"leave it at {stored}, or build into another folder"
                )
            if engine is not None and engine != change.setting("engine"):
                change.set("engine", engine)
                change.changed = True

    def _expect(self, model: Model) -> None:
        with self._store.reading() as snapshot:
            wanted = {name: snapshot.setting(name) for name in ("similarity", "fingerprint", "model")}
        found = type(model.similarity).__name__
        if found != wanted["similarity"]:
            raise IndexMismatch(
                f"{self.path}: built with the similarity {wanted['similarity']}, the run has {found}; "
                "use the run it was built with, or build into another folder"
            )
        if model.fingerprint() != wanted["fingerprint"]:
            raise IndexMismatch(
                f"{self.path}: built with another run ({wanted['model']}, {wanted['fingerprint'][:12]}), "
                f"this one is {model.name}, {model.fingerprint()[:12]}; "
                "use the run it was built with, or build into another folder"
            )

    def close(self) -> None:
        """Let go of connections and maps. An index that is used again opens what it needs."""
        self._view = None
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- changing

    def add(self, pairs: Pairs) -> Added:
        """Encode and store images with their captions, in one transaction. A known id is replaced.

        Raises:
            DataError: a picture cannot be read, or an embedding is not finite; nothing is stored then.
        """
        if not len(pairs):
            return Added()
        batch = encoded_records(self.model, pairs, self._precision())
        with self._store.writing() as change:
            return put(change, batch)

    def add_embeddings(
        self,
        ids: Sequence[str],
        embedding: Embedding,
        modality: Modality,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        owners: Sequence[str | None] | None = None,
        captions: Sequence[str | None] | None = None,
        pictures: Sequence[str | None] | None = None,
        source: Pictures | None = None,
    ) -> Added:
        """Store items that are encoded already, in one transaction; no model is loaded. A known id is replaced.

        Args:
            ids: one an item, each once.
            embedding: what the run's tower gave for them.
            modality: "image" or "caption".
            metadata: one mapping an item.
            owners: of captions, the image each belongs to, which is in the index.
            captions: of captions, their words.
            pictures, source: of images, the name of each picture, and where those names are read from.

        Raises:
            DataError: lengths that differ, an id twice or of another item, an unknown owner, a number not finite.
            IndexMismatch: another kind or size of embedding than the index holds.
        """
        batch = embedded_records(
            ids, embedding, modality, metadata, owners, captions, pictures, source, self._precision()
        )
        with self._store.writing() as change:
            return put(change, batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items in one transaction, with the captions of the images among them; how many items went.

        Raises:
            UnknownName: an id that is not in the index; nothing is deleted then.
        """
        if isinstance(ids, str):
            raise DataError(f"delete: ids is the string {ids!r}, expected a list of ids")
        with self._store.writing() as change:
            return change.delete(list(ids))

    def refresh(self) -> None:
        """Make what is derived from this generation now, rather than in the first search."""
        with self._store.reading() as snapshot:
            view = self._current(snapshot)
            view.candidates("image", snapshot)
            view.candidates("caption", snapshot)

    # ---- searching

    def search(
        self,
        query: str | Path | Image.Image | None = None,
        k: int = 10,
        *,
        like: str | None = None,
        among: Literal["images", "captions"] | None = None,
        exact: bool | None = None,
        offset: int = 0,
    ) -> Results:
        """The k best items for a query, ordered by the run's own similarity.

        Args:
            query: words, or a picture as a path or decoded. A str is always words, so that what a visitor types
                never opens a file.
            like: in place of a query, the id of an item to start from; it is never among the results.
            among: "images" (the default) or "captions".
            exact: True scores every item; otherwise the index's engine decides.
            offset: how many results to pass over first.

        Raises:
            DataError: no query or two, an empty one, k below 1, offset below 0, a picture the run cannot look at.
            UnknownName: `like` is not in the index.
        """
        check_page(k, offset)
        name, modality = name_of(query, like), modality_of(among)
        with self._store.reading() as snapshot:
            view = self._current(snapshot)
            item = None if like is None else snapshot.item(like)
            gallery = view.gallery(modality, snapshot)
            found, hits = Ranked.none(), []
            candidates = None if exact or not gallery else view.candidates(modality, snapshot)
            model = None if query is None or not gallery else self.model
            started = time.perf_counter()
            if gallery:
                with one_thread():
                    asked = _asked(view, snapshot, item) if query is None or model is None else encode(model, query)
                    found = rank(gallery, candidates, asked, offset + k)
                hits = hits_of(snapshot, gallery.vectors.rows[found.positions[offset:]], found.scores[offset:], offset)
        return Results(
            query=name,
            hits=tuple(hits),
            exact=found.agreement is None,
            agreement=found.agreement,
            searched=0 if gallery is None else len(gallery),
            milliseconds=1000 * (time.perf_counter() - started),
        )

    def captions_of(self, id: str, k: int = 10) -> Results:
        """The captions that fit the item best, its own included. Raises UnknownName."""
        return self.search(like=id, k=k, among="captions")

    @property
    def model(self) -> Model:
        """The run, loaded when first asked for. Raises IndexMismatch when the copy in the folder is another one."""
        with self._lock:
            if self._model is None:
                from .. import runs

                model = runs.load(self.path / _RUN)
                self._expect(model)
                self._model = model
            return self._model

    def _similarity(self) -> Similarity:
        return self.model.similarity

    def _current(self, snapshot: Snapshot) -> View:
        """The view of the snapshot's generation."""
        with self._lock:
            if self._view is None or self._view.generation != snapshot.generation:
                self._view = View(self.path, snapshot, self._similarity)
            return self._view

    # ---- looking

    def info(self) -> dict[str, Any]:
        """What the index is, as JSON: counts, the run, how items are stored and searched."""
        with self._store.reading() as snapshot:
            view = self._current(snapshot)
            counts: dict[Modality, int] = {m: snapshot.count(m) for m in ("image", "caption")}
            names = ("model", "similarity", "fingerprint", "precision", "generation", "spaces")
            return {
                "path": str(self.path),
                "format": FORMAT,
                "images": counts["image"],
                "captions": counts["caption"],
                **{name: snapshot.setting(name) for name in names},
                "engine": {modality: view.engine(modality, count) for modality, count in counts.items()},
                "agreement": {modality: view.agreement(modality, count) for modality, count in counts.items()},
            }

    def _precision(self) -> str:
        with self._store.reading() as snapshot:
            return str(snapshot.setting("precision"))


def _asked(view: View, snapshot: Snapshot, item: Stored | None) -> Asked:
    space = None if item is None else view.space(item.modality)
    assert item is not None and space is not None, "an item has the space of its modality"
    return Asked(space.unpack_one(snapshot.vector(item.row)), item.modality, item.row)
