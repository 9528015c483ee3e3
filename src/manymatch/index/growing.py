"""An index that grows and shrinks: items are put into it, taken out of it, and brought up to date with their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import DataError, IndexMismatch
from . import making
from .add import embedded_records, encoded_records
from .again import Plan, Synced, compare
from .attention import Attending
from .banked import differing, expect_fitting, item_biases, opened_bank, unpacked
from .digests import Digests
from .store.packed import Packed
from .store.rows import Added, Modality

if TYPE_CHECKING:
    import numpy as np

    from ..bank import Bank
    from ..data.files import Progress
    from ..data.pairs import Pairs, Pictures
    from ..data.store import Where
    from ..embeddings import Embedding

__all__ = ["Growing"]

_BATCH = 256
"""Images of one acknowledged batch."""


class Growing(Attending):
    """An index whose items change."""

    @property
    def bank(self) -> Bank | None:
        """The query bank that says the biases of its items; None where it was made without one.

        Raises:
            DataError, IndexMismatch: the copy of the run that held it is gone, or is another.
        """
        with self._lock:
            if self._bank is None:
                self._bank = (opened_bank(self.banked(), self.path / making.RUN, self._model),)
            return self._bank[0]

    def spoken(self, asking: Modality, count: int) -> Embedding | None:
        """Up to so many of its bank's queries of that modality; None without a bank."""
        try:
            bank = self.bank
        except (DataError, IndexMismatch):
            # Searches do without: they score every item.
            return None
        return None if bank is None else bank.queries[asking].evenly(count)

    def sync(
        self,
        pairs: Pairs,
        *,
        source: str = "",
        split: str | None = None,
        keep_gone: bool = False,
        usable: Callable[[Pairs], Pairs] | None = None,
        looking: Progress | None = None,
        progress: Callable[[Added, int], object] | None = None,
        told: Callable[[str], object] | None = None,
    ) -> Synced:
        """Bring the index up to date with `pairs`: only what is new or changed is encoded, in batches.

        An item is what it was when its picture's bytes (of a run on features, its features), captions, metadata and
        labels are; a file of the same size and times is not read to know. An image that is there under another id, with
        the same bytes and captions, is renamed with what it has. Each step is committed before the next begins, so an
        interrupted call can be made again. Items that were stored without their origin are encoded once more.

        Args:
            source: what the data are called, such as their path. What came from them before and is not among `pairs`
                now is renamed or removed; "" renames and removes nothing.
            split: only the items of this split are looked at; those of others stay as they are.
            keep_gone: leave what is not among `pairs` any more.
            usable: given pairs that are to be encoded, gives those that can be; what it leaves out stays as it is.
            looking: called with (done, total) while pictures are read to compare them.
            progress: called after each commit of a batch with the images added and replaced so far, and the number
                that is encoded in all.
            told: called with a line on what was found, and not done or not as expected.

        Raises:
            DataError: no pairs; everything that came from `source` would be gone, and nothing is changed then; a
                picture that cannot be read, or an embedding that is not finite.
            UnknownName: no such split.
        """
        if not len(pairs):
            raise DataError(f"{pairs.name}: no images, so nothing to index; read data with at least one")
        chosen = pairs.items if split is None else pairs.split(split).items
        digests = Digests(pairs, self.model.image_input, source)
        # Pictures are read for minutes, and nobody is to wait for the end of a transaction so long.
        with self._collection.reading() as reading:
            known = dict(reading.origins())
        plan = compare(pairs, chosen, known, self.images_among, digests, source, keep_gone, looking)
        other = differing(self.banked(), self._given)
        for note in [*plan.notes, *([other] if other else [])] if told is not None else ():
            told(note)  # type: ignore[misc]
        if plan.amended:
            self._collection.amend(plan.amended, digests.description)
        left_out = self._encode(plan, pairs, digests, usable, progress)
        for start in range(0, len(plan.gone), _BATCH):
            # Others may have deleted some meanwhile.
            self._collection.delete(sorted(self.images_among(plan.gone[start : start + _BATCH])))
        return plan.synced.without(left_out, plan.known)

    def images_among(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are images of the index."""
        with self._collection.reading() as reading:
            return reading.images_among(ids)

    def _encode(
        self,
        plan: Plan,
        pairs: Pairs,
        digests: Digests,
        usable: Callable[[Pairs], Pairs] | None,
        progress: Callable[[Added, int], object] | None,
    ) -> list[str]:
        """Encode and store, batch by batch; the ids of what cannot be."""
        total, left_out, precision = Added(), list[str](), self._precision()
        place = {item.id: n for n, item in enumerate(pairs.items)} if plan.encode else {}
        for start in range(0, len(plan.encode), _BATCH):
            items = plan.encode[start : start + _BATCH]
            batch = pairs.take(place[item.id] for item in items)
            some = batch if usable is None else usable(batch)
            there = set(some.image_ids)
            left_out += [item.id for item in items if item.id not in there]
            if len(some):
                digests.look(some.items)
                origins = {item.id: digests.origin(item) for item in some}
                total += self._collection.put(encoded_records(self.model, some, precision, origins, self.bank))
            if progress is not None:
                progress(total, len(plan.encode) - len(left_out))
        return left_out

    def add_all(
        self,
        pairs: Pairs,
        progress: Callable[[Added, int], object] | None = None,
        *,
        store: Where = None,
        told: Callable[[str], object] | None = None,
    ) -> Added:
        """As `sync` without a source: how many images were added, and how many known ones had changed.

        Args:
            progress, told: as for `sync`.
            store: feature store of a frozen image network, which is read and added to; without one nothing is kept, as
                an index holds all that searching needs.

        Raises:
            DataError, UnknownName: as `sync`; with a store too, nothing that cannot be read is left out.
        """
        if not len(pairs):
            return Added()
        done = self.sync(pairs, progress=progress, usable=None if store is None else self._from(store), told=told)
        return Added(done.added, done.changed)

    def _from(self, store: Where) -> Callable[[Pairs], Pairs]:
        def all_of(pairs: Pairs) -> Pairs:
            kept = self.model.supply(pairs, store)
            if len(kept) < len(pairs):
                raise DataError(str(kept.problems[len(pairs.problems)]))
            return kept

        return all_of

    def add(self, pairs: Pairs) -> Added:
        """Encode and store images with their captions, in one transaction. A known id is replaced.

        Raises:
            DataError: a picture cannot be read, or an embedding is not finite; nothing is stored then.
        """
        if not hasattr(pairs, "images"):
            raise DataError(f"add: got {type(pairs).__name__}, expected Pairs, such as mm.Pairs.read('more.jsonl')")
        if not len(pairs):
            return Added()
        return self._collection.put(encoded_records(self.model, pairs, self._precision(), bank=self.bank))

    def put_picture(
        self, id: str, data: bytes, captions: Sequence[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> Added:
        """Encode and store one image, given as the bytes of a file, with its captions. A known id is replaced.

        The bytes are kept in the index folder, on the disk before the item is stored, and move with it. Those of an
        item that was deleted or replaced stay until `repair` or `compact`. Where items lie on a Qdrant server, the
        picture lies in this folder all the same.

        Args:
            captions: texts, none of them empty.
            metadata: field -> value, as JSON can hold it.

        Raises:
            DataError: an id, captions or metadata that cannot be stored, no whole picture, a run that reads
                precomputed features, or no room; nothing is stored then.
        """
        from .uploads import Upload

        if self.model.image_input != "pixels":
            raise DataError("put_picture: this run reads precomputed features, not pictures; add them with `add`")
        upload = Upload(self.path, id, data, captions, {} if metadata is None else metadata)
        batch = encoded_records(self.model, upload.pairs, self._precision(), bank=self.bank)
        with upload.kept():
            return self._collection.put(batch)

    def add_embeddings(
        self,
        ids: Sequence[str],
        embedding: Embedding | Packed,
        modality: Modality,
        metadata: Sequence[Mapping[str, Any]] | None = None,
        owners: Sequence[str | None] | None = None,
        captions: Sequence[str | None] | None = None,
        pictures: Sequence[str | None] | None = None,
        source: Pictures | None = None,
        biases: Mapping[Modality, Sequence[float] | np.ndarray[Any, Any]] | None = None,
    ) -> Added:
        """Store items that are encoded already, in one transaction. A known id is replaced.

        No model is loaded, unless the index has a query bank and no biases are given: then they are computed.

        Args:
            ids: one an item, each once.
            embedding: what the run's tower gave for them.
            modality: "image" or "caption".
            metadata: one mapping an item.
            owners: of captions, the image each belongs to, which is in the index.
            captions: of captions, their words.
            pictures, source: of images, the name of each picture, and where those names are read from.
            biases: modality that asks -> one number an item, subtracted from its score when such a query asks (query
                bank); what is missing is zero. Where none are given, the index's own bank says them.

        Raises:
            DataError: lengths that differ, an id twice or of another item, an unknown owner, a number not finite.
            IndexMismatch: another kind or size of embedding than the index holds.
        """
        precision = self._precision()
        batch = embedded_records(
            ids, embedding, modality, metadata, owners, captions, pictures, source, biases, precision
        )
        bank = self.bank if biases is None and len(ids) else None
        if bank is not None:
            expect_fitting(bank, modality, batch.parts[0][1])
            whose = [id if owner is None else owner for id, owner in zip(ids, owners or [None] * len(ids), strict=True)]
            found = item_biases(bank, self.model.similarity, unpacked(embedding), modality, whose)
            batch = batch.corrected(found)
        return self._collection.put(batch)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items in one transaction, with the captions of the images among them; how many items went.

        Raises:
            UnknownName: an id that is not in the index; nothing is deleted then.
        """
        if isinstance(ids, str):
            raise DataError(f"delete: ids is the string {ids!r}, expected a list of ids")
        return self._collection.delete(list(ids))

    def _precision(self) -> str:
        with self._store.reading() as snapshot:
            return str(snapshot.setting("precision"))
