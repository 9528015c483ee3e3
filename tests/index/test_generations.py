"""Generations: what was made from a former one is brought up to date, and what was made from a lost one is told."""

from __future__ import annotations

import sqlite3
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_fakes import caption, empty_store, image

from manymatch.errors import UnknownName
from manymatch.index.store.rows import Snapshot
from manymatch.index.store.store import Store


def _live(snapshot: Snapshot) -> dict[int, bytes]:
    return {row: vector for modality in ("image", "caption") for row, vector in snapshot.vectors(modality)}


_ID = st.integers(0, 5)
_ACTION = st.one_of(
    st.tuples(st.just("image"), st.lists(_ID, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("caption"), st.lists(_ID, min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("delete"), st.lists(st.tuples(_ID, st.booleans()), min_size=1, max_size=3)),
)


def _act(store: Store, action: tuple[str, list[Any]], step: int) -> None:
    what, ids = action
    with store.writing() as change:
        if what == "image":
            change.put("image", [image(f"i{n}", {"step": step}) for n in ids])
        elif what == "caption":
            known = {row[0] for row in change._connection.execute("SELECT id FROM items")}
            there = [n for n in ids if f"i{n}" in known]
            change.put("caption", [caption(f"i{n}#0", f"word{step}", f"i{n}") for n in there])
        else:
            known = {row[0] for row in change._connection.execute("SELECT id FROM items")}
            change.delete([id for n, own in ids if (id := f"i{n}#0" if own else f"i{n}") in known])


@settings(max_examples=25, deadline=None)
@given(st.lists(_ACTION, min_size=1, max_size=8))
def test_changes_lead_from_any_generation_to_the_last(actions: list[tuple[str, list[Any]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = empty_store(Path(folder))
        former: list[tuple[str, dict[int, bytes]]] = []
        for step, action in enumerate(actions):
            with store.reading() as snapshot:
                former.append((snapshot.generation, _live(snapshot)))
            _act(store, action, step)
        with store.reading() as snapshot:
            live = _live(snapshot)
            for generation, then in former:
                changes = snapshot.changes_since(generation)
                assert changes is not None and max(then, default=0) <= changes.last_row <= snapshot.last_row
                assert changes.gone.tolist() == sorted(set(changes.gone.tolist()))
                assert all(row <= changes.last_row for row in changes.gone)
                kept = {row: vector for row, vector in then.items() if row not in changes.gone}
                tail = {
                    row: vector
                    for modality in ("image", "caption")
                    for row, vector in snapshot.vectors(modality, changes.last_row)
                }
                assert kept | tail == live and not kept.keys() & tail.keys()
            now = snapshot.changes_since(snapshot.generation)
            assert now is not None and now.last_row == snapshot.last_row and not len(now.gone)
        store.close()


def test_a_change_that_changes_nothing_makes_no_generation(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    seen = []
    for change_it in (
        lambda change: None,
        lambda change: change.put("image", []),
        lambda change: change.put("image", [image("a")]),
        lambda change: change.set("calibration", {"method": "isotonic"}),
        lambda change: change.delete(["a"]),
        lambda change: change.delete([]),
        lambda change: change.forget(),
    ):
        with store.writing() as change:
            change_it(change)
        with store.reading() as snapshot:
            seen.append(snapshot.generation)
    assert [int(generation.split("-")[0]) for generation in seen] == [0, 0, 1, 2, 3, 3, 3]


def test_rows_are_never_used_twice(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    for _ in range(3):
        with store.writing() as change:
            change.put("image", [image("a"), image("b")])
            change.delete(["b"])
    with store.reading() as snapshot:
        assert [row for row, _ in snapshot.vectors("image")] == [5] and snapshot.last_row == 6


def test_history_is_this_store_s_own(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put("image", [image("a"), image("b"), image("c")])
    with store.reading() as snapshot:
        first = snapshot.generation
    store.close()
    saved = (tmp_path / "index.sqlite").read_bytes()
    with store.writing() as change:
        change.delete(["b"])
    with store.reading() as snapshot:
        lost = snapshot.generation
    store.close()
    for left in ("-wal", "-shm"):
        (tmp_path / f"index.sqlite{left}").unlink(missing_ok=True)
    (tmp_path / "index.sqlite").write_bytes(saved)
    with store.writing() as change:
        change.delete(["c"])
    with store.reading() as snapshot:
        assert snapshot.generation.split("-")[0] == lost.split("-")[0]
        changes = snapshot.changes_since(first)
        assert changes is not None and changes.gone.tolist() == [3]
        other = f"9{first}"
        for generation in (lost, other, "", "x", "-", "1-", f"{10**30}-0", first.replace("-", ""), "\0"):
            assert snapshot.changes_since(generation) is None, generation


def test_forgetting_keeps_the_present(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    generations = []
    for ids in (["a", "b"], ["c", "a"], ["d"]):
        with store.writing() as change:
            change.put("image", [image(id) for id in ids])
        with store.reading() as snapshot:
            generations.append(snapshot.generation)
    with store.writing() as change:
        change.delete(["b"])
        change.forget()
    with store.reading() as snapshot:
        assert [snapshot.changes_since(generation) is None for generation in generations] == [True, True, False]
        changes = snapshot.changes_since(generations[-1])
        assert changes is not None and changes.gone.tolist() == [2], "what goes in the same change is remembered"


def test_compact_gives_room_back_and_changes_nothing(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    ids = [f"i{n}" for n in range(400)]
    with store.writing() as change:
        change.put("image", [image(id, {"t": f"word{id}"}) for id in ids])
        change._connection.execute("UPDATE items SET vector = zeroblob(2048), crc = 0")
    with store.writing() as change:
        change.delete(ids[:-3])
    store.close()
    before = (tmp_path / "index.sqlite").stat().st_size
    with store.reading() as snapshot:
        rows, generation = _live(snapshot), snapshot.generation
    store.compact()
    store.close()
    assert (tmp_path / "index.sqlite").stat().st_size < before / 2
    with store.reading() as snapshot:
        assert _live(snapshot) == rows and snapshot.generation == generation
        assert snapshot.changes_since(generation) is not None and snapshot.last_row == 400
        assert snapshot.words("image", "wordi399 wordi0", 5) == [400]
    with store.writing() as change:
        change.put("image", [image("new")])
        assert change.item("new").row == 401


def test_what_is_kept_of_an_item(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put("image", [image("a", bias_caption=0.5), image("b", bias_image=-0.25), image("c")])
        change.put("caption", [caption("a#0", "red", "a", bias_image=2.0)])
    with store.reading() as snapshot:
        for modality, asking, after, rows, biases in (
            ("image", "caption", 0, [1, 2, 3], [0.5, 0, 0]),
            ("image", "image", 1, [2, 3], [-0.25, 0]),
            ("caption", "image", 0, [4], [2.0]),
            ("caption", "image", 4, [], []),
        ):
            found = snapshot.biases(modality, asking, after)  # type: ignore[arg-type]
            assert found[0].tolist() == rows and found[1].tolist() == biases
            assert (found[0].dtype, found[1].dtype) == (np.int64, np.float32)
        assert snapshot.damaged_rows() == []
    store.close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("UPDATE items SET vector = x'0000' WHERE id = 'b'")
    connection.commit()
    connection.close()
    with store.reading() as snapshot:
        assert snapshot.damaged_rows() == [(2, "b", "image", zlib.crc32(b"b"))]


@pytest.mark.parametrize("id", ["a\0b", "\u200b", "'; DROP TABLE items; --", "雪\n"])
def test_any_id_is_found_again(tmp_path: Path, id: str) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put("image", [image(id), image("a")])
        change.put("image", [image(id)])
        assert change.item(id).row == 3 and change.count() == 2
        assert change.delete([id, id]) == 1
        with pytest.raises(UnknownName, match="unknown id in this index"):
            change.item(id)
        with pytest.raises(UnknownName, match="unknown id in this index"):
            change.delete(["\ud800"])


def test_an_index_has_a_name_for_good(tmp_path: Path) -> None:
    names = []
    for folder in ("x", "y"):
        store = empty_store(tmp_path / folder)
        with store.reading() as snapshot:
            names.append(snapshot.setting("identity"))
            assert snapshot.setting("calibration") == {} and snapshot.setting("spaces") == {}
    assert len(set(names)) == 2 and all(len(name) == 32 for name in names)
