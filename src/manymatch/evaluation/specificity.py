"""Does a model grow surer as a text says more: ambiguity of captions against that of the same with fewer words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..data.pairs import Pairs
from ..data.shortening import shortened
from ..methods import Model
from .report import Row, plain_row

__all__ = ["falling", "specificity"]

_SHARES = (0.25, 0.5, 0.75, 1.0)
_MOST = 500
"""Captions, evenly spread, that are looked at: each is encoded four times."""


def falling(model: Model, ladders: Sequence[Sequence[str]], *, batch_size: int = 256) -> tuple[float, int] | None:
    """Share of the steps, from a text to the next, more specific one, at which ambiguity falls; a tie counts half.

    Args:
        ladders: texts from the vaguest on, "a dog", "a black dog", "a black dog in the snow".

    Returns:
        The share, 0.5 for a model to which specificity means nothing, and of how many steps. None where there is no
        step, or where the model's embeddings have no ambiguity.
    """
    texts = [text for ladder in ladders for text in ladder]
    ends = np.cumsum([len(ladder) for ladder in ladders]) - 1
    steps = np.delete(np.arange(len(texts) - 1), ends[:-1]) if len(texts) else np.zeros(0, np.int64)
    spread = model.encode_texts(texts, batch_size=batch_size).ambiguity() if len(steps) else None
    if spread is None:
        return None
    change = np.diff(spread.double().numpy())[steps]
    return float(((change < 0) + (change == 0) / 2).mean()), len(steps)


def specificity(model: Model, pairs: Pairs, *, batch_size: int = 256, seed: int = 0) -> Iterator[Row]:
    """The row "specificity" of protocol "uncertainty": percent of `falling` steps, from a quarter of a caption's words
    over a half and three quarters to all of them; none where embeddings have no ambiguity."""
    captions = pairs.captions[:: -(-len(pairs.captions) // _MOST) or 1]
    draw = np.random.default_rng(seed)
    ladders = [list(dict.fromkeys(shortened(caption, _SHARES, draw))) for caption in captions]
    found = falling(model, ladders, batch_size=batch_size)
    if found is not None:
        yield plain_row("uncertainty", "t2t", "specificity", 100.0 * found[0], len(captions), len(captions))
