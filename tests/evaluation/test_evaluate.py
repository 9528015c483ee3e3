import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import Dot, FakeModel, made_pairs, one_hot
from PIL import Image
from torch.nn.functional import normalize

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.evaluation import Report, evaluate
from manymatch.evaluation.ensemble import Joined
from manymatch.evaluation.report import distinct, plain_row
from manymatch.similarity import Cosine, SmoothChamfer

FIELDS = ["run", "protocol", "direction", "metric", "value", "low", "high", "queries", "gallery", "truth", "bank"]


class Every:
    """Image n and caption c match when both are even or both are odd."""

    def matches(self, pairs: Pairs) -> Matches:
        return Matches.from_dense(np.arange(len(pairs))[:, None] % 2 == np.arange(len(pairs.captions)) % 2)


def perfect(pairs: Pairs, **more: object) -> FakeModel:
    return FakeModel(*one_hot(pairs.owner, len(pairs)), **more)


def test_a_perfect_model():
    pairs = made_pairs([5, 3, 1, 5, 2, 5, 5, 5, 4, 5, 5, 5])
    report = evaluate(perfect(pairs), pairs)
    assert report.value("RSUM", "both") == 600
    assert report.value("R@1", "i2t") == report.value("R@10", "t2i") == 100
    assert report.value("median rank", "t2i") == report.value("mean rank", "i2t") == 1
    assert report.notes == ()
    assert report.made[0] in str(report)


def test_pairs_that_trained_it_or_chose_its_epoch_are_said():
    pairs, model = made_pairs([2, 1, 3]), perfect(made_pairs([2, 1, 3]))
    model.notes = {"seen": {"training": made_pairs([2, 1]).digest, "validation": pairs.digest}}
    assert evaluate(model, pairs).notes == ("fake had its epoch chosen on these very pairs: no test of it",)
    model.notes = {"seen": {"training": pairs.digest}}
    assert evaluate(model, pairs, run="r").notes == ("r was trained on these very pairs: no test of it",)


def test_a_model_that_says_nothing_is_at_chance():
    pairs = made_pairs([5] * 30)
    same = FakeModel(Points(torch.full((30, 37), 0.3)), Points(torch.full((150, 37), 0.7)), Cosine())
    report = evaluate(same, pairs)
    for k in (1, 5, 10):
        assert report.value(f"R@{k}", "t2i") == pytest.approx(100 * k / 30)
    assert report.value("median rank", "t2i") == 15.5
    assert report.value("median rank", "i2t") == (1 + 146) / 2


def test_rows_are_flat_and_complete():
    pairs = made_pairs([2, 1, 3], truth=Every())
    report = evaluate(perfect(pairs, name="m"), pairs)
    assert all(list(row) == FIELDS for row in report.rows)
    measured = {(row["protocol"], row["direction"], row["metric"]) for row in report.rows}
    assert len(measured) == len(report.rows) == 11 + 10
    found = {row["direction"]: (row["queries"], row["gallery"]) for row in report.rows}
    assert found == {"i2t": (3, 6), "t2i": (6, 3), "both": (9, 9)}
    assert {row["run"] for row in report.rows} == {"m"}
    assert {row["truth"] for row in report.rows} == {"own captions", "every match"}


def test_the_table():
    pairs = made_pairs([2, 1, 3], truth=Every())
    shown = [line.split() for line in str(evaluate(perfect(pairs, name="dive"), pairs)).splitlines()]
    assert shown[0][:8] == ["own", "captions", "i2t", "R@1", "R@5", "R@10", "t2i", "R@1"]
    assert shown[1] == ["dive", *["100.0"] * 6, "600.0", "1", "1", "3", "6", "6", "3"]
    assert shown[2] == ["95", "%", *["100.0-100.0"] * 6, "600.0-600.0", "1-1", "1-1"]
    assert shown[3] == []
    assert shown[4][:4] == ["every", "match", "i2t", "R-precision"]
    assert shown[5][0] == "dive" and shown[5][-4:] == ["3", "6", "6", "3"]
    assert shown[7:] == [[], ["dive:", "made", "up"]]


def test_every_match_is_judged_by_every_match():
    pairs = made_pairs([1, 1, 1, 1], truth=Every())
    report = evaluate(perfect(pairs), pairs)
    assert report.value("R@1", "i2t", "matches") == report.value("R@1", "i2t", "own") == 100
    # The own caption is first; the other right answer ties with two wrong ones.
    assert report.value("R-precision", "t2i", "matches") == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert report.value("mAP@R", "t2i", "matches") == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert report.value("RSUM", "both") == evaluate(perfect(pairs), pairs, protocol="own").value("RSUM", "both")
    pessimistic = evaluate(perfect(pairs), pairs, protocol=["matches"], ties="pessimistic")
    assert pessimistic.value("R-precision", "t2i", "matches") == 50
    assert {row["protocol"] for row in pessimistic.rows} == {"matches"}


def test_images_without_captions_are_gallery_only_and_said():
    pairs = made_pairs([1, 0, 2, 0])
    report = evaluate(perfect(pairs), pairs)
    assert report.notes == ("own: 2 of 4 images have no right answer and are left out as queries",)
    assert report.notes[0] in str(report)
    first = report.rows[0]
    assert (first["queries"], first["gallery"]) == (2, 3)
    assert report.value("RSUM", "both") == 600


def test_an_ensemble_ranks_the_mean_of_scores():
    rng = np.random.default_rng(2)
    pairs = made_pairs([5] * 6)
    members = [
        FakeModel(
            *(Points(torch.from_numpy(rng.integers(-3, 4, (n, width))).float()) for n in (6, 30)),
            Dot(lean=lean),
            name=f"m{width}",
        )
        for width, lean in ((3, 0.0), (7, 2.0))
    ]
    i2t, t2i = (
        sum(m.similarity(m.kept[a], m.kept[b]) for m in members).numpy()
        for a, b in (("images", "texts"), ("texts", "images"))
    )
    report = evaluate(members, pairs)
    own = pairs.matches().dense()
    for direction, scores, right in (("i2t", i2t, own), ("t2i", t2i, own.T)):
        above = [(line > line[mine].max()).sum() for line, mine in zip(scores, right, strict=True)]
        tied = [(line == line[mine].max()).sum() for line, mine in zip(scores, right, strict=True)]
        ours = [(line[mine] == line[mine].max()).sum() for line, mine in zip(scores, right, strict=True)]
        mean = np.mean([a + (t + 1) / (m + 1) for a, t, m in zip(above, tied, ours, strict=True)])
        assert report.value("mean rank", direction) == pytest.approx(mean)
    assert report.rows[0]["run"] == "m3+m7"
    assert evaluate(members, pairs, run="both of them").rows[0]["run"] == "both of them"


def test_sets_show_whether_they_are_still_sets():
    pairs = made_pairs([2] * 4)
    spread = Sets(torch.eye(4).repeat(4, 1, 1))
    collapsed = Sets(torch.eye(4)[:1].repeat(8, 4, 1))
    report = evaluate(FakeModel(spread, collapsed, SmoothChamfer(), name="dive"), pairs)
    assert report.value("log circular variance", "i2i", "health") == pytest.approx(np.log(0.5))
    assert report.value("log circular variance", "t2t", "health") == -np.inf
    assert str(report).splitlines()[-3].split() == ["dive", "-0.69", *["25.00"] * 2, "-inf", *["25.00"] * 2]
    assert json.loads(report.json())[-3]["value"] is None


def test_json_is_the_rows():
    pairs = made_pairs([1, 2])
    report = evaluate(perfect(pairs), pairs)
    assert json.loads(report.json()) == report.rows


def test_an_ensemble_of_unlike_similarities_says_so():
    pairs, points = made_pairs([1, 1]), Points(torch.eye(2))
    sets = Sets(normalize(torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), dim=-1))
    point, other = FakeModel(points, points, Cosine(), name="p"), FakeModel(sets, sets, SmoothChamfer(), name="s")
    said = "the mean of Cosine and SmoothChamfer scores: where their scales differ, the larger one decides the order"
    assert said in evaluate([point, other], pairs).notes
    assert said not in evaluate([point, point], pairs).notes + evaluate(point, pairs).notes


def test_a_tile_of_an_ensemble_fits_the_member_with_most_vectors():
    wide, several = Points(torch.zeros(2, 640)), Sets(torch.zeros(2, 4, 8))
    assert Joined([wide, several]).layout() == Joined([several, wide]).layout() == several.layout()


def test_health_of_an_ensemble_is_each_members():
    pairs = made_pairs([1, 1])
    sets = [Sets(normalize(torch.randn(2, k, 5, generator=torch.Generator().manual_seed(k)), dim=-1)) for k in (2, 3)]
    models = [FakeModel(s, s, SmoothChamfer(), name=f"k{s.elements.shape[1]}") for s in sets]
    health = [row for row in evaluate(models, pairs).rows if row["metric"] == "log circular variance"]
    assert [(row["run"], row["direction"]) for row in health] == [(r, d) for r in ("k2", "k3") for d in ("i2i", "t2t")]


class Folder:
    """Pictures by name; "bad" ones do not decode."""

    def __init__(self, bad: set[str]) -> None:
        self.bad = bad

    def read(self, name: str) -> bytes:
        from io import BytesIO

        if name in self.bad:
            return b"no picture"
        out = BytesIO()
        Image.new("RGB", (4, 4)).save(out, "PNG")
        return out.getvalue()


def pictured(bad: set[str]) -> Pairs:
    items = [Item(f"i{n}", (f"caption {n}",), picture=f"{n}.png") for n in range(4)]
    return Pairs(items, pictures=Folder(bad), name="folder")


def test_unreadable_pictures_are_left_out_and_said():
    pairs = pictured({"1.png", "3.png"})
    model = perfect(made_pairs([1, 1]), reads="pixels")
    report = evaluate(model, pairs)
    assert model.seen == {"images": 2, "texts": 2}
    assert report.rows[0]["gallery"] == 2
    assert re.search(r"2 of 4 images could not be read and are left out; the first: .*1\.png", report.notes[0])
    with pytest.raises(DataError, match="4 of 4 images could not be read"):
        evaluate(model, pictured({f"{n}.png" for n in range(4)}))


def test_a_model_of_features_opens_no_picture():
    assert evaluate(perfect(pictured(set())), pictured({"1.png"})).rows[0]["gallery"] == 4


def test_nothing_to_evaluate():
    model = perfect(made_pairs([1]))
    with pytest.raises(DataError, match="made: 0 images, 0 captions; evaluation needs at least one of each"):
        evaluate(model, made_pairs([]))
    with pytest.raises(DataError, match="made: 2 images, 0 captions"):
        evaluate(model, made_pairs([0, 0]))
    with pytest.raises(DataError, match="found no model"):
        evaluate([], made_pairs([1]))


def test_names_that_mean_nothing():
    pairs = made_pairs([1])
    with pytest.raises(UnknownName, match="unknown protocol 'owns': did you mean 'own'"):
        evaluate(perfect(pairs), pairs, protocol="owns")
    with pytest.raises(DataError, match="found an empty list"):
        evaluate(perfect(pairs), pairs, protocol=[])
    with pytest.raises(DataError, match="protocol 'matches': made knows only each caption's own image"):
        evaluate(perfect(pairs), pairs, protocol="matches")
    with pytest.raises(UnknownName, match="unknown ties"):
        evaluate(perfect(pairs), pairs, ties="lucky")
    with pytest.raises(UnknownName, match=r"unknown measure 'R@2 i2t own': did you mean 'R@. i2t own'"):
        evaluate(perfect(pairs), pairs).value("R@2", "i2t")


def test_a_diverged_model_is_refused_by_name():
    pairs = made_pairs([1, 2])
    model = perfect(pairs)
    model.kept["texts"].vectors[2, 0] = np.nan
    with pytest.raises(DataError, match="caption 'i1#1': its embedding holds a NaN"):
        evaluate(model, pairs)
    with pytest.raises(DataError, match="caption 'i1#1': its embedding holds a NaN"):
        evaluate([perfect(pairs), model], pairs)


def test_progress_ends_at_the_total_of_each_stage():
    pairs, told = made_pairs([2] * 5), []
    evaluate(perfect(pairs), pairs, batch_size=4, progress=lambda done, total: told.append((done, total)))
    assert told[:5] == [(4, 5), (5, 5), (4, 10), (8, 10), (10, 10)]
    assert told[-1][0] == told[-1][1]


def test_an_empty_report_prints_nothing():
    assert str(Report([])) == ""


def test_the_example_of_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    code = re.search(r"^    import numpy.*?(?=^\S)", page, re.MULTILINE | re.DOTALL)
    assert code is not None
    lines = [line[4:] for line in code.group().splitlines()]
    assert sum("assert" in line for line in lines) == 4
    exec("\n".join(lines), {})


def test_a_table_says_all_counts_where_metrics_of_a_direction_differ():
    found = [plain_row("slices", "t2i", f"R@1 {name}", 50.0, count, 9) for name, count in (("rare", 3), ("common", 5))]
    lines = str(Report([{"run": "one", **row, "truth": "own captions"} for row in found])).splitlines()
    assert lines[1].split() == ["one", "50.0", "50.0", "3-5", "9"]


def test_members_of_one_name_are_told_apart():
    pairs = made_pairs([1, 1])
    sets = [Sets(normalize(torch.randn(2, k, 5, generator=torch.Generator().manual_seed(k)), dim=-1)) for k in (2, 3)]
    report = evaluate([FakeModel(s, s, SmoothChamfer(), name="dive") for s in sets], pairs)
    health = [row["run"] for row in report.rows if row["metric"] == "log circular variance"]
    assert health == ["dive", "dive", "dive (2)", "dive (2)"]
    assert "dive (2): dive: made up" in str(report)
    assert distinct(["a", "a (2)", "a", "a"]) == ["a", "a (2)", "a (3)", "a (4)"]


class Nothing:
    """A truth that lists no right answer of these pairs."""

    def matches(self, pairs: Pairs) -> Matches:
        return Matches.of([], [], (len(pairs), len(pairs.captions)))


def test_a_truth_of_other_data_names_its_protocol():
    with pytest.raises(
        DataError, match="protocol 'matches': of the right answers that the truth lists none is in made"
    ):
        evaluate(np.eye(3), made_pairs([1, 1, 1], truth=Nothing()))


def test_names_are_as_many_as_models():
    pairs = made_pairs([1, 1])
    with pytest.raises(DataError, match="evaluate: 1 names of 2 models, expected as many"):
        evaluate([perfect(pairs), perfect(pairs)], pairs, run=["one"])
    assert {row["run"] for row in evaluate([perfect(pairs), perfect(pairs)], pairs, run="both").rows} == {"both"}
