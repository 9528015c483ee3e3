"""From models and pairs to scores: what can be encoded is, and what the reader should know of it is noted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..data.check import readable
from ..data.files import Progress
from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..encoders import ImageTower
from ..errors import DataError
from .biases import Biases
from .ensemble import Joined, MeanScore
from .scores import ModelScores

if TYPE_CHECKING:
    from ..data.store import Where
    from ..methods import Model

__all__ = ["Embedded", "encode", "expect_both", "looks", "scores_of", "seen", "supplied", "unlike", "usable"]

Embedded = tuple[Embedding, Embedding]
"""Embeddings of the images and of the captions."""


def seen(members: Sequence[Model], labels: Sequence[str], pairs: Pairs) -> list[str]:
    """A note for each model, or member of one, that was trained, or had its epoch chosen, on these very pairs."""
    names = labels if len(labels) == len(members) else [model.name for model in members]
    uses = {"training": "was trained", "validation": "had its epoch chosen"}
    notes = []
    for name, model in zip(names, members, strict=True):
        whole = {name: model.notes.get("seen", {})}
        parts = {f"{part} of {name}": saw for part, saw in model.notes.get("seen of members", {}).items()}
        for what, did in uses.items():
            # What the whole saw needs no word of each member.
            for saws in (whole, parts):
                found = [each for each, saw in saws.items() if saw.get(what) == pairs.digest]
                notes += [f"{each} {did} on these very pairs: no test of it" for each in found]
                if found:
                    break
    return notes


def looks(model: Model, pairs: Pairs) -> bool:
    """Whether it reads the pictures of these pairs, and not features that were computed of them."""
    tower = getattr(model, "images", None)
    return model.image_input == "pixels" and not (isinstance(tower, ImageTower) and tower.takes(pairs.images))


def supplied(
    members: Sequence[Model], pairs: Pairs, store: Where, say: Callable[[str], None] | None
) -> tuple[Pairs, list[str]]:
    """The pairs with what the first frozen network among the models sees in their pictures, as `Model.supply` gives it.

    Features that the pairs have stay, and a run that reads those of the user's own is given none of a network's.

    Returns:
        Those pairs, and a note on pictures that cannot be read.
    """
    towers = [getattr(model, "images", None) for model in members]
    if any(model.image_input == "features" for model in members):
        return pairs, []
    kept = pairs
    for tower in towers:
        if kept.features is None and isinstance(tower, ImageTower):
            kept = tower.supply(kept, store, say)
    return kept, _left_out(pairs, kept)


def usable(pixels: bool, pairs: Pairs, progress: Progress | None) -> tuple[Pairs, list[str]]:
    """The pairs that can be encoded, and a note on those that cannot.

    Args:
        pixels: whether some model reads pictures; each is then decoded once.
        pairs: what shall be encoded.
        progress: called with (done, total) pictures.

    Raises:
        DataError: no image or no caption, or none that can be read.
    """
    expect_both(pairs)
    if not pixels:
        return pairs, []
    kept = readable(pairs, progress)
    if len(kept) == len(pairs):
        return pairs, []
    notes = _left_out(pairs, kept)
    if not len(kept):
        raise DataError(f"{pairs.name}: {notes[0]}")
    expect_both(kept)
    return kept, notes


def _left_out(pairs: Pairs, kept: Pairs) -> list[str]:
    """A note on the pictures that could not be read, where there were any."""
    if len(kept) == len(pairs):
        return []
    first = kept.problems[len(pairs.problems)]
    return [f"{len(pairs) - len(kept)} of {len(pairs)} images could not be read and are left out; the first: {first}"]


def expect_both(pairs: Pairs) -> None:
    """Raises DataError where there is no image or no caption."""
    if not len(pairs) or not pairs.captions:
        raise DataError(
            f"{pairs.name}: {len(pairs)} images, {len(pairs.captions)} captions; evaluation needs at least one of each"
        )


def encode(model: Model, pairs: Pairs, batch_size: int, progress: Progress | None) -> Embedded:
    """Images (i) and captions (c) as the model embeds them."""
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


def scores_of(
    members: Sequence[Model],
    encoded: Sequence[Embedded],
    pairs: Pairs,
    progress: Progress | None,
    biases: Biases | None = None,
) -> ModelScores:
    """The scores of one model, or the mean of several, less biases where rankings are corrected."""
    similarity: Any = members[0].similarity
    images: Any
    texts: Any
    # Scores are computed where the models are.
    placed = [tuple(side.to(model.device) for side in both) for model, both in zip(members, encoded, strict=True)]
    images, texts = placed[0]
    if len(members) > 1:
        images, texts = (Joined(parts) for parts in zip(*placed, strict=True))
        similarity = MeanScore([model.similarity for model in members])
    ids = {"image_ids": pairs.image_ids, "caption_ids": pairs.caption_ids}
    return ModelScores(similarity, images, texts, **ids, biases=biases, progress=progress)


def unlike(members: Sequence[Model]) -> list[str]:
    """A note where the members' similarities differ: a mean of cosines and log-odds is one of log-odds."""
    found = dict.fromkeys(type(model.similarity).__name__ for model in members)
    if len(found) < 2:
        return []
    return [f"the mean of {' and '.join(found)} scores: where their scales differ, the larger one decides the order"]
