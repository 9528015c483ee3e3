"""What a sentence-transformers folder adds to a text network: pooling, linear maps and the unit length after it.

Only its JSON is read; `modules.json` lists the parts in their order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ...errors import DataError
from .hub import Found, read_json

__all__ = ["Dense", "Sentences", "read_sentences"]

_POOLS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
}
"""Poolings in the order in which several stand one behind the other."""

_ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid")


@dataclass(frozen=True)
class Dense:
    """A linear map of the pooled vector, in a folder of its own."""

    folder: str
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True)
class Sentences:
    """How the folder makes one vector of a text's token states.

    Attributes:
        folder: of the network inside the whole; empty where they are the same.
        longest: tokens kept of a text; None leaves it to the network.
        pools: "cls", "max" and "mean", several one behind the other.
        steps: what comes after, in order: a Dense, or "normalize".
    """

    folder: str = ""
    longest: int | None = None
    pools: tuple[str, ...] = ()
    steps: tuple[Dense | str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """What it was read from, for the digest; weights are not among them."""
        inside = f"{self.folder}/" if self.folder else ""
        dense = [f"{step.folder}/config.json" for step in self.steps if isinstance(step, Dense)]
        return ("modules.json", "*_Pooling/config.json", f"{inside}sentence_bert_config.json", *dense)


def read_sentences(found: Found) -> Sentences | None:
    """What `modules.json` of the folder says; None where there is none.

    Raises:
        DataError: a part that is not supported, or a file that cannot be read.
    """
    path = found.folder / "modules.json"
    if not path.is_file():
        return None
    where, out = f"{path}", Sentences()
    for number, (kind, folder) in enumerate(_modules(found)):
        if kind == "Transformer" and number == 0:
            out = replace(out, folder=folder, longest=_longest(found, folder))
        elif kind == "Pooling" and number == 1:
            out = replace(out, pools=_pools(found, folder))
        elif kind == "Dense" and out.pools:
            out = replace(out, steps=(*out.steps, _dense(found, folder)))
        elif kind == "Normalize" and out.pools:
            out = replace(out, steps=(*out.steps, "normalize"))
        elif kind != "Dropout":
            raise DataError(
                f"{where}: part {number + 1} is {kind}, expected Transformer, Pooling, then Dense or Normalize; "
                "this sentence-transformers network cannot be a text tower"
            )
    if not out.pools:
        raise DataError(f"{where}: no Pooling among its parts, expected one after the Transformer")
    _no_prompt(found)
    return out


def _modules(found: Found) -> list[tuple[str, str]]:
    """Kind and folder of each part."""
    path = found.folder / "modules.json"
    try:
        value = json.loads(path.read_text("utf-8"))
        parts = sorted(value, key=lambda part: int(part.get("idx", 0)))
        out = [(str(part["type"]).rpartition(".")[2], str(part["path"])) for part in parts]
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected a list of parts with type and path ({error!r})") from None
    for _, folder in out:
        pure = PurePosixPath(folder)
        if pure.is_absolute() or ".." in pure.parts:
            raise DataError(f"{path}: path {folder!r} leads out of the folder; expected a folder inside it")
    return out


def _longest(found: Found, folder: str) -> int | None:
    inside = replace(found, folder=found.folder / folder)
    if not (inside.folder / "sentence_bert_config.json").is_file():
        return None
    said = read_json(inside, "sentence_bert_config.json").get("max_seq_length")
    return said if isinstance(said, int) and said > 0 else None


def _pools(found: Found, folder: str) -> tuple[str, ...]:
    path, value = found.folder / folder / "config.json", read_json(found, f"{folder}/config.json")
    named = value.get("pooling_mode")
    if named is not None:
        # Newer folders name it, or several, in one field.
        asked = [named] if isinstance(named, str) else list(named)
        modes = [f"pooling_mode_{n}_token" if n == "cls" else f"pooling_mode_{n}_tokens" for n in asked]
    else:
        modes = [key for key, on in value.items() if key.startswith("pooling_mode_") and on is True]
    strange = sorted(set(modes) - set(_POOLS))
    if strange or not modes:
        raise DataError(
            f"{path}: pooling {', '.join(strange) or 'of no kind'}, expected cls, max or mean; "
            "this sentence-transformers network cannot be a text tower"
        )
    return tuple(name for mode, name in _POOLS.items() if mode in modes)


def _dense(found: Found, folder: str) -> Dense:
    path, value = found.folder / folder / "config.json", read_json(found, f"{folder}/config.json")
    activation = str(value.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise DataError(f"{path}: activation_function {activation}, expected one of {', '.join(_ACTIVATIONS)}")
    sizes: list[Any] = [value.get("in_features"), value.get("out_features")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise DataError(f"{path}: in_features and out_features {sizes}, expected whole numbers")
    return Dense(folder, sizes[0], sizes[1], value.get("bias", True) is not False, activation)


def _no_prompt(found: Found) -> None:
    """A network that wants words put before every text would be another one without them."""
    name = "config_sentence_transformers.json"
    if (found.folder / name).is_file() and (prompt := read_json(found, name).get("default_prompt_name")):
        raise DataError(
            f"{found.folder / name}: default_prompt_name {prompt!r}; prompts are not put before texts here, "
            "choose a network without"
        )
