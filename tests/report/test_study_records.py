"""Records of what was measured: a study goes on with them where the runs are not, and says the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from study_fakes import measured_study, write_run
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.report.study import read_plan, study
from manymatch.report.study.judge import Judge
from manymatch.report.study.records import Records


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose runs are there, and that has written its records."""
    folder = measured_study(tmp_path_factory.mktemp("records"))
    study(folder / "study.toml", folder / "out", records=folder / "records", say=lambda line: None)
    return folder


def copied(folder: Path, to: Path, runs: tuple[str, ...] = ()) -> Path:
    """The study and its records on another machine, with these runs alone."""
    shutil.copytree(folder / "world", to / "world")
    shutil.copytree(folder / "records", to / "records")
    shutil.copy(folder / "study.toml", to / "study.toml")
    for name in runs:
        shutil.copytree(folder / "out" / "runs" / name, to / "out" / "runs" / name)
    return to


def go(folder: Path, **more: object) -> tuple[Path | None, list[str]]:
    said: list[str] = []
    found = study(folder / "study.toml", folder / "out", records=folder / "records", say=said.append, **more)  # type: ignore[arg-type]
    return found, said


def test_records_alone_make_the_same_page(folder: Path, tmp_path: Path) -> None:
    names = ["points-0", "points-1", "sets-0", "sets-1", "both-0", "both-1"]
    assert sorted(path.stem for path in (folder / "records").glob("*.npz")) == sorted(names)
    page, said = go(copied(folder, tmp_path))
    assert page is not None and said == [f"6 of 6 runs have a record in {tmp_path / 'records'}"]
    for name in ("results.json", "table.md", "index.html"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_records_say_what_measuring_says(folder: Path, tmp_path: Path) -> None:
    study(folder / "study.toml", tmp_path, say=lambda line: None, train=False)
    shutil.copytree(folder / "out" / "runs", tmp_path / "runs", dirs_exist_ok=True)
    assert study(folder / "study.toml", tmp_path, say=lambda line: None) is not None
    measured, recorded = (json.loads((each / "results.json").read_text()) for each in (tmp_path, folder / "out"))
    for one, other in zip(measured["rows"], recorded["rows"], strict=True):
        assert one["quantities"].keys() == other["quantities"].keys()
        for name, value in one["quantities"].items():
            assert other["quantities"][name]["values"] == value["values"]
        both = (one["quantities"]["RSUM"], other["quantities"]["RSUM"])
        assert both[1]["low"] == pytest.approx(both[0]["low"], rel=1e-5) and both[0]["low"] < both[0]["high"]
    for kind in ("tests", "bank"):
        assert [each["p"] for each in measured[kind]] == [each["p"] for each in recorded[kind]]
    for one, other in zip(measured["claims"], recorded["claims"], strict=True):
        assert other["p_corrected"] == pytest.approx(one["p_corrected"], rel=1e-4)


def test_what_has_no_record_needs_its_run_and_those_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    for name in ("both-1", "points-1"):
        (tmp_path / "records" / f"{name}.npz").unlink()
    page, said = go(tmp_path, train=False)
    assert page is None and said[-1] == "2 runs are to be trained before tables are made: points-1, ..."
    for name in ("points-1", "sets-1"):
        shutil.copytree(folder / "out" / "runs" / name, tmp_path / "out" / "runs" / name, dirs_exist_ok=True)
    page, said = go(tmp_path)
    assert said[0].startswith("4 of 6") and said[1] == "all 2 runs are trained"
    assert [each.partition(":")[0] for each in said[2:]] == ["both-1"], "points-1 had been measured"
    assert (tmp_path / "out" / "results.json").read_bytes() == (folder / "out" / "results.json").read_bytes()


def test_what_is_trained_is_recorded_while_others_are_missing(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path, ("points-0", "sets-0"))
    shutil.rmtree(tmp_path / "records")
    page, said = go(tmp_path, train=False)
    assert page is None and "2 runs are to be trained before tables" in said[1]
    assert any(each.startswith("both-0: measuring") for each in said)
    assert sorted(path.stem for path in (tmp_path / "records").glob("*.npz")) == ["both-0", "points-0", "sets-0"]
    assert not (tmp_path / "records" / "test_read.json").exists(), "nobody was shown anything"
    assert not (tmp_path / "out" / "results.json").exists()
    _, again = go(tmp_path, train=False)
    assert again[0].startswith("3 of 6") and not any("measuring" in each for each in again)


def test_a_row_that_is_added_to_records_came_later(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    text = (tmp_path / "study.toml").read_text()
    text = text.replace("[[claim]]", '[[row]]\nname = "mine"\nmethod = "vsepp"\nseeds = [7]\n[[claim]]', 1)
    (tmp_path / "study.toml").write_text(text)
    plan = read_plan(tmp_path / "study.toml")
    write_run(plan, plan.run("mine", 7), tmp_path / "out" / "runs")
    page, said = go(tmp_path)
    assert page is not None and sum("measuring" in each for each in said) == 1
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["trained_after_test_was_read"] == ["mine-7"]
    assert {each["row"] for each in found["tests"]} == {"sets", "both", "mine"}


@pytest.mark.parametrize("odd", ["damaged", "data", "settings", "tested"])
def test_records_that_do_not_fit_are_said(folder: Path, tmp_path: Path, odd: str) -> None:
    copied(folder, tmp_path)
    plan_path, record = tmp_path / "study.toml", tmp_path / "records" / "sets-0.npz"
    text = plan_path.read_text()
    if odd == "damaged":
        record.write_bytes(record.read_bytes()[:200])
    elif odd == "data":
        path = tmp_path / "world" / "captions.jsonl"
        path.write_text(path.read_text() + "\n")
    elif odd == "settings":
        plan_path.write_text(text.replace('method = "dive"', 'method = "dive"\nset = { elements = 3 }'))
    else:
        plan_path.write_text(text.replace('tested = ["RSUM"]', 'tested = ["RSUM", "R@1"]'))
    _, said = go(tmp_path, train=False)
    told = [each for each in said if "anew" in each]
    assert len(told) == {"damaged": 1, "data": 6, "settings": 4, "tested": 6}[odd]
    expected = {"damaged": "cannot be read", "data": "of another", "settings": "of another run", "tested": "parts"}
    assert all(expected[odd] in each for each in told)


def test_a_record_is_small_and_holds_no_captions(folder: Path) -> None:
    plan = read_plan(folder / "study.toml")
    judge = Judge(plan, folder / "out" / "runs", lambda line: None)
    found = Records(folder / "records", judge, lambda line: None).found()["points-0"].states["bank"].quantities
    assert found["RSUM"].drawn is not None and len(found["RSUM"].drawn) == 1000
    assert found["i2t R@1"].drawn is None and found["i2t R@1"].contributions is None
    with np.load(folder / "records" / "points-0.npz", allow_pickle=False) as file:
        said = bytes(file["facts"]).decode()
    assert not any(caption in said for caption in judge.pairs.captions) and str(folder) not in said
    assert (folder / "records" / "points-0.npz").stat().st_size < 60_000


def test_the_command_takes_records(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    command = ["study", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"), "--no-train"]
    told = CliRunner().invoke(app, [*command, "--records", str(tmp_path / "records")], catch_exceptions=False)
    assert told.exit_code == 0 and told.stdout.strip().endswith("index.html") and "6 of 6 runs" in told.stderr
