"""Official checkpoints to run folders: what `manymatch import-checkpoint` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, UnknownName
from ..methods import Model
from .folder import load, make_folder, save_search, save_training
from .importers import importer
from .official_files import OfficialCheckpoint, read_official, read_vocabulary

__all__ = ["import_checkpoint"]


def import_checkpoint(
    system: str,
    file: str | Path,
    out: str | Path,
    vocabulary: str | Path | None = None,
    criterion: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """Make a run folder of a checkpoint that the authors' training script saved.

    The run has their weights, sizes and options, their words and numbers, and mode "released". Nothing in the files is
    run: a checkpoint that asks for more than tensors, plain containers and options is refused.

    Args:
        system: as in `runs.importers.systems()`; also the name of the method it becomes.
        file: the checkpoint.
        out: the run folder to write; must not hold a run.
        vocabulary: the words it was trained with, `.pkl`, `.json` or BERT's `vocab.txt`; not needed where the
            checkpoint holds them (PCME).
        criterion: the state of their criterion where that is a file of its own (HREM's graph). Only training on needs
            it; without it the graph starts from fresh weights, which `notes` says.
        options: options of the training script that the file does not hold, by the authors' names; those of published
            files that are weights alone (PVSE: `{"legacy": True}`).

    Returns:
        The model, as `load(out)` gives it. `notes["imported"]` says of what it was made. It can be trained on, with its
        relation if it has one: `train(model.requires_grad_(), pairs, out=...)`.

    Raises:
        UnknownName: no such system.
        DataError: a file that is missing, or `out` cannot be a folder.
        CheckpointError: damaged, refused, of another system or variant, words that are not its own, or a run is there.
    """
    using, out = importer(system), Path(out)
    if (out / "run.json").is_file():
        raise CheckpointError(f"import: {str(out)!r} holds a run already; choose another --out")
    checkpoint = read_official(file)
    for name, value in (options or {}).items():
        if checkpoint.options.get(name, value) != value:
            raise CheckpointError(
                f"import: {str(file)!r} says {name}={checkpoint.options[name]!r}, --option says {value!r}; leave it out"
            )
    checkpoint = replace(checkpoint, options={**checkpoint.options, **(options or {})})
    words = None if vocabulary is None else read_vocabulary(vocabulary)
    further = None if criterion is None else read_official(criterion)
    model = using.build(checkpoint, words, further)
    for name in options or {}:
        if name not in checkpoint.asked:
            raise UnknownName(f"option of {system}", name, sorted(checkpoint.asked))
    model.notes["imported"] = {**_facts(system, checkpoint, model, criterion), "given": dict(options or {})}
    make_folder(out, "import")
    save_training(model, out)
    save_search(model, out, {"finished": True})
    # Large weights need not be held a third time.
    del model, checkpoint, further
    return load(out)


def _facts(system: str, checkpoint: OfficialCheckpoint, model: Model, criterion: str | Path | None) -> dict[str, Any]:
    """What the run remembers of where it comes from, as JSON."""
    relation = None
    if model.relation is not None:
        relation = "fresh" if criterion is None else Path(criterion).name
    return {
        "system": system,
        "file": Path(checkpoint.path).name,
        "said": _plain(checkpoint.extra),
        "relation": relation,
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and short texts among them: epoch, best score, versions."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float | str) and value == value and len(str(value)) < 100
    }
