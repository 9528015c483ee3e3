"""Matches: sparse truth agrees with the dense matrix it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from manymatch.data.matches import Matches
from manymatch.errors import DataError

DENSE = arrays.arrays(bool, st.tuples(st.integers(0, 6), st.integers(0, 7)))


@given(DENSE)
def test_dense_and_back(dense: np.ndarray) -> None:
    matches = Matches.from_dense(dense)
    np.testing.assert_array_equal(matches.dense(), dense)
    assert len(matches) == dense.sum()
    np.testing.assert_array_equal(matches.transpose().dense(), dense.T)
    np.testing.assert_array_equal(np.diff(matches.indptr()), dense.sum(axis=1))


@given(DENSE, st.randoms(use_true_random=False))
def test_a_subset_is_the_dense_submatrix(dense: np.ndarray, random: st.randoms) -> None:
    images = random.sample(range(dense.shape[0]), random.randint(0, dense.shape[0]))
    captions = random.sample(range(dense.shape[1]), random.randint(0, dense.shape[1]))
    expected = dense[np.array(images, int)][:, np.array(captions, int)]
    np.testing.assert_array_equal(Matches.from_dense(dense).subset(images, captions).dense(), expected)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30))
def test_pairs_may_come_in_any_order_and_repeat(listed: list[tuple[int, int]]) -> None:
    matches = Matches.of([i for i, _ in listed], [c for _, c in listed], (5, 7))
    assert list(zip(matches.images.tolist(), matches.captions.tolist(), strict=True)) == sorted(set(listed))


def test_a_caption_matches_its_own_image() -> None:
    matches = Matches.from_owner([0, 0, 2], 3)
    np.testing.assert_array_equal(matches.dense(), [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(matches.indptr(), [0, 2, 2, 3])


def test_rows_outside_and_uneven_lists_are_refused() -> None:
    with pytest.raises(DataError, match=r"image row 0..3, expected 0..2"):
        Matches.of([0, 3], [0, 1], (3, 2))
    with pytest.raises(DataError, match="caption row"):
        Matches(np.array([0]), np.array([2]), (3, 2))
    with pytest.raises(DataError, match="2 images, 1 captions"):
        Matches(np.array([0, 1]), np.array([0]), (3, 2))


@pytest.mark.parametrize("listed", [([0], [2]), ([0], [-1]), ([-1], [1])])
def test_a_row_outside_is_never_taken_for_another_pair(listed: tuple[list[int], list[int]]) -> None:
    with pytest.raises(DataError, match="row"):
        Matches.of(*listed, (3, 2))


def test_uneven_lists_are_refused_before_they_are_broadcast() -> None:
    with pytest.raises(DataError, match="3 images, 1 captions"):
        Matches.of([0, 1, 2], [0], (3, 2))


def test_a_subset_refuses_repeated_rows() -> None:
    with pytest.raises(DataError, match="image row 1 is chosen twice"):
        Matches.from_owner([0, 1], 2).subset([1, 1], [0])


@given(st.lists(arrays.arrays(bool, (3, 4)), max_size=4))
def test_a_union_has_what_any_has(several: list[np.ndarray]) -> None:
    found = Matches.union((Matches.from_dense(each) for each in several), (3, 4))
    np.testing.assert_array_equal(found.dense(), np.any([np.zeros((3, 4), bool), *several], axis=0))
