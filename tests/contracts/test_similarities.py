"""Every similarity, found by its file: what any of them must keep."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional

from manymatch.embeddings import (
    Boxes,
    Embedding,
    Fragments,
    Gaussians,
    GaussianSets,
    Points,
    Samples,
    Sets,
    embedding_kind,
)
from manymatch.errors import DataError, UnknownName
from manymatch.similarity import Order, Probabilistic, Similarity, similarities, similarity_class

EACH = pytest.mark.parametrize("name", similarities())


def some(kind: str, n: int, d: int, *, k: int = 3, seed: int = 0) -> Embedding:
    """n random items of a kind, float64 so that equality can be asked for closely."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    def unit(*shape: int) -> torch.Tensor:
        return functional.normalize(normal(*shape), dim=-1)

    valid = torch.rand(n, k, generator=draw) < 0.7
    valid[:, 0] = True
    made = {
        "points": lambda: Points(unit(n, d)),
        "sets": lambda: Sets(unit(n, k, d)),
        "gaussian_sets": lambda: GaussianSets(unit(n, k, d), normal(n, k) - 1),
        "samples": lambda: Samples(unit(n, 1, d) + 0.2 * normal(n, k, d)),
        "gaussians": lambda: Gaussians(unit(n, d), normal(n, d) - 1),
        "boxes": lambda: Boxes(unit(n, d), normal(n, d).abs() / d),
        "fragments": lambda: Fragments(normal(n, k, d) * valid[..., None], valid, unit(n, d)),
    }
    return made[kind]()


def sharp(kind: str, n: int, d: int, *, seed: int = 0) -> tuple[Embedding, torch.Tensor]:
    """n items of a kind without any extent, and the point (n, d) each of them is."""
    points = some("points", n, d, seed=seed).tensors()["vectors"]
    several = points[:, None].expand(-1, 3, -1).contiguous()
    nothing = torch.zeros_like(points)
    made = {
        "points": lambda: Points(points),
        "sets": lambda: Sets(several),
        "gaussian_sets": lambda: GaussianSets(several, nothing[:, :3] - 30),
        "samples": lambda: Samples(several),
        "gaussians": lambda: Gaussians(points, nothing - 30),
        "boxes": lambda: Boxes(points, nothing),
        "fragments": lambda: Fragments(several, torch.ones(n, 3, dtype=torch.bool), points),
    }
    return made[kind](), points


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
    torch.testing.assert_close(similarity(queries, gallery[order]), scores[:, order], rtol=1e-12, atol=1e-12)
    blocks = [similarity(queries[a : a + 2], gallery) for a in range(0, q, 2)]
    torch.testing.assert_close(torch.cat(blocks), scores, rtol=1e-12, atol=1e-12)
    columns = [similarity(queries, gallery[a : a + 3]) for a in range(0, g, 3)]
    torch.testing.assert_close(torch.cat(columns, dim=1), scores, rtol=1e-12, atol=1e-12)


@EACH
@pytest.mark.parametrize("k", [3, 5])
def test_equal_items_score_equal_to_the_last_bit(name: str, k: int) -> None:
    """On either side and wherever they lie, in tables whose sides are multiples of 16: or copies would not tie."""
    similarity, kind = make(name)
    others, same = some(kind, 16, 24, k=k).to(torch.float32), some(kind, 1, 24, k=k, seed=1).to(torch.float32)
    copies = same[[0] * 48]
    with torch.inference_mode():
        assert torch.equal(*(f(similarity(others, copies), 1) for f in (torch.amax, torch.amin)))
        assert torch.equal(*(f(similarity(copies, others), 0) for f in (torch.amax, torch.amin)))


@EACH
def test_symmetric_means_transposed(name: str) -> None:
    similarity, kind = make(name)
    if not similarity.symmetric:
        pytest.skip(f"{name} minds the direction")
    a, b = some(kind, 4, 6), some(kind, 5, 6, seed=1)
    torch.testing.assert_close(similarity(a, b), similarity(b, a).T, rtol=1e-12, atol=1e-12)


@EACH
def test_scores_lie_where_the_embeddings_do(name: str) -> None:
    """A model that trains on a GPU gives embeddings on the CPU, while learned scalars stay on the GPU."""
    similarity, kind = make(name)
    left, right = some(kind, 2, 4).to(torch.float32), some(kind, 3, 4, seed=1).to(torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for scalar in [n for n, _ in similarity.named_parameters()]:
            delattr(similarity, scalar)
            setattr(similarity, scalar, FakeTensor(mode, torch.empty((), device="meta"), torch.device("cuda")))
        if name != "order":  # It looks at the numbers themselves, and learns none.
            assert similarity(left, right).device.type == "cpu"
        assert similarity.proxy(left, "query").device.type == "cpu"  # type: ignore[union-attr]


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
def test_float32_is_close_to_float64(name: str) -> None:
    similarity, kind = make(name)
    a, b = some(kind, 5, 32), some(kind, 6, 32, seed=1)
    single = similarity(a.to(torch.float32), b.to(torch.float32))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), similarity(a, b), rtol=1e-5, atol=1e-5)


@EACH
def test_no_queries_and_no_gallery(name: str) -> None:
    similarity, kind = make(name)
    some_items = some(kind, 3, 5)
    none = some_items[:0]
    assert similarity(none, some_items).shape == (0, 3) and similarity(some_items, none).shape == (3, 0)


@EACH
def test_gradients_are_right_and_reach_everything_learned(name: str) -> None:
    similarity, kind = make(name)
    similarity = similarity.double()
    a, b = some(kind, 2, 4), some(kind, 3, 4, seed=1)
    tensors = {"a": a.tensors(), "b": b.tensors()}
    moving = [t.requires_grad_() for side in tensors.values() for t in side.values() if t.is_floating_point()]
    learned = list(similarity.parameters())

    def scores(*_: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = similarity(a, b)
        return out

    assert torch.autograd.gradcheck(scores, (*moving, *learned), atol=1e-5)
    scores().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad)) for p in learned)


@EACH
def test_what_has_no_extent_is_the_point(name: str) -> None:
    """Equal elements, equal draws, no variance, no offset: the order is that of the unit vectors' cosines.

    Boxes measure in L1, and order embeddings mind more than the angle.
    """
    similarity, kind = make(name)
    if isinstance(similarity, Order) or kind == "fragments":
        pytest.skip(f"{name} is no function of the angle between two points")
    (queries, left), (gallery, right) = sharp(kind, 4, 6), sharp(kind, 9, 6, seed=1)
    closeness = -torch.cdist(left, right, p=1) if kind == "boxes" else left @ right.T
    assert torch.equal(similarity(queries, gallery).argsort(dim=1), closeness.argsort(dim=1))


@EACH
def test_a_sharp_gaussian_approaches_the_point(name: str) -> None:
    similarity, kind = make(name)
    if kind != "gaussians" or not similarity.symmetric:
        pytest.skip(f"{name} has no score that stays when a query's variance goes")
    means = [some("points", n, 6, seed=n).tensors()["vectors"] for n in (4, 9)]

    def at(log_variance: float) -> torch.Tensor:
        out: torch.Tensor = similarity(*(Gaussians(m, torch.full_like(m, log_variance)) for m in means))
        return out.detach()

    gaps = [float((at(level) - at(-80.0)).abs().max()) for level in (-2.0, -6.0, -12.0, -24.0)]
    assert all(near < far for far, near in pairwise(gaps)) and gaps[-1] < 1e-6


@EACH
def test_a_set_of_one_is_the_point(name: str) -> None:
    similarity, kind = make(name)
    if kind != "sets":
        pytest.skip(f"{name} takes {kind}")
    a, b = some("sets", 4, 6, k=1), some("sets", 5, 6, k=1, seed=1)
    assert isinstance(a, Sets) and isinstance(b, Sets)
    cosines = a.elements[:, 0] @ b.elements[:, 0].T
    scores = similarity(a, b)
    if isinstance(similarity, Probabilistic) or name == "assignment":
        # A probability, or an exponential, rises with the cosine but is none.
        assert torch.equal(scores.flatten().argsort(), cosines.flatten().argsort())
    else:
        torch.testing.assert_close(scores, cosines, rtol=0, atol=1e-9)


@EACH
def test_probabilistic_scores_are_log_odds(name: str) -> None:
    similarity, kind = make(name)
    if not isinstance(similarity, Probabilistic):
        pytest.skip(f"{name} gives no probability")
    scores = similarity(some(kind, 4, 6), some(kind, 5, 6, seed=1))
    probability = similarity.probability(scores)
    torch.testing.assert_close(probability.log() - (-scores).sigmoid().log(), scores, rtol=1e-9, atol=1e-9)
    assert bool((probability > 0).all() and (probability < 1).all())


def test_unknown_similarity_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'smooth_chamfer'"):
        similarity_class("smoth_chamfer")
