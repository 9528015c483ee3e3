"""What a stranger does by mistake is refused before anything is lost, and told so that it can be mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from index_fakes import FakeModel, some_pairs

from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.index.filters import parse_where


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("mine")
    with pytest.raises(DataError, match="holds other files and no index"):
        Index.build(FakeModel(), some_pairs(3), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "precious"]


def test_what_a_kill_while_the_run_is_copied_leaves_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "x" / "run").mkdir(parents=True)
    (tmp_path / "x" / "run" / ".model.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    assert len(Index.build(FakeModel(), some_pairs(3), tmp_path / "x").search("red")) == 3
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "run").write_text("a file of that name")
    with pytest.raises(DataError, match="holds other files and no index"):
        Index.build(FakeModel(), some_pairs(3), tmp_path / "y")


def test_a_lost_copy_of_the_run_is_told_and_put_back(tmp_path: Path) -> None:
    Index.build(FakeModel(), some_pairs(3), tmp_path / "x").close()
    shutil.rmtree(tmp_path / "x" / "run")
    with pytest.raises(DataError, match=r"copy of the run is gone .*put it back with: manymatch index"):
        Index.open(tmp_path / "x").search("red")
    Index.build(FakeModel(), some_pairs(3), tmp_path / "x").close()
    assert len(Index.open(tmp_path / "x").search("red")) == 3


def test_two_comparisons_in_one_are_refused() -> None:
    for form in ("year>=1990 and year<2000", "year>1990&year<2000"):
        with pytest.raises(DataError, match="repeat --where"):
            parse_where([form])
    assert parse_where(["place>=Andover"]).conditions[0].bounds == (("gte", "Andover"),)


def test_what_is_no_pairs_is_told(tmp_path: Path) -> None:
    index = Index.build(FakeModel(), some_pairs(3), tmp_path / "x")
    with pytest.raises(DataError, match="add: got str, expected Pairs"):
        index.add("more.jsonl")  # type: ignore[arg-type]
