"""What the authors' training scripts leave behind: checkpoints and vocabularies, read as data.

A checkpoint holds weights under `model` or `state_dict` (one dict of tensors, or a list of one per encoder), options
under `opt`, `args`, `config` or `hyper_parameters`, and numbers of the run; or it is a dict of tensors alone. A
vocabulary is a pickled object or dict with `word2idx`, the same as JSON, a plain JSON of word -> number, or BERT's
`vocab.txt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.official_text import OfficialVocabulary, read_vocabulary
from ..encoders.torch_files import read_torch_file
from ..errors import CheckpointError

__all__ = ["OfficialCheckpoint", "OfficialVocabulary", "read_official", "read_vocabulary"]

State = dict[str, Tensor]

_WEIGHTS = ("model", "state_dict")
_OPTIONS = ("opt", "args", "config", "hyper_parameters")
_NOT_READ = ("optimizer", "optimizer_states", "optim")
"""An optimiser's state is twice the weights, and of no use to a trained model."""


@dataclass(frozen=True)
class OfficialCheckpoint:
    """A checkpoint of an official training script.

    Attributes:
        options: what the script was called with, or its configuration; empty where the file has none.
        parts: state dicts in the file's order: one of the whole model, or [image encoder, text encoder, ...].
            Segments "module" that data-parallel training puts into names are gone.
        extra: everything else but the optimiser: epoch, best score, the criterion's state, word numbers.
        path: the file, for messages.
        asked: names of the options that were asked for so far.
    """

    options: Mapping[str, Any]
    parts: tuple[State, ...]
    extra: Mapping[str, Any]
    path: str
    asked: set[str] = field(default_factory=set, compare=False)

    def state(self, *prefixes: str) -> State:
        """The whole model as one dict.

        Args:
            prefixes: one for each part, put before its names; none for a checkpoint of one part.

        Raises:
            CheckpointError: another number of parts.
        """
        wanted = prefixes or ("",)
        if len(wanted) != len(self.parts):
            raise CheckpointError(
                f"checkpoint: {self.path!r} holds {len(self.parts)} state dicts, expected {len(wanted)}; "
                "is it a checkpoint of another system?"
            )
        return {p + name: value for p, part in zip(wanted, self.parts, strict=True) for name, value in part.items()}

    def option(self, name: str, default: Any = None) -> Any:
        """An option by name; `default` when the script was not given it. Raises CheckpointError without a default."""
        self.asked.add(name)
        if name not in self.options and default is None:
            raise CheckpointError(
                f"checkpoint: {self.path!r} has no option {name!r} (it has {len(self.options)}); "
                "expected the file that the training script saves, not its weights alone"
            )
        return self.options.get(name, default)


def read_official(path: str | Path) -> OfficialCheckpoint:
    """Read a checkpoint as the official training scripts save it, running nothing in it.

    Raises:
        DataError: no such file.
        CheckpointError: damaged, not a checkpoint, or one that asks for anything but tensors, plain containers,
            numbers, text, `argparse.Namespace` and a vocabulary; the message names what.
    """
    tree = read_torch_file(path, skip=_NOT_READ)
    where = f"checkpoint: {str(path)!r}"
    if not isinstance(tree, dict):
        raise CheckpointError(f"{where} holds {_article(tree)}, expected a dict with weights under 'model'")
    if tree and _is_state(tree):
        return OfficialCheckpoint({}, (_without_module(tree, where),), {}, str(path))
    held = next((key for key in _WEIGHTS if key in tree), None)
    if held is None:
        raise CheckpointError(
            f"{where} holds {', '.join(map(repr, list(tree)[:8])) or 'nothing'}, expected weights under "
            f"{' or '.join(map(repr, _WEIGHTS))}, or tensors by name"
        )
    parts = tree[held] if isinstance(tree[held], list | tuple) else [tree[held]]
    for n, part in enumerate(parts):
        if not _is_state(part):
            raise CheckpointError(f"{where}: {held!r}, part {n}, is {_article(part)}, expected tensors by name")
    options: dict[str, Any] = next((tree[key] for key in _OPTIONS if isinstance(tree.get(key), dict)), {})
    extra = {k: v for k, v in tree.items() if k != held and v is not options}
    return OfficialCheckpoint(options, tuple(_without_module(part, where) for part in parts), extra, str(path))


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _without_module(state: State, where: str) -> State:
    out = {".".join(part for part in name.split(".") if part != "module"): value for name, value in state.items()}
    if len(out) != len(state):
        raise CheckpointError(f"{where}: names that differ in 'module.' alone; the file is damaged or forged")
    return out


def _article(value: object) -> str:
    return "tensors by name" if _is_state(value) else f"a value of type {type(value).__name__}"
