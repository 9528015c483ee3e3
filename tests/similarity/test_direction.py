"""Where the direction matters, the asking side is the query: in evaluation, in the index, in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from manymatch.data.matches import Matches
from manymatch.embeddings import Boxes, Embedding, Gaussians
from manymatch.evaluation import rank, rank_scores
from manymatch.index.candidates import Asking, Candidates
from manymatch.index.gallery import Gallery
from manymatch.index.vectors import Space, Vectors
from manymatch.losses.base import score
from manymatch.similarity import BoxDistance, Mahalanobis, Similarity

OWN = Matches.from_owner(np.arange(60) // 3, 20)


def some(kind: str, n: int, seed: int) -> Embedding:
    draw = torch.Generator().manual_seed(seed)
    center = functional.normalize(torch.randn(n, 16, generator=draw), dim=-1)
    spread = torch.rand(n, 16, generator=draw)
    return Gaussians(center, 3 * spread) if kind == "gaussians" else Boxes(center, 0.3 * spread)


EACH = pytest.mark.parametrize("similarity", [Mahalanobis(), BoxDistance()], ids=lambda s: type(s).__name__)


@EACH
@pytest.mark.parametrize("block", [None, (16, 32)])
def test_evaluation_asks_each_way(similarity: Similarity, block: tuple[int, int] | None) -> None:
    images, texts = (some(similarity.kinds[0], n, n) for n in (20, 60))
    there, back = similarity(images, texts), similarity(texts, images)
    assert not torch.equal(there.argsort(dim=1), back.T.argsort(dim=1))
    found, expected = rank(similarity, images, texts, OWN, block=block), rank_scores(there, back, OWN)
    for mine, right in zip(found, expected, strict=True):
        assert np.array_equal(mine.above, right.above) and np.array_equal(mine.tied, right.tied)


@EACH
def test_training_scores_each_way(similarity: Similarity) -> None:
    images, texts = (some(similarity.kinds[0], n, n) for n in (4, 6))
    scores = score(similarity, images, texts)
    assert torch.equal(scores.i2t, similarity(images, texts)) and torch.equal(scores.t2i, similarity(texts, images))


@EACH
def test_the_index_asks_with_the_query(similarity: Similarity) -> None:
    items, queries = (some(similarity.kinds[0], n, n) for n in (900, 30))
    data = np.stack(items.pack())
    gallery = Gallery(Vectors(np.arange(900), data), Space.of(items, "float32"), similarity)
    scores = gallery.scores(queries)
    np.testing.assert_allclose(scores, similarity(queries, items), rtol=0, atol=1e-5)
    found = Candidates.build("faiss", gallery, {"caption": Asking(queries)}, wanted=0.9)
    assert found is not None
    plan = found.plans["caption"]
    assert plan.agreement >= 0.9 if similarity.proxy_is_exact else plan.agreement > 0.0
    for n in range(5):
        hit = found.find(gallery, queries[n], "caption", 10)
        if hit is not None:
            places = hit[0]
            np.testing.assert_allclose(gallery.scores_at(queries[n], places), scores[n, places], rtol=0, atol=1e-5)
