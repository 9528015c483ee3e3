import numpy as np
import pytest
import torch
from evaluation_fakes import Dot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from manymatch.data.matches import Matches
from manymatch.embeddings import Points, Samples, Sets
from manymatch.errors import DataError
from manymatch.evaluation import counting
from manymatch.evaluation.folds import Folds
from manymatch.evaluation.ranks import Ranks, rank, rank_scores, rank_tiles, rank_within, ready_tiles, score_tiles
from manymatch.evaluation.tiles import Side, Tiles
from manymatch.similarity import Cosine, ElementProbability, SampledMatchProbability, SmoothChamfer

SIDES = Side("image"), Side("caption")


@st.composite
def folded(draw):
    """Images with 0 to 4 captions each, a fold size, whole-number scores both ways, any right answers."""
    captions = draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    owner = np.repeat(np.arange(len(captions)), captions)
    folds = Folds.of(owner, len(captions), draw(st.integers(1, len(captions) + 2)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (len(captions), len(owner))
    truths = [Matches.from_dense(rng.random(size) < draw(st.sampled_from([0.1, 0.5]))) for size in (shape, shape[::-1])]
    scores = [rng.integers(0, 4, size) for size in (shape, shape[::-1])]
    return captions, folds, truths, scores, draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))


def same(ours: Ranks, other: Ranks) -> None:
    for name in ("indptr", "items", "above", "tied", "scores"):
        assert getattr(ours, name).tolist() == getattr(other, name).tolist(), name
    assert ours.gallery == other.gallery


def cut(matches: Matches, queries: slice, items: slice) -> Matches:
    return matches.subset(np.arange(queries.start, queries.stop), np.arange(items.start, items.stop))


@settings(max_examples=50)
@given(folded())
def test_folds_are_consecutive_and_hold_their_own_captions(case):
    captions, folds, _, _, _ = case
    size = folds.images[0].stop if folds.images else len(captions) + 1
    assert len(folds.images) == len(folds.captions) == len(captions) // size
    for n, (images, own) in enumerate(zip(folds.images, folds.captions, strict=True)):
        assert (images.start, images.stop) == (n * size, (n + 1) * size)
        assert (own.start, own.stop) == (sum(captions[: images.start]), sum(captions[: images.stop]))


@settings(max_examples=50)
@given(folded())
def test_inside_keeps_what_lies_in_one_fold(case):
    _, folds, (i2t, t2i), _, _ = case
    for matches, chosen in ((i2t, folds), (t2i, folds.turned())):
        dense = np.zeros(matches.shape, bool)
        for queries, items in zip(chosen.images, chosen.captions, strict=True):
            dense[queries, items] = matches.dense()[queries, items]
        assert np.array_equal(chosen.inside(matches).dense(), dense)


@settings(max_examples=50)
@given(folded())
def test_a_fold_of_the_pass_is_the_fold_ranked_alone(case):
    _, folds, truths, scores, block = case
    shape = truths[0].shape
    for back in (None, scores[1]):
        both = scores[0], scores[0].T if back is None else back
        tiles = ready_tiles(both[0], shape, SIDES, block)
        turned = None if back is None else ready_tiles(back, shape[::-1], SIDES[::-1], block)
        found = rank_tiles(tiles, turned, *truths, folds=folds)
        assert len(found.folds) == len(folds.images)
        for images, captions, (i2t, t2i) in zip(folds.images, folds.captions, found.folds, strict=True):
            for ours, matches, numbers, rows, columns in (
                (i2t, truths[0], both[0], images, captions),
                (t2i, truths[1], both[1], captions, images),
            ):
                same(ours, rank_scores(numbers[rows, columns], None, cut(matches, rows, columns))[0])
        for ours, matches, numbers in zip((found.i2t, found.t2i), truths, both, strict=True):
            same(ours, rank_scores(numbers, None, matches)[0])


@pytest.mark.parametrize("lean", [0.0, 2.0])
def test_folds_of_embeddings_are_those_of_their_scores_to_the_last_bit(lean):
    draw, owner = torch.Generator().manual_seed(3), np.repeat(np.arange(90), 5)
    images, texts = (Points(normalize(torch.randn(n, 64, generator=draw), dim=-1)) for n in (90, 450))
    matches, folds, similarity = Matches.from_owner(owner, 90), Folds.of(owner, 90, 20), Dot(lean)
    forth = similarity(images, texts).numpy()
    back = forth.T if lean == 0 else similarity(texts, images).numpy()
    for block in (None, (16, 48), (64, 16)):
        tiles = score_tiles(similarity, images, texts, block=block)
        found = rank_tiles(*tiles, matches, matches.transpose(), folds=folds)
        for rows, columns, (i2t, t2i) in zip(folds.images, folds.captions, found.folds, strict=True):
            own = cut(matches, rows, columns)
            same(i2t, rank_scores(forth[rows, columns], None, own)[0])
            same(t2i, rank_scores(back[columns, rows], None, own.transpose())[0])


@settings(max_examples=50)
@given(folded())
def test_a_part_is_some_queries_over_some_items(case):
    _, folds, (i2t, _), (scores, _), _ = case
    within = rank_scores(scores, None, folds.inside(i2t))[0]
    for rows, columns in zip(folds.images, folds.captions, strict=True):
        part = within.part(rows, columns)
        assert part.items.tolist() == cut(i2t, rows, columns).captions.tolist()
        assert part.query.tolist() == cut(i2t, rows, columns).images.tolist()
        first, last = within.indptr[rows.start], within.indptr[rows.stop]
        assert part.above.tolist() == within.above[first:last].tolist()
        assert part.gallery == columns.stop - columns.start


@settings(max_examples=50)
@given(folded())
def test_both_directions_may_have_other_right_answers(case):
    _, _, (i2t, t2i), (scores, _), block = case
    found = rank_tiles(ready_tiles(scores, i2t.shape, SIDES, block), None, i2t, t2i, best=True)
    same(found.i2t, rank_scores(scores, None, i2t)[0])
    same(found.t2i, rank_scores(scores.T, None, t2i)[0])
    assert found.i2t.best.tolist() == scores.astype(float).max(axis=1, initial=-np.inf).tolist()
    assert found.t2i.best.tolist() == scores.T.astype(float).max(axis=1, initial=-np.inf).tolist()


# ---- among items of one kind


def others(scores: np.ndarray, dense: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(query, item, above, tied) of each right answer among all items but the query itself, one by one."""
    out = []
    for query, item in zip(*np.nonzero(dense), strict=True):
        rest = [scores[query, g] for g in range(len(scores)) if g not in (query, item)]
        mine = scores[query, item]
        out.append((query, item, sum(o > mine for o in rest), sum(o == mine for o in rest)))
    return out


def listed(ranks: Ranks) -> list[tuple[int, int, int, int]]:
    return list(zip(*(v.tolist() for v in (ranks.query, ranks.items, ranks.above, ranks.tied)), strict=True))


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_an_item_is_never_its_own_answer(n, seed, block):
    rng = np.random.default_rng(seed)
    scores, dense = rng.integers(0, 4, (n, n)), rng.random((n, n)) < 0.4
    np.fill_diagonal(dense, False)
    np.fill_diagonal(scores, 9)
    for numbers in (scores, scores + scores.T):
        tiles = ready_tiles(numbers, (n, n), (SIDES[1], SIDES[1]), block).without_self()
        found = rank_within(tiles, Matches.from_dense(dense))
        assert listed(found) == others(numbers, dense)
        assert found.gallery == n - 1


def doubled(n: int, kind: str) -> Points | Sets | Samples:
    """n random items, then the same ones again: each has an equal far away from it."""
    draw = torch.Generator().manual_seed(11)
    if kind == "points":
        return Points(torch.randn(n, 48, generator=draw).repeat(2, 1))
    vectors = torch.randn(n, 3, 48, generator=draw).repeat(2, 1, 1)
    return Sets(normalize(vectors, dim=-1)) if kind == "sets" else Samples(vectors)


@pytest.mark.parametrize(
    ("similarity", "kind"),
    [
        (Cosine(), "points"),
        (SmoothChamfer(), "sets"),
        (ElementProbability(), "sets"),
        (SampledMatchProbability(), "samples"),
    ],
)
def test_half_of_a_symmetric_matrix_says_as_much_as_the_whole(similarity, kind):
    items, n = doubled(60, kind), 120
    dense = np.random.default_rng(1).random((n, n)) < 0.1
    dense[np.arange(60), np.arange(60) + 60] = True
    np.fill_diagonal(dense, False)
    tiles = Tiles.of(similarity, items, items, (32, 32), (SIDES[1], SIDES[1])).without_self()
    half, whole = (rank_within(tiles, Matches.from_dense(dense), symmetric=half) for half in (True, False))
    same(half, whole)
    double = half.items == (half.query + 60) % 120
    assert half.above[double].tolist() == [0] * int(double.sum())
    # Every other right answer ties with its own double.
    assert half.tied[~double].min() >= 1


def test_half_the_tiles_are_computed_and_only_where_that_is_sure():
    matches = Matches.of([0, 90], [70, 3], (96, 96))
    counts = {}
    for lean in (0.0, 1.0):
        similarity, points = Dot(lean), Points(torch.randn(96, 5, generator=torch.Generator().manual_seed(0)))
        tiles = Tiles.of(similarity, points, points, (16, 16), (SIDES[1], SIDES[1])).without_self()
        rank_within(tiles, matches, symmetric=True)
        counts[lean] = len(similarity.shapes)
    # One tile more to see whether its two halves agree; with a lean they do not.
    assert counts == {0.0: 6 * 7 // 2 + 1, 1.0: 36 + 1}


def test_items_against_themselves_have_square_tiles():
    points = Points(torch.zeros(5000, 2))
    assert len(set(Tiles.of(Dot(), points, points, None, SIDES).block)) == 1


# ---- one product


def test_a_right_answer_ties_with_its_copy_although_another_product_rounds_otherwise():
    draw = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(64, 1024, generator=draw), dim=-1)
    near = normalize(images + 0.02 * torch.randn(64, 1024, generator=draw), dim=-1)
    texts = near.repeat_interleave(2, dim=0)
    matches = Matches.of(np.arange(64), 2 * np.arange(64), (64, 128))
    apart = torch.einsum("nd,nd->n", images, near)
    for block in (None, (16, 32), (48, 64)):
        forth, _ = rank(Dot(), Points(images), Points(texts), matches, block=block)
        assert forth.above.tolist() == [0] * 64 and forth.tied.tolist() == [1] * 64
        # The same numbers multiplied apart from their gallery: some right answers fall behind or rise above their copy.
        assert (apart.double().numpy() != forth.scores).any()
    product = images @ texts.T
    above, at_least = ((op(product, apart[:, None])).sum(dim=1) for op in (torch.gt, torch.ge))
    assert not (above == 0).all() or not (at_least == 2).all()


# ---- refusing


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_folds_and_within_refuse_what_is_not_finite_and_name_the_first(bad):
    scores, owner = np.zeros((6, 12)), np.repeat(np.arange(6), 2)
    scores[2, 7] = scores[4, 1] = bad
    matches, folds = Matches.from_owner(owner, 6), Folds.of(owner, 6, 3)
    with pytest.raises(DataError, match=r"the score of image 2 with caption 7 is (nan|inf)"):
        rank_tiles(ready_tiles(scores, (6, 12), SIDES), None, matches, matches.transpose(), folds=folds)
    square = np.zeros((6, 6))
    square[3, 3] = square[3, 5] = bad
    side = Side("caption", [f"c{n}" for n in range(6)])
    with pytest.raises(DataError, match=r"caption 'c3' with caption 'c3' is"):
        rank_within(ready_tiles(square, (6, 6), (side, side)).without_self(), Matches.of([0], [1], (6, 6)))
    points = torch.ones(6, 2)
    points[4, 1] = points[5, 0] = bad
    with pytest.raises(DataError, match="caption 'c4': its embedding holds a NaN or an infinity"):
        Tiles.of(Dot(), Points(points), Points(points), None, (side, side))


def test_the_first_item_is_named_however_far_down_it_stands(monkeypatch):
    monkeypatch.setattr("manymatch.evaluation.tiles._LONGEST_SIDE", 16)
    points = torch.ones(50, 2)
    points[37, 0] = points[49, 1] = np.nan
    with pytest.raises(DataError, match="image 37: its embedding"):
        Tiles.of(Dot(), Points(points), Points(torch.ones(3, 2)), None, SIDES)


# ---- rows of few and of many right answers beside each other


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5]))
def test_rows_of_few_and_of_many_right_answers_side_by_side(seed, few):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, (7, 60))
    dense = rng.random((7, 60)) < rng.choice([0.0, 0.02, 0.2, 0.9], (7, 1))
    before, counting._FEW = counting._FEW, few
    try:
        forth, back = rank_scores(scores, None, Matches.from_dense(dense), block=(4, 25))
    finally:
        counting._FEW = before
    for found, numbers, right in ((forth, scores, dense), (back, scores.T, dense.T)):
        expected = [
            (
                q,
                i,
                int((numbers[q] > numbers[q, i]).sum()),
                int((numbers[q] == numbers[q, i]).sum()) - 1,
            )
            for q, i in zip(*np.nonzero(right), strict=True)
        ]
        assert listed(found) == expected
