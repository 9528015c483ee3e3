import numpy as np
import pytest
import torch
from evaluation_fakes import Dot
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from manymatch.data.matches import Matches
from manymatch.embeddings import Points, Sets
from manymatch.errors import DataError
from manymatch.evaluation import counting, tiles
from manymatch.evaluation import ranks as module
from manymatch.evaluation.ranks import Ranks, rank, rank_scores, top
from manymatch.similarity import Cosine, SmoothChamfer


@st.composite
def scored(draw):
    """Whole-number scores with many ties, both directions, and any right answers."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    matches = Matches.from_dense(rng.random(shape) < draw(st.sampled_from([0.1, 0.4, 0.9])))
    scores = [rng.integers(0, 4, size) for size in (shape, shape[::-1])]
    return *scores, matches, draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))


def counted(scores: np.ndarray, dense: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(query, item, above, tied), one comparison at a time."""
    out = []
    for query in range(dense.shape[0]):
        for item in np.flatnonzero(dense[query]):
            others = [scores[query, g] for g in range(dense.shape[1]) if g != item]
            mine = scores[query, item]
            out.append((query, item, sum(o > mine for o in others), sum(o == mine for o in others)))
    return out


def listed(ranks: Ranks) -> list[tuple[int, int, int, int]]:
    return list(zip(*(v.tolist() for v in (ranks.query, ranks.items, ranks.above, ranks.tied)), strict=True))


@given(scored())
def test_counts_equal_comparing_one_by_one(case):
    i2t, t2i, matches, block = case
    dense = matches.dense()
    forth, back = rank_scores(i2t, t2i, matches, block=block)
    assert listed(forth) == counted(i2t, dense)
    assert listed(back) == counted(t2i, dense.T)
    assert (forth.gallery, back.gallery) == (dense.shape[1], dense.shape[0])


@given(scored())
def test_one_matrix_serves_both_directions(case):
    i2t, _, matches, block = case
    forth, back = rank_scores(i2t, None, matches, block=block)
    assert listed(forth) == counted(i2t, matches.dense())
    assert listed(back) == counted(i2t.T, matches.dense().T)


@pytest.mark.parametrize("block", [None, (7, 30)])
def test_many_right_answers(block):
    rng = np.random.default_rng(3)
    scores, dense = rng.integers(0, 30, (4, 300)), rng.random((4, 300)) < [[0.9], [0.3], [0.0], [0.005]]
    forth, back = rank_scores(scores, None, Matches.from_dense(dense), block=block)
    assert forth.positives.max() > counting._FEW
    assert listed(forth) == counted(scores, dense)
    assert listed(back) == counted(scores.T, dense.T)


def embedded(images: int, captions: int, kind: str):
    generator = torch.Generator().manual_seed(7)
    if kind == "points":
        return tuple(Points(torch.randn(n, 8, generator=generator)) for n in (images, captions)), Cosine()
    return tuple(
        Sets(normalize(torch.randn(n, 3, 8, generator=generator), dim=-1)) for n in (images, captions)
    ), SmoothChamfer()


@pytest.mark.parametrize("kind", ["points", "sets"])
def test_blocks_change_nothing(kind):
    (images, texts), similarity = embedded(40, 200, kind)
    matches = Matches.from_owner(np.arange(200) // 5, 40)
    whole = rank_scores(similarity(images, texts).double().numpy(), None, matches)
    for block in (None, (5, 9), (16, 16), (40, 200), (13, 64), (500, 3)):
        for ours, other in zip(rank(similarity, images, texts, matches, block=block), whole, strict=True):
            assert listed(ours) == listed(other), block


def test_asymmetric_similarity_asks_from_both_sides():
    rng = np.random.default_rng(0)
    images, texts = (torch.from_numpy(rng.integers(-3, 4, (n, 4))).float() for n in (6, 11))
    similarity, matches = Dot(lean=2.0), Matches.from_owner(np.arange(11) // 2, 6)
    forth, back = rank(similarity, Points(images), Points(texts), matches, block=(4, 5))
    i2t = (images @ texts.T + 2 * texts[:, 0]).numpy()
    t2i = (texts @ images.T + 2 * images[:, 0]).numpy()
    assert listed(forth) == counted(i2t, matches.dense())
    assert listed(back) == counted(t2i, matches.dense().T)
    assert not np.array_equal(i2t.T, t2i)


def test_equal_items_tie_to_the_last_bit():
    for images, captions, width in ((9, 9, 512), (3, 11, 313), (1, 5, 66), (5, 25, 319), (11, 45, 206)):
        generator = torch.Generator().manual_seed(width)
        one, other = (torch.randn(1, width, generator=generator) for _ in range(2))
        matches = Matches.from_dense(np.ones((images, captions), bool))
        for similarity, wrap in (
            (Cosine(), lambda v, n: Points(v.repeat(n, 1))),
            (SmoothChamfer(), lambda v, n: Sets(normalize(v, dim=-1).repeat(n, 2, 1))),
        ):
            forth, back = rank(similarity, wrap(one, images), wrap(other, captions), matches)
            assert forth.above.max() == back.above.max() == 0
            assert forth.tied.min() == captions - 1 and back.tied.min() == images - 1


class Rounding(Dot):
    """As matrix products do, it rounds differently for other shapes."""

    def __call__(self, queries, gallery):
        return super().__call__(queries, gallery) * (1 + 1e-6 * (7 * len(queries) + len(gallery)))


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_right_answers_are_scored_in_the_tile_they_are_compared_in(monkeypatch, kept):
    monkeypatch.setattr(module, "_KEPT_BYTES", kept)
    rng = np.random.default_rng(1)
    images, texts = (torch.from_numpy(rng.integers(-2, 3, (n, 3))).float() for n in (21, 50))
    matches = Matches.from_dense(rng.random((21, 50)) < 0.1)
    forth, back = rank(Rounding(), Points(images), Points(texts), matches, block=(8, 12))
    scores = (images @ texts.T).numpy()
    assert listed(forth) == counted(scores, matches.dense())
    assert listed(back) == counted(scores.T, matches.dense().T)


def test_no_tile_is_larger_than_the_block_and_own_captions_cost_only_the_diagonal_twice(monkeypatch):
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    similarity, matches = Dot(), Matches.from_owner(np.arange(200) // 5, 40)
    told = []
    rank(
        similarity,
        Points(torch.randn(40, 3)),
        Points(torch.randn(200, 3)),
        matches,
        block=(8, 40),
        progress=lambda done, total: told.append((done, total)),
    )
    assert similarity.shapes == [(8, 40)] * 30
    assert told == [(n + 1, 30) for n in range(30)]


def test_kept_tiles_are_not_computed_again():
    similarity, matches = Dot(), Matches.from_owner(np.arange(200) // 5, 40)
    rank(similarity, Points(torch.randn(40, 3)), Points(torch.randn(200, 3)), matches, block=(8, 40))
    assert len(similarity.shapes) == 25


def test_a_random_similarity_is_our_bug_not_a_number(monkeypatch):
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    points = Points(torch.ones(3, 2))
    matches = Matches.from_owner(np.arange(3), 3)

    class Random(Dot):
        def __call__(self, queries, gallery):
            return torch.rand(len(queries), len(gallery))

    with pytest.raises(RuntimeError, match="changed between two computations"):
        rank(Random(), points, points, matches)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (4, 6), (2, 3)])
def test_scores_that_are_not_finite_are_refused_and_named(bad, at):
    scores = np.zeros((5, 7))
    scores[at] = bad
    ids = {"image_ids": list("abcde"), "caption_ids": [f"c{n}" for n in range(7)]}
    matches = Matches.from_owner(np.arange(7) % 5, 5)
    with pytest.raises(DataError, match=f"image '{'abcde'[at[0]]}' with caption 'c{at[1]}' is"):
        rank_scores(scores, None, matches, block=(2, 3), **ids)
    with pytest.raises(DataError, match=f"caption {at[1]} with image {at[0]} is"):
        rank_scores(np.zeros((5, 7)), scores.T, matches)


def test_an_embedding_that_is_not_finite_is_refused_and_named():
    good, bad = torch.ones(4, 2), torch.ones(4, 2)
    bad[2, 1] = np.nan
    matches = Matches.from_owner(np.arange(4), 4)
    with pytest.raises(DataError, match="image 'd': its embedding"):
        rank(Dot(), Points(bad), Points(good), matches, image_ids=list("abdc"))
    with pytest.raises(DataError, match="caption 2: its embedding"):
        rank(Dot(), Points(good), Points(bad), matches)


def test_large_finite_scores_are_no_error():
    scores = np.full((3, 4), 3e38, np.float32)
    forth, _ = rank_scores(scores, None, Matches.from_dense(np.ones((3, 4), bool)))
    assert set(forth.tied) == {3}


def test_sizes_that_do_not_fit():
    matches = Matches.from_owner(np.arange(3), 3)
    points = Points(torch.ones(4, 2))
    with pytest.raises(DataError, match=r"matches: \(3, 3\) images and captions, embeddings: \(4, 4\)"):
        rank(Dot(), points, points, matches)
    with pytest.raises(DataError, match=r"scores: shape \(4, 3\), expected \(3, 3\)"):
        rank_scores(np.zeros((4, 3)), None, matches)
    with pytest.raises(DataError, match=r"block \(0, 4\)"):
        rank(Dot(), points, points, Matches.from_owner(np.arange(4), 4), block=(0, 4))


@given(scored(), st.integers(0, 2**16))
def test_fewer_right_answers_read_from_the_same_counts(case, seed):
    i2t, _, matches, _ = case
    kept = np.random.default_rng(seed).random(len(matches)) < 0.5
    fewer = Matches(matches.images[kept], matches.captions[kept], matches.shape)
    everything, alone = rank_scores(i2t, None, matches), rank_scores(i2t, None, fewer)
    assert listed(everything[0].only(fewer)) == listed(alone[0])
    assert listed(everything[1].only(fewer.transpose())) == listed(alone[1])


def test_right_answers_that_were_not_ranked_are_refused():
    ranks, _ = rank_scores(np.zeros((2, 3)), None, Matches.from_dense([[1, 0, 0], [0, 1, 0]]))
    with pytest.raises(DataError, match="some were not ranked"):
        ranks.only(Matches.from_dense([[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(DataError, match="some were not ranked"):
        ranks.only(Matches.from_dense([[0, 1, 0], [0, 0, 0]]))
    with pytest.raises(DataError, match=r"\(3, 2\) queries and items, ranked were \(2, 3\)"):
        ranks.only(Matches.from_dense(np.ones((3, 2))))


@pytest.mark.parametrize("block", [None, (2, 3), (100, 1)])
def test_top_is_the_whole_order_with_the_lower_row_first(block):
    rng = np.random.default_rng(5)
    queries, gallery = (torch.from_numpy(rng.integers(-2, 3, (n, 2))).float() for n in (5, 40))
    scores, rows = top(Dot(), Points(queries), Points(gallery), 7, block=block)
    whole = (queries @ gallery.T).numpy()
    expected = np.stack([np.lexsort((np.arange(40), -line))[:7] for line in whole])
    assert np.array_equal(rows, expected)
    assert np.array_equal(scores, np.take_along_axis(whole, expected, 1))


def test_top_of_a_small_gallery():
    scores, rows = top(Dot(), Points(torch.ones(2, 1)), Points(torch.tensor([[1.0], [3.0]])), 10)
    assert rows.tolist() == [[1, 0]] * 2 and scores.tolist() == [[3.0, 1.0]] * 2


@given(st.integers(0, 30000), st.integers(0, 30000), st.sampled_from([1, 4, 16, 49, 1000]))
def test_tiles_are_even_and_bounded(queries, gallery, elements):
    rows, columns = tiles.choose_block((queries, gallery), elements)
    assert rows % 16 == columns % 16 == 0 and rows >= 16 and columns >= 16
    assert rows * columns * elements * 12 <= max(tiles._TILE_BYTES, 16 * 16 * 12 * elements) * 1.1
    assert rows < 2 * max(queries, 16) and columns < 2 * max(gallery, 16)
