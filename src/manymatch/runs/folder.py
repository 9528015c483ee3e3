"""The run folder: `run.json` (all but numbers), `model.safetensors` (what search needs), `training/`, `metrics.jsonl`.

`bank.safetensors`, in runs that have one, is the query bank.

`training/weights.safetensors` is there in runs made of an official checkpoint: weights that only training needs, for
those who train on.

Weights are written before `run.json`, so a `run.json` that is there has weights beside it. No pickle anywhere.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .. import __version__
from ..bank import Bank
from ..calibration import Calibration
from ..data.writing import whole_file, write_json
from ..errors import CheckpointError, DataError
from ..methods import Model
from .devices import device_named

__all__ = [
    "FORMAT",
    "is_run",
    "load",
    "load_bank",
    "make_folder",
    "names_network",
    "read_run",
    "save_bank",
    "save_search",
    "save_tensors",
    "save_training",
]

FORMAT = 1
_TRAINING = "training/weights.safetensors"
_BANK = "bank.safetensors"


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    with whole_file(path) as temporary:
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        # An empty mapping makes a header that cannot be read where there are no tensors.
        save_file(flat, temporary, metadata=dict(metadata or {}) or None)


def make_folder(out: Path, what: str) -> None:
    """Make a run folder. Raises DataError, beginning with `what`, where it cannot be one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{what}: {str(out)!r} cannot be a run folder ({error.strerror}); choose another --out"
        ) from None


def save_search(model: Model, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write what searching needs: `model.safetensors`, `bank.safetensors` where there is a query bank, then `run.json`.

    Args:
        model: its towers, its similarity, its calibration and its bank are written, its objective is not.
        folder: made if missing; an earlier run's files of these names are replaced.
        extra: further entries of `run.json` (data, config, what training noted).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "model.safetensors", model.search_state())
    _write_bank(folder, model.bank)
    write_json(
        folder / "run.json",
        {
            "format": FORMAT,
            **model.describe(),
            "versions": {"manymatch": __version__, "torch": torch.__version__, "python": platform.python_version()},
            "notes": model.notes,
            **({} if model.calibration is None else {"calibration": model.calibration.to_json()}),
            **({} if model.bank is None else {"bank": model.bank.to_json()}),
            **(extra or {}),
        },
    )
    if model.bank is None:
        (folder / _BANK).unlink(missing_ok=True)


def save_bank(folder: str | Path, bank: Bank | None) -> None:
    """Give a run that is there a query bank, or take it away; all else stays as it is.

    Raises CheckpointError as `read_run`.
    """
    folder = Path(folder)
    value = read_run(folder)
    value.pop("bank", None)
    _write_bank(folder, bank)
    write_json(folder / "run.json", {**value, **({} if bank is None else {"bank": bank.to_json()})})
    if bank is None:
        (folder / _BANK).unlink(missing_ok=True)


def _write_bank(folder: Path, bank: Bank | None) -> None:
    # All that is known of it lies in one file, so that a writer killed before `run.json` leaves a whole bank.
    if bank is not None:
        save_tensors(folder / _BANK, bank.tensors(), {"bank": json.dumps(bank.to_json())})


def load_bank(folder: str | Path) -> Bank | None:
    """The query bank of a run, None where it has none; its numbers stay on the disk until they are read.

    Raises:
        CheckpointError: as `read_run`, or a bank that is gone or damaged.
    """
    folder = Path(folder)
    return _bank(folder) if read_run(folder).get("bank") is not None else None


def _bank(folder: Path) -> Bank:
    path = folder / _BANK
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("bank", "null"))
        return Bank.from_stored(facts, load_file(path))
    except (SafetensorError, OSError, ValueError, DataError) as error:
        raise CheckpointError(
            f"run: its query bank {str(path)!r} cannot be read ({error}); take it away with: manymatch bank {folder} "
            "--remove"
        ) from None


def save_training(model: Model, folder: str | Path) -> None:
    """Write what only training needs of a model, its objective's and its relation's weights, where it has any."""
    state = model.training_state()
    if state:
        path = Path(folder) / _TRAINING
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, state)


def read_run(folder: str | Path) -> dict[str, Any]:
    """`run.json` of a run folder.

    Raises:
        CheckpointError: no such folder, no complete run in it, or another format.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not folder.is_dir() and str(folder).startswith("onnx:"):
        raise CheckpointError(
            f"run: {str(folder)!r} is one half alone; name both with: manymatch train pretrained DATA "
            "--image-tower onnx:FILE --text-tower onnx:FILE --out RUN"
        )
    if not folder.is_dir():
        raise CheckpointError(
            f"run: no such folder {str(folder)!r}; train one with: manymatch train METHOD DATA --out RUN"
        )
    if not path.is_file():
        began = (folder / "training" / "state.safetensors").is_file()
        hint = "its training stopped before the first validation; go on with --resume" if began else "expected a run"
        if (folder / "members").is_dir():
            hint = "its members are not all trained and joined; go on with --resume"
        if (folder / "config.json").is_file():
            hint = f"it looks like a pretrained network, which is named 'hf:{folder}'"
        raise CheckpointError(f"run: no run.json in {str(folder)!r}; {hint}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"run: {str(path)!r} is not JSON ({error}); the folder is damaged") from None
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"run: {str(path)!r} has format {found!r}, expected {FORMAT}; train again or update")
    return dict(value)


def names_network(run: str | Path) -> bool:
    """Whether a run is named as a pretrained network, "hf:NAME" or "hf:FOLDER"."""
    return str(run).startswith("hf:") and not Path(run).exists()


def is_run(run: str | Path) -> bool:
    """Whether `load` is for it: a folder, or a pretrained network."""
    return names_network(run) or Path(run).is_dir()


def load(folder: str | Path, *, device: str = "cpu", elements: int | None = None, bank: bool = True) -> Model:
    """The trained model of a run folder (or of an index's `run/`), ready to encode and score.

    Args:
        folder: the run; or "hf:NAME" or "hf:FOLDER", a pretrained network of pictures and texts as it is.
        device: where it computes; "auto" takes a GPU when there is one. Embeddings come back to the CPU.
        elements: use the first elements of each set alone, of a run that was trained nested; the calibration, which is
            of all, is then left out. None is what the folder says, or all.
        bank: read the run's query bank too, where it has one.

    Raises:
        CheckpointError: no run there, another format, weights that do not fit, or a calibration or a query bank that
            cannot be read.
        DataError: a pretrained network that is not found, or lacks a half; a number of elements it was not trained for.
        Error: a device that cannot be used.
    """
    if names_network(folder):
        from ..methods.pretrained import as_it_is

        return _used(as_it_is(str(folder)), folder, elements).to(device_named(device))
    folder = Path(folder)
    value = read_run(folder)
    model = Model.from_description(value)
    model.load_search_state(_tensors(folder / "model.safetensors"))
    if (folder / _TRAINING).is_file():
        model.load_training_state(_tensors(folder / _TRAINING))
    model.notes = dict(value.get("notes", {}))
    if value.get("calibration") is not None:
        try:
            model.calibration = Calibration.from_json(value["calibration"])
        except DataError as error:
            raise CheckpointError(f"run: {str(folder / 'run.json')!r}: {error}") from None
    if bank and value.get("bank") is not None:
        model.bank = _bank(folder)
    return _used(model, folder, elements).requires_grad_(False).eval().to(device_named(device))


def _used(model: Model, folder: str | Path, elements: int | None) -> Model:
    try:
        return model if elements is None else model.first(elements)
    except DataError as error:
        raise DataError(f"run {str(folder)!r}: {error}") from None


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"run: {str(path)!r} cannot be read ({error}); the folder is damaged") from None
