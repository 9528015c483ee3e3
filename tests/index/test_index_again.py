"""Indexing again encodes what is new or changed, renames what was moved, and removes what is gone, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_fakes import FakeModel
from PIL import Image

from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs, Problem
from manymatch.data.pictures import FolderPictures
from manymatch.embeddings import Embedding
from manymatch.errors import DataError, IndexMismatch
from manymatch.index import Index, Synced
from manymatch.index.care.checkup import Checkup
from manymatch.index.care.database import check_truth
from manymatch.index.store.store import Store

LONG_AGO = 1_500_000_000


class Counting(FakeModel):
    """Says which images it was given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__("points", **settings)
        self.images: list[str] = []

    def encode_images(self, images: Any) -> Embedding:
        self.images += [item.id for item in images.items]
        return super().encode_images(images)

    def told(self) -> list[str]:
        """The ids encoded since it was last asked."""
        out, self.images = sorted(self.images), []
        return out


class Folder:
    """Pictures of one colour each in a folder, and pairs of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.captions: dict[str, tuple[str, ...]] = {}
        self.metadata: dict[str, dict[str, Any]] = {}

    def put(self, name: str, colour: int, *captions: str, time: int = LONG_AGO, **metadata: Any) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(path, "PNG")
        os.utime(path, (time, time))
        self.captions[name], self.metadata[name] = captions, metadata

    def move(self, before: str, after: str) -> None:
        (self.root / after).parent.mkdir(exist_ok=True)
        (self.root / before).rename(self.root / after)
        self.captions[after], self.metadata[after] = self.captions.pop(before), self.metadata.pop(before)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        del self.captions[name]

    def pairs(self, splits: dict[str, str] | None = None, problems: Sequence[Problem] = ()) -> Pairs:
        names = sorted(self.captions)
        items = [
            Item(name, self.captions[name], (splits or {}).get(name), (), self.metadata[name], name, row)
            for row, name in enumerate(names)
        ]
        return Pairs(items, pictures=FolderPictures(self.root), problems=problems, name="photos")

    def sync(self, index: Index, **more: Any) -> Synced:
        return index.sync(self.pairs(), source=str(self.root), **more)


@pytest.fixture
def photos(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "photos")
    for number, name in enumerate("abcdef"):
        folder.put(f"{name}.png", number, f"caption of {name}", f"red {name}", year=2000 + number)
    return folder


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture(params=["folder", "qdrant"])
def index(request: pytest.FixtureRequest, tmp_path: Path, model: Counting, photos: Folder) -> Index:
    """An index of the six photos, in a folder and in the memory of the Qdrant client."""
    where: dict[str, Any] = {}
    if request.param == "qdrant":
        pytest.importorskip("qdrant_client")
        where = {"engine": "qdrant", "url": ":memory:"}
    made = Index.begin(model, tmp_path / "x", **where)  # type: ignore[arg-type]
    assert photos.sync(made) == Synced(added=6)
    assert model.told() == [f"{name}.png" for name in "abcdef"]
    return made


@pytest.fixture
def local(tmp_path: Path, model: Counting, photos: Folder) -> Index:
    made = Index.begin(model, tmp_path / "x")  # type: ignore[arg-type]
    photos.sync(made)
    model.told()
    return made


def vector(index: Index, id: str) -> list[float]:
    with index._collection.reading() as reading:
        found = reading.embedding(reading.item(id))
    return [float(number) for number in found.vectors[0]]  # type: ignore[attr-defined]


def ids(index: Index) -> set[str]:
    return {hit.id for hit in index.search("red", k=50).hits}


def sound(index: Index) -> None:
    assert not [one for one in index.check().findings if one.kind not in ("agreement", "derived")]


def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: FolderPictures, name: str) -> bytes:
        raise AssertionError(f"{name} is read")

    monkeypatch.setattr(FolderPictures, "read", read)


def test_a_second_look_reads_and_encodes_nothing(
    index: Index, model: Counting, photos: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_reading(monkeypatch)
    assert photos.sync(index) == Synced(same=6)
    assert str(photos.sync(index)) == "0 added, 0 changed, 0 moved, 0 gone, 6 as before"
    assert model.told() == []


def test_only_what_differs_is_done(index: Index, model: Counting, photos: Folder) -> None:
    kept = vector(index, "b.png"), vector(index, "b.png#1"), vector(index, "c.png")
    photos.put("new.png", 77, "a new one")
    photos.put("a.png", 78, "caption of a", "red a", year=2000)
    photos.move("b.png", "2024/renamed.png")
    photos.remove("d.png")
    photos.captions["e.png"] = ("another caption",)
    assert photos.sync(index) == Synced(added=1, changed=2, moved=1, gone=1, same=2)
    assert model.told() == ["a.png", "e.png", "new.png"]
    assert ids(index) == {"a.png", "2024/renamed.png", "c.png", "e.png", "f.png", "new.png"}
    moved = index.item("2024/renamed.png")
    assert moved["captions"] == ["caption of b", "red b"] and moved["metadata"] == {"year": 2001}
    assert index.item("e.png")["captions"] == ["another caption"]
    assert index.item("2024/renamed.png#1")["owner"] == "2024/renamed.png"
    assert kept == tuple(vector(index, id) for id in ("2024/renamed.png", "2024/renamed.png#1", "c.png"))
    assert index.picture("2024/renamed.png#0") == (photos.root / "2024" / "renamed.png").read_bytes()
    assert index.count("caption") == 10
    assert photos.sync(index) == Synced(same=6) and model.told() == []


def test_names_that_go_round_keep_their_vectors(index: Index, model: Counting, photos: Folder) -> None:
    before = {name: (vector(index, f"{name}.png"), vector(index, f"{name}.png#0")) for name in "abc"}
    photos.move("a.png", "t.png")
    photos.move("c.png", "a.png")
    photos.move("b.png", "c.png")
    photos.move("t.png", "b.png")
    assert photos.sync(index) == Synced(moved=3, same=3) and model.told() == []
    for new, old in {"b": "a", "a": "c", "c": "b"}.items():
        assert (vector(index, f"{new}.png"), vector(index, f"{new}.png#0")) == before[old]
        assert index.item(f"{new}.png")["captions"] == [f"caption of {old}", f"red {old}"]
        assert index.picture(f"{new}.png") == (photos.root / f"{new}.png").read_bytes()
    assert index.count() == 18


def test_files_of_one_size_and_time_that_change_places(index: Index, model: Counting, photos: Folder) -> None:
    for name, colour in (("a.png", 50), ("b.png", 51)):
        Image.new("RGB", (8, 8), (colour, 0, 0)).save(photos.root / name, "PPM")
        os.utime(photos.root / name, (LONG_AGO, LONG_AGO))
        photos.captions[name] = ("the same",)
        photos.metadata[name] = {}
    photos.sync(index)
    kept, _ = vector(index, "a.png"), model.told()
    for before, after in (("a.png", "t.png"), ("b.png", "a.png"), ("t.png", "b.png")):
        photos.move(before, after)
    assert photos.sync(index) == Synced(moved=2, same=4) and vector(index, "b.png") == kept


def test_a_photo_may_take_the_name_of_one_that_is_gone(index: Index, model: Counting, photos: Folder) -> None:
    kept = vector(index, "b.png")
    photos.remove("a.png")
    photos.move("b.png", "a.png")
    assert photos.sync(index) == Synced(moved=1, gone=1, same=4) and model.told() == []
    assert vector(index, "a.png") == kept and index.item("a.png")["captions"] == ["caption of b", "red b"]
    assert ids(index) == {f"{name}.png" for name in "acdef"} and index.count("caption") == 10


def test_a_new_photo_may_take_the_name_of_one_that_was_moved(index: Index, model: Counting, photos: Folder) -> None:
    photos.move("a.png", "old/a.png")
    photos.put("a.png", 99, "new")
    assert photos.sync(index) == Synced(added=1, moved=1, same=5)
    assert model.told() == ["a.png"] and index.item("old/a.png")["captions"] == ["caption of a", "red a"]
    assert index.item("a.png")["captions"] == ["new"] and len(ids(index)) == 7


def test_metadata_change_without_encoding(index: Index, model: Counting, photos: Folder) -> None:
    assert len(index.search("red", where={"year": 2003}).hits) == 1
    photos.metadata["d.png"] = {"year": 1999, "place": "Gävle harbour"}
    assert photos.sync(index) == Synced(changed=1, same=5) and model.told() == []
    assert index.search("red", where={"year": 2003}).hits == ()
    assert [hit.id for hit in index.search("red", where={"year": 1999}).hits] == ["d.png"]
    assert [hit.id for hit in index.search("red", where={"place": {"text": "harbour"}}).hits] == ["d.png"]
    assert [hit.id for hit in index.search("red", k=9, among="captions", where={"year": 1999}).hits] != []
    assert dict(index.search("red", facets=["year"]).facets["year"])[1999] == 1  # type: ignore[index]


def test_a_touched_file_is_read_once(
    index: Index, model: Counting, photos: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(photos.root / "a.png", (LONG_AGO + 5, LONG_AGO + 5))
    assert photos.sync(index) == Synced(same=6) and model.told() == []
    no_reading(monkeypatch)
    assert photos.sync(index) == Synced(same=6)


def test_a_file_written_just_now_is_read_again(tmp_path: Path, model: Counting, photos: Folder) -> None:
    Image.new("RGB", (8, 8), (1, 0, 0)).save(photos.root / "a.png", "PPM")
    index = Index.begin(model, tmp_path / "x")  # type: ignore[arg-type]
    photos.sync(index)
    when = (photos.root / "a.png").stat()
    # The same size within the same tick of the clock: only the bytes tell.
    Image.new("RGB", (8, 8), (2, 0, 0)).save(photos.root / "a.png", "PPM")
    os.utime(photos.root / "a.png", ns=(when.st_atime_ns, when.st_mtime_ns))
    assert (photos.root / "a.png").stat().st_size == when.st_size
    assert photos.sync(index) == Synced(changed=1, same=5)


def test_when_nothing_is_left_nothing_is_removed(index: Index, photos: Folder) -> None:
    for name in list(photos.captions):
        photos.remove(name)
    with pytest.raises(DataError, match="no images, so nothing to index"):
        photos.sync(index)
    photos.put("other.png", 50, "other")
    with pytest.raises(
        DataError, match=r"none of the 6 images that came from '.*photos' is there any more.*--keep-gone"
    ):
        photos.sync(index)
    assert index.count("image") == 6
    assert photos.sync(index, keep_gone=True) == Synced(added=1) and index.count("image") == 7


def test_gone_ones_can_be_kept(index: Index, photos: Folder) -> None:
    photos.remove("a.png")
    assert photos.sync(index, keep_gone=True) == Synced(same=5) and "a.png" in ids(index)
    assert photos.sync(index) == Synced(gone=1, same=5) and "a.png" not in ids(index)


def test_without_a_source_nothing_is_removed_or_renamed(index: Index, model: Counting, photos: Folder) -> None:
    photos.remove("a.png")
    photos.move("b.png", "g.png")
    assert index.sync(photos.pairs()) == Synced(added=1, same=4) and model.told() == ["g.png"]
    assert len(ids(index)) == 7


def test_other_data_are_left_alone(index: Index, model: Counting, photos: Folder, tmp_path: Path) -> None:
    more = Folder(tmp_path / "more")
    more.put("x.png", 70, "x")
    more.put("a.png", 71, "another a")
    notes: list[str] = []
    assert more.sync(index, told=notes.append) == Synced(added=1, changed=1)
    assert len(notes) == 1 and "1 images had ids that images from" in notes[0] and "'a.png'" in notes[0]
    assert photos.root.as_posix() in notes[0]
    more.remove("x.png")
    assert more.sync(index) == Synced(gone=1, same=1)
    photos.remove("a.png")
    photos.remove("b.png")
    assert photos.sync(index) == Synced(gone=1, same=4)
    assert ids(index) == {f"{name}.png" for name in "acdef"}


def test_a_folder_that_was_moved_as_a_whole(index: Index, model: Counting, photos: Folder, tmp_path: Path) -> None:
    photos.root.rename(tmp_path / "elsewhere")
    photos.root = tmp_path / "elsewhere"
    assert photos.sync(index) == Synced(moved=6) and model.told() == []
    assert index.picture("c.png") == (photos.root / "c.png").read_bytes()
    photos.remove("f.png")
    assert photos.sync(index) == Synced(gone=1, same=5)


def test_only_a_split(index: Index, model: Counting, photos: Folder) -> None:
    splits = {f"{name}.png": "train" for name in "abc"}
    photos.put("a.png", 90, "new a")
    photos.put("d.png", 91, "new d")
    photos.remove("f.png")
    done = index.sync(photos.pairs(splits), source=str(photos.root), split="train")
    assert done == Synced(changed=1, gone=1, same=2) and model.told() == ["a.png"]


def test_data_read_in_part_remove_nothing(index: Index, photos: Folder) -> None:
    photos.remove("a.png")
    notes: list[str] = []
    damaged = photos.pairs(problems=[Problem("photos.tar", None, "damaged file", "the tar breaks off")])
    assert index.sync(damaged, source=str(photos.root), told=notes.append) == Synced(same=5)
    assert notes == [
        "nothing is removed, because the data could be read only in part: photos.tar: damaged file: the tar breaks off"
    ]
    assert "a.png" in ids(index)


def test_what_cannot_be_encoded_stays_as_it_is(index: Index, model: Counting, photos: Folder) -> None:
    kept = vector(index, "a.png")
    for name in ("a.png", "new.png"):
        photos.put(name, 80, "x")
        (photos.root / name).write_bytes(b"no picture")

    def usable(pairs: Pairs) -> Pairs:
        return pairs.without(["a.png", "new.png"])

    assert photos.sync(index, usable=usable) == Synced(same=6)
    assert vector(index, "a.png") == kept and model.told() == [] and "new.png" not in ids(index)


def test_interrupted_it_goes_on(index: Index, model: Counting, photos: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.index.growing._BATCH", 2)
    photos.move("a.png", "z.png")
    photos.remove("b.png")
    for number in range(5):
        photos.put(f"n{number}.png", 100 + number, "new")

    def stop(*so_far: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos.sync(index, progress=stop)
    assert "z.png" in ids(index) and "b.png" in ids(index) and model.told() == ["n0.png", "n1.png"]
    assert photos.sync(index) == Synced(added=3, gone=1, same=7)
    assert model.told() == ["n2.png", "n3.png", "n4.png"]


def test_build_and_add_all_encode_no_more_than_they_have_to(tmp_path: Path, model: Counting, photos: Folder) -> None:
    Index.build(model, photos.pairs(), tmp_path / "x").close()  # type: ignore[arg-type]
    model.told()
    photos.put("g.png", 50, "g")
    photos.put("a.png", 51, "a")
    index = Index.build(model, photos.pairs(), tmp_path / "x")  # type: ignore[arg-type]
    assert model.told() == ["a.png", "g.png"]
    photos.put("h.png", 52, "h")
    assert (index.add_all(photos.pairs()).added, model.told()) == (1, ["h.png"])
    with pytest.raises(IndexMismatch):
        Index.build(Counting(seed=1), photos.pairs(), tmp_path / "x")  # type: ignore[arg-type]


def test_copies_are_items_of_their_own(index: Index, model: Counting, photos: Folder) -> None:
    photos.put("copy.png", 0, "caption of a", "red a")
    assert photos.sync(index) == Synced(added=1, same=6) and model.told() == ["copy.png"]
    photos.move("copy.png", "copy2.png")
    photos.remove("a.png")
    assert photos.sync(index) == Synced(moved=1, gone=1, same=5) and model.told() == []


def test_pictures_are_told_apart_by_their_bytes_where_files_say_nothing(tmp_path: Path) -> None:
    pairs, model = Pairs.toy(4, seed=1), Counting()
    index = Index.build(model, pairs, tmp_path / "x")  # type: ignore[arg-type]
    model.told()
    assert index.sync(pairs, source="toy") == Synced(same=4) and model.told() == []
    renamed = [replace(item, id=f"new {item.id}") for item in pairs.items[:2]] + list(pairs.items[2:])
    assert index.sync(Pairs(renamed, pictures=pairs.pictures), source="toy") == Synced(moved=2, same=2)
    assert model.told() == []


def test_items_without_anything_to_compare_are_encoded_again(tmp_path: Path) -> None:
    model, pairs = Counting(), Pairs([Item("a", ("red",)), Item("b", ("blue",))])
    index = Index.build(model, pairs, tmp_path / "x")  # type: ignore[arg-type]
    assert index.sync(pairs, source="list") == Synced(changed=2) and model.told() == ["a", "a", "b", "b"]


class _Rows:
    """Features kept in memory."""

    def __init__(self, rows: dict[str, float]) -> None:
        self.rows = rows

    def get(self, items: Sequence[Item]) -> Features:
        return Features(pooled=np.array([[self.rows[item.id], 1.0] for item in items], np.float32))

    def sizes(self) -> dict[str, int]:
        return {"pooled_width": 2}


def test_runs_on_features_compare_features(tmp_path: Path) -> None:
    model, rows = Counting(reads="features"), {"a": 1.0, "b": 2.0, "c": 3.0}
    items = [Item(id, (f"caption {id}",)) for id in "abc"]
    index = Index.begin(model, tmp_path / "x")  # type: ignore[arg-type]
    assert index.sync(Pairs(items, features=_Rows(rows)), source="s") == Synced(added=3)
    rows["b"] = 2.5
    rows["d"] = rows.pop("a")
    items = [Item("d", ("caption a",)), *items[1:]]
    model.told()
    assert index.sync(Pairs(items, features=_Rows(rows)), source="s") == Synced(changed=1, moved=1, same=1)
    assert model.told() == ["b"]


# ---- in a folder


def test_renaming_leaves_what_is_derived_as_it_is(local: Index, photos: Folder) -> None:
    local.search("red")
    rows = local.path / "vectors-image.bin"
    before = rows.stat().st_mtime_ns, local.search("caption of c", k=6).to_json()["hits"]
    for name in "abcdef":
        photos.move(f"{name}.png", f"2024/{name}.png")
    assert photos.sync(local) == Synced(moved=6)
    after = local.search("caption of c", k=6).to_json()["hits"]
    assert [(hit["id"], hit["score"]) for hit in after] == [(f"2024/{hit['id']}", hit["score"]) for hit in before[1]]
    assert rows.stat().st_mtime_ns == before[0]
    sound(local)


def test_the_store_is_sound_after_every_kind_of_change(local: Index, photos: Folder) -> None:
    photos.put("new.png", 77, "a new one")
    photos.put("a.png", 78, "changed")
    photos.move("b.png", "d.tmp")
    photos.move("c.png", "b.png")
    photos.move("d.tmp", "c.png")
    photos.metadata["c.png"] = {"title": "snow 雪", "tags": ["x", "y"]}
    photos.remove("d.png")
    assert photos.sync(local) == Synced(added=1, changed=1, moved=2, gone=1, same=2)
    sound(local)
    assert [hit.id for hit in local.search("red", where={"title": {"text": "snow"}}).hits] == ["c.png"]
    assert local.search("caption of c", k=1, among="captions", hybrid=True).hits[0].id == "b.png#0"
    local.compact()
    sound(local)
    assert photos.sync(local) == Synced(same=6)


def test_an_index_made_before_origins_were_kept(local: Index, model: Counting, photos: Folder) -> None:
    local.close()
    with sqlite3.connect(local.path / "index.sqlite") as old:
        old.execute("DROP TABLE origins")
    old.close()
    index = Index.open(local.path, model)  # type: ignore[arg-type]
    assert index.count("image") == 6 and len(ids(index)) == 6
    photos.remove("f.png")
    photos.put("g.png", 60, "g")
    # Nobody knows where f came from.
    assert photos.sync(index) == Synced(added=1, changed=5) and len(model.told()) == 6
    assert photos.sync(index) == Synced(same=6) and "f.png" in ids(index)


def test_what_a_program_without_origins_changes_is_encoded_again(local: Index, model: Counting, photos: Folder) -> None:
    kept = sqlite3.connect(local.path / "index.sqlite").execute("SELECT * FROM origins").fetchall()
    local.add(photos.pairs().take([0]))
    local.delete(["b.png"])
    local.close()
    with sqlite3.connect(local.path / "index.sqlite") as old:
        old.execute("DELETE FROM origins")
        old.executemany("INSERT INTO origins VALUES (?, ?, ?, ?, ?, ?, ?, ?)", kept)
    old.close()
    model.told()
    index = Index.open(local.path, model)  # type: ignore[arg-type]
    assert photos.sync(index) == Synced(added=1, changed=1, same=4) and model.told() == ["a.png", "b.png"]


def test_a_name_that_a_caption_has_is_refused(local: Index, photos: Folder) -> None:
    photos.move("a.png", "b.png#0")
    with pytest.raises(DataError, match=r"id 'b.png#0' of an image is already that of the caption of 'b.png'"):
        photos.sync(local)
    assert len(ids(local)) == 6 and "a.png" in ids(local)
    sound(local)


def test_comparing_holds_no_transaction(local: Index, photos: Folder) -> None:
    os.utime(photos.root / "a.png", (LONG_AGO + 9, LONG_AGO + 9))
    seen = []

    def looking(done: int, total: int) -> None:
        seen.append((done, total))
        with Store(local.path / "index.sqlite").writing() as change:
            change.set("agreement", 0.95)

    photos.sync(local, looking=looking)
    assert seen == [(1, 1)]


# ---- killed


class Seeing(FakeModel):
    """Its embedding of an image follows from the picture's colour alone."""

    def encode_images(self, images: Any) -> Embedding:
        return self._embed([[str(picture.getpixel((0, 0)))] for picture in images])


def changed(photos: Folder, drawn: random.Random, step: int) -> None:
    """A few photos come, go, change and take each other's names."""
    names = sorted(photos.captions)
    for n in range(drawn.randint(1, 6)):
        photos.put(f"{step}-{n}.png", drawn.randrange(256), f"caption {drawn.randrange(9)}", year=step)
    for name in drawn.sample(names, 5):
        photos.put(name, drawn.randrange(256), *photos.captions[name], time=LONG_AGO + step, year=step)
    first, *ring = drawn.sample(names, 6)
    photos.move(first, "aside.png")
    for before, after in zip(ring, [first, *ring], strict=False):
        photos.move(before, after)
    photos.move("aside.png", ring[-1])
    for name in drawn.sample(names, 4):
        photos.remove(name)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.index.growing._BATCH", 3)
    drawn, photos, model = random.Random(7), Folder(tmp_path / "photos"), Seeing("points")
    for number in range(40):
        photos.put(f"{number}.png", number, f"caption {number % 9}")
    index = Index.begin(model, tmp_path / "x")  # type: ignore[arg-type]
    photos.sync(index)
    index.close()
    done = 0
    for step in range(1, 41):
        changed(photos, drawn, step)
        child = os.fork()
        if not child:
            try:
                photos.sync(Index.open(tmp_path / "x", model))  # type: ignore[arg-type]
            finally:
                os._exit(0)
        time.sleep(drawn.uniform(0, 0.12))
        os.kill(child, signal.SIGKILL)
        done += not os.WIFSIGNALED(os.waitpid(child, 0)[1])
        out = Checkup(str(tmp_path))
        check_truth(Store(tmp_path / "x" / "index.sqlite"), out, lambda *told: None)
        assert not out.findings, out.findings
    assert done < 35, "hardly any was killed"
    with Index.open(tmp_path / "x", model) as index:  # type: ignore[arg-type]
        photos.sync(index)
        assert index.images_among(list(photos.captions)) == set(photos.captions)
        assert index.count("image") == len(photos.captions)
        for item, image in zip(photos.pairs(), photos.pairs().images, strict=True):
            expected = model._embed([[str(image.getpixel((0, 0)))]]).vectors[0]  # type: ignore[attr-defined]
            assert np.allclose(vector(index, item.id), expected, atol=1e-3)
            assert index.item(item.id)["captions"] == list(item.captions)
            assert index.item(item.id)["metadata"] == item.metadata
        sound(index)
        assert photos.sync(index) == Synced(same=len(photos.captions))
