"""The options that say where data lies: the same on every command, one object inside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.cli.reading import DataOptions, reads_data
from manymatch.errors import DataError, UnknownName

READERS = (
    "check",
    "convert",
    "train",
    "evaluate",
    "compare",
    "report",
    "index",
    "index-add",
    "index-calibrate",
    "features",
)
OPTIONS = {"--images", "--features", "--pooled", "--field", "--format", "--strict", "--max-megapixels"}


def options_of(name: str) -> set[str]:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", READERS)
def test_every_command_that_reads_data_takes_the_same_options(name: str) -> None:
    assert options_of(name) >= OPTIONS
    assert ("--data" in options_of(name)) == (name in ("evaluate", "compare", "report"))
    assert ("--store" in options_of(name)) == (name in ("train", "index", "index-add", "evaluate"))


def test_the_command_gets_one_object(tmp_path: Path) -> None:
    given: list[Any] = []

    @reads_data(store=True)
    def look(
        word: str,
        source: DataOptions,
        out: Annotated[Path, typer.Option()],
        loud: Annotated[bool, typer.Option()] = False,
    ) -> None:
        """Look."""
        given.extend((word, source, out, loud))

    cli = typer.Typer()
    cli.command()(look)
    words = "w d.csv --out o --images i --field a=b --field c=d --format table --max-megapixels 0.5 --strict --loud"
    told = CliRunner().invoke(cli, [*words.split(), "--store", "s", "--features", "f", "--pooled", "p"])
    assert told.exit_code == 0, told.output
    word, source, out, loud = given
    assert (word, out, loud) == ("w", Path("o"), True)
    assert source == DataOptions(
        Path("d.csv"), Path("i"), Path("f"), Path("p"), ["a=b", "c=d"], "table", True, 500_000, Path("s")
    )
    again = " --images i --features f --pooled p --field a=b --field c=d --format table --store s"
    assert source.again() == f"{again} --max-megapixels 0.5 --strict"
    assert DataOptions(Path("d")).again() == ""


def test_help_still_says_what_the_command_is_for() -> None:
    told = CliRunner().invoke(app, ["check", "--help"])
    assert "Look at a data set and list what is wrong." in told.output and "--max-megapixels" in told.output


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, size in {"a.png": (10, 10), "b.png": (40, 30)}.items():
        Image.new("RGB", size).save(tmp_path / "images" / name)
    rows = [{"image": "a.png", "captions": ["x"]}, {"image": "b.png", "captions": None}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "p.jsonl"


def call(*arguments: object) -> Any:
    told = CliRunner().invoke(app, [str(each) for each in arguments])
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told


def test_pixels_are_counted_before_decoding_and_the_limit_can_be_moved(data: Path) -> None:
    assert json.loads(call("check", data, "--json").stdout)["images"] == 2
    found = json.loads(call("check", data, "--json", "--max-megapixels", "0.001").stdout)
    assert [(problem["line"], problem["kind"]) for problem in found["problems"]] == [(2, "unreadable picture")]
    with pytest.raises(DataError, match=r"p\.jsonl:2: unreadable picture: .*b\.png"):
        call("check", data, "--strict", "--max-megapixels", "0.001")
    for bad in ("0", "-1", "nan", "inf"):
        with pytest.raises(DataError, match="expected a number above 0"):
            call("check", data, "--max-megapixels", bad)


def test_the_format_can_be_said(data: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'jsonl'"):
        call("check", data, "--format", "json")
    told = call("check", data, "--format", "jsonl")
    assert told.stdout.splitlines()[:2] == ["format    JSON Lines, one object an image", "          as asked for"]


def test_images_without_captions_are_counted_and_left_out_where_captions_are_needed(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "  none    for 1 images" in call("check", data).stdout.splitlines()
    assert json.loads(call("check", data, "--json").stdout)["without_captions"] == 1
    assert DataOptions(data).captioned().image_ids == ["a.png"]
    assert "1 of 2 images have no captions and are left out" in capsys.readouterr().err
