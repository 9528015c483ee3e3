"""What the diary says of a run besides losses and recalls: how many elements a pair teaches, what a batch shows."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..data.batches import Sampler
from ..data.pairs import Pairs
from ..embeddings import Sets
from ..losses import Scores, score
from ..methods import Model
from ..similarity import Similarity

__all__ = ["batch_health", "gradient_share", "hardest_negative", "health"]

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


def hardest_negative(scores: Scores, matches: Tensor) -> float | None:
    """Mean over both directions of the best score that a query gives to what does not match it; None without any.

    Args:
        scores: of i images and c texts.
        matches: (i, c) bool.
    """
    found = [
        way.masked_fill(right, -torch.inf).amax(dim=1)[~right.all(dim=1)]
        for way, right in ((scores.i2t, matches), (scores.t2i, matches.T))
    ]
    hardest = torch.cat(found)
    return float(hardest.mean()) if len(hardest) else None


def batch_health(model: Model, pairs: Pairs, sampler: Sampler, *, seed: int) -> dict[str, float]:
    """What the run's first batch shows, by names that begin with "batch".

    "batch hardest negative" (`hardest_negative`: how hard the sampler's batches are), and what the relation shows, once
    it has acted. Computed as at search: no dropout, nothing learnt.

    Args:
        pairs: of training.
        sampler: whose first batch.
        seed: of the run.
    """
    rows = next(iter(sampler.epoch(pairs, seed=seed, epoch=0)))
    batch = model.batch(pairs, rows.images, rows.captions, rows.matches, seed=(seed, 0))
    with model.at_rest():
        images, texts = model.images(batch.images).float(), model.texts(batch.texts).float()
        scores = score(model.similarity, images.embedding, texts.embedding)
        hardest = hardest_negative(scores, batch.matches.to(model.device))
        found = {} if hardest is None else {"hardest negative": hardest}
        if model.relation is not None and model.relation.acted:
            found |= model.relation.health(images, texts)
    return {f"batch {name}": value for name, value in found.items()}
