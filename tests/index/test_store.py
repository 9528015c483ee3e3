"""The truth: whole changes or none, damage told, derived files made again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from index_fakes import FakeModel, some_pairs

from manymatch.errors import DataError, IndexMismatch
from manymatch.index import Index
from manymatch.index.store.store import Store

CHILD = """
import sys
import numpy as np
from manymatch.index import Index
from manymatch.index.store.packed import Packed
index, batch = Index.open(sys.argv[1]), int(sys.argv[2])
items = Packed("sets", {"k": 4, "d": 16}, np.full((20, 64), 0.25, np.float32))
for n in range(100000):
    ids = [f"{batch}-{n}-{i}" for i in range(20)]
    index.add_embeddings(ids, items, "image", [{"n": n}] * 20)
    assert "torch" not in sys.modules
    print(n, flush=True)
"""


def test_a_change_that_fails_half_way_leaves_the_former_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.build(FakeModel(), some_pairs(10), tmp_path / "x")
    before, answer = index.info(), index.search("red").to_json()
    from manymatch.index.store.changes import Transaction

    put = Transaction.put

    def stumbling(self, modality, *rest):  # type: ignore[no-untyped-def]
        if modality == "caption":
            raise OSError("stumbled between images and captions")
        return put(self, modality, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "put", stumbling)
        with pytest.raises(OSError, match="stumbled"):
            index.add(some_pairs(30, seed=5))
    assert index.info() == before and index.search("red").to_json() == answer
    index.add(some_pairs(30, seed=5))
    assert index.count("image") == 30


def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    Index.build(FakeModel(), some_pairs(1), tmp_path / "x").close()
    kept: dict[int, int] = {}
    for batch, patience in enumerate((1, 4, 11)):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "x"), str(batch)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(patience):
            assert child.stdout.readline()
        child.kill()
        kept[batch] = patience + len([line for line in child.stdout if line.endswith("\n")])
        child.wait()
        child.stdout.close()
    index = Index.open(tmp_path / "x")
    for batch, count in kept.items():
        for n in range(count):
            assert index.item(f"{batch}-{n}-19")["metadata"] == {"n": n}
    surplus = index.count("image") - 1 - 20 * sum(kept.values())
    assert surplus in range(0, 20 * len(kept) + 1, 20), "only whole batches, at most one each that was not told"
    assert len(index.search("red", 10_000)) == index.count("image")


def test_readers_see_whole_generations_while_another_process_writes(tmp_path: Path) -> None:
    Index.build(FakeModel(), some_pairs(1), tmp_path / "x").close()
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "x"), "7"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    index, seen = Index.open(tmp_path / "x"), set()
    try:
        while len(seen) < 8:
            hits = index.search("red", 1_000_000).hits
            assert len(hits) % 20 == 1, "one image of the build and whole batches of twenty"
            seen.add(len(hits))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_one_index_from_many_threads(tmp_path: Path) -> None:
    model = FakeModel()
    index = Index.build(model, some_pairs(20), tmp_path / "x")
    failures: list[BaseException] = []

    def ask(number: int) -> None:
        try:
            for _ in range(5):
                assert len(index.search("red", 5)) == 5
                index.add(some_pairs(2, seed=number, start=100 * number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and index.count("image") == 28


def test_a_second_writer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.build(FakeModel(), some_pairs(3), tmp_path / "x").close()
    monkeypatch.setattr(Store, "wait_seconds", 0.05)
    index, other = Index.open(tmp_path / "x"), Store(tmp_path / "x" / "index.sqlite")
    with other.writing():
        with pytest.raises(DataError, match="another process is writing to this index; wait"):
            index.delete(["p0"])
        assert len(index.search("red")) == 3
    assert index.delete(["p0"]) == 3


def test_generations_are_never_used_twice(tmp_path: Path) -> None:
    index = Index.build(FakeModel(), some_pairs(3), tmp_path / "x")
    index.close()
    saved = (tmp_path / "x" / "index.sqlite").read_bytes()
    index.delete(["p0"])
    first = index.info()["generation"]
    index.close()
    for left in ("-wal", "-shm"):
        (tmp_path / "x" / f"index.sqlite{left}").unlink(missing_ok=True)
    (tmp_path / "x" / "index.sqlite").write_bytes(saved)
    index = Index.open(tmp_path / "x")
    index.delete(["p1"])
    again = index.info()["generation"]
    assert first.split("-")[0] == again.split("-")[0] and first != again
    assert {hit.id for hit in index.search("red")} == {"p0", "p2"}


@pytest.mark.parametrize("engine", ["exact", "faiss"])
@pytest.mark.parametrize("harm", ["removed", "empty", "short", "long", "garbled", "folder of another"])
def test_derived_files_are_made_again(tmp_path: Path, engine: str, harm: str) -> None:
    model = FakeModel("points", d=64)
    index = Index.build(model, some_pairs(60, captions=1), tmp_path / "x", engine=engine)
    before = index.search("red cat").to_json()
    index.close()
    derived = [path for path in (tmp_path / "x").iterdir() if path.name.startswith(("vectors-", "candidates-"))]
    assert len(derived) == (4 if engine == "faiss" else 2)
    other = tmp_path / "y"
    if harm == "folder of another":
        Index.build(model, some_pairs(60, seed=3, captions=1), other, engine=engine).close()
    for path in derived:
        data = path.read_bytes()
        harmed = {
            "removed": None,
            "empty": b"",
            "short": data[:-1],
            "long": data + b"\0",
            "garbled": bytes(len(data)),
            "folder of another": (other / path.name).read_bytes() if other.exists() else b"",
        }[harm]
        path.unlink()
        if harmed is not None:
            path.write_bytes(harmed)
    opened = Index.open(tmp_path / "x")
    assert [hit["id"] for hit in opened.search("red cat").to_json()["hits"]] == [hit["id"] for hit in before["hits"]]
    opened.refresh()
    assert opened.search("red cat").to_json() == before
    assert not [path for path in (tmp_path / "x").iterdir() if path.name.endswith(".tmp")]


def _set(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path / "index.sqlite")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no index here \(index.sqlite is missing\)"):
        Index.open(tmp_path / "none")
    cases = [
        (
            "UPDATE settings SET value = '1' WHERE name = 'format'",
            IndexMismatch,
            "index format 1, this version reads 2",
        ),
        ("UPDATE settings SET value = '{' WHERE name = 'spaces'", DataError, "'spaces' is missing or damaged"),
        ("UPDATE settings SET value = '3' WHERE name = 'fingerprint'", DataError, "'fingerprint' is 3, expected str"),
        ("DELETE FROM settings WHERE name = 'identity'", DataError, "'identity' is missing or damaged"),
        ("UPDATE settings SET value = 'null' WHERE name = 'calibration'", DataError, "is None, expected dict"),
        ("DELETE FROM settings WHERE name = 'generation'", DataError, "'generation' is missing or damaged"),
    ]
    for number, (statement, error, message) in enumerate(cases):
        folder = tmp_path / str(number)
        Index.build(FakeModel(), some_pairs(2), folder).close()
        _set(folder, statement)
        with pytest.raises(error, match=message):
            Index.open(folder)
    (tmp_path / "0" / "index.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataError, match="the index is damaged"):
        Index.open(tmp_path / "0")


def test_a_blank_file_is_built_over_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "index.sqlite").touch()
    with pytest.raises(DataError, match="its making was interrupted"):
        Index.open(tmp_path / "x")
    assert Index.build(FakeModel(), some_pairs(2), tmp_path / "x").count("image") == 2
