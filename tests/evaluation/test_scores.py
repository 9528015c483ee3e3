import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import Dot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from manymatch.data.matches import Matches
from manymatch.embeddings import Points, Sets
from manymatch.errors import DataError
from manymatch.evaluation import scores as module
from manymatch.evaluation.folds import Folds
from manymatch.evaluation.ranks import Ranks
from manymatch.evaluation.scores import MatrixScores, ModelScores
from manymatch.similarity import Cosine, SmoothChamfer
from manymatch.similarity.pairwise import element_products
from manymatch.similarity.smooth_chamfer import element_cosines


def whole_numbers(images: int, captions: int, seed: int) -> tuple[Points, Points]:
    """Items whose products are exact, with many ties."""
    rng = np.random.default_rng(seed)
    first, second = (Points(torch.from_numpy(rng.integers(-2, 3, (n, 3))).float()) for n in (images, captions))
    return first, second


def products(first: Points, second: Points, lean: float = 0.0) -> np.ndarray:
    return Dot(lean)(first, second).numpy()


def read(source, direction: str) -> np.ndarray:
    """All rows, one block after the other."""
    blocks = list(source.rows(direction))
    ends = [0, *(rows.stop for rows, _ in blocks)]
    assert [rows.start for rows, _ in blocks] == ends[:-1]
    return np.concatenate([scores for _, scores in blocks])


def same(ours: Ranks, other: Ranks) -> None:
    for name in ("indptr", "items", "above", "tied", "scores", "best"):
        mine, others = getattr(ours, name), getattr(other, name)
        assert (mine is None) == (others is None), name
        assert mine is None or mine.tolist() == others.tolist(), name
    assert ours.gallery == other.gallery


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]))
def test_a_model_its_matrix_and_what_is_kept_of_it_say_the_same(images, captions, seed, lean):
    rng = np.random.default_rng(seed)
    first, second = whole_numbers(images, captions, seed)
    model = ModelScores(Dot(lean), first, second)
    matrices = {"i2t": products(first, second, lean), "t2t": products(second, second), "i2i": products(first, first)}
    if lean:
        matrices |= {"t2i": products(second, first, lean), "t2t": products(second, second, lean)}
        matrices["i2i"] = products(first, first, lean)
    i2t, t2i = (Matches.from_dense(rng.random(size) < 0.3) for size in ((images, captions), (captions, images)))
    owner = np.sort(rng.integers(0, images, captions))
    folds = Folds.of(owner, images, max(images // 3, 1))
    others = {kind: Matches.from_dense(np.triu(rng.random(m.shape) < 0.3, 1)) for kind, m in matrices.items()}
    expected = model.ranking(i2t, t2i, folds=folds, best=True)
    for source in (MatrixScores(matrices), model.kept()):
        found = source.ranking(i2t, t2i, folds=folds, best=True)
        same(found.i2t, expected.i2t)
        same(found.t2i, expected.t2i)
        for ours, theirs in zip(found.folds, expected.folds, strict=True):
            same(ours[0], theirs[0])
            same(ours[1], theirs[1])
        for kind in ("t2t", "i2i"):
            same(source.within(kind, others[kind]), model.within(kind, others[kind]))


@pytest.mark.parametrize("bytes_", [1, 4 * 70 * 20, 32 << 20])
@pytest.mark.parametrize("lean", [0.0, 1.0])
def test_rows_are_the_matrix(monkeypatch, bytes_, lean):
    monkeypatch.setattr(module, "_ROWS_BYTES", bytes_)
    first, second = whole_numbers(40, 70, 5)
    model = ModelScores(Dot(lean), first, second)
    forth, back = products(first, second, lean), products(second, first, lean)
    for source in (model, MatrixScores({"i2t": forth, "t2i": back}), model.kept()):
        assert np.array_equal(read(source, "i2t"), forth)
        assert np.array_equal(read(source, "t2i"), back)
    alone = MatrixScores({"i2t": forth})
    assert np.array_equal(read(alone, "t2i"), forth.T)
    assert all(block.flags.c_contiguous for _, block in alone.rows("t2i"))


def test_equal_items_score_equal_in_rows_of_any_width():
    draw = torch.Generator().manual_seed(0)
    for captions, width in ((45, 206), (25, 319), (77, 64)):
        one, other = torch.randn(33, width, generator=draw), torch.randn(1, width, generator=draw)
        for similarity, wrap in (
            (Cosine(), lambda v: Points(v)),
            (SmoothChamfer(), lambda v: Sets(normalize(v, dim=-1)[:, None].repeat(1, 2, 1))),
        ):
            model = ModelScores(similarity, wrap(one), wrap(other.repeat(captions, 1)))
            assert np.ptp(read(model, "i2t"), axis=1).max() == 0
            assert np.ptp(read(model, "t2i"), axis=0).max() == 0


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
def test_a_matrix_of_any_kind_of_number(kind):
    numbers = np.random.default_rng(0).integers(-3, 4, (9, 20))
    matches = Matches.from_owner(np.arange(20) % 9, 9)
    found, expected = (
        MatrixScores({"i2t": m}).ranking(matches, matches.transpose()) for m in (numbers.astype(kind), numbers)
    )
    same(found.i2t, expected.i2t)
    same(found.t2i, expected.t2i)


def test_a_matrix_on_disk_is_read_where_it_lies(tmp_path):
    numbers = np.random.default_rng(0).standard_normal((9, 20)).astype(np.float32)
    np.save(tmp_path / "scores.npy", numbers)
    matches = Matches.from_owner(np.arange(20) % 9, 9)
    mapped = MatrixScores({"i2t": np.load(tmp_path / "scores.npy", mmap_mode="r")})
    same(
        mapped.ranking(matches, matches.transpose()).i2t,
        MatrixScores({"i2t": numbers}).ranking(matches, matches.transpose()).i2t,
    )
    assert np.array_equal(read(mapped, "t2i"), numbers.T)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_rows_that_are_not_finite_are_refused_and_the_first_named(bad):
    numbers = np.zeros((5, 7))
    numbers[2, 6] = numbers[3, 1] = bad
    ids = {"image_ids": list("abcde"), "caption_ids": [f"c{n}" for n in range(7)]}
    with pytest.raises(DataError, match="the score of image 'c' with caption 'c6' is"):
        read(MatrixScores({"i2t": numbers}, **ids), "i2t")
    with pytest.raises(DataError, match="the score of caption 'c1' with image 'd' is"):
        read(MatrixScores({"i2t": numbers}, **ids), "t2i")

    class Broken(Dot):
        def __call__(self, queries, gallery):
            found = super().__call__(queries, gallery)
            return torch.where(found == 6, bad, found)

    first, second = Points(torch.tensor([[1.0], [2.0]])), Points(torch.tensor([[1.0], [3.0], [3.0]]))
    with pytest.raises(DataError, match="the score of image 1 with caption 1 is"):
        ModelScores(Broken(), first, second).kept()
    with pytest.raises(DataError, match="the score of caption 1 with image 1 is"):
        read(ModelScores(Broken(), first, second), "t2i")


def test_what_is_kept_is_computed_once():
    similarity, (first, second) = Dot(), whole_numbers(40, 70, 1)
    kept = ModelScores(similarity, first, second).kept()
    computed, matches = len(similarity.shapes), Matches.from_owner(np.sort(np.arange(70) % 40), 40)
    kept.ranking(matches, matches.transpose(), folds=None, best=True)
    for direction in ("i2t", "t2i"):
        assert len(list(kept.rows(direction)))
    assert len(similarity.shapes) == computed


def test_what_is_too_large_or_differs_by_direction_is_not_kept(monkeypatch):
    first, second = whole_numbers(4, 7, 1)
    leaning = ModelScores(Dot(1.0), first, second)
    assert leaning.kept() is leaning
    monkeypatch.setattr(module, "_WHOLE_BYTES", 4 * 4 * 7 - 1)
    model = ModelScores(Dot(), first, second)
    assert model.kept() is model


def test_matrices_of_other_names_are_refused():
    with pytest.raises(DataError, match=r"found \['i2t', 'typo'\], expected i2t"):
        MatrixScores({"i2t": np.zeros((2, 2)), "typo": np.zeros((2, 2))})
    with pytest.raises(DataError, match=r"found \['t2i'\]"):
        MatrixScores({"t2i": np.zeros((2, 2))})
    assert MatrixScores({"i2t": np.zeros((2, 2))}).within("t2t", Matches.of([0], [1], (2, 2))) is None


@pytest.mark.parametrize(("k", "other", "width"), [(4, 4, 64), (2, 3, 77)])
def test_large_tiles_of_sets_score_as_small_ones_to_the_last_bit(k, other, width):
    draw = torch.Generator().manual_seed(0)
    left, right = (
        Sets(normalize(torch.randn(n, e, width, generator=draw), dim=-1)) for n, e in ((256, k), (272, other))
    )
    with torch.no_grad():
        at_once, cosines = element_products(left.elements, right.elements), element_cosines(left, right)
        assert torch.equal(cosines, at_once)
        assert cosines.is_contiguous()
        parts = [SmoothChamfer()(left[start : start + 64], right) for start in range(0, 256, 64)]
        assert torch.equal(SmoothChamfer()(left, right), torch.cat(parts))


@pytest.fixture
def bench(monkeypatch):
    """The bench of the evaluation, as a module."""
    folder = Path(__file__).parents[2] / "bench"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("bench_of_evaluation", folder / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_bench_runs_and_the_usual_way_finds_the_same_ranks(bench, capsys):
    bench.main(["--small", "--width", "32", "--threads", "1", "--rounds", "1"])
    said = capsys.readouterr().out
    assert re.search(r"times as fast as the usual way: \d+ \(same rank for (99\.\d|100\.0) % of its queries\)", said)
    assert re.search(r"all protocols: \d+\.\d\d x the products they need", said)
    assert "minutes (extrapolated)" in said
