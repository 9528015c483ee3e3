"""Every similarity, found by its file: what any of them must keep."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Embedding, Points, Sets, embedding_kind
from manymatch.errors import DataError, UnknownName
from manymatch.similarity import Similarity, similarities, similarity_class

EACH = pytest.mark.parametrize("name", similarities())


def some(kind: str, n: int, d: int, *, k: int = 3, seed: int = 0) -> Embedding:
    """n random items of a kind, float64 so that equality can be asked for closely."""
    draw = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> torch.Tensor:
        return functional.normalize(torch.randn(*shape, generator=draw, dtype=torch.float64), dim=-1)

    if kind == "points":
        return Points(unit(n, d))
    if kind == "sets":
        return Sets(unit(n, k, d))
    raise NotImplementedError(f"a new kind of embedding needs its examples here: {kind}")


def make(name: str) -> tuple[Similarity, str]:
    similarity = similarity_class(name)()
    return similarity, similarity.kinds[0]


@EACH
@given(q=st.integers(1, 5), g=st.integers(1, 7), d=st.integers(2, 9), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_shape_permutation_and_blocks(name: str, q: int, g: int, d: int, seed: int) -> None:
    similarity, kind = make(name)
    queries, gallery = some(kind, q, d, seed=seed), some(kind, g, d, seed=seed + 1)
    scores = similarity(queries, gallery)
    assert scores.shape == (q, g) and torch.isfinite(scores).all()
    order = torch.randperm(g, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(similarity(queries, gallery[order]), scores[:, order], rtol=0, atol=1e-12)
    blocks = [similarity(queries[a : a + 2], gallery) for a in range(0, q, 2)]
    torch.testing.assert_close(torch.cat(blocks), scores, rtol=0, atol=1e-12)


@EACH
def test_symmetric_means_transposed(name: str) -> None:
    similarity, kind = make(name)
    if not similarity.symmetric:
        pytest.skip(f"{name} minds the direction")
    a, b = some(kind, 4, 6), some(kind, 5, 6, seed=1)
    torch.testing.assert_close(similarity(a, b), similarity(b, a).T, rtol=0, atol=1e-12)


@EACH
def test_own_kind_only(name: str) -> None:
    similarity, kind = make(name)
    other = "sets" if kind == "points" else "points"
    with pytest.raises(DataError, match=f"got {other}, expected {kind}"):
        similarity(some(kind, 2, 4), some(other, 2, 4))


@EACH
def test_exact_proxy_orders_as_the_similarity(name: str) -> None:
    similarity, kind = make(name)
    queries, gallery = some(kind, 6, 8), some(kind, 40, 8, seed=1)
    proxies = similarity.proxy(queries, "query"), similarity.proxy(gallery, "gallery")
    if proxies[0] is None or proxies[1] is None:
        assert not similarity.proxy_is_exact
        return
    assert proxies[0].shape[0] == 6 and proxies[1].shape[0] == 40 and proxies[0].shape[1] == proxies[1].shape[1]
    if similarity.proxy_is_exact:
        by_proxy = (proxies[0] @ proxies[1].T).argsort(dim=1)
        assert torch.equal(by_proxy, similarity(queries, gallery).argsort(dim=1))


@EACH
def test_settings_make_it_again(name: str) -> None:
    similarity, kind = make(name)
    again = type(similarity)(**similarity.settings())
    a, b = some(kind, 3, 5), some(kind, 4, 5, seed=1)
    assert torch.equal(similarity(a, b), again(a, b))


@EACH
def test_packing_keeps_scores(name: str) -> None:
    import numpy as np

    similarity, kind = make(name)
    items = some(kind, 5, 6).to(torch.float32)
    back = embedding_kind(kind).unpack(np.stack(items.pack()), items.layout())
    assert torch.equal(similarity(items, items), similarity(back, back))


@EACH
def test_a_set_of_one_is_the_point(name: str) -> None:
    similarity, kind = make(name)
    if kind != "sets":
        pytest.skip(f"{name} takes {kind}")
    a, b = some("sets", 4, 6, k=1), some("sets", 5, 6, k=1, seed=1)
    assert isinstance(a, Sets) and isinstance(b, Sets)
    cosines = a.elements[:, 0] @ b.elements[:, 0].T
    torch.testing.assert_close(similarity(a, b), cosines, rtol=0, atol=1e-9)


def test_unknown_similarity_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'smooth_chamfer'"):
        similarity_class("smoth_chamfer")
