"""What each element of a set looked at: the shares of the fragments, read from the head that made the set."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..data.text import Vocabulary
from ..encoders.heads import SetHead
from ..encoders.pie import PIEHead
from ..methods import Model

__all__ = ["grid_of", "image_shares", "part_seen", "text_shares", "words_of"]


def image_shares(model: Model, images: Any) -> Tensor | None:
    """Of n images, what each of k elements read of each of f fragments: (n, k, f), rows sum to 1.

    None where the head makes no set by attention. Shares of several attention heads are averaged; those of padding
    are 0.
    """
    return _shares(model.images, model.prepare_images(images))


def text_shares(model: Model, texts: list[str]) -> Tensor | None:
    """As `image_shares`, over the words of each text, of which `words_of` says the names."""
    return _shares(model.texts, model.texts.tokens(texts))


def _shares(tower: Any, inputs: Any) -> Tensor | None:
    head = getattr(tower, "head", None)
    if isinstance(head, SetHead):
        reader: Any = head.slots
    elif isinstance(head, PIEHead):
        reader = head.net.attention
    else:
        return None
    heard: list[tuple[Any, ...]] = []
    hook = reader.register_forward_pre_hook(lambda _, given: heard.append(given))
    try:
        with torch.inference_mode():
            tower(inputs)
            found = reader.attend(*heard[0])[1]
    finally:
        hook.remove()
    if isinstance(head, PIEHead):
        return found.transpose(1, 2).float().cpu()
    # What competed for by the slots is not yet what each reads: its own shares are brought to a sum of 1.
    weights = found / found.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    return weights.mean(dim=1).float().cpu()


def words_of(vocabulary: Vocabulary, text: str) -> list[str]:
    """The words of a text as its tower reads them, marks of start and end among them."""
    known = {number: word for word, number in vocabulary.numbers.items()}
    special = vocabulary.specials
    names = {special.start: "start", special.end: "end", special.unknown: "unknown word"}
    tokens = vocabulary.encode([text])
    return [known.get(int(n), f"[{names.get(int(n), 'mark')}]") for n in tokens.ids[0, : int(tokens.lengths[0])]]


def grid_of(model: Model, fragments: int, *, grid: bool) -> int | None:
    """Side of the square grid whose cells the fragments are; None where nothing says that they are one.

    Args:
        model: whose image tower made them; cells of a convolutional one are a grid, those of a feature file are one
            where the method was told so.
        fragments: f.
        grid: whether the reader said that those of the feature file are.
    """
    side = math.isqrt(fragments)
    known = model.image_input == "pixels" or grid or bool(getattr(model.method, "grid", False))
    return side if known and side * side == fragments else None


def part_seen(model: Model, width: float, height: float) -> tuple[float, float, float, float]:
    """Left, top, width and height of what the tower sees of a picture of this size: all, or its middle."""
    tower: Any = model.images
    if model.image_input != "pixels" or getattr(tower, "whole", True) is not False:
        return 0.0, 0.0, width, height
    side = min(width, height) * 7 / 8
    return (width - side) / 2, (height - side) / 2, side, side
