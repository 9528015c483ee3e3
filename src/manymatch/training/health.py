"""Whether a set stays a set while it trains: how many of its elements a matching pair teaches."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..data.pairs import Pairs
from ..embeddings import Sets
from ..losses import score
from ..methods import Model
from ..similarity import Similarity

__all__ = ["gradient_share", "health"]

_PAIRS = 8


def gradient_share(similarity: Similarity, images: Sets, texts: Sets) -> float:
    """Share of the elements of matching sets that get a gradient from their pair's similarity, in [0, 1].

    The sparse supervision of the DivE poster: the maximum over pairs of elements (MIL) teaches 2 of the 2 k elements of
    a pair, Smooth-Chamfer all of them.

    Args:
        similarity: takes sets.
        images: (n, k, d), the n-th matches the n-th text.
        texts: (n, l, d).
    """
    reached = total = 0
    for row in range(len(images)):
        # Copies: what was encoded for searching takes no gradient.
        pair = [replace(side[row], elements=side[row].elements.clone().requires_grad_()) for side in (images, texts)]
        sides = [side.elements for side in pair]
        with torch.enable_grad():
            scores = score(similarity, *pair)
            found = torch.autograd.grad(
                scores.i2t.sum() + scores.t2i.sum(), sides, allow_unused=True, materialize_grads=True
            )
        for gradient in found:
            hit = (gradient != 0).any(dim=-1)
            reached, total = reached + int(hit.sum()), total + hit.numel()
    return reached / total


def health(model: Model, pairs: Pairs) -> dict[str, float]:
    """`elements with gradient` of the first few training pairs, where embeddings are sets; else nothing."""
    rows = [n for n, item in enumerate(pairs.items[: 4 * _PAIRS]) if item.captions][:_PAIRS]
    if not {"sets", "gaussian_sets"} & set(model.similarity.kinds) or not rows:
        return {}
    images = model.encode_images(pairs.images.take(rows))
    texts = model.encode_texts([pairs.items[n].captions[0] for n in rows])
    if not (isinstance(images, Sets) and isinstance(texts, Sets)):
        return {}
    share = gradient_share(model.similarity, images.to(model.device), texts.to(model.device))
    return {"elements with gradient": share}
