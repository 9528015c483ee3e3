"""The options that say where data lies, and reading it: one parameter of a command, a handful on the command line."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints, overload

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..data.sources import Reading

__all__ = ["DataOptions", "field_names", "reads_data"]

Command = Callable[..., None]

_SHOWN = 10
_HELP = (
    "File or folder of images, with or without captions: JSON Lines, CSV, a folder of photos and others, known by "
    "looking at it; manymatch check DATA says what was seen."
)
_ARGUMENT = Annotated[Path, typer.Argument(metavar="DATA", help=_HELP)]
_OPTION = Annotated[Path, typer.Option("--data", metavar="DATA", help=_HELP)]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "images": (
        Annotated[
            Path | None,
            typer.Option(
                "--images",
                metavar="PATH",
                help="Folder or uncompressed tar of the pictures. Default: those DATA carries, else images/ or "
                "images.tar beside it.",
            ),
        ],
        None,
    ),
    "features": (
        Annotated[
            Path | None,
            typer.Option(
                "--features",
                metavar="FILE",
                help=".npy or .npz of precomputed fragments (n, f, c), row by row as DATA.",
            ),
        ],
        None,
    ),
    "pooled": (
        Annotated[
            Path | None,
            typer.Option("--pooled", metavar="FILE", help=".npy or .npz of precomputed pooled vectors (n, p)."),
        ],
        None,
    ),
    "field": (
        Annotated[
            list[str] | None,
            typer.Option(
                "--field",
                metavar="OURS=THEIRS",
                help="What DATA calls a field, such as captions=sentence or split=class_split. Repeat it for several.",
            ),
        ],
        None,
    ),
    "format": (
        Annotated[
            str | None,
            typer.Option(
                "--format", metavar="NAME", help="Of DATA: jsonl, table, coco, folder, ... Default: by looking at it."
            ),
        ],
        None,
    ),
    "strict": (Annotated[bool, typer.Option("--strict", help="Stop at the first bad row, with exit code 2.")], False),
    "max_megapixels": (
        Annotated[
            float,
            typer.Option(
                "--max-megapixels",
                metavar="N",
                help="Pictures of more million pixels are bad rows, refused before they are decoded.",
            ),
        ],
        64.0,
    ),
    "store": (
        Annotated[
            Path | None,
            typer.Option(
                "--store",
                metavar="DIR",
                help="Feature store of pretrained towers. Default: MANYMATCH_STORE, else ~/.cache/manymatch/features; "
                "indexing, which looks at a picture once, uses none unless told.",
            ),
        ],
        None,
    ),
}
"""Parameter -> (what typer is told of it, its default)."""


@dataclass(frozen=True)
class DataOptions:
    """Where data lies and how it is read, as the command line gives it.

    Attributes:
        path: DATA.
        images, features, pooled, field, format, strict: as the options of these names.
        max_pixels: width x height beyond which a picture is a bad row.
        store: folder of the feature store; None for the usual one.
    """

    path: Path
    images: Path | None = None
    features: Path | None = None
    pooled: Path | None = None
    field: Sequence[str] | None = None
    format: str | None = None
    strict: bool = False
    max_pixels: int = 64_000_000
    store: Path | None = None

    def read(self, truth: Sequence[Path] | None = None) -> Pairs:
        """The pairs; rows left out are listed on stderr. Raises DataError, UnknownName as `data.sources.read_pairs`."""
        return self.reading(truth).pairs

    def reading(self, truth: Sequence[Path] | None = None) -> Reading:
        """As `read`, with where each item stood and what the data were taken for."""
        from ..data.sources import read_rows
        from .options import bar

        with bar("reading", "row") as progress:
            reading = read_rows(
                self.path,
                format=self.format,
                images=self.images,
                features=self.features,
                pooled=self.pooled,
                truth=truth,
                fields=field_names(self.field),
                strict=self.strict,
                max_pixels=self.max_pixels,
                progress=progress,
            )
        problems = reading.pairs.problems
        for problem in problems[:_SHOWN]:
            typer.echo(problem, err=True)
        more = len(problems) - _SHOWN
        if more > 0:
            typer.echo(f"and {more} more; manymatch check {shlex.quote(str(self.path))} lists them", err=True)
        return reading

    def captioned(self, truth: Sequence[Path] | None = None) -> Pairs:
        """As `read`, without the images that have no captions, which is said. Raises DataError when none has any."""
        pairs = self.read(truth)
        kept = pairs.captioned()
        if len(kept) < len(pairs):
            typer.echo(f"{len(pairs) - len(kept)} of {len(pairs)} images have no captions and are left out", err=True)
        return kept

    def again(self) -> str:
        """These options, DATA not among them, as another command takes them, with a blank before each."""
        given: list[tuple[str, object]] = [("images", self.images), ("features", self.features)]
        given += [("pooled", self.pooled), *(("field", text) for text in self.field or ())]
        given += [("format", self.format), ("store", self.store)]
        if self.max_pixels != DataOptions.max_pixels:
            given.append(("max-megapixels", f"{self.max_pixels / 1e6:g}"))
        words = [f" --{name} {shlex.quote(str(value))}" for name, value in given if value is not None]
        return "".join(words) + (" --strict" if self.strict else "")


@overload
def reads_data(command: Command, /) -> Command: ...
@overload
def reads_data(
    *, as_option: bool = False, store: bool = False, after: tuple[str, str] | None = None
) -> Callable[[Command], Command]: ...
def reads_data(
    command: Command | None = None,
    /,
    *,
    as_option: bool = False,
    store: bool = False,
    after: tuple[str, str] | None = None,
) -> Command | Callable[[Command], Command]:
    """Put the options that say where data lies in the place of the command's one parameter of type `DataOptions`.

    Of a parameter of type `DataOptions | None` DATA need not be given.

    Args:
        command: what typer is to run.
        as_option: whether DATA is `--data DATA` instead of an argument.
        store: whether the command takes `--store`.
        after: name and help of a parameter of the command that may be given as an argument before DATA; None of it
            when DATA comes alone.
    """
    if command is None:
        return lambda command: _with_options(command, as_option, store, after)
    return _with_options(command, as_option, store, after)


def _with_options(command: Command, as_option: bool, store: bool, after: tuple[str, str] | None) -> Command:
    hints = get_type_hints(command, include_extras=True)
    (place,) = (name for name, hint in hints.items() if hint in (DataOptions, DataOptions | None))
    may_lack = hints[place] is not DataOptions
    taken = {name: given for name, given in _OPTIONS.items() if store or name != "store"}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in taken}
        options["max_pixels"] = _pixels(options.pop("max_megapixels"))
        path = given.pop("data")
        if after is not None:
            given[after[0]], path = _two(after[0], path)
        command(**given, **{place: None if path is None else DataOptions(path, **options)})

    parameters: list[inspect.Parameter] = []
    for name, old in inspect.signature(command).parameters.items():
        if after is not None and name == after[0]:
            continue
        if name == place:
            said = _OPTION if as_option else _ARGUMENT if after is None else _both(*after)
            parameters.append(_parameter("data", said, *([None] if may_lack else [])))
        else:
            parameters.append(_parameter(name, hints[name], old.default))
    needed = sum(each.default is inspect.Parameter.empty for each in parameters)
    # Behind what has to be given, before the command's own options: where help is read first.
    parameters[needed:needed] = [_parameter(name, hint, default) for name, (hint, default) in taken.items()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return run


def _both(name: str, told: str) -> Any:
    """One argument of two words, of which the first may be left out: so both stand in the usage as they are typed."""
    return Annotated[list[str], typer.Argument(metavar=f"[{name.upper()}] DATA", help=f"{told} DATA: {_HELP}")]


def _two(name: str, given: Sequence[str]) -> tuple[str | None, Path]:
    if len(given) > 2:
        raise DataError(f"found {' '.join(map(shlex.quote, given))}, expected [{name.upper()}] DATA and then options")
    return given[0] if len(given) == 2 else None, Path(given[-1])


def _parameter(name: str, hint: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _pixels(megapixels: float) -> int:
    if not 0 < megapixels <= 1e6:
        raise DataError(f"--max-megapixels {megapixels:g}: expected a number above 0")
    return round(megapixels * 1e6)


def field_names(field: Sequence[str] | None) -> dict[str, str]:
    """`["captions=sentence"]` as `{"captions": "sentence"}`. Raises DataError."""
    out: dict[str, str] = {}
    for text in field or ():
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise DataError(f"--field {text!r}: expected OURS=THEIRS, such as captions=sentence")
        if ours in out:
            raise DataError(f"--field {text!r}: {ours} is {out[ours]!r} already, expected it once")
        out[ours] = theirs
    return out
