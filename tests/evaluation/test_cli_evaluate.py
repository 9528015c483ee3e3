import json

import pytest
import typer
from evaluation_fakes import FakeModel, made_pairs, one_hot
from typer.testing import CliRunner

import manymatch.runs
from manymatch.cli.evaluate import evaluate
from manymatch.errors import UnknownName


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs the command on six images of one caption; every run folder holds a perfect model of `images` images."""

    for name in ("mine", "other"):
        (tmp_path / name).mkdir()

    def run(*arguments: str, splits=("train", "train", "test", "test", "test", "val"), images=3):
        pairs = made_pairs([1] * images)
        monkeypatch.setattr(
            manymatch.runs, "load", lambda path, **how: FakeModel(*one_hot(pairs.owner, images)), raising=False
        )
        data = tmp_path / "data.jsonl"
        rows = [{"image": f"{n}.png", "captions": [f"caption {n}"], "split": s} for n, s in enumerate(splits)]
        lines = ({k: v for k, v in row.items() if v is not None} for row in rows)
        data.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
        app = typer.Typer()
        app.command()(evaluate)
        return CliRunner().invoke(app, [str(tmp_path / "mine"), "--data", str(data), *arguments])

    return run


def test_the_test_split_is_evaluated(ask):
    result = ask()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[0:8] == ["mine", *["100.0"] * 6, "600.0"]
    rows = json.loads(ask("--json").stdout)
    assert {row["run"] for row in rows} == {"mine"}
    assert rows[0]["gallery"] == 3


def test_another_split(ask):
    assert json.loads(ask("--json", "--split", "train", images=2).stdout)[0]["gallery"] == 2
    error = ask("--split", "trian").exception
    assert isinstance(error, UnknownName) and "did you mean 'train'" in str(error)


def test_data_without_splits_is_evaluated_whole_and_that_is_said(ask):
    result = ask("--json", splits=[None] * 4, images=4)
    assert json.loads(result.stdout)[0]["gallery"] == 4
    assert "has no splits; all 4 images are evaluated" in result.stderr


def test_several_runs_are_one_ensemble(ask, tmp_path):
    rows = json.loads(ask(str(tmp_path / "other"), "--json").stdout)
    assert {row["run"] for row in rows} == {"mine+other"}


def test_truth_and_protocol(ask, tmp_path):
    truth = tmp_path / "truth.jsonl"
    truth.write_text(json.dumps({"query": "2.png", "matches": ["2.png#0", "3.png#0"]}) + "\n", "utf-8")
    both = ask("--json", "--truth", str(truth))
    assert both.exit_code == 0, both.output
    rows = json.loads(both.stdout)
    assert {row["protocol"] for row in rows} == {"own", "matches"}
    assert "matches: 2 of 3 images have no right answer" in both.stderr
    only = json.loads(ask("--json", "--truth", str(truth), "--protocol", "matches", "--ties", "pessimistic").stdout)
    assert {row["protocol"] for row in only} == {"matches"}
    assert next(row["value"] for row in only if row["metric"] == "R-precision") == 50
