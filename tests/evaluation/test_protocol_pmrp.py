"""PMRP against recordings of its authors' script, against brute force, and at full size."""

import itertools
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points
from manymatch.errors import DataError
from manymatch.evaluation import MatrixScores, evaluate, hit_rate, judge
from manymatch.evaluation import scores as scores_module
from manymatch.evaluation.dense import r_precisions_within, ranks_of_rows
from manymatch.evaluation.protocols import PROTOCOLS
from manymatch.evaluation.protocols.pmrp import Pmrp

RECORDED = Path(__file__).parents[1] / "parity" / "pmrp.npz"
TIES = ("expected", "optimistic", "pessimistic")


def labelled(labels, captions=None, **more):
    """Image n has these labels and so many captions, one if not said."""
    counts = captions if captions is not None else [1] * len(labels)
    items = [
        Item(f"i{n}", tuple(f"caption {n} {m}" for m in range(count)), labels=tuple(names))
        for n, (names, count) in enumerate(zip(labels, counts, strict=True))
    ]
    return Pairs(items, name="made", **more)


def measured(scores, pairs, ties="expected", fold=None, monkeypatch=None):
    """(direction, metric) -> what was measured, and the notes."""
    if fold is not None:
        monkeypatch.setitem(PROTOCOLS, "pmrp", Pmrp(fold))
    matrices = scores if isinstance(scores, dict) else {"i2t": scores}
    found = judge(MatrixScores(matrices), pairs, ["pmrp"], ties)
    return {(one.direction, one.metric): one for one in found.measured["pmrp"]}, found.notes


def values(found):
    return {name: one.measure.value for name, one in found.items()}


@pytest.fixture
def official():
    with np.load(RECORDED, allow_pickle=False) as recorded:
        return {name: recorded[name] for name in recorded.files}


def as_pairs(matrix, captions):
    return labelled([[f"c{n}" for n in np.flatnonzero(row)] for row in matrix], [captions] * len(matrix))


def apart(matrix, captions):
    """Hamming distances (i, c) and (c, i)."""
    owner = np.repeat(np.arange(len(matrix)), captions)
    distance = (matrix[:, None] != matrix[None]).sum(-1)
    return {"i2t": distance[:, owner], "t2i": distance[owner]}


def plainly(scores, distance, cut=None):
    """(q, 3) as the definition reads: sort, count the first R. `cut` drops the end of every ranking."""
    out = np.zeros((len(scores), 3))
    for query, (line, far) in enumerate(zip(scores, distance, strict=True)):
        near = far[np.argsort(-line, kind="stable")[:cut]]
        for zeta in range(3):
            right = near <= zeta
            out[query, zeta] = right[: right.sum()].mean() if right.any() else np.nan
    return out


def test_every_query_equals_the_official_script(official):
    distance = apart(official["in.category_matrix"], 5)
    for direction, scores in (("i2t", official["in.scores"]), ("t2i", official["in.scores"].T)):
        found = r_precisions_within(scores, distance[direction], 3)
        for zeta in range(3):
            assert np.array_equal(found[:, zeta], official[f"out.rprecision_{direction}_t{zeta}"])
        first = [hit_rate(ranks_of_rows(scores, distance[direction] <= zeta), 1) for zeta in range(3)]
        np.testing.assert_allclose(100 * np.mean(first), official[f"out.pmrp_{direction}_r1_all"], rtol=1e-12)


def test_the_protocol_equals_the_official_script(official):
    found, notes = measured(official["in.scores"], as_pairs(official["in.category_matrix"], 5))
    assert notes == ()
    for direction, asked, ranked in (("i2t", 24, 120), ("t2i", 120, 24)):
        one = found[direction, "PMRP"]
        assert one.measure.value == pytest.approx(official[f"out.pmrp_{direction}_all"].item(), rel=1e-12)
        assert (one.queries, one.gallery) == (asked, ranked)
        parts = [100 * official[f"out.rprecision_{direction}_t{zeta}"].mean() for zeta in range(3)]
        assert [found[direction, f"PMRP zeta {z}"].measure.value for z in range(3)] == pytest.approx(parts, rel=1e-12)
        assert (direction, "PMRP 1K") not in found


def test_the_folds_equal_the_official_script(official, monkeypatch):
    # The script cuts 24 images into five folds of 24 // 5; the last four are in none.
    pairs = as_pairs(official["in.category_matrix"][:20], 5)
    found, notes = measured(official["in.scores"][:20, :100], pairs, fold=4, monkeypatch=monkeypatch)
    for direction, ranked in (("i2t", 20), ("t2i", 4)):
        one = found[direction, "PMRP 1K"]
        assert one.measure.value == pytest.approx(official[f"out.pmrp_{direction}_folds"].mean(), rel=1e-12)
        assert (one.queries, one.gallery) == (20 if direction == "i2t" else 100, ranked)
    assert notes == ("pmrp: 1K is the mean of 5 folds of 4 consecutive images",)


def test_the_last_item_of_a_ranking_counts(official):
    """The authors' dump of a ranking lacks its last item, which may be plausible: R is then one too small."""
    scores, distance = official["in.scores"], apart(official["in.category_matrix"], 5)["i2t"]
    whole, cut = 100 * plainly(scores, distance).mean(), 100 * plainly(scores, distance, cut=-1).mean()
    assert (round(whole, 4), round(cut, 4)) == (18.4886, 18.5725)
    found, _ = measured(scores, as_pairs(official["in.category_matrix"], 5))
    assert found["i2t", "PMRP"].measure.value == pytest.approx(whole, rel=1e-12)


def brute(line, right, ties):
    """R-precision over every order the scores allow: the mean, the best or the worst."""
    groups = [np.flatnonzero(line == value).tolist() for value in sorted(set(line.tolist()), reverse=True)]
    each = [
        np.mean([right[item] for part in parts for item in part][: right.sum()])
        for parts in itertools.product(*(itertools.permutations(group) for group in groups))
    ]
    return {"expected": np.mean(each), "optimistic": max(each), "pessimistic": min(each)}[ties]


@st.composite
def small(draw):
    """A few images with up to three categories, some with none, and whole-number scores with many ties."""
    captions = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    labels = [draw(st.sets(st.sampled_from("abcd"))) for _ in captions]
    labels[draw(st.integers(0, len(captions) - 1))].add("a")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = len(captions), sum(captions)
    matrices = {"i2t": rng.integers(0, 3, shape)}
    if draw(st.booleans()):
        matrices["t2i"] = rng.integers(0, 3, shape[::-1])
    return labelled([sorted(names) for names in labels], captions), matrices


@settings(max_examples=60)
@given(small(), st.sampled_from(TIES))
def test_equals_brute_force_over_every_order_of_the_ties(case, ties):
    pairs, matrices = case
    found, _ = measured(matrices, pairs, ties)
    sets = [set(item.labels) for item in pairs]
    kept = [n for n, labels in enumerate(sets) if labels]
    captions = [c for c, image in enumerate(pairs.owner) if sets[image]]
    owners = pairs.owner[captions]
    for direction, asking, asked, of, to in (
        ("i2t", kept, captions, kept, owners),
        ("t2i", captions, kept, owners, kept),
    ):
        scores = matrices.get(direction, matrices["i2t"].T if direction == "t2i" else None)[np.ix_(asking, asked)]
        far = np.array([[len(sets[a] ^ sets[b]) for b in to] for a in of])
        each = [[brute(line, d <= z, ties) for z in range(3)] for line, d in zip(scores, far, strict=True)]
        assert found[direction, "PMRP"].measure.value == pytest.approx(100 * np.mean(each))
        for zeta in range(3):
            value = found[direction, f"PMRP zeta {zeta}"].measure.value
            assert value == pytest.approx(100 * np.mean(each, axis=0)[zeta])
        assert found[direction, "PMRP"].queries == len(asking) and found[direction, "PMRP"].gallery == len(asked)


@st.composite
def larger(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.integers(2, 12))
    has = rng.random((images, 5)) < 0.4
    has[0, 0] = True
    labels = [[f"c{n}" for n in np.flatnonzero(row)] for row in has]
    pairs = labelled(labels, [2, *rng.integers(0, 4, images - 1)])
    return pairs, rng.integers(0, draw(st.sampled_from([2, 1000])), (images, len(pairs.captions)))


@settings(max_examples=30)
@given(larger())
def test_blocks_of_any_size_give_the_same(case):
    pairs, scores = case
    with pytest.MonkeyPatch.context() as patch:
        whole = values(measured(scores, pairs, fold=3, monkeypatch=patch)[0])
        for size in (1, 8 * 3 * scores.shape[1]):
            patch.setattr(scores_module, "_ROWS_BYTES", size)
            assert values(measured(scores, pairs)[0]) == pytest.approx(whole, rel=1e-12)


@settings(max_examples=30)
@given(larger(), st.integers(0, 2**16))
def test_order_of_items_does_not_matter(case, seed):
    pairs, scores = case
    rows = np.random.default_rng(seed).permutation(len(pairs))
    columns = np.concatenate([np.flatnonzero(pairs.owner == row) for row in rows]).astype(int)
    mixed = values(measured(scores[rows][:, columns], pairs.take(rows))[0])
    assert mixed == pytest.approx(values(measured(scores, pairs)[0]), rel=1e-12)


@settings(max_examples=30)
@given(larger())
def test_between_the_luckiest_and_the_unluckiest(case):
    pairs, scores = case
    each = {ties: values(measured(scores, pairs, ties)[0]) for ties in TIES}
    for name, value in each["expected"].items():
        assert each["pessimistic"][name] - 1e-9 <= value <= each["optimistic"][name] + 1e-9


def test_equal_scores_give_chance():
    """Then R-precision is expected to be the share of right answers in the gallery."""
    labels = [["a"], ["a"], ["a", "b"], ["a", "b", "c"], ["c", "d"]]
    pairs = labelled(labels, [2, 1, 3, 1, 1])
    found, _ = measured(np.full((5, 8), 0.25), pairs)
    far = np.array([[len(set(x) ^ set(y)) for y in labels] for x in labels])[:, pairs.owner]
    for zeta in range(3):
        assert found["i2t", f"PMRP zeta {zeta}"].measure.value == pytest.approx(100 * (far <= zeta).mean())
    assert values(found)["i2t", "PMRP"] == pytest.approx(100 * np.mean([far <= zeta for zeta in range(3)]))


def test_images_without_labels_leave_queries_and_gallery():
    rng = np.random.default_rng(0)
    pairs = labelled([["a"], [], ["a", "b"], ["c"], []], [2, 1, 2, 1, 3])
    scores = rng.permutation(5 * 9).reshape(5, 9)
    found, notes = measured(scores, pairs)
    assert notes == ("pmrp: 2 of 5 images have no label; they and their 4 captions are left out",)
    images, captions = [0, 2, 3], [0, 1, 3, 4, 5]
    alone, said = measured(scores[np.ix_(images, captions)], pairs.take(images))
    assert said == () and values(alone) == values(found)
    assert (found["i2t", "PMRP"].queries, found["i2t", "PMRP"].gallery) == (3, 5)


def test_folds_are_cut_before_images_without_labels_leave(monkeypatch):
    rng = np.random.default_rng(1)
    pairs = labelled([["a"], ["b"], [], ["a"], ["b", "c"], ["a"], ["a"]], [2] * 7)
    scores = rng.permutation(7 * 14).reshape(7, 14)
    found, notes = measured(scores, pairs, fold=3, monkeypatch=monkeypatch)
    parts = []
    for rows in ([0, 1], [3, 4, 5]):
        columns = [2 * row + n for row in rows for n in (0, 1)]
        parts.append(values(measured(scores[np.ix_(rows, columns)], pairs.take(rows))[0]))
    for direction, ranked in (("i2t", 6), ("t2i", 3)):
        one = found[direction, "PMRP 1K"]
        # The mean of the folds' numbers: the smaller fold counts as much as the larger.
        assert one.measure.value == pytest.approx(np.mean([part[direction, "PMRP"] for part in parts]))
        assert (one.queries, one.gallery) == (5 if direction == "i2t" else 10, ranked)
        assert sum(one.measure.contributions(7)) == pytest.approx(one.measure.value)
    assert notes[1:] == (
        "pmrp: 1K is the mean of 2 folds of 3 consecutive images with 2 to 3 labelled ones each",
        "pmrp: the last 1 images fill no fold",
    )


def test_images_without_captions_are_ranked_but_ask_nothing():
    pairs = labelled([["a"], ["a"], ["b"]], [1, 0, 1])
    found, notes = measured(np.array([[3, 1], [2, 2], [1, 3]]), pairs)
    assert notes == ("pmrp: 1 of 3 images have no caption and ask nothing",)
    assert (found["i2t", "PMRP"].queries, found["t2i", "PMRP"].gallery) == (2, 3)
    assert values(found)["t2i", "PMRP zeta 0"] == 100


def test_when_it_is_measured_unasked():
    assert Pmrp().fits(labelled([["a"], ["a", "b"]]))
    assert not Pmrp().fits(labelled([["a"], ["a", "a"], []]))
    assert not Pmrp().fits(labelled([["a"], ["a", "b"]], truth=object()))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match=r"protocol 'pmrp': no image of made has a label; .*--field labels=class_name"):
        measured(np.eye(2), labelled([[], []]))
    with pytest.raises(DataError, match="no image of made has both a label and a caption"):
        measured(np.zeros((2, 1)), labelled([["a"], []], [0, 1]))
    with pytest.raises(DataError, match="the score of image 1 with caption 0 is nan"):
        measured(np.array([[1.0, 0.0], [np.nan, 1.0]]), labelled([["a"], ["b"]]))


def test_a_model_is_measured_from_one_matrix():
    pairs = labelled([["a", "b"], ["a"], ["c"]], [2, 1, 2])
    rng = np.random.default_rng(4)
    images, texts = (torch.from_numpy(rng.integers(-3, 4, (n, 4))).float() for n in (3, 5))
    model = FakeModel(Points(images), Points(texts))
    report = evaluate(model, pairs, resamples=50)
    ready = values(measured((images @ texts.T).numpy(), pairs)[0])
    for (direction, metric), value in ready.items():
        assert report.value(metric, direction, "pmrp") == pytest.approx(value)
    assert all(row["low"] <= row["high"] for row in report.rows if row["protocol"] == "pmrp")
    assert any("pmrp: similar categories" in line for line in str(report).splitlines())


def hashed_words(captions, width=256, words=1 << 15):
    """Bags of words, hashed and projected at random: (c, width) of unit length."""
    projection = np.random.default_rng(0).standard_normal((words, width)).astype(np.float32)
    out = np.stack([projection[[crc32(w.encode()) % words for w in c.lower().split()]].sum(0) for c in captions])
    return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.mark.slow
def test_coco_at_full_size(reference):
    path = reference / "data" / "coco_annotations" / "karpathy5k_test.jsonl.gz"
    pairs = Pairs.read(path, fields={"id": "image_id", "labels": "labels80"})
    texts = hashed_words(pairs.captions)
    images = texts.reshape(5000, 5, -1).mean(1)
    scores = images @ texts.T
    found, notes = measured(scores, pairs)
    assert notes[0] == "pmrp: 48 of 5000 images have no label; they and their 240 captions are left out"
    names = sorted({label for item in pairs for label in item.labels})
    has = np.array([[name in item.labels for name in names] for item in pairs])
    kept = np.flatnonzero(has.any(1))
    captions = np.flatnonzero(has.any(1)[pairs.owner])
    for direction, asking, asked in (("i2t", kept, captions), ("t2i", captions, kept)):
        one = found[direction, "PMRP"]
        assert (one.queries, one.gallery) == (len(asking), len(asked))
        some = np.linspace(0, len(asking) - 1, 120).astype(int)
        rows, of = asking[some], asked if direction == "t2i" else pairs.owner[asked]
        mine = rows if direction == "i2t" else pairs.owner[rows]
        far = np.stack([(has[of] != has[row]).sum(1) for row in mine])
        lines = (scores if direction == "i2t" else scores.T)[np.ix_(rows, asked)]
        # Captions may be equal, so scores may tie: the reference takes the mean over the orders of each tie.
        each = np.array([[_expected(line, d <= z) for z in range(3)] for line, d in zip(lines, far, strict=True)])
        np.testing.assert_allclose(one.measure.values[some], each.mean(1), rtol=1e-12)
        assert found[direction, "PMRP 1K"].measure.value > one.measure.value > 10


def _expected(line, right):
    """R-precision, every right answer counted with its chance to be among the first R."""
    ordered, own, places = np.sort(line), line[right], int(right.sum())
    low, high = np.searchsorted(ordered, own, "left"), np.searchsorted(ordered, own, "right")
    above, tied = len(line) - high, high - low
    return (np.clip(places - above, 0, tied) / tied).mean()
