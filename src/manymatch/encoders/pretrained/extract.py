"""Fill a feature store: every picture through a frozen backbone once, ever."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from ...data.decoding import PictureError
from ...data.files import Progress
from ...data.pairs import Item, Pairs, Problem
from ...data.store import FeatureStore, Kind, StoreFeatures, Where, open_store
from ...errors import DataError
from .base import Backbone
from .work import Say, Work

__all__ = ["Filled", "fill", "kind_of", "shard_of", "supplied"]

BATCH = 32
_SPARE = 64 * 2**20
"""Bytes of the disk that are left alone."""


@dataclass(frozen=True)
class Filled:
    """What filling came to.

    Attributes:
        features: of every picture that could be read.
        pictures, found, computed: different names of pictures; how many of them had features already; had none.
        bad: name of a picture -> why it cannot be used.
        bytes: written by it, at most.
    """

    features: StoreFeatures
    pictures: int
    found: int
    computed: int
    bad: dict[str, PictureError] = field(default_factory=dict)
    bytes: int = 0


def kind_of(backbone: Backbone) -> Kind:
    """What a store calls the backbone's features."""
    return Kind(
        backbone.key,
        backbone.fragments,
        backbone.fragment_width,
        backbone.pooled_width,
        json.dumps(dict(backbone.identity), sort_keys=True),
        backbone.source,
    )


def shard_of(pairs: Pairs, shard: tuple[int, int] | None) -> Pairs:
    """Every n-th image, beginning with the i-th of (i, n); all of them without a shard. Raises DataError."""
    if shard is None:
        return pairs
    number, of = shard
    if not 1 <= number <= of:
        raise DataError(f"shard {number}/{of}: expected I/N with I from 1 to N, such as 1/4")
    return pairs.take(range(number - 1, len(pairs), of))


def supplied(store: Where, backbone: Backbone, pairs: Pairs, say: Say | None = None) -> Pairs:
    """The pairs with the backbone's features from a store (the default one without any), see `Backed.supply`.

    Raises:
        DataError: no pictures, or none that can be read; the store cannot be written.
    """
    opened = open_store(store)
    tell = say or (lambda line: None)
    with _at_work(backbone):
        filled = fill(opened, backbone, pairs, say=say)
    now = f", {filled.computed:,} computed now" if filled.computed else ""
    tell(f"features of {backbone.source}: {filled.found:,} of {filled.pictures:,} from {opened.folder}{now}")
    lost = [item for item in pairs if item.picture is None or item.picture in filled.bad]
    problems = [_problem(item, filled.bad) for item in lost]
    if problems:
        tell(f"{len(problems):,} pictures cannot be read and are left out; the first: {problems[0]}")
    if len(lost) == len(pairs):
        raise DataError(f"{pairs.name}: none of {len(pairs)} pictures can be read; look with: manymatch check DATA")
    out = Pairs(
        pairs.items,
        pictures=pairs.pictures,
        features=filled.features,
        truth=pairs.truth,
        truths=pairs.truths,
        problems=pairs.problems,
        name=pairs.name,
    )
    return out.without([item.id for item in lost], problems) if lost else out


@contextmanager
def _at_work(backbone: Backbone) -> Iterator[None]:
    """On the accelerator, where there is one, and back where it was afterwards."""
    here = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    moves = here.type == "cpu" and torch.cuda.is_available()
    if moves:
        backbone.to("cuda")
    try:
        yield
    finally:
        if moves:
            backbone.to(here)


def _problem(item: Item, bad: dict[str, PictureError]) -> Problem:
    if item.picture is None:
        return Problem(str(item.picture), None, "missing picture", f"the line of {item.id!r} names no picture")
    return Problem(item.picture, None, bad[item.picture].kind, str(bad[item.picture]))


def fill(
    store: FeatureStore,
    backbone: Backbone,
    pairs: Pairs,
    *,
    say: Say | None = None,
    progress: Progress | None = None,
    shard: tuple[int, int] | None = None,
    batch: int = BATCH,
    strict: bool = False,
) -> Filled:
    """Compute what the store does not have of the pictures of these pairs.

    Pictures are read, decoded and prepared on threads ahead of the backbone. What was kept, and said, is on the disk;
    called again after a kill it goes on from there.

    Args:
        store: where features are kept.
        backbone: what looks at the pictures.
        pairs: whose pictures.
        say: told what will be computed, and now and then how far it is.
        progress: called with (done, total) pictures that were not known to have features.
        shard: (i, n) takes every n-th image only, beginning with the i-th.
        batch: pictures that go through the backbone at a time.
        strict: stop at the first picture that cannot be read.

    Raises:
        DataError: the pairs have no pictures, the disk has no room, or the store cannot be written; with `strict`, a
            picture cannot be read.
    """
    pairs = shard_of(pairs, shard)
    if pairs.pictures is None:
        raise DataError(f"{pairs.name}: no pictures for {backbone.source} to look at; give --images PATH")
    shelf = store.shelf(kind_of(backbone))
    names = list(dict.fromkeys(item.picture for item in pairs if item.picture is not None))
    work = Work(shelf, backbone, pairs.pictures, batch, strict)
    known = work.known(names)
    there = shelf.places(list(known.values()))
    todo = [name for name in names if known.get(name) not in there]
    tell = say or (lambda line: None)
    for name, why in shelf.broken.items():
        tell(f"segment {name} of {store.folder} is damaged ({why}): what was in it is computed again")
    if todo:
        _expect_room(work, todo, known, tell)
        try:
            work.run(todo, tell, progress)
        finally:
            shelf.close()
    known |= work.digests
    features = StoreFeatures(shelf, {name: known[name] for name in names if name in known and name not in work.bad})
    found = len(names) - len(work.fresh) - len(work.bad)
    return Filled(features, len(names), found, len(work.fresh), work.bad, work.written * shelf.kind.row_bytes)


def _expect_room(work: Work, todo: Sequence[str], known: dict[str, bytes], tell: Say) -> None:
    """Say how much will be written at most. Raises DataError where the disk has not the room."""
    store, row = work.shelf.store, work.shelf.kind.row_bytes
    count, free = len(todo), store.room() - _SPARE
    if count * row > free:
        # Some may be there under other names: now it is worth reading them all to know.
        count = work.count_missing(todo, known)
    if count * row > free:
        raise DataError(
            f"feature store: {count:,} pictures x {_bytes(row)} are {_bytes(count * row)}, and {str(store.folder)!r} "
            f"has room for {_bytes(max(free, 0))}; make room, name another folder, or take less with --pooled-only"
        )
    tell(
        f"{work.backbone.source}: {count:,} pictures to look at, at most {_bytes(count * row)} in {store.folder} "
        f"({_bytes(row)} each)"
    )


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} B"
