"""The kinds: shapes checked, sliced like a list, concatenated, packed and unpacked without loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.embeddings import (
    Boxes,
    Embedding,
    Encoded,
    Fragments,
    Gaussians,
    GaussianSets,
    Points,
    Samples,
    Sets,
    embedding_kind,
)
from manymatch.errors import DataError, UnknownName

KINDS = ["points", "sets", "gaussian_sets", "samples", "gaussians", "boxes", "fragments"]


def made(kind: str, n: int, seed: int = 0, f: int = 4) -> Embedding:
    draw = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(n, *shape, generator=draw)

    if kind == "fragments":
        lengths = torch.randint(1, f + 1, (n,), generator=draw)
        valid = torch.arange(f) < lengths[:, None]
        return Fragments(some(f, 3).masked_fill(~valid[..., None], 0.0), valid, some(3))
    return {
        "points": lambda: Points(some(3)),
        "sets": lambda: Sets(some(2, 3)),
        "gaussian_sets": lambda: GaussianSets(some(2, 3), some(2)),
        "samples": lambda: Samples(some(2, 3)),
        "gaussians": lambda: Gaussians(some(3), some(3)),
        "boxes": lambda: Boxes(some(3), some(3)),
    }[kind]()


def same(a: Embedding, b: Embedding) -> None:
    assert type(a) is type(b)
    for name, value in a.tensors().items():
        assert torch.equal(value, b.tensors()[name]), name


@given(kind=st.sampled_from(KINDS), n=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_pack_and_unpack(kind: str, n: int, seed: int) -> None:
    items = made(kind, n, seed)
    rows = items.pack()
    longest = max(len(row) for row in rows)
    table = np.full((n, longest), np.nan, np.float32)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    back = embedding_kind(kind).unpack(table, items.layout())
    if isinstance(items, Fragments) and isinstance(back, Fragments):
        width = back.valid.shape[1]
        items = Fragments(items.vectors[:, :width], items.valid[:, :width], items.pooled)
    same(items, back)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_like_a_list(kind: str) -> None:
    items = made(kind, 5)
    whole = list(range(5))
    for rows in (slice(1, 4), slice(None, None, -1), slice(4, 0, -2), slice(3, 3)):
        expected = whole[rows]
        assert len(items[rows]) == len(expected)
        if expected:
            same(items[rows], items[expected])
    same(items[2], items[[2]])
    same(items[-1], items[[4]])
    same(items[np.int64(2)], items[2])
    same(items[torch.tensor([True, False, True, False, False])], items[[0, 2]])
    assert len(items[[]]) == 0
    with pytest.raises(IndexError):
        items[5]


@pytest.mark.parametrize("kind", KINDS)
def test_concatenates_and_keeps_order(kind: str) -> None:
    items = made(kind, 5)
    same(type(items).concat([items[:2], items[2:]]), items)
    with pytest.raises(DataError, match="nothing to concatenate"):
        type(items).concat([])


def test_fragments_of_different_lengths_are_padded() -> None:
    short, long = made("fragments", 2, f=2), made("fragments", 3, f=5)
    assert isinstance(short, Fragments) and isinstance(long, Fragments)
    joined = Fragments.concat([short, long])
    assert joined.valid.shape == (5, 5) and not joined.valid[:2, 2:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_masks(kind: str) -> None:
    half = made(kind, 3).to(torch.float16)
    for value in half.tensors().values():
        assert value.dtype in (torch.float16, torch.bool)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(DataError, match=r"sets.elements: shape \(2, 3\), expected axes \(n, k, d\)"):
        Sets(torch.zeros(2, 3))
    with pytest.raises(DataError, match=r"gaussians.log_variance: axis d has 4, but gaussians.mean has 3"):
        Gaussians(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="True is real"):
        Fragments(torch.zeros(1, 2, 3), torch.ones(1, 2), torch.zeros(1, 3))
    with pytest.raises(DataError, match="expected 6"):
        Sets.unpack(np.zeros((1, 5), np.float32), {"k": 2, "d": 3})
    with pytest.raises(DataError, match="expected a multiple of 3"):
        Fragments.unpack(np.zeros((1, 5), np.float32), {"d": 3})
    with pytest.raises(UnknownName, match="did you mean 'points'"):
        embedding_kind("point")


def test_first_item_that_is_no_number() -> None:
    vectors = torch.zeros(4, 2)
    assert Points(vectors).first_not_finite() is None
    vectors[2, 1] = float("inf")
    assert Points(vectors).first_not_finite() == 2


def test_extras_are_asked_for_by_name() -> None:
    encoded = Encoded(Points(torch.zeros(1, 2)), tensors={"residual": torch.zeros(1)})
    assert encoded.float().tensor("residual").dtype == torch.float32
    with pytest.raises(DataError, match=r"gave no 'samples': found \['residual'\]"):
        encoded.tensor("samples")
