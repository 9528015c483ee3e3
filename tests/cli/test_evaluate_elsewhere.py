"""`manymatch evaluate` on files of other systems: scores and ranked lists in the place of runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manymatch.cli import main
from manymatch.evaluation import PROTOCOLS


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """The command in a folder with `data.jsonl`: two images to train on, three of two captions each to test."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"image": f"{n}.png", "captions": [f"caption {n}", "another"], "split": "train" if n < 2 else "test"}
        for n in range(5)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["manymatch", "evaluate", *arguments, "--data", "data.jsonl"])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    return called


OWN = np.repeat(np.eye(3), 2, axis=1)


def test_a_score_matrix_of_the_split(run):
    np.savez("scores.npz", i2t=OWN)
    code, out, _ = run("scores.npz", "--protocol", "own", "--json")
    rows = {(row["direction"], row["metric"]): row for row in json.loads(out)}
    assert code == 0
    assert rows["both", "RSUM"]["value"] == 600
    assert (rows["t2i", "R@1"]["run"], rows["t2i", "R@1"]["queries"], rows["t2i", "R@1"]["gallery"]) == (
        "scores.npz",
        6,
        3,
    )
    code, out, _ = run("scores.npz")
    assert code == 0 and "scores.npz: scores from elsewhere, i2t (3, 6) float64" in out


def test_ranked_lists_cut_short(run):
    lines = [f"{n + 2}.png#{m} Q0 {n + 2}.png 1 0.5 mine\n" for n in range(3) for m in range(2)]
    Path("t2i.trec").write_text("".join(lines))
    code, out, err = run("t2i.trec", "--json")
    assert code == 0
    assert [(row["direction"], row["metric"], row["value"]) for row in json.loads(out)] == [
        ("t2i", "R@1", 100.0),
        ("t2i", "median rank", 1.0),
        ("t2i", "mean rank", 1.0),
    ]
    assert "i2t: no list of t2i.trec ranks captions for an image; its rows are left out" in err
    assert "t2i: the shortest list, of caption '2.png#0', holds 1 of 3 images" in err


@pytest.mark.parametrize(
    ("made", "arguments", "said"),
    [
        (np.zeros((5, 10)), ["s.npy"], "i2t of s.npy has shape (5, 10), expected (3, 6): a row for each image (2.png,"),
        (OWN * np.nan, ["s.npy"], "the score of image '2.png' with caption '2.png#0' is nan"),
        (OWN, ["s.npy", "data.jsonl"], "data.jsonl holds ranked lists, others hold score matrices"),
        (OWN, ["data.jsonl"], "not JSON"),
        (OWN, ["s.npy", "nowhere"], "nowhere"),
        (OWN, ["s.npy", "--protocol", "slice"], "did you mean 'slices'?"),
    ],
)
def test_what_can_be_mended_is_one_line(run, made, arguments, said):
    np.save("s.npy", made)
    code, _, err = run(*arguments)
    assert code == 2 and said in err and "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("manymatch:")]) == 1


def test_help_names_every_protocol(run):
    code, out, _ = run("--help")
    words = set(out.replace("│", " ").replace(",", " ").replace(".", " ").split())
    assert code == 0 and set(PROTOCOLS) <= words


def test_what_is_not_there_names_what_is(run):
    np.savez("scores.npz", i2t=OWN)
    code, _, err = run("score.npz")
    assert code == 2 and "evaluate: no such file 'score.npz'; the folder '.' holds 'scores.npz'" in err
