"""Published numbers are true to their tables and stand only beside numbers of the same data and protocol."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from evaluation_fakes import FakeModel

from manymatch.data import coco_ids
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points
from manymatch.evaluation import PROTOCOLS, Report, evaluate
from manymatch.evaluation.protocols import choose
from manymatch.evaluation.published import PUBLISHED, published_for
from manymatch.evaluation.report import plain_row
from manymatch.methods import methods

KARPATHY = ["dive", "hrem"], ["own", "coco-5k", "coco-1k"]


def pairs_of(ids: list[str], captions: int = 5, name: str = "pairs") -> Pairs:
    return Pairs([Item(each, tuple(f"{each} {n}" for n in range(captions))) for each in ids], name=name)


@pytest.fixture
def karpathy(monkeypatch) -> Pairs:
    """5,000 images with the ids that are taken for Karpathy's test split."""
    ids = list(range(7, 7 + 3 * 5000, 3))
    monkeypatch.setattr(coco_ids, "_KARPATHY_TEST", coco_ids._digest(ids))
    return pairs_of([f"COCO_val2014_{n:012d}.jpg" for n in reversed(ids)], name="coco:test")


def test_every_sum_is_that_of_its_recalls():
    tables = defaultdict(dict)
    for one in PUBLISHED:
        if not one.ablation:
            tables[one.run, one.data, one.protocol][one.direction, one.metric] = one.value
    whole = {name: table for name, table in tables.items() if len(table) == 7}
    assert len(whole) == 32
    for name, table in whole.items():
        total = table.pop(("both", "RSUM"))
        # Seven numbers, each rounded to a tenth.
        assert total == pytest.approx(sum(table.values()), abs=0.15), name


def test_every_number_is_there_once_and_of_a_known_protocol():
    names = [(p.run, p.data, p.protocol, p.direction, p.metric) for p in PUBLISHED]
    assert len(set(names)) == len(names)
    assert {p.method for p in PUBLISHED} - {""} <= set(methods())
    assert {p.protocol for p in PUBLISHED} <= {*PROTOCOLS, "pmrp"}
    assert all(0 < p.value < (600 if p.metric == "RSUM" else 100) for p in PUBLISHED)
    assert sum(p.metric.startswith("PMRP") for p in PUBLISHED) == 9 * 4


def test_single_cells():
    def value(run: str, protocol: str, direction: str, metric: str, data: str = "coco") -> float:
        (found,) = (
            p.value
            for p in PUBLISHED
            if (p.run, p.data, p.protocol, p.direction, p.metric)
            == (f"published: {run}", data, protocol, direction, metric)
        )
        return found

    assert value("DivE, Faster R-CNN + BiGRU", "coco-1k", "t2i", "R@5") == 90.7
    assert value("HREM, Region + BERT, Full (ensemble)", "own", "both", "RSUM", "flickr30k") == 524.2
    assert value("MSRM", "pmrp", "i2t", "PMRP") == 35.62
    assert value("P2RM", "pmrp", "t2i", "PMRP 1K") == 46.42
    assert value("PCME", "coco-5k", "t2i", "R@1") == 31.9
    assert value("DivE, Faster R-CNN + BERT (second-hand)", "coco-5k", "both", "RSUM") == 439.6
    assert value("HREM, Region + BERT, Fusion, no instance level", "own", "t2i", "R@5", "flickr30k") == 85.3


def test_coco_numbers_stand_beside_karpathys_images_alone(karpathy):
    rows = published_for(*KARPATHY, karpathy)
    assert {row["protocol"] for row in rows} == {"own", "coco-5k", "coco-1k"}
    assert {row["run"].split(",")[0] for row in rows} == {"published: DivE", "published: HREM"}
    assert {row["truth"] for row in rows} == {"own captions"}
    assert all(row["low"] is row["high"] is row["queries"] is row["gallery"] is None for row in rows)
    own, whole = (published_for(["dive"], [name], karpathy) for name in ("own", "coco-5k"))
    assert own == tuple({**row, "protocol": "own"} for row in whole) and own
    assert choose(None, karpathy) == ["own", "coco-1k"]
    others = [
        karpathy.take(range(4999)),
        pairs_of([str(n) for n in range(5000)]),
        pairs_of([f"photo {n} of mine" for n in range(5000)]),
        pairs_of([item.id for item in karpathy], captions=4),
    ]
    assert [published_for(*KARPATHY, each) for each in others] == [()] * 4


def test_flickr30k_goes_by_its_name_and_size():
    ids = [f"{n}.jpg" for n in range(1000)]
    rows = published_for(["hrem"], ["own", "coco-1k"], pairs_of(ids, name="Flickr30K:test"))
    assert {row["protocol"] for row in rows} == {"own"} and len(rows) == 4 * 7
    assert not any("no instance level" in row["run"] for row in rows)
    assert published_for(["hrem"], ["own"], pairs_of(ids, name="f30k_test")) == rows
    others = (("flickr8k:test", 1000, 5), ("flickr30k", 999, 5), ("flickr30k", 1000, 4), ("flickr30k/all:val", 1000, 5))
    for name, count, captions in others:
        assert published_for(["hrem"], ["own"], pairs_of(ids[:count], captions, name)) == ()


def test_pmrp_shows_every_system(karpathy, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "pmrp", PROTOCOLS.get("pmrp", PROTOCOLS["own"]))
    rows = published_for(["cca"], ["pmrp", "coco-5k"], karpathy)
    assert {row["protocol"] for row in rows} == {"pmrp"}
    assert len({row["run"] for row in rows}) == 9
    assert {row["run"] for row in published_for(["pcme"], ["coco-5k"], karpathy)} == {
        "published: PCME, means only",
        "published: PCME",
        "published: PCME, dagger row",
    }


def test_they_are_printed_below_and_kept_out_of_the_rows():
    measured = [
        {"run": "mine", **plain_row("coco-5k", *where, 50.0, 3, 9)} for where in (("i2t", "R@1"), ("t2i", "R@1"))
    ]
    measured = [{**row, "truth": "own captions"} for row in measured]
    other = {"run": "published: X", **plain_row("coco-5k", "t2i", "R@1", 61.25, None, None)}
    silent = {"run": "published: Y", **plain_row("coco-5k", "both", "RSUM", 400.0, None, None)}
    report = Report(measured, published=(other, silent))
    lines = str(report).splitlines()
    assert lines[1].split()[:3] == ["mine", "50.0", "50.0"]
    assert lines[2].split() == ["published:", "X", "-", "61.2"]
    assert len(lines) == 3
    assert json.loads(report.json()) == measured


def test_evaluate_gives_them(karpathy, monkeypatch):
    """Of one model, and of an ensemble of two methods."""
    one = FakeModel(Points(torch.eye(8).repeat(625, 1)), Points(torch.eye(8).repeat(3125, 1)), name="dive")
    report = evaluate(one, karpathy, protocol="coco-5k", resamples=0)
    assert {row["run"] for row in report.rows} == {"dive"}
    assert report.published == published_for(["dive"], ["coco-5k"], karpathy) != ()
    assert "published: DivE, ResNeXt-101 + BERT, ensemble" in str(report)


def test_the_true_list_is_known(reference: Path):
    path = reference / "data" / "coco_annotations" / "karpathy5k_test.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        ids = [str(json.loads(line)["image_id"]) for line in file]
    assert published_for(["dive"], ["coco-5k"], pairs_of(ids)) != ()
