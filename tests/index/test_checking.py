"""index-check: what is damaged is told, what can be made again is, and compacting loses nothing."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from index_fakes import FakeModel, keep_runs, some_pairs
from test_candidates import clustered
from typer.testing import CliRunner

from manymatch.cli import app, main
from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.index.care.checkup import Checkup
from manymatch.index.local.candidates import Plan
from manymatch.index.store.store import Store


@pytest.fixture(autouse=True, scope="module")
def _few_queries() -> Iterator[None]:
    """Agreement measured with few items, so that others are left to ask with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manymatch.index.local.view._QUERIES", 20)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An index of points with candidates, some of its items deleted and replaced since."""
    folder = tmp_path_factory.mktemp("made") / "x"
    with pytest.MonkeyPatch.context() as patch:
        keep_runs(patch)
        index = Index.build(FakeModel("points", d=64), some_pairs(50), folder, engine="faiss")  # type: ignore[arg-type]
        index.delete(["p40", "p41"])
        index.add(some_pairs(5, seed=3, start=45))
        index.close()
    yield folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "x"))


def kinds(found: Checkup) -> set[str]:
    return {finding.kind for finding in found.findings}


def execute(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "index.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def harm(path: Path, change: Callable[[bytearray], Any]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def flip(place: int) -> Callable[[bytearray], Any]:
    def change(data: bytearray) -> None:
        data[place] ^= 16

    return change


def test_all_is_well(folder: Path) -> None:
    steps: list[str] = []
    with Index.open(folder) as index:
        found = index.check(lambda what, done, total: steps.append(what))
    assert found.findings == [] and found.skipped == []
    told = "\n".join(found.looked)
    for words in (
        "48 images, 96 captions",
        "144 vectors whole",
        "full text",
        "run/: fake",
        "vectors-caption.bin: 100 rows as in the store",
    ):
        assert words in told, words
    assert "candidates-image.faiss: 4" in told and "agreement of images asked by images: 1.0000 with" in told
    assert {"items", "words", "the run", "vectors-image.bin", "agreement of images asked by images"} <= set(steps)


HARMS: dict[str, tuple[str | Callable[[Path], Any], str, str]] = {
    "facts": ("""UPDATE items SET metadata = '{"year": 3}' WHERE id = 'p7'""", "text", "'p7': facts: found 2"),
    "stray facts": ("INSERT INTO facts (name, value, row) VALUES ('a', 1, 3000)", "text", "row 3000: facts"),
    "words": ("UPDATE items SET caption = 'new' WHERE id = 'p8#0'", "text", "'p8#0': words: found .*, expected 'new'"),
    "links": ("UPDATE captions SET image = NULL WHERE row = 100", "text", "links to images: found 1 missing or wrong"),
    "full text": ("INSERT INTO words (words) VALUES ('delete-all')", "text", "words: full text"),
    "full text of facts": (
        "INSERT INTO fact_words (fact_words) VALUES ('delete-all')",
        "text",
        "fact_words: full text",
    ),
    "rows": (lambda x: harm(x / "vectors-image.bin", flip(-9)), "derived", "vectors-image.bin: contents"),
    "header": (lambda x: harm(x / "vectors-image.bin", flip(40)), "derived", "vectors-image.bin: header"),
    "structure": (
        lambda x: harm(x / "candidates-caption.faiss", flip(-200)),
        "derived",
        "candidates-caption.faiss: con",
    ),
    "short": (
        lambda x: harm(x / "candidates-image.faiss", lambda d: d.pop()),
        "derived",
        "candidates-image.faiss: head",
    ),
    "missing": (lambda x: (x / "vectors-caption.bin").unlink(), "derived", "vectors-caption.bin: file: found none"),
    "stray": (lambda x: (x / "candidates-image.hnsw").touch(), "derived", "candidates-image.hnsw: a file that nothing"),
    "leftover": (
        lambda x: (x / ".vectors-image.bin.00ff.tmp").touch(),
        "leftover",
        "what a writer that was killed left",
    ),
    "mapped vector": (
        "UPDATE items SET vector = zeroblob(128) WHERE id = 'p3'",
        "item",
        "'p3': vector: found checksum",
    ),
}


@pytest.mark.parametrize("name", HARMS)
def test_what_can_be_made_again_is(folder: Path, name: str) -> None:
    harmed, kind, words = HARMS[name]
    with Index.open(folder) as index:
        before = index.search(like="p5#1", k=100, exact=True).to_json()
    execute(folder, harmed) if isinstance(harmed, str) else harmed(folder)
    with Index.open(folder) as index:
        found = index.check()
        assert kinds(found) == {kind}
        assert any(re.search(words, str(finding)) for finding in found.findings), found.findings
        mended = index.repair()
        assert mended.findings == [] and mended.mended, mended.findings
        index.check()
        after = index.search(like="p5#1", k=100, exact=True).to_json()
    if kind != "text":
        assert after == before
    assert not list(folder.glob(".*.tmp"))


BEYOND: dict[str, tuple[str | Callable[[Path], Any], str, str]] = {
    "vector": (
        "UPDATE items SET vector = zeroblob(128) WHERE id = 'p3'",
        "item",
        "'p3': vector: .* index-add it again",
    ),
    "length": (
        "UPDATE items SET vector = x'00', crc = 3523407757 WHERE id = 'p3'",
        "item",
        "'p3'.* 1 bytes, expected 128",
    ),
    "metadata": ("UPDATE items SET metadata = '{' WHERE id = 'p3'", "item", "'p3': metadata: found what is not JSON"),
    "owner": ("UPDATE items SET owner = 'nobody' WHERE id = 'p3#0'", "item", "'p3#0': owner: found 'nobody'"),
    "resurrected": (
        "INSERT INTO gone SELECT row, 'image', 1 FROM items WHERE id = 'p3'",
        "history",
        "deleted and there",
    ),
    "generation": ("DELETE FROM generations WHERE counter > 0", "history", "generations: the last: found 0-"),
    "setting": ("UPDATE settings SET value = '7.0' WHERE name = 'agreement'", "setting", "agreement: found 7.0"),
    "calibration": (
        "UPDATE settings SET value = '{\"a\": 1}' WHERE name = 'calibration'",
        "setting",
        "calibration: found",
    ),
    "no run": (lambda x: (x / "run" / "run.json").unlink(), "run", "run/: the copy of the run: found"),
    "other run": (lambda x: _other_run(x), "run", "built with another run"),
}


def _other_run(folder: Path) -> None:
    settings = FakeModel("points", d=64, seed=5).settings
    (folder / "run" / "run.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("name", BEYOND)
def test_what_cannot_be_mended_is_told_again(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from manymatch import runs
    from manymatch.errors import CheckpointError

    load = runs.load

    def loaded(path: Path, **how: Any) -> Any:
        if not (path / "run.json").exists():
            raise CheckpointError(f"run: no run.json in {str(path)!r}")
        return load(path)

    monkeypatch.setattr(runs, "load", loaded)
    harmed, kind, words = BEYOND[name]
    execute(folder, harmed) if isinstance(harmed, str) else harmed(folder)
    if name == "vector":
        (folder / "vectors-image.bin").unlink()
    with Index.open(folder) as index:
        first, second = index.check(), index.repair()
    for found in (first, second):
        assert any(f.kind == kind and re.search(words, str(f)) for f in found.problems), found.findings


def test_a_damaged_item_is_well_once_it_is_added_again(folder: Path) -> None:
    (folder / "vectors-image.bin").unlink()
    execute(folder, "UPDATE items SET vector = zeroblob(128) WHERE id = 'p3'")
    with Index.open(folder) as index:
        assert [str(f).split(":")[0] for f in index.repair().problems] == ["index.sqlite, 'p3'"]
        index.add(some_pairs(4))
        assert index.repair().findings == []


def test_pages_that_cannot_be_read_are_told(folder: Path) -> None:
    size = (folder / "index.sqlite").stat().st_size
    harm(folder / "index.sqlite", lambda data: data.__setitem__(slice(size // 3, size), bytes(size - size // 3)))
    with Index.open(folder) as index:
        found = index.check()
    assert "database" in kinds(found) and any("restore a backup" in f.todo for f in found.problems)


def test_files_of_another_index_and_of_a_lost_future_are_told(folder: Path, tmp_path: Path) -> None:
    model = FakeModel("points", d=64)
    other = Index.build(model, some_pairs(50, seed=9), tmp_path / "y", engine="faiss")  # type: ignore[arg-type]
    other.close()
    for name in ("vectors-image.bin", "candidates-image.faiss"):
        (folder / name).write_bytes((tmp_path / "y" / name).read_bytes())
    with Index.open(folder) as index:
        found = index.check()
        told = {f.where: f for f in found.problems}
        assert set(told) == {"vectors-image.bin", "candidates-image.faiss"}
        assert all(f.what == "generation" and "of this index's history" in f.expected for f in told.values())
        assert index.repair().findings == []


def test_contents_are_compared_even_where_the_checksum_is_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.open(folder) as index:
        execute(folder, "UPDATE items SET vector = zeroblob(128), crc = 3265854109 WHERE id = 'p3'")
        found = index.check()
    assert [(f.kind, f.where) for f in found.problems if f.what == "rows"] == [("derived", "vectors-image.bin")]
    assert any("1 that differ from the store's, the first 'p3'" in str(f) for f in found.problems)


def test_broken_promises_are_told_and_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.build(FakeModel(d=32), some_pairs(1, captions=0), tmp_path / "x", engine="faiss")  # type: ignore[arg-type]
    index.add_embeddings([f"i{n}" for n in range(1100)], clustered(1100, 2.0), "image")
    with monkeypatch.context() as patch:
        patch.setattr("manymatch.index.local.candidates.choose_plans", lambda *rest: 2 * [Plan(40, 4, 0.995)])
        index.refresh()
    index.close()
    found = index.check()
    assert [f.kind for f in found.problems] == ["agreement"], found.looked
    assert re.search("found 0.[0-8].* with 200 other images, expected 0.99", str(found.problems[0]))
    assert index.repair().problems == []


# ---- compacting


def test_compacting_gives_back_room_and_keeps_everything(folder: Path) -> None:
    with Index.open(folder) as index, Index.open(folder) as other:
        index.add(some_pairs(200, start=300))
        index.delete([f"p{n}" for n in range(300, 500)])
        asked = {"like": "p5#1", "k": 100, "exact": True}
        before, generation = index.search(**asked).to_json(), index.info()["generation"]
        other.search(**asked)
        sizes = index.compact()
        assert sum(sizes.after.values()) < 0.6 * sum(sizes.before.values()) and sizes.notes == ()
        assert index.info()["generation"] == generation
        for one in (index, other, Index.open(folder)):
            assert one.search(**asked).to_json() == before
        found = index.check()
        assert found.findings == [] and any("1 in the history" in line for line in found.looked)
        index.delete(["p5"])
        assert "p5" not in {hit.id for hit in other.search(like="p6#1", k=100)}


def test_who_reads_keeps_the_log_and_nothing_else(folder: Path) -> None:
    with Index.open(folder) as index:
        index.add(some_pairs(50, start=300))
        with Store(folder / "index.sqlite").reading() as snapshot:
            count = snapshot.count()
            index.delete([f"p{n}" for n in range(300, 350)])
            assert index.compact().notes == ("index.sqlite-wal keeps its size: somebody is reading from it",)
            assert snapshot.count() == count
        assert index.compact().notes == () and index.check().findings == []


# ---- as a user types it


def called(*words: object) -> Any:
    return CliRunner().invoke(app, ["index-check", *map(str, words)])


def test_the_command_says_what_is_fine_and_ends_with_a_summary(folder: Path) -> None:
    lines = called(folder).stdout.splitlines()
    assert lines[0].startswith("fine: index.sqlite: ") and lines[-1].startswith(f"{folder}: all is well, ")
    (folder / ".vectors-image.bin.00ff.tmp").touch()
    shown = called(folder)
    assert shown.exit_code == 0 and "note: .vectors-image.bin.00ff.tmp: " in shown.stdout
    assert "all is well, 1 note, " in shown.stdout


def test_problems_are_one_line_each_and_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harm(folder / "candidates-image.faiss", flip(-200))
    monkeypatch.setattr("sys.argv", ["manymatch", "index-check", str(folder), "--compact"])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    assert left.value.code == 2
    assert sum(line.startswith("problem: candidates-image.faiss: contents: found ") for line in out.splitlines()) == 1
    assert re.fullmatch(r"manymatch: index-check: .*: 1 problem, .* not compacted\n", err)
    mended = called(folder, "--repair", "--compact")
    assert mended.exit_code == 0 and "mended: candidates-image.faiss: made again" in mended.stdout
    assert re.search(r"compacted: index.sqlite: [\d,]+ -> [\d,]+ bytes", mended.stdout)


def test_json_has_everything(folder: Path) -> None:
    harm(folder / "vectors-image.bin", flip(-9))
    shown = called(folder, "--json")
    body = json.loads(shown.stdout)
    assert isinstance(shown.exception, DataError) and body["problems"] == 1
    assert set(body) == {"path", "problems", "findings", "looked", "skipped", "mended", "seconds"}
    wanted = {"kind", "where", "what", "found", "expected", "todo", "harmless"}
    assert set(body["findings"][0]) == wanted and body["findings"][0]["where"] == "vectors-image.bin"
    body = json.loads(called(folder, "--json", "--repair", "--compact").stdout)
    assert body["problems"] == 0 and body["mended"] and set(body["compacted"]) == {"before", "after", "notes"}


def test_no_index_is_told(tmp_path: Path) -> None:
    assert isinstance(called(tmp_path).exception, DataError)


def _unreachable() -> None:
    raise DataError("Qdrant at http://nowhere:6333 does not answer; start it")


def test_of_a_server_what_can_be_checked_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    from manymatch.index.qdrant.server import MEMORY

    model = FakeModel("points", d=16)
    with Index.build(model, some_pairs(5), tmp_path / "x", engine="qdrant", url=MEMORY) as index:  # type: ignore[arg-type]
        found = index.check()
        assert found.findings == [] and any("5 images, 10 captions" in line for line in found.looked)
        assert "Qdrant server" in found.skipped[0]
        monkeypatch.setattr(index._collection, "about", _unreachable)
        assert [f.kind for f in index.check().problems] == ["server"]
