"""`evaluate`: encode, rank once, and read every protocol's numbers from the same counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.check import readable
from ..data.files import Progress
from ..data.matches import Matches
from ..data.pairs import Pairs
from ..embeddings import Embedding, Sets
from ..errors import DataError
from .ensemble import Joined, MeanScore
from .metrics import check_ties, queries
from .protocols import PROTOCOLS, Row, choose, row
from .ranks import Ranks, rank
from .report import Report

if TYPE_CHECKING:
    from ..methods import Model

__all__ = ["evaluate"]


def evaluate(
    models: Model | Sequence[Model],
    pairs: Pairs,
    *,
    protocol: str | Sequence[str] | None = None,
    ties: str = "expected",
    batch_size: int = 256,
    run: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """How well captions find images and images find captions.

    Args:
        models: one model, or several whose mean score is ranked.
        pairs: what is encoded and ranked; usually one split.
        protocol: "own", "matches", or a list; by default what the data's truth allows.
        ties: "expected", "optimistic" or "pessimistic", see `metrics`.
        batch_size: items encoded at a time.
        run: what tables call it, or each model of an ensemble; by default the models' names.
        progress: called with (done, total) of each stage: pictures, images, captions, score tiles.

    Raises:
        DataError: no images, no captions, no right answer, or an embedding or a score that is not finite.
        UnknownName: a protocol or a way with ties that does not exist.
    """
    members = list(models) if isinstance(models, Sequence) else [models]
    if not members:
        raise DataError("evaluate: found no model, expected at least one")
    check_ties(ties)
    names = choose(protocol, pairs)
    labels = [run] if isinstance(run, str) else list(run or [model.name for model in members])
    notes = _seen(members, labels, pairs)
    pairs, left_out = _usable(members, pairs, progress)
    notes += left_out + _unlike(members)
    truths = {name: PROTOCOLS[name].truth(pairs) for name in names}
    encoded = [_encode(model, pairs, batch_size, progress) for model in members]
    i2t, t2i = _ranked(members, encoded, pairs, _union(list(truths.values())), progress)
    title = "+".join(labels)
    rows: list[Row] = []
    for name, truth in truths.items():
        ranks = i2t.only(truth), t2i.only(truth.transpose())
        notes += _left_out(name, *ranks)
        rows += [{"run": title, **found} for found in PROTOCOLS[name].rows(name, *ranks, ties)]
    labels = labels if len(labels) == len(members) else [model.name for model in members]
    for label, both in zip(labels, encoded, strict=True):
        rows += [{"run": label, **found} for found in _health(*both)]
    made = tuple(
        m.summary if label == m.name else f"{label}: {m.summary}" for label, m in zip(labels, members, strict=True)
    )
    return Report(rows, tuple(notes), made)


def _seen(members: Sequence[Model], labels: Sequence[str], pairs: Pairs) -> list[str]:
    """A note for each model that was trained, or whose epoch was chosen, on these very pairs."""
    names = labels if len(labels) == len(members) else [model.name for model in members]
    uses = {"training": "was trained", "validation": "had its epoch chosen"}
    return [
        f"{name} {did} on these very pairs: no test of it"
        for name, model in zip(names, members, strict=True)
        for what, did in uses.items()
        if model.notes.get("seen", {}).get(what) == pairs.digest
    ]


def _usable(members: Sequence[Model], pairs: Pairs, progress: Progress | None) -> tuple[Pairs, list[str]]:
    """The pairs that can be encoded, and a note on those that cannot."""
    _expect_both(pairs)
    if not any(model.image_input == "pixels" for model in members):
        return pairs, []
    kept = readable(pairs, progress)
    if len(kept) == len(pairs):
        return pairs, []
    first = kept.problems[len(pairs.problems)]
    note = f"{len(pairs) - len(kept)} of {len(pairs)} images could not be read and are left out; the first: {first}"
    if not len(kept):
        raise DataError(f"{pairs.name}: {note}")
    _expect_both(kept)
    return kept, [note]


def _expect_both(pairs: Pairs) -> None:
    if not len(pairs) or not pairs.captions:
        raise DataError(
            f"{pairs.name}: {len(pairs)} images, {len(pairs.captions)} captions; evaluation needs at least one of each"
        )


def _encode(model: Model, pairs: Pairs, batch_size: int, progress: Progress | None) -> tuple[Embedding, Embedding]:
    images = model.encode_images(pairs.images, batch_size=batch_size, progress=_adding(progress, len(pairs)))
    captions = pairs.captions
    return images, model.encode_texts(captions, batch_size=batch_size, progress=_adding(progress, len(captions)))


def _adding(progress: Progress | None, total: int) -> Callable[[int], None] | None:
    """What a model tells after each batch, how many items it held, as (done, total)."""
    if progress is None:
        return None
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return add


def _ranked(
    members: Sequence[Model],
    encoded: Sequence[tuple[Embedding, Embedding]],
    pairs: Pairs,
    matches: Matches,
    progress: Progress | None,
) -> tuple[Ranks, Ranks]:
    similarity: Any = members[0].similarity
    images: Any
    texts: Any
    images, texts = encoded[0]
    if len(members) > 1:
        images, texts = (Joined(parts) for parts in zip(*encoded, strict=True))
        similarity = MeanScore([model.similarity for model in members])
    return rank(
        similarity,
        images,
        texts,
        matches,
        progress=progress,
        image_ids=pairs.image_ids,
        caption_ids=pairs.caption_ids,
    )


def _union(truths: Sequence[Matches]) -> Matches:
    """Counts of one right answer do not depend on the others, so one pass over the union serves every protocol."""
    images = np.concatenate([truth.images for truth in truths])
    captions = np.concatenate([truth.captions for truth in truths])
    return Matches.of(images, captions, truths[0].shape)


def _unlike(members: Sequence[Model]) -> list[str]:
    """A note where the members' similarities differ: a mean of cosines and log-odds is one of log-odds."""
    found = dict.fromkeys(type(model.similarity).__name__ for model in members)
    if len(found) < 2:
        return []
    return [f"the mean of {' and '.join(found)} scores: where their scales differ, the larger one decides the order"]


def _left_out(name: str, i2t: Ranks, t2i: Ranks) -> list[str]:
    """A note for each direction in which some query has no right answer."""
    out = []
    for ranks, what in ((i2t, "images"), (t2i, "captions")):
        asked, total = queries(ranks), len(ranks.positives)
        if asked < total:
            out.append(f"{name}: {total - asked} of {total} {what} have no right answer and are left out as queries")
    return out


def _health(images: Embedding, texts: Embedding) -> list[Row]:
    """Whether sets are still sets: natural log of the mean circular variance, minus infinity when collapsed."""
    return [
        row("health", direction, "log circular variance", items.log_circular_variance(), len(items), len(items), None)
        for direction, items in (("i2i", images), ("t2t", texts))
        if isinstance(items, Sets)
    ]
