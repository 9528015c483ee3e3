"""ECCV Caption and CxC: against recorded numbers of the official code, and against counting by hand."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.data.truths import open_truths
from manymatch.data.truths.coco import Answers
from manymatch.embeddings import Points
from manymatch.errors import DataError
from manymatch.evaluation import PROTOCOLS, MatrixScores, ModelScores, Ranks, judge
from manymatch.evaluation.protocols import Direction, choose
from manymatch.similarity import Cosine

RECORDED = Path(__file__).parents[1] / "parity"


def coco_pairs(images, captions, truths=None):
    """Images with their COCO ids; each has as many consecutive captions as every other."""
    each = len(captions) // len(images)
    items = [
        Item(str(name), ("a text",) * each, metadata={"caption_ids": [int(c) for c in captions[n * each :][:each]]})
        for n, name in enumerate(images)
    ]
    return Pairs(items, truths=truths, name="made")


def given_truth(folder, eccv=None, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return open_truths(folder)


def numbers(judged, protocol):
    return {(each.direction, each.metric): each.measure.value for each in judged.measured[protocol]}


def stub(**answers):
    """A truth that says this of any pairs."""
    return SimpleNamespace(answers=lambda pairs: Answers(**answers))


@pytest.fixture(scope="module")
def eccv(tmp_path_factory):
    """The recorded metrics of the eccv_caption package, and its lists read as files."""
    with np.load(RECORDED / "eccv_caption_metrics.npz", allow_pickle=False) as file:
        official = dict(file)
    lists = json.loads(str(official["options"]))["gt"]
    files = {}
    for kind in ("eccv", "cxc"):
        files[f"{kind}_image_to_caption"] = lists[kind]["i2t"]
        files[f"{kind}_caption_to_image"] = lists[kind]["t2i"]
    truths = given_truth(tmp_path_factory.mktemp("lists"), **files)
    return official, coco_pairs(official["in.image_ids"], official["in.caption_ids"], truths)


def test_eccv_caption_package(eccv):
    official, pairs = eccv
    judged = judge(MatrixScores({"i2t": official["in.scores"]}), pairs, ["eccv", "cxc", "own"], "expected")
    found = numbers(judged, "eccv")
    names = {"mAP@R": "eccv_map_at_r", "R-precision": "eccv_rprecision", "R@1": "eccv_r1"}
    assert set(found) == {(direction, metric) for direction in ("i2t", "t2i") for metric in names}
    for (direction, metric), value in found.items():
        assert value == pytest.approx(100 * official[f"out.{direction}_{names[metric]}"], rel=1e-12)
    for protocol, theirs in (("cxc", "cxc"), ("own", "coco_5k")):
        found = numbers(judged, protocol)
        for direction in ("i2t", "t2i"):
            for k in (1, 5, 10):
                expected = 100 * official[f"out.{direction}_{theirs}_r{k}"]
                assert found[direction, f"R@{k}"] == pytest.approx(expected, rel=1e-12)


def test_a_short_list_has_no_r_precision():
    """The package divides by the items it was given: two of a hundred right answers would score 1."""
    given, right = [3, 7], set(range(100))
    package = 1 - len(set(given[:100]) - right) / len(set(given[:100]))
    assert package == 1.0
    above = np.full(100, 500)
    above[[3, 7]] = 0, 1
    cut = Ranks(np.array([0, 100]), np.arange(100), above, np.zeros(100, int), 500, depth=np.array([2]))
    assert list(Direction("i2t", cut, np.arange(1), "expected").precisions()) == []
    whole = Ranks(np.array([0, 100]), np.arange(100), above, np.zeros(100, int), 500)
    shares = [each.measure.value for each in Direction("i2t", whole, np.arange(1), "expected").precisions()]
    assert shares == [2.0, 2.0]


def test_right_answers_outside_the_gallery_do_not_count_in_r(tmp_path):
    pairs = coco_pairs([11, 12], [1, 2], given_truth(tmp_path, eccv_image_to_caption={"11": [1, 91, 92], "77": [1]}))
    judged = judge(MatrixScores({"i2t": np.array([[0.9, 0.1], [0.2, 0.8]])}), pairs, ["eccv"], "expected")
    assert numbers(judged, "eccv") == {("i2t", name): 100.0 for name in ("mAP@R", "R-precision", "R@1")}
    assert [(each.queries, each.gallery) for each in judged.measured["eccv"]] == [(1, 2)] * 3
    assert judged.notes == (
        "eccv: 1 of 2 image queries are not in made",
        "eccv: 2 of 3 right answers of image queries are not in the gallery and do not count",
        "eccv: 1 of 2 images have no right answer and are left out as queries",
    )


@pytest.fixture(scope="module")
def cxc():
    """The recorded recalls of VSE-infinity's evaluator; ratings there are of a query, not of two items."""
    with np.load(RECORDED / "cxc_recalls.npz", allow_pickle=False) as file:
        official = dict(file)
    listed = json.loads(str(official["options"]))
    images, captions = (
        {str(name): row for row, name in enumerate(official[f"in.{side}_ids"])} for side in ("image", "caption")
    )

    def matches(lists, queries, gallery, enough):
        right = [(queries[q], gallery[a]) for q, rated in lists.items() for a, rating in rated if rating >= enough]
        return [row for row, _ in right], [row for _, row in right], (len(queries), len(gallery))

    first, second, shape = matches(listed["cxc_t2t"], captions, captions, 3.0)
    siblings = [(a, b) for a in range(100) for b in range(100) if a != b and a // 5 == b // 5]
    first, second = first + [a for a, _ in siblings], second + [b for _, b in siblings]
    truth = stub(
        i2t=Matches.of(*matches(listed["cxc_it"]["i2t"], images, captions, 0)),
        t2i=Matches.of(*matches(listed["cxc_it"]["t2i"], captions, images, 0)),
        within={
            "t2t": Matches.of(first, second, shape),
            "i2i": Matches.of(*matches(listed["cxc_i2i"], images, images, 2.5)),
        },
    )
    return official, coco_pairs(official["in.image_ids"], official["in.caption_ids"], {"cxc": truth})


def test_cxc_recalls(cxc):
    official, pairs = cxc
    images, captions = official["in.img"], official["in.cap"]
    scores = {"i2t": images @ captions.T, "t2t": captions @ captions.T, "i2i": images @ images.T}
    judged = judge(MatrixScores(scores), pairs, ["cxc"], "expected")
    found = numbers(judged, "cxc")
    assert list(found) == [(d, f"R@{k}") for d in ("i2t", "t2i", "t2t", "i2i") for k in (1, 5, 10)]
    for direction in ("i2t", "t2i", "t2t", "i2i"):
        mine = [found[direction, f"R@{k}"] for k in (1, 5, 10)]
        np.testing.assert_allclose(mine, official[f"out.{direction}"], rtol=1e-12)
    counts = {each.direction: (each.queries, each.gallery) for each in judged.measured["cxc"]}
    assert counts == {"i2t": (20, 100), "t2i": (100, 20), "t2t": (100, 99), "i2i": (19, 19)}
    assert judged.notes == ("cxc: 1 of 20 images have no right answer among images and are left out as queries",)


def test_cxc_of_embeddings(cxc):
    """The same from the vectors, which are of length one."""
    official, pairs = cxc
    points = (Points(torch.from_numpy(official[f"in.{side}"])) for side in ("img", "cap"))
    found = numbers(judge(ModelScores(Cosine(), *points), pairs, ["cxc"], "expected"), "cxc")
    for direction in ("i2t", "t2i", "t2t", "i2i"):
        mine = [found[direction, f"R@{k}"] for k in (1, 5, 10)]
        np.testing.assert_allclose(mine, official[f"out.{direction}"], rtol=1e-12)


def test_scores_without_text_to_text(cxc):
    official, pairs = cxc
    source = MatrixScores({"i2t": official["in.img"] @ official["in.cap"].T})
    judged = judge(source, pairs, ["cxc"], "expected")
    assert {direction for direction, _ in numbers(judged, "cxc")} == {"i2t", "t2i"}
    assert judged.notes == (
        "cxc: the scores hold no t2t, which is left out",
        "cxc: the scores hold no i2i, which is left out",
    )


def test_an_item_is_never_its_own_answer():
    """All captions alike: with itself in the gallery a caption would have 5 places of 10, without it 4 of 9 others."""
    siblings = [(a, b) for a in range(10) for b in range(10) if a != b and a // 5 == b // 5]
    truth = stub(within={"t2t": Matches.of([a for a, _ in siblings], [b for _, b in siblings], (10, 10))})
    pairs = coco_pairs([11, 12], range(10), {"cxc": truth})
    same = ModelScores(Cosine(), Points(torch.ones(2, 3)), Points(torch.ones(10, 3)))
    judged = judge(same, pairs, ["cxc"], "expected")
    assert numbers(judged, "cxc")["t2t", "R@1"] == pytest.approx(100 * 4 / 9)
    assert [each.gallery for each in judged.measured["cxc"]] == [9, 9, 9]


@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_equals_counting_by_hand(seed, images, each):
    """Every direction, of scores without ties and right answers at random."""
    rng = np.random.default_rng(seed)
    captions = images * each
    sizes = {"i2t": (images, captions), "t2i": (captions, images), "t2t": (captions,) * 2, "i2i": (images,) * 2}
    right = {name: rng.random(shape) < 0.3 for name, shape in sizes.items()}
    scores = {name: rng.permutation(shape[0] * shape[1]).reshape(shape) / 7 for name, shape in sizes.items()}
    for name in right:
        right[name][0, 1 % right[name].shape[1]] = True
    for name in ("t2t", "i2i"):
        np.fill_diagonal(right[name], False)
    right["t2t"][0, 1] = right["i2i"][0, 1] = True
    truth = {name: Matches.from_dense(dense) for name, dense in right.items()}
    answers = stub(i2t=truth["i2t"], t2i=truth["t2i"], within={name: truth[name] for name in ("t2t", "i2i")})
    pairs = coco_pairs(range(100, 100 + images), range(captions), {"cxc": answers, "eccv": answers})
    judged = judge(MatrixScores(scores), pairs, ["eccv", "cxc"], "expected")
    found = {name: numbers(judged, name) for name in ("eccv", "cxc")}
    for name in sizes:
        ordered = [by_score(scores[name], row, own=name in ("t2t", "i2i")) for row in range(sizes[name][0])]
        lists = [right[name][row][order] for row, order in enumerate(ordered) if right[name][row].any()]
        for k in (1, 5, 10):
            share = 100 * np.mean([hit[:k].any() for hit in lists])
            assert found["cxc"][name, f"R@{k}"] == pytest.approx(share, abs=1e-9)
        if name in ("i2t", "t2i"):
            depths = [int(hit.sum()) for hit in lists]
            precision = [hit[:r].mean() for hit, r in zip(lists, depths, strict=True)]
            average = [
                (hit[:r] * np.cumsum(hit[:r]) / np.arange(1, r + 1)).sum() / r
                for hit, r in zip(lists, depths, strict=True)
            ]
            assert found["eccv"][name, "R-precision"] == pytest.approx(100 * np.mean(precision), abs=1e-9)
            assert found["eccv"][name, "mAP@R"] == pytest.approx(100 * np.mean(average), abs=1e-9)


def by_score(scores, row, own):
    """Gallery rows, best first; without the item itself where it is one of them."""
    order = np.argsort(-scores[row])
    return order[order != row] if own else order


def test_measured_when_the_truth_is_given(tmp_path):
    pairs = coco_pairs([11], [1])
    assert choose(None, pairs) == ["own"]
    truths = given_truth(tmp_path, eccv_image_to_caption={"11": [1]}, cxc_image_to_caption={"11": [1]})
    assert choose(None, coco_pairs([11], [1], truths)) == ["own", "eccv", "cxc"]
    assert {PROTOCOLS[name].truth_name for name in ("eccv", "cxc")} == {"ECCV Caption", "CxC"}


@pytest.mark.parametrize(("name", "file"), [("eccv", "eccv_image_to_caption.json"), ("cxc", "sts_test.csv")])
def test_without_its_truth(name, file):
    with pytest.raises(DataError, match=f"protocol '{name}': made comes without .*--truth FOLDER.*{file}"):
        PROTOCOLS[name].ask(coco_pairs([11], [1]))


def test_a_model_that_diverged_is_refused_within_captions_too():
    truth = stub(within={"t2t": Matches.of([0], [1], (2, 2))})
    scores = {"i2t": np.zeros((2, 2)), "t2t": np.array([[0.0, np.nan], [0.0, 0.0]])}
    pairs = coco_pairs([11, 12], [1, 2], {"cxc": truth})
    with pytest.raises(DataError, match="the score of caption 0 with caption 1 is nan"):
        judge(MatrixScores(scores), pairs, ["cxc"], "expected")
