"""Scores and rankings of other systems give the numbers that their matrix gives, or one clear line."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel, made_pairs, one_hot
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs, Problem
from manymatch.errors import DataError
from manymatch.evaluation import Report, evaluate, rank_scores
from manymatch.evaluation.elsewhere import source_of
from manymatch.evaluation.protocols import coco

PROTOCOLS = ["own", "coco-1k", "matches"]


class Every:
    """Image n and caption c match when both are even or both are odd."""

    def matches(self, pairs: Pairs) -> Matches:
        return Matches.from_dense(np.arange(len(pairs))[:, None] % 2 == np.arange(len(pairs.captions)) % 2)


@pytest.fixture(autouse=True)
def small_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "_FOLD", 3)


def untied(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).permutation(shape[0] * shape[1]).reshape(shape).astype(np.float64)


def entries(scores: np.ndarray, queries: list[str], items: list[str], cut: int | None = None):
    """(query, ids best first, their scores) of each row."""
    for query, row in zip(queries, scores, strict=True):
        order = np.argsort(-row, kind="stable")[:cut]
        yield query, [items[n] for n in order], row[order].tolist()


def both(pairs: Pairs, i2t: np.ndarray, t2i: np.ndarray, cut: int | None = None):
    yield from entries(i2t, pairs.image_ids, pairs.caption_ids, cut)
    yield from entries(t2i, pairs.caption_ids, pairs.image_ids, cut)


def written(path: Path, lists, form: str) -> Path:
    lists = list(lists)
    if form == "trec":
        lines = [
            f"{q} Q0 {i} {n} {s} tag\n"
            for q, ids, scores in lists
            for n, (i, s) in enumerate(zip(ids, scores, strict=True))
        ]
        np.random.default_rng(0).shuffle(lines)
        text = "".join(lines)
    elif form == "jsonl":
        text = "".join(json.dumps({"query": q, "ranking": ids, "scores": scores}) + "\n" for q, ids, scores in lists)
    elif form == "object":
        text = json.dumps({q: ids for q, ids, _ in lists}, indent=1)
    elif form == "pairs":
        text = json.dumps({q: list(zip(ids, scores, strict=True))[::-1] for q, ids, scores in lists})
    else:
        text = json.dumps({q: dict(zip(ids, scores, strict=True)) for q, ids, scores in lists})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def numbers(report: Report) -> dict[tuple[str, str, str], dict]:
    """Every row by what it measures, but for the run's name."""
    rows = ({k: v for k, v in row.items() if k != "run"} for row in report.rows)
    return {(row["protocol"], row["direction"], row["metric"]): row for row in rows}


def measured(models, pairs: Pairs, protocol=PROTOCOLS, **more) -> dict[tuple[str, str, str], dict]:
    return numbers(evaluate(models, pairs, protocol=protocol, resamples=20, **more))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["trec", "jsonl", "object", "pairs", "scored"]))
def test_full_lists_give_every_number_of_their_matrix(tmp_path_factory, seed, form):
    pairs = made_pairs([2, 1, 3, 2, 2, 1, 2], truth=Every())
    i2t, t2i = untied(seed, (7, 13)), untied(seed + 1, (13, 7))
    path = written(tmp_path_factory.mktemp("lists") / "run.gz", both(pairs, i2t, t2i), form)
    expected = measured({"i2t": i2t, "t2i": t2i}, pairs)
    assert measured(path, pairs) == expected
    assert {protocol for protocol, _, _ in expected} == set(PROTOCOLS)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 13))
def test_cut_lists_give_a_part_of_the_numbers_and_those_exactly(tmp_path_factory, seed, cut):
    pairs = made_pairs([2, 1, 3, 2, 2, 1, 2], truth=Every())
    i2t, t2i = untied(seed, (7, 13)), untied(seed + 1, (13, 7))
    path = written(tmp_path_factory.mktemp("lists") / "run", both(pairs, i2t, t2i, cut), "trec")
    whole, part = measured({"i2t": i2t, "t2i": t2i}, pairs), measured(path, pairs)
    assert part.items() <= whole.items()
    assert (("own", "t2i", "R@5") in part) == (cut >= 5)
    assert (("own", "both", "RSUM") in part) == (cut >= 10)
    assert ("matches", "t2i", "R@1") in part


def test_a_fold_is_measured_only_as_deep_as_every_list_reaches_inside_it(tmp_path):
    pairs, scores = made_pairs([1] * 6), np.zeros((6, 6))
    scores[np.arange(6), np.arange(6)] = 10
    scores += untied(0, (6, 6)) / 100
    scores[0] = [10, 1, 0, 9, 8, 7]
    path = written(tmp_path / "run", both(pairs, scores, scores.T, 4), "trec")
    report = evaluate(path, pairs, protocol="coco-1k")
    found = numbers(report)
    # Of image 0's four captions one lies in its fold of three, so beyond R@1 nothing is known.
    assert found["coco-1k", "i2t", "R@1"]["value"] == 100
    assert ("coco-1k", "i2t", "R@5") not in found and ("coco-1k", "both", "RSUM") not in found
    assert "i2t: within folds the shortest list holds 1 captions of its fold" in report.notes
    assert any(note.startswith("i2t: the shortest list, of image 'i0', holds 4 of 6 captions") for note in report.notes)


def test_folds_that_reach_unequally_deep_give_what_all_of_them_reach(tmp_path):
    pairs, scores = made_pairs([1] * 6), untied(3, (6, 6))
    scores[:3, 3:] -= 100  # Lists of the first fold begin with the fold itself, those of the second do not.
    path = written(tmp_path / "run", both(pairs, scores, scores.T, 3), "trec")
    whole, part = measured(scores, pairs, "coco-1k"), measured(path, pairs, "coco-1k")
    assert part.items() <= whole.items()
    assert ("coco-1k", "i2t", "R@5") in whole and ("coco-1k", "i2t", "R@5") not in part


def test_one_direction_alone_is_measured_alone_and_two_files_are_joined(tmp_path):
    pairs, scores = made_pairs([2, 1, 2]), untied(5, (3, 5))
    forth = written(tmp_path / "i2t", entries(scores, pairs.image_ids, pairs.caption_ids), "trec")
    back = written(tmp_path / "t2i.json", entries(scores.T, pairs.caption_ids, pairs.image_ids), "object")
    whole = measured(scores, pairs, "own")
    alone = evaluate(forth, pairs, protocol="own", resamples=20)
    assert numbers(alone) == {key: row for key, row in whole.items() if key[1] == "i2t"}
    assert "t2i: no list of i2t ranks images for a caption; its rows are left out" in alone.notes
    assert measured(back, pairs, "own") == {key: row for key, row in whole.items() if key[1] == "t2i"}
    together = evaluate([forth, str(back)], pairs, protocol="own", resamples=20)
    assert numbers(together) == whole and together.rows[0]["run"] == "i2t+t2i.json"
    assert together.made == ("i2t: ranked lists from elsewhere", "t2i.json: ranked lists from elsewhere")


def test_the_score_orders_and_the_rank_breaks_ties(tmp_path):
    pairs = made_pairs([1, 1, 1])
    path = tmp_path / "run"

    def hit(*lines: str) -> float:
        others = [f"i{n} Q0 i{n}#0 1 1 t" for n in (1, 2)]
        path.write_text("\n".join([*lines, *others]))
        report = evaluate(path, pairs, protocol="own")
        return report.value("R@1", "i2t") * 3 / 100 - 2

    assert hit("i0 Q0 i1#0 1 0.5 t", "i0 Q0 i0#0 2 0.9 t") == pytest.approx(1)
    assert hit("i0 Q0 i1#0 1 0.9 t", "i0 Q0 i0#0 2 0.9 t") == pytest.approx(0)
    assert hit("i0 Q0 i1#0 2 0.9 t", "i0 Q0 i0#0 1 0.9 t") == pytest.approx(1)
    # Nothing orders these two: a coin decides.
    assert hit("i0 Q0 i1#0 1 0.9 t", "i0 Q0 i0#0 1 0.9 t") == pytest.approx(1 / 2)
    assert hit("i0 Q0 i1#0 1 0.9 t", "i0 Q0 i0#0 1 0.9 t", "i0 Q0 i2#0 1 0.9 t") == pytest.approx(1 / 3)


def test_ties_keep_inside_folds_and_when_strangers_leave(tmp_path):
    pairs = made_pairs([1] * 6)
    scores = {"i0": {"i4#0": 5, "i1#0": 3, "x": 3, "i5#0": 3, "i0#0": 3, "i2#0": 2, "i3#0": 1}}
    scores |= {f"i{n}": {f"i{m}#0": -abs(m - n) for m in range(6)} for n in range(1, 6)}
    (tmp_path / "run").write_text(json.dumps(scores))
    report = evaluate(tmp_path / "run", pairs, protocol=["own", "coco-1k"])
    assert report.value("R@1", "i2t") == pytest.approx(100 * 5 / 6)
    assert report.value("mean rank", "i2t") == pytest.approx((5 + 3) / 6)
    assert report.value("R@1", "i2t", "coco-1k") == pytest.approx(100 * (5 + 1 / 2) / 6)
    assert "1 listed item is not in made and passed over, those below move up; the first is 'x'" in report.notes


def test_ranks_against_scores_are_said(tmp_path):
    pairs = made_pairs([1, 1, 1])
    distances = {
        f"i{n}": [[f"i{m}#0", abs(m - n)] for m in sorted(range(3), key=lambda m: abs(m - n))] for n in range(3)
    }
    (tmp_path / "run").write_text(json.dumps(distances))
    report = evaluate(tmp_path / "run", pairs)
    assert report.value("R@1", "i2t") == 0
    said = "i2t: in 3 of 3 lists ranks and scores disagree; scores order them, the highest first; are the scores"
    assert f"{said} distances?" in report.notes


def test_queries_that_are_not_here_are_counted_and_items_not_here_leave_their_place(tmp_path):
    pairs = made_pairs([1, 1])
    lists = {"i0": ["z#0", "i0#0", "i1#0"], "i1": ["z#0", "z#1", "i1#0", "i0#0"], "z": ["i0#0"], "y": []}
    (tmp_path / "run").write_text(json.dumps(lists))
    report = evaluate(tmp_path / "run", pairs)
    assert report.value("R@1", "i2t") == 100
    assert "1 query is not in made and passed over; the first is 'z'" in report.notes
    assert any(note.startswith("3 listed items are not in made") for note in report.notes)


def test_a_query_with_right_answers_and_no_list_refuses(tmp_path):
    pairs = made_pairs([1, 1, 0, 1])
    (tmp_path / "run").write_text(json.dumps({"i0": ["i0#0"], "i1": ["x", "i1"], "i3": []}))
    said = (
        r"run: 2 of 3 images with right answers rank no caption, the first is 'i1'; rank captions for each of them, "
        "a mean over fewer is another number"
    )
    with pytest.raises(DataError, match=said):
        evaluate(tmp_path / "run", pairs)
    (tmp_path / "run").write_text(json.dumps({f"i{n}": [f"i{n}#0"] for n in (0, 1, 3)}))
    assert evaluate(tmp_path / "run", pairs).value("R@1", "i2t") == 100


def test_items_of_one_kind_in_lists_and_the_query_itself_is_passed_over(tmp_path):
    pairs, scores = made_pairs([2, 2, 1]), untied(1, (5, 5))
    path = written(tmp_path / "run", entries(scores, pairs.caption_ids, pairs.caption_ids), "trec")
    siblings = Matches.from_dense((pairs.owner[:, None] == pairs.owner) & ~np.eye(5, dtype=bool))
    matrices = source_of({"i2t": np.zeros((3, 5)), "t2t": scores}, pairs).source.within("t2t", siblings)
    source = source_of(path, pairs).source
    lists = source.within("t2t", siblings)
    for name in ("above", "tied", "items", "indptr", "gallery"):
        assert np.array_equal(getattr(lists, name), getattr(matrices, name)), name
    assert lists.depth.tolist() == [4] * 5 and source.notes == []
    assert source.within("i2i", Matches.of([], [], (3, 3))) is None
    with pytest.raises(DataError, match="run: ranked lists hold no scores; give a score matrix"):
        source.rows("i2t")


def test_protocols_that_read_scores_leave_lists_alone_unless_named(tmp_path):
    items = [Item(f"i{n}", (f"caption {n}",), labels=("a", "b")[: n % 2 + 1]) for n in range(4)]
    pairs, scores = Pairs(items, name="labelled"), untied(2, (4, 4))
    path = written(tmp_path / "run", both(pairs, scores, scores.T), "trec")
    report = evaluate(path, pairs)
    assert "pmrp: ranked lists hold no scores to read; it is left out" in report.notes
    assert {row["protocol"] for row in report.rows} == {"own"}
    with pytest.raises(DataError, match="run: ranked lists hold no scores; give a score matrix"):
        evaluate(path, pairs, protocol="pmrp")
    assert "pmrp" in {row["protocol"] for row in evaluate(scores, pairs).rows}


def forms(tmp_path: Path, i2t: np.ndarray, t2i: np.ndarray | None) -> list:
    """The same matrices in every way they can be given."""
    arrays = {"i2t": i2t} if t2i is None else {"i2t": i2t, "t2i": t2i}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **{name: np.asfortranarray(a) for name, a in arrays.items()})
    out = [arrays, {name: torch.from_numpy(a) for name, a in arrays.items()}]
    out += [tmp_path / "plain.npz", str(tmp_path / "packed.npz")]
    if t2i is None:
        np.save(tmp_path / "one.npy", i2t)
        out += [i2t, torch.from_numpy(i2t).requires_grad_(i2t.dtype.kind == "f"), tmp_path / "one.npy", [i2t]]
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.int8, bool])
@pytest.mark.parametrize("turned", [False, True])
def test_matrices_rank_as_rank_scores(tmp_path, dtype, turned):
    pairs, rng = made_pairs([2, 1, 3, 1]), np.random.default_rng(4)
    i2t = rng.integers(0, 4, (4, 7)).astype(dtype)
    t2i = rng.integers(0, 4, (7, 4)).astype(dtype) if turned else None
    own = pairs.matches()
    expected = rank_scores(i2t, t2i, own)
    for form in forms(tmp_path, i2t, t2i):
        found = source_of(form, pairs).source.ranking(own, own.transpose())
        for ours, theirs in zip((found.i2t, found.t2i), expected, strict=True):
            for name in ("above", "tied", "scores"):
                assert np.array_equal(getattr(ours, name), getattr(theirs, name)), (form, name)
    assert evaluate(form, pairs).rows[0]["run"] in ("packed.npz", "scores")


def test_a_stored_matrix_is_mapped_not_read(tmp_path):
    np.save(tmp_path / "s.npy", np.zeros((2, 2)))
    np.savez(tmp_path / "s.npz", i2t=np.zeros((2, 2)))
    for name in ("s.npy", "s.npz"):
        array = source_of(tmp_path / name, made_pairs([1, 1])).source.members[0]["i2t"]
        assert isinstance(array.base, np.memmap) and not array.flags.writeable


def test_whole_rows_are_the_matrix_both_ways(monkeypatch):
    pairs, scores = made_pairs([2, 1, 3, *[2] * 17]), untied(6, (20, 40))
    monkeypatch.setattr("manymatch.evaluation.scores._ROWS_BYTES", 100)
    source = source_of(scores.astype(np.float32), pairs).source
    for direction, whole in (("i2t", scores), ("t2i", scores.T)):
        rows, blocks = zip(*source.rows(direction), strict=True)
        assert np.array_equal(np.concatenate(blocks), whole) and len(rows) > 1
        assert [r.start for r in rows] == np.cumsum([0, *map(len, blocks[:-1])]).tolist()
    scores[1, 4] = np.nan
    with pytest.raises(DataError, match="caption 'i2#1' with image 'i1' is nan"):
        list(source_of(scores, pairs).source.rows("t2i"))


def test_several_matrices_are_their_mean(tmp_path):
    pairs, rng = made_pairs([2, 1, 3]), np.random.default_rng(8)
    first, second, back = (rng.integers(0, 5, shape).astype(np.float32) for shape in ((3, 6), (3, 6), (6, 3)))
    np.save(tmp_path / "a.npy", first)
    report = evaluate([tmp_path / "a.npy", {"i2t": second, "t2i": back}], pairs, protocol="own", resamples=20)
    assert numbers(report) == measured({"i2t": (first + second) / 2, "t2i": (first.T + back) / 2}, pairs, "own")
    assert report.rows[0]["run"] == "a.npy+scores 2"
    assert "the mean of several files' scores: where their scales differ, the larger one decides" in report.notes
    assert evaluate([first, second], pairs, run="mean").rows[0]["run"] == "mean"
    assert report.made[0] == "a.npy: scores from elsewhere, i2t (3, 6) float32"


def test_what_a_perfect_matrix_and_its_report_say():
    pairs = made_pairs([5, 3, 1, 5, 2, 5, 5, 5, 4, 5, 5, 5])
    report = evaluate(pairs.matches().dense().astype(float), pairs)
    assert report.value("RSUM", "both") == 600
    assert report.rows[0]["run"] == "scores" and report.notes == ()
    assert "scores: scores from elsewhere, i2t (12, 50) float64" in str(report)
    assert {row["protocol"] for row in report.rows} == {"own"}
    model = FakeModel(*one_hot(pairs.owner, 12))
    assert measured(model, pairs, "own") == measured(pairs.matches().dense() * 1.0, pairs, "own")


def test_matrices_of_another_shape_are_refused_with_the_order_that_is_meant(tmp_path):
    pairs = made_pairs([2, 1, 3])
    said = (
        r"scores: i2t of scores has shape \(3, 5\), expected \(3, 6\): a row for each image \(i0, i1, ...\), "
        r"a column for each caption \(i0#0, i0#1, ...\), in the order of made$"
    )
    with pytest.raises(DataError, match=said):
        evaluate(np.zeros((3, 5)), pairs)
    with pytest.raises(DataError, match=r"shape \(6, 3\), expected \(3, 6\); it is there turned round"):
        evaluate(np.zeros((6, 3)), pairs)
    with pytest.raises(
        DataError, match=r"t2i of scores has shape \(3, 6\), expected \(6, 3\).*each caption .* each image"
    ):
        evaluate({"i2t": np.zeros((3, 6)), "t2i": np.zeros((3, 6))}, pairs)
    with pytest.raises(DataError, match=r"t2t of scores has shape \(3, 3\), expected \(6, 6\)"):
        evaluate({"i2t": np.zeros((3, 6)), "t2t": np.zeros((3, 3))}, pairs)
    short = Pairs(pairs.items, problems=[Problem("x.jsonl", 3, "bad", "row")], name="short")
    with pytest.raises(
        DataError, match=r"in the order of short \(1 bad rows or captions of the data are not counted\)"
    ):
        evaluate(np.zeros((4, 7)), short)


def test_a_score_that_is_not_finite_is_named():
    pairs, scores = made_pairs([2, 1]), np.zeros((2, 3))
    scores[1, 0] = np.nan
    with pytest.raises(DataError, match="the score of image 'i1' with caption 'i0#0' is nan"):
        evaluate(scores, pairs)


def test_mixtures_and_other_things_are_refused(tmp_path):
    pairs = made_pairs([1, 1])
    model, scores = FakeModel(*one_hot(pairs.owner, 2)), np.eye(2)
    np.save(tmp_path / "s.npy", scores)
    (tmp_path / "run").write_text("i0 Q0 i0#0 1 1 t")
    with pytest.raises(DataError, match="models and files of scores cannot be one ensemble: a model leaves out"):
        evaluate([model, tmp_path / "s.npy"], pairs)
    with pytest.raises(DataError, match="run holds ranked lists, others hold score matrices; a mean needs scores"):
        evaluate([tmp_path / "s.npy", tmp_path / "run"], pairs)
    with pytest.raises(DataError, match="found int, expected a model, an array or tensor"):
        evaluate(3, pairs)
    with pytest.raises(DataError, match="found list, expected a model"):
        evaluate([[0.5, 0.1], [0.2, 0.3]], pairs)
    with pytest.raises(DataError, match="found no model"):
        evaluate([], pairs)
    with pytest.raises(DataError, match="made: 2 images, 0 captions"):
        evaluate(np.zeros((2, 0)), made_pairs([0, 0]))
    with pytest.raises(DataError, match=r"no such file .*; the folder"):
        evaluate(tmp_path / "s.npz", pairs)
    with pytest.raises(DataError, match="is a folder, expected a file"):
        evaluate(str(tmp_path), pairs)
    with pytest.raises(DataError, match=r"in the list of query 'i0' twice .*joined, not averaged"):
        evaluate([tmp_path / "run", tmp_path / "run"], pairs)
    with pytest.raises(DataError, match="'a#0' names an image and a caption"):
        evaluate(tmp_path / "run", Pairs([Item("a", ("x",)), Item("a#0", ("y",))]))


def npy(shape: str, body: bytes = b"\0" * 32, dtype: str = "<f8") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


BROKEN = {
    "empty": (b"", "'{}' is empty, expected a TREC run file"),
    "blank": (b" \n\n", "'{}' is empty"),
    "picture": (b"\x89PNG\r\n\x1a\n\xff\xd8", "{}:1: the line is no UTF-8 text, expected a TREC run file"),
    "prose": (b"this is no ranking\n", "{}:1: 4 fields, expected six: qid Q0 docid rank score tag"),
    "csv": (b"i0,Q0,i0#0,1,0.5,t\n", "{}:1: 1 fields, expected six"),
    "blank in id": (b"i0 Q0 my caption 1 0.5 t\n", "{}:1: 7 fields, expected six.*ids with blanks need JSON"),
    "cut line": (b"i0 Q0 i0#0 1 0.5 t\n\ni0 Q0 i1#0 2", "{}:3: 4 fields"),
    "score no number": (b"i0 Q0 i0#0 1 high t\n", "{}:1: rank '1' and score 'high', expected a whole number and"),
    "rank no number": (b"i0 Q0 i0#0 first 0.5 t\n", "{}:1: rank 'first' and score '0.5'"),
    "rank of 30 digits": (b"i0 Q0 i0#0 " + b"9" * 30 + b" 0.5 t\n", "{}:1: rank '9+' and score"),
    "nan": (b"i0 Q0 i0#0 1 0.5 t\ni0 Q0 i1#0 2 NaN t\n", "{}:2: the score of 'i1#0' for query 'i0' is nan, expected a"),
    "infinity": (b"i0 Q0 i0#0 1 -inf t\n", "{}:1: the score of 'i0#0' for query 'i0' is -inf"),
    "twice": (
        b"i0 Q0 i0#0 1 0.5 t\ni1 Q0 i0#0 1 0.5 t\ni0 Q0 i0#0 2 0.4 t\n",
        r"{}:3: 'i0#0' is in the list of query 'i0' twice \(first in .*:1\)",
    ),
    "other queries": (
        b"q1 Q0 i0#0 1 0.5 t\n",
        r"{}: no query is an image or caption of made \(found 'q1'; here the ids",
    ),
    "other items": (b"i0 Q0 d1 1 0.5 t\n", r"{}: no listed item is an image or caption of made \(found 'd1'"),
    "cut gzip": (
        gzip.compress(b"i0 Q0 i0#0 1 0.5 t\n" * 50)[:-12],
        r"{}:\d+: the gzip stream breaks off here .*; write it again whole",
    ),
    "no gzip": (b"\x1f\x8b\x00\x00nothing of the kind", "{}:1: the gzip stream breaks off here"),
    "utf-16": ("i0 Q0 i0#0 1 0.5 t\n".encode("utf-16"), "{}:1: the line is no UTF-8 text"),
    "json list": (b'[["i0", "i0#0"]]', "'{}' holds a JSON list, expected an object"),
    "json of nothing": (b"{}", "'{}' holds nothing, expected an object"),
    "half json": (b'{"i0": ["i0#0", "i1', "{}: not JSON: .*line 1"),
    "json nan": (b'{"i0": [["i0#0", NaN]]}', "{}: the score of 'i0#0' for query 'i0' is nan"),
    "json too large": (b'{"i0": [["i0#0", 1' + b"0" * 400 + b"]]}", "{}: the score of 'i0#0' for query 'i0' is inf"),
    "json word as score": (
        b'{"i0": [["i0#0", "high"]]}',
        "{}: entry 0 of query 'i0' is .*, expected an id, or an id and",
    ),
    "json null": (b'{"i0": ["i0#0", null]}', "{}: entry 1 of query 'i0' is"),
    "json triple": (b'{"i0": [["i0#0", 1, 0.5]]}', "{}: entry 0 of query 'i0' is"),
    "json number as list": (b'{"i0": 3}', "{}: query 'i0' has a int, expected a list of ids"),
    "json query twice": (b'{"i0": ["i0#0"], "i0": ["i1#0"]}', "{}: 'i0' is there twice, expected it once"),
    "json item twice": (b'{"i0": ["i0#0", "i1#0", "i0#0"]}', "{}: 'i0#0' is in the list of query 'i0' twice"),
    "json deep": (b'{"i0": ' + b"[" * 100_000, "{}: not JSON"),
    "lines without ranking": (
        b'{"query": "i0"}\n',
        r"{}:1: found \['query'\], expected an object with an id in `query`",
    ),
    "lines with another row": (b'{"query": "i0", "ranking": ["i0#0"]}\n[1]\n', "{}:2: found list, expected an object"),
    "lines cut": (b'{"query": "i0", "ranking": ["i0#0"]}\n{"query": "i1", "ran', "{}:2: not JSON"),
    "lines unequal": (
        b'{"query": "i0", "ranking": ["i0#0"], "scores": [1, 2]}\n',
        "{}:1: query 'i0' has 2 numbers in `scores`, expected 1, one an id",
    ),
    "lines scores no list": (b'{"query": "i0", "ranking": ["i0#0"], "scores": 1}\n', "{}:1: query 'i0' has int in"),
    "lines nan": (
        b'{"query": "i0", "ranking": ["i0#0"], "scores": [NaN]}\n',
        "{}:1: the score of 'i0#0' for query 'i0'",
    ),
    "lines query twice": (
        b'{"query": "i0", "ranking": ["i0#0"]}\n' * 2,
        "{}:2: query 'i0' again, first in line 1; expected it once",
    ),
    "npy cut": (npy("(2, 2)", b"\0" * 31), "scores: '{}' is damaged or cut short"),
    "npy header": (b"\x93NUMPY\x01\x00", "scores: '{}' is damaged or cut short"),
    "npy pickle": (npy("(2, 2)", dtype="|O"), r"scores: '{}' holds Python objects \(a pickle\)"),
    "npy words": (npy("(2, 2)", dtype="<U2"), "scores: i2t of .* holds <U2, expected real numbers"),
    "npy complex": (npy("(2, 2)", b"\0" * 64, "<c16"), "scores: i2t of .* holds complex128, expected real numbers"),
    "npy three axes": (npy("(2, 2, 1)"), r"has shape \(2, 2, 1\), expected \(2, 2\)"),
    "npy no axes": (npy("()"), r"has shape \(\), expected \(2, 2\)"),
    "npz cut": (b"PK\x03\x04 and no more", "scores: '{}' is damaged or cut short"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_clear_line(tmp_path, name):
    data, said = BROKEN[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        evaluate(path, made_pairs([1, 1]))
    assert re.search(said.replace("{}", re.escape(str(path))), str(error.value)), error.value
    assert "\n" not in str(error.value)


def test_an_npz_of_other_names_is_refused(tmp_path):
    pairs = made_pairs([1, 1])
    np.savez(tmp_path / "a.npz", np.eye(2))
    with pytest.raises(DataError, match=r"a.npz holds arr_0; expected i2t"):
        evaluate(tmp_path / "a.npz", pairs)
    np.savez(tmp_path / "b.npz", i2t=np.eye(2), t2I=np.eye(2))
    with pytest.raises(DataError, match=r"b.npz holds i2t, t2I; expected i2t"):
        evaluate(tmp_path / "b.npz", pairs)
    with pytest.raises(DataError, match="scores: scores holds i0; expected i2t"):
        evaluate({"i0": ["i0#0"]}, pairs)


def test_a_line_too_long_says_what_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr("manymatch.data.files.LONGEST_LINE", 100)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"i0": [f"i{n}#0" for n in range(50)]}))
    with pytest.raises(
        DataError, match=r"run.json:1: the line is longer than 100 bytes; write a TREC run file, or JSON"
    ):
        evaluate(path, made_pairs([1, 1]))


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic"])
def test_right_answers_that_no_list_holds_are_never_found(tmp_path, ties):
    pairs, scores = made_pairs([3, 3, 3]), untied(6, (3, 9))
    scores[0, :3] -= 1000
    path = written(tmp_path / "run", both(pairs, scores, scores.T, 5), "trec")
    whole, part = measured(scores, pairs, "own", ties=ties), measured(path, pairs, "own", ties=ties)
    assert part["own", "i2t", "R@5"] == whole["own", "i2t", "R@5"]
    assert part["own", "i2t", "R@1"]["value"] < 70
    assert part.items() <= whole.items()


def test_a_folder_is_no_file_of_scores(tmp_path):
    with pytest.raises(DataError, match=r"is a folder, expected a file of scores; a run is given as load\("):
        evaluate(tmp_path, made_pairs([1, 1]))
