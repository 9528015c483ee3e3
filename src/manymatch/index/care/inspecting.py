"""Derived files looked at from the inside: what they hold against the store, and approximate against exact search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..filters import Where
from ..local.derived import header_at, sound
from ..local.vectors import ASKING, Space, Vectors, blocks
from ..local.view import View, spread
from ..store.rows import MODALITIES, Modality, Snapshot
from ..store.store import Store
from .checkup import MEND, Checkup, Told

if TYPE_CHECKING:
    from ...similarity import Similarity
    from ..local.collection import LocalPool
    from ..local.gallery import Gallery

__all__ = ["derived_files", "inspect_derived"]

Array = np.ndarray[Any, Any]

_MADE = "it is made when it is next needed, or now with: manymatch index-check X --repair"
_QUERIES = 200
_TRIES = 3


def derived_files(folder: Path) -> list[Path]:
    """All derived files of a folder, whatever they were made for."""
    return sorted([*folder.glob("vectors-*.bin"), *folder.glob("candidates-*")])


def inspect_derived(folder: Path, store: Store, similarity: Similarity | None, out: Checkup, told: Told) -> None:
    """Every derived file of the folder.

    Args:
        similarity: the run's; without it candidates are not searched.
    """
    used: set[Path] = set()
    whole, searched = True, list[tuple[Modality, str]]()
    for modality in MODALITIES:
        with store.reading() as snapshot:
            view = View(folder, snapshot, lambda: similarity)  # type: ignore[arg-type, return-value]
            space, count = view.space(modality), snapshot.count(modality)
        if space is None:
            continue
        rows, name = view.vectors_at(modality), view.engine(modality, count)
        used.add(rows)
        whole &= _Inspected(store, rows, out, told).whole(modality, space)
        if name == "exact" or not count:
            continue
        structure = view.candidates_at(modality, name)
        used.add(structure)
        if similarity is None:
            out.skipped.append(f"{structure.name}: searching it takes the run")
        elif _Inspected(store, structure, out, told).found(modality, space, similarity):
            searched.append((modality, name))
    for modality, name in searched:
        assert similarity is not None, "nothing was searched without it"
        if whole and not any(finding.kind == "item" for finding in out.findings):
            _measure(folder, store, similarity, modality, name, out, told)
        else:
            out.skipped.append(f"agreement of {modality}s: items and rows have to be mended first")
    for path in derived_files(folder):
        if path not in used:
            size = f"{path.stat().st_size:,} bytes"
            out.say("derived", path.name, "a file that nothing reads", size, "none", MEND, harmless=True)


class _Inspected:
    """One derived file."""

    def __init__(self, store: Store, path: Path, out: Checkup, told: Told) -> None:
        self._store, self._path, self._out, self._told = store, path, out, told

    def _bad(self, what: str, found: str, expected: str, harmless: bool = False) -> bool:
        todo = _MADE if harmless else MEND
        self._out.say("derived", self._path.name, what, found, expected, todo, harmless)
        return False

    def _readable(self) -> bool:
        """Whether the file is there and what was written."""
        if not self._path.exists():
            return self._bad("file", "none", "one", harmless=True)
        if header_at(self._path) is None:
            return self._bad("header", f"{self._path.stat().st_size:,} bytes that do not say what they are", "a header")
        if not sound(self._path, lambda done, total: self._told(self._path.name, done, total)):
            return self._bad("contents", "another checksum", "what was written")
        return True

    def whole(self, modality: Modality, space: Space) -> bool:
        """A file of rows: whether it holds what the store had when it was made."""
        generation = ""
        for _ in range(_TRIES):
            if not self._readable():
                return False
            opened = Vectors.open(self._path, space)
            if opened is None:
                wanted = f"{space.kind} {dict(space.layout)} in {space.precision}"
                return self._bad("rows", "those of another kind, size or precision", wanted)
            # The snapshot is younger than the file, unless the file is of another history.
            with self._store.reading() as snapshot:
                changes = snapshot.changes_since(opened.generation)
                if changes is not None:
                    return self._same(opened, changes.gone, modality, snapshot)
            if opened.generation == generation:
                break
            # Perhaps somebody replaced the file meanwhile.
            generation = opened.generation
        return self._foreign(generation)

    def _foreign(self, generation: str) -> bool:
        return self._bad("generation", generation, "one of this index's history")

    def _same(self, opened: Vectors, gone: Array, modality: Modality, snapshot: Snapshot) -> bool:
        there = snapshot.passing(modality, Where())
        there = there[there <= opened.last]
        if not self._members(np.asarray(opened.rows), there, gone):
            return False
        wrong = list(self._differing(opened, there, modality, snapshot))
        if wrong:
            # Where the store's own bytes are damaged, the file may be what is right.
            wrong = sorted(set(wrong) - {row for row, *_ in snapshot.damaged_rows()})
        if wrong:
            first = snapshot.items(wrong[:1])[0].id
            return self._bad("rows", f"{len(wrong):,} that differ from the store's, the first {first!r}", "the store's")
        self._out.looked.append(f"{self._path.name}: {len(opened):,} rows as in the store, of {opened.generation}")
        return True

    def _members(self, found: Array, there: Array, gone: Array) -> bool:
        """Whether every item is in it once, and nothing else but what has gone since."""
        lost = np.setdiff1d(there, found)
        strange = np.setdiff1d(found, np.union1d(there, gone))
        twice = len(found) - len(np.unique(found))
        if len(lost) or len(strange) or twice:
            told = f"{len(lost):,} missing, {len(strange):,} of no item, {twice:,} twice"
            return self._bad("items", told, f"each of {len(there):,} once")
        return True

    def _differing(self, opened: Vectors, there: Array, modality: Modality, snapshot: Snapshot) -> Iterator[int]:
        """Rows whose numbers or biases are not the store's."""
        from ..local.gallery import places

        biases = np.stack([snapshot.biases(modality, asking)[1] for asking in ASKING])[:, : len(there)]
        known = places(opened.rows, there)
        yield from there[(opened.biases[:, known] != biases).any(axis=0)].tolist()
        width, done = opened.data.shape[1] * opened.data.dtype.itemsize, 0
        vectors = ((row, blob) for row, blob in snapshot.vectors(modality) if row <= opened.last)
        kept = ((row, blob if len(blob) <= width else b"") for row, blob in vectors)
        for rows, data in blocks(kept, opened.data.shape[1], opened.space.precision):
            mapped = np.ascontiguousarray(opened.data[known[done : done + len(rows)]])
            same = mapped.view(np.uint8).reshape(len(rows), width) == np.frombuffer(data, np.uint8).reshape(-1, width)
            yield from np.array(rows)[~same.all(axis=1)].tolist()
            done += len(rows)
            self._told(f"{self._path.name} against the store", done, len(there))

    def found(self, modality: Modality, space: Space, similarity: Similarity) -> bool:
        """A structure of candidates: whether it holds every item there was when it was made."""
        from ..local.candidates import Candidates

        generation = ""
        for _ in range(_TRIES):
            if not self._path.exists() and _proxy_width(self._store, modality, space, similarity) is None:
                return False
            if not self._readable():
                return False
            opened = Candidates.open(self._path, self._path.suffix[1:])
            if opened is None:
                return self._bad("structure", "one that cannot be opened", "one of this engine")
            with self._store.reading() as snapshot:
                changes = snapshot.changes_since(opened.generation)
                if changes is not None:
                    there = snapshot.passing(modality, Where())
                    there = there[there <= opened.last]
                    query = np.zeros((1, _proxy_width(self._store, modality, space, similarity) or 1), np.float32)
                    count = len(there) + len(changes.gone) + 1
                    held = opened.engine.search(query, count, opened.engine.efforts()[-1])[0]
                    if not self._members(held[held >= 0], there, changes.gone):
                        return False
                    self._out.looked.append(f"{self._path.name}: {len(there):,} items, of {opened.generation}")
                    return True
            if opened.generation == generation:
                break
            generation = opened.generation
        return self._foreign(generation)


def _proxy_width(store: Store, modality: Modality, space: Space, similarity: Similarity) -> int | None:
    """Numbers of an item's proxy and its biases; None where the similarity has none."""
    from ..local.gallery import proxy

    with store.reading() as snapshot:
        row = int(snapshot.passing(modality, Where())[0])
        given = proxy(similarity, space.unpack_one(snapshot.vector(row)), "gallery")
    return None if given is None else given.shape[1] + len(ASKING)


# ---- agreement


def _measure(
    folder: Path, store: Store, similarity: Similarity, modality: Modality, name: str, out: Checkup, told: Told
) -> None:
    """Approximate search against exact search, with other queries than those its effort was chosen with."""
    from ...threads import one_thread
    from ..local.collection import LocalPool

    with store.reading() as snapshot, one_thread():
        view = View(folder, snapshot, lambda: similarity)
        shelf = view.shelf(modality, snapshot)
        if shelf is None or shelf.candidates is None:
            return
        pool = LocalPool(snapshot, modality, shelf, None)
        wanted = float(snapshot.setting("agreement"))
        for who, plan in shelf.candidates.plans.items():
            if plan.count is None:
                out.looked.append(f"{modality}s asked by {who}s: searched exactly, {plan.agreement:.3f} was reached")
                continue
            told(f"agreement of {modality}s asked by {who}s", 0, 0)
            asking = view.shelf(who, snapshot)  # type: ignore[arg-type]
            shares = None if asking is None else _shares(pool, shelf.gallery, asking.gallery, who)  # type: ignore[arg-type]
            if shares is None:
                out.skipped.append(f"agreement of {modality}s asked by {who}s: no other {who}s to ask with")
                continue
            found = float(shares.mean())
            # What luck with these queries may take away.
            error = 2 * float(shares.std()) / np.sqrt(len(shares))
            measured = f"{found:.4f} with {len(shares)} other {who}s"
            out.looked.append(
                f"agreement of {modality}s asked by {who}s: {measured}, {plan.agreement:.4f} when built, "
                f"{wanted:g} promised"
            )
            if found + error < wanted:
                where = view.candidates_at(modality, name).name
                out.say("agreement", where, f"agreement asked by {who}s", measured, f"{wanted:g}", MEND)


def _shares(pool: LocalPool, gallery: Gallery, asking: Gallery, who: Modality) -> Array | None:
    """Of each query, the share of the exact first ten that is among its candidates; None without queries."""
    from ..local.candidates import TOP, Asking, asking_proxies, first_ten

    there = asking.positions()
    others = np.setdiff1d(there, spread(there))
    if len(others) < 2:
        return None
    chosen = np.sort(np.random.default_rng(len(others)).choice(others, min(_QUERIES, len(others)), replace=False))
    own = asking.rows[chosen] if asking is gallery else None
    asked = Asking(asking.embedding(chosen), own)
    proxies = asking_proxies(gallery.similarity, asked.queries, who, gallery.biased(who))
    assert proxies is not None, "what has candidates has proxies"
    right = first_ten(gallery, asked, who)
    shares = []
    for place, proxy in enumerate(proxies):
        near = pool.near(proxy, who, TOP + (own is not None))
        hits = right.top if near is None else int(np.isin(right.handles[place], gallery.rows[near.handles]).sum())
        shares.append(min(hits, right.top) / right.top)
    return np.array(shares)
