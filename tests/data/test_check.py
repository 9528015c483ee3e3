"""`check`, `readable`, and the command."""

import io
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from manymatch.cli.check import check as command
from manymatch.cli.reading import DataOptions, field_names
from manymatch.data.check import check, readable
from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import read_pairs
from manymatch.errors import DataError


def jpeg(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "JPEG")
    return file.getvalue()


def data_set(folder: Path, pictures: dict[str, tuple[str | None, bytes]]) -> Path:
    """`pairs.jsonl` with name -> (split, bytes) in order, pictures in `images/`."""
    (folder / "images").mkdir()
    rows = []
    for name, (split, data) in pictures.items():
        (folder / "images" / name).write_bytes(data)
        rows.append(json.dumps({"image": name, "captions": ["x", "y"], "split": split}))
    (folder / "pairs.jsonl").write_text("\n".join(rows))
    return folder / "pairs.jsonl"


RED, BLUE, GREEN = map(jpeg, ("red", "blue", "green"))


def app(*args: object) -> tuple[int, str, str]:
    cli = typer.Typer()
    cli.command()(command)
    result = CliRunner().invoke(cli, [str(a) for a in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_clean_set_has_counts_and_no_problems(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"a.jpg": ("train", RED), "b.jpg": ("val", BLUE), "c.jpg": (None, GREEN)})
    steps: list[tuple[int, int]] = []
    found = check(path, progress=lambda *step: steps.append(step))
    assert found.pop("format") == {"name": "jsonl", "title": "JSON Lines, one object an image"}
    assert found.pop("seen") == ["a .jsonl file", "fields image, captions, split"]
    assert found == {
        "images": 3, "captions": 6, "without_captions": 0, "splits": {"train": 1, "val": 1}, "problems": []
    }  # fmt: skip
    assert steps == [(3, 3)]
    assert app(path, "--strict")[0] == 0


def test_bad_rows_bad_pictures_duplicates_and_leaks_are_listed_by_line(tmp_path: Path) -> None:
    path = data_set(
        tmp_path,
        {
            "a.jpg": ("train", RED),
            "cut.jpg": ("train", BLUE[: len(BLUE) // 2]),
            "same.jpg": ("train", RED),
            "leak.jpg": ("test", RED),
            "loose.jpg": (None, RED),
            "empty.jpg": ("train", b""),
        },
    )
    more = ("", '{"image": "a.jpg", "captions": ["x"]}', '{"image": "b.jpg", "captions": [""]}', "{")
    path.write_text("\n".join((path.read_text(), *more)))
    found = check(path)
    assert (found["images"], found["captions"], found["splits"]) == (4, 8, {"train": 2, "test": 1})
    assert [(p["line"], p["kind"]) for p in found["problems"]] == [
        (2, "unreadable picture"),
        (3, "duplicate image"),
        (4, "split leak"),
        (5, "duplicate image"),
        (6, "unreadable picture"),
        (8, "repeated id"),
        (9, "empty caption"),
        (9, "no captions"),
        (10, "not JSON"),
    ]
    assert {p["file"] for p in found["problems"]} == {str(path)}
    assert "'leak.jpg' (test) has the same bytes as 'a.jpg' (train) in line 1" in found["problems"][2]["detail"]
    json.dumps(found)


def test_a_leak_is_seen_past_a_copy_of_no_split_or_of_its_own(tmp_path: Path) -> None:
    pictures = {"a.jpg": (None, RED), "b.jpg": ("test", RED), "c.jpg": ("test", RED), "d.jpg": ("train", RED)}
    kinds = [(p["line"], p["kind"]) for p in check(data_set(tmp_path, pictures))["problems"]]
    assert kinds == [(2, "duplicate image"), (3, "duplicate image"), (4, "split leak")]


def test_without_pictures_only_rows_are_checked(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"image": "a.jpg", "sentence": "x"}')
    found = check(tmp_path / "pairs.jsonl", fields={"captions": "sentence"})
    assert (found["images"], found["captions"], found["splits"], found["problems"]) == (1, 1, {}, [])


def test_features_are_checked_too(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"a.jpg": ("train", RED), "b.jpg": ("train", BLUE)})
    np.save(tmp_path / "p.npy", np.array([[1.0], [np.nan]]))
    assert [p["kind"] for p in check(path, pooled=tmp_path / "p.npy")["problems"]] == ["bad features"]


def test_readable_leaves_the_unreadable_out_and_says_so(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"a.jpg": ("train", RED), "cut.jpg": ("train", BLUE[:400]), "c.jpg": ("val", BLUE)})
    pairs = readable(read_pairs(path))
    assert [(item.id, item.row) for item in pairs] == [("a.jpg", 0), ("c.jpg", 2)]
    (problem,) = pairs.problems
    assert (problem.file, problem.kind) == ("cut.jpg", "unreadable picture")
    words = Pairs([Item("a", ("x",))])
    assert len(readable(words)) == 1


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = {}
    for n in range(150):
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 255, (150, 150, 3), dtype=np.uint8)).save(file, "BMP")
        pictures[f"{n}.bmp"] = ("train", file.getvalue())
    path = data_set(tmp_path, pictures)
    tracemalloc.start()
    try:
        assert check(path)["images"] == 150
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < sum(len(data) for _, data in pictures.values()) / 3


def test_the_command_prints_aligned_text_and_caps_the_problems(tmp_path: Path) -> None:
    path = data_set(tmp_path, {f"{n}.jpg": ("train", RED) for n in range(25)})
    code, out, err = app(path)
    fields = "fields image, captions, split"
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[:3] == ["format    JSON Lines, one object an image", "          a .jsonl file", f"          {fields}"]
    assert lines[3:7] == ["images    25", "captions  50", "  train   25 images", "problems  24"]
    assert lines[7].startswith(f"  {path}:2: duplicate image: ")
    assert len(lines) == 7 + 20 + 2
    assert lines[-2] == "  and 4 more; --json lists them all"
    assert lines[-1] == f"next: manymatch train METHOD {path} --out RUN"


def test_the_command_prints_json_with_every_problem(tmp_path: Path) -> None:
    path = data_set(tmp_path, {f"{n}.jpg": ("train", RED) for n in range(25)})
    code, out, _ = app(path, "--json", "--strict")
    assert code == 2
    found = json.loads(out)
    assert set(found) == {"format", "seen", "images", "captions", "without_captions", "splits", "problems"}
    assert len(found["problems"]) == 24
    assert set(found["problems"][0]) == {"file", "line", "kind", "detail"}


def test_the_command_exits_with_2_when_nothing_is_usable(tmp_path: Path) -> None:
    path = data_set(tmp_path, {"a.jpg": ("train", b"no picture")})
    code, out, _ = app(path)
    assert (code, out.splitlines()[-1]) == (2, "nothing is usable")
    with pytest.raises(DataError, match="no such file"):
        app(tmp_path / "pair.jsonl")


def test_field_options_are_parsed(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"image": "a.jpg", "sentence": "x", "part": "val"}')
    code, out, _ = app(tmp_path / "p.jsonl", "--field", "captions=sentence", "--field", "split=part", "--json")
    assert (code, json.loads(out)["splits"]) == (0, {"val": 1})
    for bad in ("captions", "=x", "captions="):
        with pytest.raises(DataError, match="expected OURS=THEIRS"):
            field_names([bad])
    with pytest.raises(DataError, match="already"):
        field_names(["split=a", "split=b"])


def test_read_lists_what_was_left_out_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"image": "a.jpg", "sentence": "x"}\n' + "{\n" * 12)
    pairs = DataOptions(path, field=["captions=sentence"]).read()
    lines = capsys.readouterr().err.splitlines()
    assert len(pairs) == 1
    assert lines[0].startswith(f"{path}:2: not JSON")
    assert lines[10:] == [f"and 2 more; manymatch check {path} lists them"]
    with pytest.raises(DataError, match=":2: not JSON"):
        DataOptions(path, field=["captions=sentence"], strict=True).read()


@pytest.mark.skipif("MANYMATCH_REFERENCE" not in os.environ, reason="MANYMATCH_REFERENCE (real photographs) is not set")
def test_the_one_duplicate_of_flickr8k_is_found() -> None:
    folder = Path(os.environ["MANYMATCH_REFERENCE"]) / "data" / "flickr8k"
    found = check(folder / "captions.jsonl", images=folder / "images_160.tar")
    assert (found["images"], found["captions"]) == (8091, 40455)
    (problem,) = found["problems"]
    assert problem["kind"] == "duplicate image"
    assert {"2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"} <= set(problem["detail"].split("'"))
