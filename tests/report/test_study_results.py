"""Runs measured once on the test split, and what is written of them: numbers, tables and a page that nothing breaks."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from report_fakes import Checked
from study_fakes import ROWS, line, measured_study
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app
from manymatch.data.pairs import Pairs
from manymatch.data.toy import write_toy
from manymatch.embeddings import Points, Sets
from manymatch.evaluation import fit_bank
from manymatch.evaluation.scores import ModelScores
from manymatch.report.study import read_plan, study
from manymatch.report.study.columns import decimals
from manymatch.report.study.folders import lock, trained_in
from manymatch.report.study.judge import Judge, _healthy
from manymatch.report.study.neighbours import hub_skew, proxy_recall
from manymatch.report.study.page import page
from manymatch.report.study.results import results_of
from manymatch.report.study.study import _alone, _opened
from manymatch.report.study.table import markdown
from manymatch.runs import save_search
from manymatch.similarity import Cosine, SmoothChamfer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measured_study(tmp_path_factory.mktemp("study"))


def test_a_study_measures_what_is_trained_and_says_it(folder: Path) -> None:
    said: list[str] = []
    made = study(folder / "study.toml", folder / "out", say=said.append)
    assert made == folder / "out" / "index.html" and said[0] == "all 4 runs are trained"
    assert sum("measuring on" in each for each in said) == 6
    found = json.loads((folder / "out" / "results.json").read_text())
    states = [(row["row"], row["state"]) for row in found["rows"]]
    assert states == [("points", "raw"), ("points", "bank"), ("sets", "raw"), ("both", "raw")]
    test = Pairs.read(folder / "world" / "captions.jsonl").split("test")
    for row in found["rows"]:
        # Every number is what evaluate gives of the very runs.
        names = ["points", "sets"] if row["row"] == "both" else [row["row"]]
        for seed, value in zip(row["seeds"], row["quantities"]["RSUM"]["values"], strict=True):
            models = [mm.load(folder / "out" / "runs" / f"{name}-{seed}") for name in names]
            report = mm.evaluate(models, test, protocol="own", bank=row["state"] == "bank", resamples=0)
            assert value == pytest.approx(report.value("RSUM", "both"), rel=1e-5)
    (claim,) = found["claims"]
    assert claim["answer"] in ("holds", "does not hold", "not decided") and claim["difference"]["value"] is not None
    assert {(each["row"], each["state"]) for each in found["tests"]} == {("sets", "raw"), ("both", "raw")}
    assert [each["row"] for each in found["bank"]] == ["points"]
    sets = next(row for row in found["rows"] if row["row"] == "sets")
    assert sets["quantities"]["diary elements with gradient"]["mean"] == 0.5
    assert sets["quantities"]["image log circular variance"]["sd"] > 0
    for caption in test.captions:
        assert caption not in (folder / "out" / "results.json").read_text(), "no captions leave with the numbers"


def test_the_second_call_measures_nothing_and_writes_the_same(folder: Path) -> None:
    study(folder / "study.toml", folder / "out", say=lambda line: None)
    before = {name: (folder / "out" / name).read_bytes() for name in ("results.json", "table.md", "index.html")}
    said: list[str] = []
    study(folder / "study.toml", folder / "out", say=said.append)
    assert said == ["all 4 runs are trained"]
    assert before == {name: (folder / "out" / name).read_bytes() for name in before}


def test_the_page_is_whole_and_nothing_in_it_is_a_tag_that_should_not_be(folder: Path) -> None:
    study(folder / "study.toml", folder / "out", say=lambda line: None)
    text = (folder / "out" / "index.html").read_text("utf-8")
    read = Checked(text)
    assert "script" not in read.names and "http" not in text.replace("http://www.w3.org", "")
    assert "A <b>study</b>" in read.words and "sets & <script>" in read.words
    assert "No number of the test split was shown of a run of this study before" in " ".join(read.words.split())
    for title in ("At a glance", "Own captions", "Hubs", "Sets and candidates", "What the query bank adds", "Claims"):
        assert title in read.words
    table = (folder / "out" / "table.md").read_text("utf-8")
    assert table.startswith("# A <b>study</b>") and "| points | with |" in table and "## Claims" in table


def test_the_test_split_is_read_when_all_are_trained(folder: Path, tmp_path: Path) -> None:
    (folder / "more.toml").write_text(ROWS.replace("[[claim]]", '[[row]]\nname = "c"\nmethod = "cca"\n[[claim]]', 1))
    said: list[str] = []
    assert study(folder / "more.toml", folder / "out", only=["sets"], say=said.append) is None
    assert said[-1].startswith("2 runs are to be trained before the test split is read")


def test_rows_that_came_later_and_runs_that_failed_are_named(folder: Path) -> None:
    plan = read_plan(folder / "study.toml")
    test = Pairs.read(folder / "world" / "captions.jsonl").split("test")
    lines = [
        replace(line("points", [50.0, 52.0]), row=plan.rows[0]),
        replace(line("sets", [55.0], rng=4), row=plan.rows[1]),
    ]
    found = results_of(plan, test, lines, {"sets-1": "it <broke>"}, ["sets-0"])
    words = Checked(page(found)).words
    assert "sets-1 failed: it <broke>" in words and "of other runs, by settings of the file alone: sets-0." in words
    told = markdown(found)
    assert "- sets-1 failed: it <broke>" in told and "of the file alone: sets-0." in told
    assert found.json()["trained_after_test_was_read"] == ["sets-0"]
    assert "No number" not in words + told, "it was not"
    Checked(page(results_of(plan, test, [], {"sets-1": "broke"}, [])))
    whole = [run.name for run in plan.runs if run.row.name == "points"]
    assert results_of(plan, test, lines, {}, [*whole, "sets-0"]).story[-1].endswith("alone: points, sets-0.")


def test_a_bank_that_may_not_be_used_leaves_the_raw_numbers(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "world", tmp_path / "world")
    (tmp_path / "study.toml").write_text(ROWS.replace('"own"]', '"own", "uncertainty"]'))
    plan = read_plan(tmp_path / "study.toml")
    runs = tmp_path / "runs"
    shutil.copytree(folder / "out" / "runs", runs)
    pairs, place = plan.data.read(), runs / "points-0"
    model = mm.load(place)
    model.bank = fit_bank(model, pairs.split("test"), pairs.split("val"), most=50)
    save_search(model, place, {"finished": True})
    said: list[str] = []
    found = Judge(plan, runs, said.append).measured(plan.run("points", 0))
    assert list(found) == ["raw"] and "would be peeking" in " ".join(found["raw"].notes)
    again = Judge(plan, runs, said.append)
    assert list(again.measured(plan.run("points", 0))) == ["raw"] and len(said) == 1, "nor is it tried again"
    other = Judge(plan, runs, said.append).measured(plan.run("points", 1))
    assert list(other) == ["raw", "bank"] and not any("query bank" in note for note in other["raw"].notes)
    sets = again.measured(plan.run("sets", 0))["raw"].quantities
    assert 0 <= sets["uncertainty t2t specificity"].value <= 100 and len(said) == 3
    path = tmp_path / "world" / "captions.jsonl"
    path.write_text(path.read_text() + "\n")
    Judge(plan, runs, said.append).measured(plan.run("sets", 0))
    assert len(said) == 4, "the file holds something else"


def test_one_element_has_no_spread_and_a_point_no_end(folder: Path) -> None:
    test = Pairs.read(folder / "world" / "captions.jsonl").split("test")
    images = Sets(torch.nn.functional.normalize(torch.randn(len(test), 1, 4), dim=-1))
    texts = Sets(torch.ones(len(test.captions), 2, 4) / 2)
    found = dict(_healthy(images, texts, test))
    assert "image log circular variance" not in found and "image effective slots" in found
    assert found["caption log circular variance"] == pytest.approx(-16.118, abs=1e-3)


def test_what_was_there_when_the_test_split_was_read_is_known_by_its_weights(tmp_path: Path) -> None:
    def trained(*names: str, weights: bytes = b"w") -> None:
        for name in names:
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "study.json").write_text("{}")
            (tmp_path / name / "model.safetensors").write_bytes(weights)
            (tmp_path / name / "run.json").write_text('{"format": 1, "finished": true}')

    trained("a-0", "a-1", "other-0")
    assert _opened(tmp_path, ["a-0", "a-1"], trained_in(tmp_path)) == []
    assert _opened(tmp_path, ["a-0", "other-0"], trained_in(tmp_path)) == [], "of another study, and there before"
    trained("b-0")
    trained("a-1", weights=b"anew")
    for _ in range(2):
        assert _opened(tmp_path, ["a-0", "a-1", "b-0"], trained_in(tmp_path)) == ["a-1", "b-0"]
    (tmp_path / "test_read.json").write_text('{"trained": ["a-0"]}')
    assert _opened(tmp_path, ["a-0", "b-0"], trained_in(tmp_path)) == ["b-0"], "where names alone were written"
    trained("a-0", weights=b"anew")
    assert _opened(tmp_path, ["a-0", "b-0"], trained_in(tmp_path)) == ["a-0", "b-0"]


def test_records_that_begin_after_the_test_split_was_read_say_so(tmp_path: Path) -> None:
    runs, records, alone = tmp_path / "runs", tmp_path / "records", tmp_path / "alone"
    for folder in (runs, records, alone):
        folder.mkdir()
    _opened(runs, [], {"a-0": "1"})
    now = {"a-0": "1", "b-0": "2"}
    for _ in range(2):
        assert _opened(records, ["a-0", "b-0"], now, before=runs) == ["b-0"]
    (runs / "test_read.json").unlink()
    assert _opened(records, ["a-0", "b-0"], now, before=runs) == ["b-0"], "it stays so without those runs"
    assert _opened(alone, ["a-0", "b-0"], now, before=runs) == []


def test_studies_of_the_same_runs_measure_one_after_the_other(tmp_path: Path) -> None:
    said: list[str] = []
    handle = lock(tmp_path / "measure.lock")
    assert handle is not None

    def say(line: str) -> None:
        said.append(line)
        os.close(handle)

    with _alone(tmp_path, say):
        assert said == ["another study is measuring these runs; waiting for it"]
        assert lock(tmp_path / "measure.lock") is None


def test_notes_and_numbers_without_end_are_told(folder: Path) -> None:
    plan = replace(read_plan(folder / "study.toml"), tested=("RSUM", "RSUMM"))
    test = Pairs.read(folder / "world" / "captions.jsonl").split("test")
    ends = {"validation RSUM": -math.inf}
    points = replace(line("points", [50.0, 52.0], more=ends), row=plan.rows[0], notes=("all", "a <note>"))
    sets = replace(line("sets", [55.0, 56.0], rng=4), row=plan.rows[1], notes=("all",))
    found = results_of(plan, test, [points, sets], {}, [])
    assert found.notes == ["all", "tested: no row has 'RSUMM'; the nearest that one has is 'RSUM'"]
    words = Checked(page(found)).words
    for said in ("points: a <note>", "tested: no row has 'RSUMM'"):
        assert said in words and f"- {said}" in markdown(found)
    first = found.json()["rows"][0]
    assert first["notes"] == ["a <note>"]
    assert first["quantities"]["validation RSUM"]["not_finite"] == {
        "mean": "-inf",
        "values[0]": "-inf",
        "values[1]": "-inf",
    }
    assert first["quantities"]["validation RSUM"]["values"] == [None, None]
    assert "not_finite" not in first["quantities"]["RSUM"] and len(first["quantities"]["RSUM"]["values"]) == 2


def test_the_best_is_the_least_where_less_is_better_and_no_cost_known_in_part(folder: Path) -> None:
    plan = replace(read_plan(folder / "study.toml"), protocols=("own", "uncertainty", "slices"))
    test = Pairs.read(folder / "world" / "captions.jsonl").split("test")
    names = ("uncertainty t2i AURC by score", "slices i2t mean rank short", "minutes", "memory GiB")
    points = replace(line("points", [50.0], more=dict.fromkeys(names, 1.0)), row=plan.rows[0], at_least=True)
    sets = replace(line("sets", [50.0], more=dict.fromkeys(names, 2.0)), row=plan.rows[1])
    both = replace(line("both", [50.0], more=dict.fromkeys(names, 3.0)), row=plan.rows[2])
    found = results_of(plan, test, [points, sets, both], {}, [])
    text = page(found)
    assert all(f"<b>{each}</b>" in text for each in ("1.000", "1.0", "2.0"))
    assert not any(f"<b>{each}</b>" in text for each in ("2.000", "3.0", "3.000", "≥ 1.0"))
    assert text.count("<b>2.0</b>") == 2 and text.count("≥ 1.0") == 2 and markdown(found).count("≥ 1.0") == 2


def test_hubs_and_proxies() -> None:
    rng = np.random.default_rng(0)

    def unit(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=shape).astype(np.float32)), dim=-1)

    images, texts = Points(unit(300, 6)), Points(unit(500, 6))
    source = ModelScores(Cosine(), images, texts)
    assert proxy_recall(source, "i2t", images, texts) == 100.0, "an exact proxy finds all"
    order = np.argsort(-(texts.vectors @ images.vectors.T).numpy(), axis=1)[:, :10]
    counts = np.bincount(order.ravel(), minlength=300)
    off = counts - counts.mean()
    assert hub_skew(source, "t2i", 300) == pytest.approx((off**3).mean() / (off**2).mean() ** 1.5)
    sets, others = Sets(unit(300, 4, 6)), Sets(unit(500, 4, 6))
    spread = ModelScores(SmoothChamfer(), sets, others)
    recall = proxy_recall(spread, "i2t", sets, others)
    exact = SmoothChamfer()(sets, others).topk(10).indices
    near = (sets.elements.mean(1) @ others.elements.mean(1).T).topk(200).indices
    shared = [len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(exact, near, strict=True)]
    assert recall == pytest.approx(100 * np.mean(shared)) and 40 < recall < 100


@pytest.mark.slow
def test_the_command_trains_measures_and_goes_on(tmp_path: Path) -> None:
    write_toy(tmp_path / "world", 150, seed=1, size=32)
    small_ones = "set = { epochs = 1, dim = 16, word_dim = 8, least_count = 1, longest_side = 32 }"
    text = ROWS.replace('"vsepp"', f'"vsepp"\n{small_ones}').replace('"dive"', f'"dive"\n{small_ones}')
    (tmp_path / "study.toml").write_text(text)
    command = ["study", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"), "--jobs", "2", "--threads", "1"]
    told = subprocess.run([sys.executable, "-m", "manymatch", *command], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith("index.html") and "4 of 4 trained" in told.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["row"], row["state"]) for row in found["rows"] if row["state"] == "bank"] == [
        ("points", "bank"),
        ("sets", "bank"),
        ("both", "bank"),
    ]
    assert all(row["quantities"]["CPU minutes"]["mean"] > 0 for row in found["rows"])
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert again.exit_code == 0 and "all 4 runs are trained" in again.stderr and "measuring" not in again.stderr


def test_a_note_names_each_row_once_and_notes_of_the_same_rows_stand_together(folder: Path) -> None:
    plan = read_plan(folder / "study.toml")
    both, raw, bank = ("in both", "shared"), ("raw alone",), ("seed 0", "seed 1", "shared")
    lines = [
        replace(line("points", [50.0, 52.0]), row=plan.rows[0], notes=(*both, *raw)),
        replace(line("points", [51.0, 53.0]), row=plan.rows[0], state="bank", notes=(*both, *bank)),
        replace(line("sets", [55.0, 56.0], rng=4), row=plan.rows[1], notes=("shared", "sets alone")),
        replace(line("both", [57.0, 58.0], rng=5), row=plan.rows[2]),
    ]
    points, sets = (plan.rows[n].name for n in (0, 1))
    assert results_of(plan, Pairs.read(folder / "world" / "captions.jsonl").split("test"), lines, {}, []).asides == [
        f"{points}: in both",
        f"{points}, {sets}: shared",
        f"{points} without bank: raw alone",
        f"{points} with bank: seed 0; seed 1",
        f"{sets}: sets alone",
    ]


@pytest.mark.parametrize(
    ("values", "least", "digits"),
    [
        ((45.8, -3.0), 2, 2),
        ((0.0121, 0.0009, -0.03), 2, 3),
        ((0.0012, math.nan), 2, 4),
        ((0.1, 0.0), 2, 2),
        ((0.0,), 3, 3),
        ((math.inf,), 1, 1),
        ((0.5,), 3, 3),
    ],
)
def test_small_numbers_get_the_digits_that_tell_them(values: tuple[float, ...], least: int, digits: int) -> None:
    assert decimals(values, least) == digits
