"""Pictures put into an index as bytes: kept in its folder before they are acknowledged, found after a move, tidied."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_fakes import FakeModel, some_pairs
from PIL import Image
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.index.care.checkup import Checkup
from manymatch.index.store.rows import Added
from manymatch.index.uploads import NAME


def encoded(colour: tuple[int, int, int] = (255, 0, 0), form: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, form)
    return out.getvalue()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index.build(FakeModel(), some_pairs(20), tmp_path / "x")  # type: ignore[arg-type]
    yield made
    made.close()


def names(index: Index) -> list[str]:
    folder = index.path / "pictures"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def name_of(index: Index, id: str) -> str:
    with index._collection.reading() as reading:
        return str(reading.item(id).picture)


def kinds(found: Checkup) -> list[str]:
    return [finding.kind for finding in found.findings]


# ---- putting


def test_a_picture_is_kept_searched_and_read_again(index: Index) -> None:
    data = encoded()
    assert index.put_picture("shop/1 ☃", data, ["a red square"], {"year": 2024, "tags": ["a", "b"]}) == Added(1, 0)
    item = index.item("shop/1 ☃")
    assert item["captions"] == ["a red square"] and item["metadata"] == {"year": 2024, "tags": ["a", "b"]}
    assert item["has_picture"] and index.picture("shop/1 ☃") == data
    assert index.open_picture("shop/1 ☃#0").size == (8, 8), "its caption shows it too"
    assert "shop/1 ☃" in [hit.id for hit in index.search("a red square", k=5, where={"year": {"gte": 2021}})]
    (name,) = names(index)
    assert NAME.fullmatch(name) and name.endswith(".png")
    found = index.check()
    assert not found.findings and "pictures/: 1 of 1 whole" in found.looked


def test_captions_and_metadata_may_be_left_out(index: Index) -> None:
    assert index.put_picture("bare", encoded()) == Added(1, 0)
    assert index.item("bare")["captions"] == [] and index.item("bare")["metadata"] == {}


SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}


@pytest.mark.parametrize(("form", "suffix"), SUFFIXES.items())
def test_a_file_is_called_after_its_bytes(index: Index, form: str, suffix: str) -> None:
    index.put_picture("../../etc/passwd\x00.html", encoded(form=form), [], {})
    (name,) = names(index)
    assert re.fullmatch(rf"[0-9a-f]{{32}}\.{suffix}", name)


def test_a_known_id_is_replaced(index: Index) -> None:
    assert index.put_picture("p3", encoded(), ["new words"], {}) == Added(0, 1)
    assert index.item("p3")["captions"] == ["new words"] and index.picture("p3") == encoded()
    assert index.put_picture("p3", encoded((0, 0, 255)), [], {}) == Added(0, 1)
    assert index.picture("p3") == encoded((0, 0, 255)) and len(names(index)) == 2
    assert index.count("image") == 20


def test_a_moved_folder_has_its_pictures(index: Index, tmp_path: Path) -> None:
    index.put_picture("one", encoded(), ["red"], {})
    index.close()
    shutil.move(index.path, tmp_path / "elsewhere")
    with Index.open(tmp_path / "elsewhere") as moved:
        assert moved.picture("one") == encoded() and not moved.check().findings


def refused(index: Index, match: str, **given: Any) -> None:
    call: dict[str, Any] = {"id": "new", "data": encoded(), "captions": ["red"], "metadata": {}}
    with pytest.raises(DataError, match=match) as error:
        index.put_picture(**{**call, **given})
    assert "\n" not in str(error.value)
    assert names(index) == [] and index.count("image") == 20, "nothing is left behind"


def test_what_cannot_be_stored_is_refused(index: Index) -> None:
    refused(index, "id '', expected words", id="")
    refused(index, "id 7, expected words", id=7)
    refused(index, "captions 'red', expected a list", captions="red")
    refused(index, "captions None, expected a list", captions=None)
    refused(index, r"captions\[1\] is ' ', expected a text", captions=["red", " "])
    refused(index, r"captions\[0\] is 7", captions=[7])
    refused(index, r"metadata \['a'\], expected a mapping", metadata=["a"])
    refused(index, "metadata {1: 2}, expected a mapping", metadata={1: 2})
    refused(index, "metadata of 'new'.*expected what JSON can hold", metadata={"a": float("nan")})
    refused(index, "metadata of 'new'.*expected what JSON can hold", metadata={"a": {1, 2}})
    refused(index, "not valid Unicode", captions=["red \ud800"])
    refused(index, "not valid Unicode", metadata={"a": "\ud800"})
    refused(index, "data is str, expected the bytes", data="red")
    refused(index, "0 bytes", data=b"")
    refused(index, "a web page, not a picture", data=b"<!doctype html><script>")
    refused(index, "SVG drawing", data=b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    refused(index, "damaged or cut short", data=encoded(form="JPEG", size=(64, 64))[:-60])


def test_a_run_on_features_takes_no_pictures(tmp_path: Path) -> None:
    with Index.build(FakeModel(reads="features"), some_pairs(5), tmp_path / "x") as index:  # type: ignore[arg-type]
        with pytest.raises(DataError, match="reads precomputed features, not pictures"):
            index.put_picture("new", encoded(), [], {})
        assert names(index) == []


def test_a_folder_that_cannot_be_written(index: Index) -> None:
    (index.path / "pictures").write_text("in the way")
    with pytest.raises(DataError, match="make room or give this user the right"):
        index.put_picture("new", encoded(), [], {})
    assert index.count("image") == 20


# ---- before it is acknowledged


class Killed(BaseException):
    """Stands for the end of the process."""


def test_the_file_is_there_before_the_item_is(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def told(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    def put(batch: Any) -> Added:
        (name,) = names(index)
        assert (index.path / "pictures" / name).read_bytes() == encoded()
        assert [Path(path).name.partition(".")[0] for path in synced] == ["x", "", "pictures"], "folder, file, folder"
        raise Killed

    monkeypatch.setattr(os, "fsync", told)
    monkeypatch.setattr(index._collection, "put", put)
    with pytest.raises(Killed):
        index.put_picture("new", encoded(), ["red"], {})


@pytest.mark.parametrize("moment", ["write", "rename", "transaction"])
def test_killed_on_the_way(index: Index, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def killed(*given: Any, **named: Any) -> None:
        raise Killed

    where = {"write": (Path, "write_bytes"), "rename": (os, "replace"), "transaction": (index._collection, "put")}
    with monkeypatch.context() as patch:
        patch.setattr(*where[moment], killed)
        with pytest.raises(Killed):
            index.put_picture("new", encoded(), ["red"], {})
    index.close()
    with Index.open(index.path) as again:
        assert again.count() == 60 and "new" not in [hit.id for hit in again.search("red", k=50)]
        found = again.check()
        assert not found.problems
        assert kinds(found) == (["leftover"] if moment == "transaction" else [])
        assert again.put_picture("new", encoded(), ["red"], {}) == Added(1, 0)
        assert not again.check().findings and again.picture("new") == encoded()


def _puts(folder: Path, told: Path, first: int) -> None:
    with Index.open(folder) as index:
        for n in range(first, 10_000):
            index.put_picture(f"u{n}", encoded((n % 256, n // 256, 1)), [f"number {n}"], {})
            with open(told, "a") as file:
                file.write(f"{n}\n")


@pytest.mark.slow
def test_no_acknowledged_picture_is_lost_to_a_kill(index: Index, tmp_path: Path) -> None:
    """Writers killed at random moments, while another process tidies all the time."""
    told, rng, first = tmp_path / "told", np.random.default_rng(0), 0
    told.touch()
    for _ in range(6):
        # What is open must not be shared with a child.
        index.close()
        child = multiprocessing.get_context("fork").Process(target=_puts, args=(index.path, told, first))
        child.start()
        while child.is_alive() and len(told.read_text().splitlines()) <= first + 2:
            index.repair()
        threading.Event().wait(float(rng.uniform(0, 0.05)))
        child.kill()
        child.join()
        index.close()
        kept = [int(line) for line in told.read_text().splitlines()]
        first = len(kept)
        assert kept == [*range(first)]
        with Index.open(index.path) as again:
            for n in kept:
                assert again.picture(f"u{n}") == encoded((n % 256, n // 256, 1))
            assert not again.check().problems
    assert first > 12


# ---- looking after them


def test_a_deleted_picture_stays_until_it_is_tidied(index: Index) -> None:
    for id in ("one", "two"):
        index.put_picture(id, encoded(), ["red"], {})
    index.put_picture("three", encoded((0, 0, 255)), [], {})
    index.delete(["one", "three"])
    assert len(names(index)) == 2
    found = index.check()
    assert kinds(found) == ["leftover"] and not found.problems
    assert re.search(r"pictures that no item has: found 1 \(\d+ bytes\), expected none; repair", str(found.findings[0]))
    assert "pictures/: 1 removed that no item has" in index.repair().mended
    assert index.picture("two") == encoded() and len(names(index)) == 1, "what another item has stays"
    assert not index.check().findings


def test_compacting_tidies_too(index: Index) -> None:
    index.put_picture("one", encoded(), [], {})
    (index.path / "pictures" / "readme.txt").write_text("of somebody else")
    index.delete(["one"])
    sizes = index.compact()
    assert sizes.before["pictures/"] > sizes.after["pictures/"] == len("of somebody else")
    assert names(index) == ["readme.txt"], "what is not ours stays"
    assert not index.check().findings


def test_nothing_is_tidied_while_somebody_puts(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between file and transaction the file looks like one that no item has."""
    put = index._collection.put

    def tidied_first(batch: Any) -> Added:
        with Index.open(index.path) as other:
            other.repair()
            other.compact()
        return put(batch)

    monkeypatch.setattr(index._collection, "put", tidied_first)
    index.put_picture("new", encoded(), ["red"], {})
    assert index.picture("new") == encoded() and not index.check().findings


def test_missing_and_changed_files_are_told(index: Index) -> None:
    for n in range(3):
        index.put_picture(f"u{n}", encoded((n, 0, 0)), [], {})
    lost, changed = (index.path / "pictures" / name_of(index, f"u{n}") for n in (0, 1))
    lost.unlink()
    changed.write_bytes(b"other")
    found = index.check()
    assert kinds(found) == ["picture", "picture"] and len(found.problems) == 2
    told = " ".join(map(str, found.findings))
    assert f"pictures/{lost.name}: the picture of 'u0': found no file" in told
    assert (
        f"pictures/{changed.name}: the picture of 'u1': found other bytes" in told and "put the picture again" in told
    )
    assert "pictures/: 1 of 3 whole" in found.looked
    with pytest.raises(DataError, match="not in"):
        index.picture("u0")
    for n in range(2):
        index.put_picture(f"u{n}", encoded((n, 0, 0)), [], {})
    assert not index.check().findings
    shutil.rmtree(index.path / "pictures")
    assert kinds(index.check()) == ["picture"] * 3


def test_the_command_tells_of_pictures(index: Index) -> None:
    index.put_picture("one", encoded(), ["red"], {})
    index.delete(["one"])
    run = CliRunner().invoke(app, ["index-check", str(index.path)])
    assert run.exit_code == 0 and "note: pictures/" in run.output
    run = CliRunner().invoke(app, ["index-check", str(index.path), "--compact", "--json"])
    told = json.loads(run.output)
    assert told["problems"] == 0 and told["compacted"]["after"]["pictures/"] == 0


def test_items_on_a_server_have_their_pictures_here(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    pairs = some_pairs(5)
    made = Index.build(FakeModel("points"), pairs, tmp_path / "x", engine="qdrant", url=":memory:")  # type: ignore[arg-type]
    with made as index:
        assert index.put_picture("one", encoded(), ["red"], {"year": 1999}) == Added(1, 0)
        assert index.picture("one") == encoded() and index.item("one")["captions"] == ["red"]
        index.delete(["one"])
        found = index.repair()
        assert any("pictures/: the items that name its pictures lie on the Qdrant server" in s for s in found.skipped)
        assert len(names(index)) == 1, "nobody can say that no item has it"
