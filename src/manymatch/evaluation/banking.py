"""The query bank in evaluation: drawing and fitting one, and the biases with which rankings are corrected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..bank import ASKING, Asking, Bank, Queries, Setting, item_keys, owner_keys, prefix_means
from ..data.check import readable
from ..data.matches import Matches
from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..errors import DataError
from ..threads import one_thread
from .biases import Biases
from .encoding import Embedded, encode, expect_both, looks, usable
from .tiles import Side, Tiles

if TYPE_CHECKING:
    from ..methods import Model

__all__ = ["bankless", "biases_of", "expect_no_bank", "fit_bank", "usable_banks"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

_IMAGES, _LEAST = 1000, 250
"""Of validation, at most, and where scores take long."""

_CAPTIONS = 10_000
"""Of validation, about, at most: the scores of both directions are held whole."""

_NUMBERS = 1 << 28
"""Scores of single elements that are computed with the bank, as far as the least images allow: some seconds."""

_NEIGHBOURS = (1, 2, 4, 8, 16, 32, 64, 128)
_ALPHAS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
_DEPTHS = (1, 5, 10)

_CACHED = 1 << 18
"""Scores that are looked at with every alpha and k before the next."""

_BATCH = 1024
"""Queries that are embedded before they are packed: their float32 numbers are not held together."""


# ---- biases of what is ranked


def usable_banks(
    members: Sequence[Model], labels: Sequence[str], pairs: Pairs, wanted: bool | None
) -> tuple[list[Bank] | None, list[str]]:
    """The banks with which a ranking of these pairs is corrected, None for raw scores; and notes that say which.

    Args:
        members: of the ensemble, or one model.
        labels: what notes call them.
        pairs: what is ranked.
        wanted: whether there must be banks; None takes them where all members have one that holds none of the pairs.

    Raises:
        DataError: `wanted`, and a member has no bank, or one that holds images of these very pairs.
    """
    banks = [getattr(model, "bank", None) for model in members]
    if wanted is False:
        return None, ["raw scores, without the query bank"] if any(bank is not None for bank in banks) else []
    lacking = [label for label, bank in zip(labels, banks, strict=True) if bank is None]
    if lacking and wanted:
        raise DataError(
            f"evaluate: {lacking[0]} has no query bank; fit one with: manymatch bank RUN --data DATA, or use --no-bank"
        )
    if lacking:
        some = len(lacking) < len(banks)
        return None, [f"raw scores: {', '.join(lacking)} has no query bank, and others have"] if some else []
    found = [bank for bank in banks if bank is not None]
    for label, bank in zip(labels, found, strict=True):
        held = bank.holds(pairs)
        if held and wanted:
            raise DataError(
                f"evaluate: the query bank of {label} holds {held} of the {len(pairs)} images that are evaluated, so "
                "correcting by it would be peeking; evaluate other pairs, or use --no-bank"
            )
        if held:
            why = f"the query bank of {label} holds {held} of these {len(pairs)} images"
            return None, [f"raw scores: {why}, and correcting by it would be peeking"]
    return found, _told(labels, found, pairs)


def _told(labels: Sequence[str], banks: Sequence[Bank], pairs: Pairs) -> list[str]:
    """Notes on the banks that are used."""
    out = []
    for label, bank in zip(labels, banks, strict=True):
        whose = f" of {label}" if len(banks) > 1 else ""
        out.append(f"with the query bank{whose} ({bank.how})")
        chosen = bank.chosen_on(pairs)
        if bank.data.get("chosen on") == pairs.digest:
            out.append(f"the query bank of {label} had its alpha and k chosen on these very pairs: no test of it")
        elif chosen:
            these = f"{chosen} of these {len(pairs)} images"
            out.append(f"the query bank of {label} had its alpha and k chosen on {these}: no test of it")
    return out


def bankless(used: Mapping[str, bool | None]) -> list[str]:
    """A note for each run that is ranked raw for want of a query bank beside others that are corrected by theirs.

    Args:
        used: run -> whether it is corrected by its query bank, None where it has none.
    """
    if not any(used.values()):
        return []
    bare = (run for run, corrected in used.items() if corrected is None)
    return [f"{run}: raw scores, it has no query bank, and others have" for run in bare]


def expect_no_bank(wanted: bool | None) -> None:
    """Raises DataError where scores from elsewhere are to be corrected."""
    if wanted:
        raise DataError("evaluate: scores from elsewhere have no query bank; correct them before, or leave --bank out")


def biases_of(
    members: Sequence[Model], encoded: Sequence[Embedded], pairs: Pairs, banks: Sequence[Bank] | None
) -> Biases | None:
    """Biases of both sides, of an ensemble their mean; None without banks. Raises DataError: a score not finite."""
    if banks is None:
        return None
    owners = owner_keys(pairs.image_ids)
    sums = {"image": np.zeros(len(owners), np.float64), "caption": np.zeros(len(pairs.captions), np.float64)}
    for model, (images, texts), bank in zip(members, encoded, banks, strict=True):
        sums["image"] += bank.bias(model.similarity, images.to(model.device), "caption", owners)
        sums["caption"] += bank.bias(model.similarity, texts.to(model.device), "image", owners[pairs.owner])
    return Biases(*((sums[side] / len(banks)).astype(np.float32) for side in ("caption", "image")))


# ---- fitting


def fit_bank(
    model: Model,
    training: Pairs,
    validation: Pairs,
    *,
    most: int = 5_000,
    say: Callable[[str], None] | None = None,
) -> Bank:
    """Draw training queries evenly, embed them, and choose alpha and k of each direction on validation.

    One pass over the scores of validation's items with the bank gives each item's 128 highest; every k is a mean of
    the first of them. Chosen is what has the highest R@1 + R@5 + R@10 of that direction, ties counted half; no
    correction at all may win.

    Args:
        model: trained.
        training: what the queries are drawn from; never what will be evaluated or is only to be searched.
        validation: held out from training; up to 1,000 images of it are used.
        most: captions and images that are drawn, of each at most.
        say: told one line of what was found.

    Raises:
        DataError: nothing to draw, an embedding or a score that is not finite, or pictures that cannot be read.
    """
    if most < 1:
        raise DataError(f"query bank: {most} queries, expected at least 1")
    began = time.perf_counter()
    bank = _drawn(model, training, validation, most)
    held_out, _ = usable(looks(model, validation), _some(bank, validation.captioned()), None)
    settings = _settings(model, bank, held_out)
    found = bank.with_settings(settings, held_out)
    shared = bank.holds(held_out)
    if say is not None and shared:
        say(
            f"query bank: {shared} of the {len(held_out)} images that chose alpha and k are among those it was drawn "
            "from; they should be held out from training"
        )
    if say is not None:
        say(f"{found}, {time.perf_counter() - began:.1f} s")
    return found


def _some(bank: Bank, validation: Pairs) -> Pairs:
    """As many images as can be scored with the bank in some seconds, evenly spread."""
    each = len(validation.captions) / len(validation)
    queries = bank.queries
    scores = len(queries["caption"]) + len(queries["image"]) * each
    most = _NUMBERS / (scores * queries["caption"].elements * queries["image"].elements)
    rows = _evenly(len(validation), max(1, int(min(max(most, _LEAST), _IMAGES, _CAPTIONS / each))))
    return validation if len(rows) == len(validation) else validation.take(rows)


def _evenly(count: int, most: int) -> Ints:
    """Up to `most` of so many rows, ascending."""
    return np.arange(count) if count <= most else np.arange(most) * count // most


def _drawn(model: Model, training: Pairs, validation: Pairs, most: int) -> Bank:
    """The queries, with settings that correct nothing; without images that cannot be read."""
    expect_both(training)
    rows, owner = _evenly(len(training.captions), most), training.owner
    texts = [training.captions[int(row)] for row in rows]
    seen = training.take(_evenly(len(training), most))
    if looks(model, seen):
        seen = readable(seen)
        if not len(seen):
            raise DataError(f"query bank: no picture can be read; the first: {seen.problems[len(training.problems)]}")

    def captions() -> Iterator[Embedding]:
        for start in range(0, len(texts), _BATCH):
            yield model.encode_texts(texts[start : start + _BATCH])

    def images() -> Iterator[Embedding]:
        for start in range(0, len(seen), _BATCH):
            yield model.encode_images(seen.images.take(np.arange(start, min(start + _BATCH, len(seen)))))

    owners, pictured = owner_keys(training.image_ids), owner_keys(seen.image_ids)
    queries = {"caption": Queries.of(captions(), owners[owner[rows]]), "image": Queries.of(images(), pictured)}
    keys, of = item_keys(training)
    drawn = np.isin(np.arange(len(training)), owner[rows]) | np.isin(owners, pictured)
    held = torch.from_numpy(np.unique(keys[drawn[of]]))
    data = {"name": training.name, "drawn from": training.digest, "chosen on": validation.digest}
    return Bank(queries, {asking: Setting() for asking in ASKING}, held, data)  # type: ignore[arg-type]


def _settings(model: Model, bank: Bank, held_out: Pairs) -> dict[Asking, Setting]:
    """The best alpha and k of each direction."""
    owners, owner = owner_keys(held_out.image_ids), held_out.owner
    images, texts = (side.to(model.device) for side in encode(model, held_out, 256, None))
    sides = {"caption": (texts, images, owners), "image": (images, texts, owners[owner])}
    right = held_out.matches()
    own = {"image": right, "caption": right.transpose()}
    out: dict[Asking, Setting] = {}
    scores: Tensor | None = None
    for asking in ASKING:
        queries, gallery, keys = sides[asking]
        nearest = bank.nearest(model.similarity, gallery, asking, max(_NEIGHBOURS), keys)
        means = torch.from_numpy(prefix_means(nearest).astype(np.float32))
        turned = scores.T.contiguous() if scores is not None and model.similarity.symmetric else None
        scores = _scores(model, queries, gallery) if turned is None else turned
        with one_thread():
            out[asking] = _best(scores, *_padded(own[asking]), means)
    return out


def _scores(model: Model, queries: Embedding, gallery: Embedding) -> Tensor:
    """All of them (q, g), on the CPU."""
    tiles = Tiles.of(model.similarity, queries, gallery, None, (Side("query"), Side("item")))
    return torch.from_numpy(np.concatenate([scores for _, scores in tiles.bands()]))


def _padded(matches: Matches) -> tuple[Tensor, Tensor]:
    """Right answers of each query (q, m), and which of these entries are some: (q, m) bool."""
    positives = np.diff(matches.indptr())
    places = np.arange(len(matches)) - matches.indptr()[matches.images]
    items = np.zeros((len(positives), max(1, positives.max(initial=0))), np.int64)
    items[matches.images, places] = matches.captions
    there = np.arange(items.shape[1])[None, :] < positives[:, None]
    return torch.from_numpy(items), torch.from_numpy(there)


def _best(scores: Tensor, own: Tensor, there: Tensor, means: Tensor) -> Setting:
    """The alpha and k with most of R@1 + R@5 + R@10; of equals the first, which corrects less.

    Args:
        scores: (q, g).
        own, there: right answers of each query (q, m), of which some are there.
        means: (g, k) of the items' 1, 2, ... k highest scores with the bank.
    """
    tried = [(0.0, 1)] + [(alpha, k) for alpha in _ALPHAS for k in _NEIGHBOURS if k <= means.shape[1]]
    hits = np.zeros(len(tried))
    size = max(1, _CACHED // max(scores.shape[1], 1))
    # A few queries with all that is tried, so that their scores stay in a core's cache.
    for some, right, known in zip(*(torch.split(each, size) for each in (scores, own, there)), strict=True):
        for n, (alpha, k) in enumerate(tried):
            hits[n] += _hits(some - alpha * means[:, k - 1], right, known)
    sums = 100.0 * hits / max(len(scores), 1)
    chosen = int(np.argmax(sums))
    return Setting(*tried[chosen], raw=float(sums[0]), biased=float(sums[chosen]))


def _hits(scores: Tensor, own: Tensor, there: Tensor) -> float:
    """Queries (q, g) with a right answer in the first 1, in 5 and in 10, added up; of a tie half the others count."""
    mine = scores.gather(1, own).masked_fill(~there, -torch.inf)
    first = mine.amax(dim=1, keepdim=True)
    # No right answer is above the first of them. Adding up floats is exact below 2^24 items, and quicker than booleans.
    flags = torch.empty_like(scores)
    above = torch.gt(scores, first, out=flags).sum(dim=1)
    tied = torch.eq(scores, first, out=flags).sum(dim=1) - (mine == first).sum(dim=1)
    rank = 1.0 + above + 0.5 * tied
    return sum(float((rank <= depth).sum()) for depth in _DEPTHS)
