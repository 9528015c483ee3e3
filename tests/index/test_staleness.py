"""Derived files that are torn, foreign, lost or behind, and folders that cannot be written: answers stay right."""

from __future__ import annotations

import os
import random
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_child import WIDTH
from index_fakes import FakeModel, keep_runs, some_pairs
from test_crash import Children

from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.index.local.derived import header_at, sound
from manymatch.index.store.packed import Packed

MODEL: Any = FakeModel("points", d=WIDTH)
DERIVED = ("vectors-image.bin", "vectors-caption.bin", "candidates-image.faiss", "candidates-caption.faiss")


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """Everything is large and late early."""
    with pytest.MonkeyPatch.context() as patch:
        keep_runs(patch)
        patch.setattr("manymatch.index.local.view._FEW", 8)
        patch.setattr("manymatch.index.local.view._QUERIES", 20)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "x"
    Index.build(MODEL, some_pairs(60, captions=1), folder, engine="faiss").close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "x"))


def answers(folder: Path, **options: Any) -> list[Any]:
    with Index.open(folder, MODEL) as index:
        return [_answer(index, like, among, options) for like in ("p3", "p4#0") for among in ("images", "captions")]


def _answer(index: Index, like: str, among: Any, options: dict[str, Any]) -> list[tuple[str, float]]:
    found = index.search(like=like, among=among, k=60, **options)
    return [(hit.id, hit.score) for hit in found.hits]


LENGTHS = [0, 1, 8, 12, 16, 300, 4095, 4096, 4097, -1000, -1]


@pytest.mark.parametrize("length", LENGTHS)
def test_files_cut_anywhere_are_passed_over_and_made_again(folder: Path, length: int) -> None:
    before = answers(folder)
    for name in DERIVED:
        os.truncate(folder / name, length if length >= 0 else (folder / name).stat().st_size + length)
        assert header_at(folder / name) is None
    assert answers(folder, exact=True) == before
    with Index.open(folder, MODEL) as index:
        index.refresh()
        assert all(sound(folder / name) for name in DERIVED)
        assert not index.search(like="p3", k=5).exact and index.check().findings == []
    assert answers(folder) == before


def test_every_bit_of_a_header_counts(made: Path, tmp_path: Path) -> None:
    for name in ("vectors-image.bin", "candidates-caption.faiss"):
        data = bytearray((made / name).read_bytes())
        end = data.index(b"}" + bytes(8)) + 1
        path = tmp_path / name
        for place in range(end):
            data[place] ^= 1 << (place % 8)
            path.write_bytes(data)
            assert header_at(path) is None, f"byte {place} of {name}"
            data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        assert header_at(path) is not None


def test_files_of_another_index_are_passed_over(folder: Path, tmp_path: Path) -> None:
    before = answers(folder)
    Index.build(MODEL, some_pairs(60, seed=4, captions=1), tmp_path / "y", engine="faiss").close()
    for name in DERIVED:
        shutil.copy(tmp_path / "y" / name, folder / name)
    assert answers(folder) == before
    with Index.open(folder, MODEL) as index:
        index.refresh()
        assert index.check().findings == []


@pytest.mark.parametrize("closed", [True, False])
def test_files_of_a_lost_future_are_passed_over(folder: Path, tmp_path: Path, closed: bool) -> None:
    before, truth = answers(folder), ("index.sqlite", "index.sqlite-wal")
    index = Index.open(folder, MODEL)
    if not closed:
        index.delete(["p59"])
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in truth:
        if (folder / name).exists():
            shutil.copy(folder / name, kept)
    expected = before if closed else answers(folder)
    index.delete(["p3#0"])
    index.add(some_pairs(40, seed=9, captions=1, start=100))
    index.refresh()
    index.close()
    for path in folder.glob("index.sqlite*"):
        path.unlink()
    for path in kept.iterdir():
        shutil.copy(path, folder)
    late = {name: header_at(folder / name) for name in DERIVED}
    assert answers(folder, exact=True) == expected and answers(folder) == expected
    with Index.open(folder, MODEL) as index:
        index.refresh()
        assert index.check().findings == []
    assert all(header_at(folder / name) != late[name] for name in DERIVED)


# ---- what came and went since


class Truth:
    """What an index should hold, and what it should answer."""

    def __init__(self) -> None:
        self.vectors: dict[str, np.ndarray[Any, Any]] = {}
        self.approximate = 0

    def check(self, index: Index, like: str, recalls: list[float]) -> None:
        scores = {id: float(v @ self.vectors[like]) for id, v in self.vectors.items() if id != like}
        exact = index.search(like=like, k=len(scores) or 1, exact=True)
        assert {hit.id for hit in exact} == set(scores) and len(exact) == len(scores)
        assert [hit.score for hit in exact] == sorted((hit.score for hit in exact), reverse=True)
        near = index.search(like=like, k=10)
        self.approximate += not near.exact
        for found in (exact, near):
            ids = [hit.id for hit in found]
            assert len(set(ids)) == len(ids) == min(len(scores), len(found) if found is exact else 10)
            assert all(abs(hit.score - scores[hit.id]) < 2e-3 for hit in found)
        first = sorted(scores, key=scores.__getitem__)[-10:]
        recalls.append(len({hit.id for hit in near} & set(first)) / max(1, len(first)))


def _some(rng: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    drawn = rng.standard_normal((count, WIDTH))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float16)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_any_changes_in_any_order_are_seen_by_all(
    tmp_path: Path, engine: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr("manymatch.index.local.view._TAIL_BYTES", 2 * WIDTH * 20)
    choose, rng = random.Random(seed), np.random.default_rng(seed)
    index = Index.build(MODEL, some_pairs(1, captions=0), tmp_path / "x", engine=engine)  # type: ignore[arg-type]
    index.delete(["p0"])
    truth, recalls, fresh = Truth(), list[float](), 0
    everyone = [index, Index.open(tmp_path / "x", MODEL)]
    for _ in range(25):
        one = choose.randrange(2)
        known = sorted(truth.vectors)
        doing = choose.choice(["add", "add", "update", "delete", "refresh", "reopen", "compact"])
        if doing == "add" or len(known) < 300:
            ids = [f"i{fresh + n}" for n in range(choose.randint(20, 120))]
            fresh += len(ids)
        else:
            ids = choose.sample(known, min(len(known) // 2, choose.randint(1, 30)))
        if doing in ("add", "update") or len(known) < 300:
            given = _some(rng, len(ids))
            everyone[one].add_embeddings(ids, Packed("points", {"d": WIDTH}, given), "image")
            truth.vectors |= dict(zip(ids, given.astype(np.float32), strict=True))
        elif doing == "delete":
            everyone[one].delete(ids)
            truth.vectors = {id: vector for id, vector in truth.vectors.items() if id not in ids}
        elif doing == "reopen":
            everyone[one].close()
            everyone[one] = Index.open(tmp_path / "x", MODEL)
        else:
            getattr(everyone[one], doing)()
        for opened in everyone:
            truth.check(opened, choose.choice(sorted(truth.vectors)), recalls)
    assert np.mean(recalls) > (0.999 if engine == "exact" else 0.95)
    assert (truth.approximate > 10) == (engine == "faiss")
    assert [f for f in index.check().problems if f.kind != "agreement"] == []


def test_an_older_look_does_not_put_older_files_in_place(folder: Path) -> None:
    with Index.open(folder, MODEL) as index, index._collection.reading() as old:
        count = old.count("image")
        index.add(some_pairs(40, seed=9, captions=0, start=100))
        assert len(index.search(like="p3", k=200)) == count + 39
        newer = header_at(folder / "vectors-image.bin")
        from manymatch.index.filters import Where

        pool = old.pool("image", Where())
        assert pool is not None and len(pool) == count
        assert len(index.search(like="p3", k=200)) == count + 39
        assert header_at(folder / "vectors-image.bin") == newer


# ---- folders that cannot be written


@contextmanager
def as_reader(folder: Path) -> Iterator[None]:
    """A user who may read the folder and not write there."""
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def public(made: Path) -> Iterator[Path]:
    """A copy of the index where any user gets to."""
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        yield Path(shutil.copytree(made, Path(parent) / "x"))


def test_a_folder_that_can_only_be_read_is_searched(public: Path) -> None:
    before = answers(public)
    assert not list(public.glob("index.sqlite-*"))
    with as_reader(public):
        assert answers(public) == before
        with Index.open(public, MODEL) as index:
            assert not any("in memory" in note for note in index.search(like="p3").notes)
            found = index.check()
            assert not found.findings and "full text: " in found.skipped[0]
            for change in (lambda: index.delete(["p3"]), index.compact, lambda: index.add(some_pairs(1, start=70))):
                with pytest.raises(
                    DataError, match="readonly database; make room or give this user the right to write"
                ):
                    change()
    with Index.open(public, MODEL) as index:
        assert index.delete(["p3"]) == 2


def test_without_derived_files_it_is_searched_from_memory_and_says_so(public: Path) -> None:
    before = answers(public)
    for name in DERIVED:
        (public / name).unlink()
    with as_reader(public), Index.open(public, MODEL) as index:
        found = index.search(like="p3")
        assert found.exact and "vectors-image.bin is held in memory: " in found.notes[0]
        told: list[str] = []
        index.refresh(told.append)
        assert any(line.startswith("candidates-image.faiss is held in memory: ") for line in told)
        assert not index.search(like="p3", k=5).exact
        assert any("candidates-image.faiss is held in memory" in note for note in index.info()["notes"])
    assert answers(public) == before and not (public / "vectors-image.bin.tmp").exists()


def test_a_log_that_cannot_be_read_says_what_is_needed(folder: Path, public: Path) -> None:
    with Index.open(folder, MODEL) as index:
        index.delete(["p3"])
        shutil.copy(folder / "index.sqlite-wal", public)
        shutil.copy(folder / "index.sqlite", public)
    with (
        as_reader(public),
        pytest.raises(DataError, match=r"changes wait in index\.sqlite-wal, and reading them takes"),
    ):
        Index.open(public, MODEL)
    with Index.open(public, MODEL) as index:
        assert "p3" not in {hit.id for hit in index.search(like="p4", k=100)}


@pytest.mark.skipif(os.geteuid() != 0, reason="one user writes and another reads, which only root can be both of")
def test_who_can_only_read_follows_who_writes(public: Path) -> None:
    with Index.open(public, MODEL) as index:
        index.delete([hit.id for hit in index.search(like="p0", k=100)] + ["p0"])
    os.chmod(public, 0o755)
    children, readers = Children(), Children()
    try:
        (reader, _) = readers.start("watch", public, 0)
        for seed in (1, 2):
            (writer, said) = children.start("write", public, seed)
            while sum("done" in told for told in said) < 12:
                said.append(children._next("begin", "done"))
            while readers.looks.get(reader, {}).get("generation", 0) < 5 * seed:
                readers._next("looks")
            children.kill(writer)
        readers.kill(reader)
        assert readers.looks[reader]["looks"] > 0
    finally:
        children.end()
        readers.end()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file gets larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_searches_go_on_and_changes_are_refused(folder: Path) -> None:
    before = answers(folder)
    for name in DERIVED:
        (folder / name).unlink()
    with full_disk(6000), Index.open(folder, MODEL) as index:
        assert _answer(index, "p3", "images", {}) == before[0]
        assert "held in memory" in index.search(like="p3").notes[0]
        index.refresh()
        assert not index.search(like="p3", k=5).exact
        for change in (lambda: index.delete(["p3"]), index.compact):
            with pytest.raises(DataError, match=r"(full|disk I/O error|readonly.*); make room"):
                change()
    assert answers(folder) == before
    with Index.open(folder, MODEL) as index:
        index.delete(["p3"])
        assert index.repair().findings == []
