"""`manymatch import-checkpoint SYSTEM FILE --out RUN`: the authors' weights as a run of ours."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..methods import Model

__all__ = ["import_checkpoint"]


def import_checkpoint(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="dive, hrem, pcme, pvse, vse_infty or vsepp: who trained it.")
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What the authors' training script saved (.pth, .pth.tar, .ckpt).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to write.")],
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--vocabulary",
            metavar="FILE",
            help="The words it was trained with: the authors' .pkl or .json, or the vocab.txt of their BERT. "
            "PCME's checkpoint holds its own.",
        ),
    ] = None,
    criterion: Annotated[
        Path | None,
        typer.Option(
            "--criterion",
            metavar="FILE",
            help="State of their criterion, where it is a file of its own (HREM's graph). Only training on needs it.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="An option of their script, by their name, that FILE does not hold: files of weights alone need some, "
            "such as legacy=true (PVSE's published ones). Repeat it.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn an official checkpoint into a run.

    Sizes and options are read from the file, words get the authors' numbers, and the run keeps what their code does
    (mode released), so that it gives their scores. Nothing in the file is run: one that holds more than weights and
    options is refused by name.

    Then evaluate, index and search take it as any other run. Give them features or pictures as the authors had them;
    docs/checkpoints.md says which. Example:

    manymatch import-checkpoint hrem checkpoint.pth --vocabulary bert/vocab.txt --out runs/hrem
    """
    from ..runs import import_checkpoint as bring

    model = bring(system, file, out, vocabulary, criterion, _options(option))
    made = _made(model, out)
    typer.echo(json.dumps(made) if as_json else _text(model, made))


_PYTHON = {"True": "true", "False": "false", "None": "null", "yes": "true", "no": "false"}


def _options(texts: Sequence[str] | None) -> dict[str, Any]:
    """`["legacy=true"]` as `{"legacy": True}`: JSON where it is some, else text. Raises DataError."""
    out: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise DataError(f"--option {text!r}: expected NAME=VALUE, such as legacy=true")
        try:
            # The authors' options print as Python's: True, False, None.
            out[name] = json.loads(_PYTHON.get(value, value))
        except ValueError:
            out[name] = value
    return out


def _made(model: Model, out: Path) -> dict[str, Any]:
    """All that is told, as JSON."""
    method = model.method
    defaults = {spec.name: spec.default for spec in fields(method) if spec.default is not MISSING}
    return {
        "run": str(out),
        **model.notes["imported"],
        "note": model.notes.get("import"),
        "images": model.input_of_images.to_json(),
        "words": len(model.texts.vocabulary),
        "text_tower": model.input_of_texts.tower,
        "similarity": type(model.similarity).__name__,
        "parameters": model.parameter_count(),
        "tensors": len(model.search_state()),
        "settings": {name: value for name, value in vars(method).items() if value != defaults.get(name, MISSING)},
        "fingerprint": model.fingerprint(),
    }


def _text(model: Model, made: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in made["said"].items() if not isinstance(value, str))
    lines = [f"{made['system']} from {made['file']}" + (f" ({said})" if said else "")]
    rows = [("images", _images(made["images"])), ("texts", f"{made['text_tower']} over {made['words']:,} words")]
    rows += [("similarity", made["similarity"])]
    rows += [("weights", f"{made['parameters']:,} parameters in {made['tensors']} tensors, all of them from the file")]
    if made["relation"] == "fresh":
        rows.append(("relation", "fresh weights: theirs are not in FILE (--criterion); only training on needs them"))
    elif made["relation"]:
        rows.append(("relation", f"weights from {made['relation']}"))
    rows.append(("settings", ", ".join(f"{name}={value}" for name, value in made["settings"].items())))
    rows += [("note", made["note"])] if made["note"] else []
    rows.append(("run", f"{made['run']} ({made['fingerprint'][:12]})"))
    lines += [f"  {name:<11}{value}" for name, value in rows]
    further = "--features FILE" if model.image_input == "features" else "--images PATH"
    lines.append(f"next: manymatch evaluate {shlex.quote(made['run'])} --data DATA {further}")
    return "\n".join(lines)


def _images(inputs: dict[str, Any]) -> str:
    if inputs["tower"] != "features":
        return f"{inputs['tower']} on pictures of {inputs['size']} x {inputs['size']}"
    parts = [f"fragments {inputs['fragment_width']} wide (n, f, {inputs['fragment_width']})"]
    parts = parts if inputs["fragments"] else []
    parts += [f"a pooled vector {inputs['pooled_width']} wide"] if inputs["pooled_width"] else []
    return "precomputed features: " + " and ".join(parts)
