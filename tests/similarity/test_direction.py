"""Where the direction matters, the asking side is the query: in evaluation, in the index, in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from manymatch.data.matches import Matches
from manymatch.embeddings import Boxes, Embedding, Gaussians
from manymatch.evaluation import rank, rank_scores
from manymatch.index.local.candidates import Asking, Candidates, asking_proxies
from manymatch.index.local.gallery import Gallery
from manymatch.index.local.vectors import Space, Vectors
from manymatch.index.store.packed import Packed
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
    packed = Packed.of(items)
    space, none = Space.of(packed, "float32"), np.empty(0, np.int64)
    base = Vectors(np.arange(900), np.asarray(packed.rows), np.zeros((2, 900), np.float32), space, "0-a", 900)
    tail = Vectors(none, np.empty((0, 0), np.float32), np.empty((2, 0), np.float32), space, "0-a", 900)
    gallery = Gallery(base, tail, none, similarity)
    scores = gallery.scores(queries)
    np.testing.assert_allclose(scores, similarity(queries, items), rtol=0, atol=1e-5)
    found = Candidates.build("faiss", gallery, {"caption": Asking(queries)}, 0.9, lambda what: None)
    assert found is not None
    plan = found.plans["caption"]
    assert plan.agreement >= 0.9 if similarity.proxy_is_exact else plan.agreement > 0.0
    asked = asking_proxies(similarity, queries, "caption", bank=False)
    assert asked is not None
    rows = found.engine.search(asked, 900, found.engine.efforts()[-1])
    inner = np.take_along_axis(asked @ np.concatenate([given for _, given in gallery.proxies()]).T, rows, axis=1)
    assert (np.diff(inner, axis=1) <= 1e-3 * np.abs(inner).max()).all(), "best inner product with the query first"
