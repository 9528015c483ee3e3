"""A collection in which most pictures are bad becomes an index of the good ones, each bad one told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_case import Case, jpeg
from bad_pictures import encoded_cases
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on pixels."""
    folder = tmp_path_factory.mktemp("tiny")
    pairs = mm.Pairs.toy(24, seed=3, size=32)
    model = mm.method("vsepp", dim=16, word_dim=16, least_count=1, longest_side=32, batch=8).build(pairs)
    mm.train(model, pairs, out=folder / "run", config=mm.TrainConfig(epochs=1), say=None)
    return folder / "run"


def test_the_good_pictures_of_a_bad_collection_are_indexed(run: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows, good = [], {"first.jpg", "last.jpg"}
    for name in ("first.jpg", "last.jpg"):
        (tmp_path / "images" / name).write_bytes(jpeg("red" if name == "first.jpg" else "blue"))
    cases: list[tuple[Case, str, bytes]] = encoded_cases()
    for number, (case, name, data) in enumerate(cases):
        called = f"{number:03}{Path(name).suffix}"
        (tmp_path / "images" / called).write_bytes(data)
        rows.append(called)
        if case.fine:
            good.add(called)
    lines = [{"image": name, "captions": ["x"]} for name in ("first.jpg", *rows, "last.jpg")]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["index", str(tmp_path / "data.jsonl"), "--model", str(run), "--out", str(tmp_path / "x.index")]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0 and told.exception is None, told.output
    with mm.Index.open(tmp_path / "x.index") as index:
        found = {hit.id for hit in index.search("x", k=len(lines))}
    assert good <= found
    assert (
        not {name for (case, _, _), name in zip(cases, rows, strict=True) if not case.fine and case.good == 2} & found
    )
    assert len(found) > 40 and len(rows) - len(found) > 150
