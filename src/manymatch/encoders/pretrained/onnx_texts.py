"""The text tower over a text encoder exported to ONNX (`--text-tower onnx:FILE`), frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.text import Tokens
from ...errors import CheckpointError, DataError
from ..base import Head, lengths_to_valid
from ..pooling import mean_pool
from ..text_input import TextInput
from .hub import Found, digest
from .network_texts import NetworkTexts
from .onnx_files import chosen, expect_finite_outputs, file_of, onnx_digest, open_session, run_session
from .words import WORD_FILES, Words

__all__ = ["OnnxTexts", "read_onnx_texts"]

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_POOLED = ("text_embeds", "sentence_embedding", "pooler_output", "pooled", "embeddings", "embedding")
_STATES = ("last_hidden_state", "token_embeddings", "hidden_states")
_LONGEST = 512
"""Tokens of a text where neither the file nor its tokeniser says how many it reads."""


def read_onnx_texts(source: str) -> TextInput:
    """What the tower over "onnx:FILE" reads: the network's inputs and outputs, and the tokeniser beside it.

    The tokeniser is `tokenizer.json` (or what else `save_pretrained` of one writes) beside the file, in a folder
    `tokenizer` there, or in the folder above one that is called "onnx".

    Raises:
        DataError: no such file, no text encoder, or no tokeniser.
    """
    path = file_of(source)
    content = onnx_digest(path)
    session = open_session(source)
    shapes = {one.name: [_size(one.shape, axis) for axis in range(2)] for one in session.get_inputs()}
    odd = sorted(set(shapes) - {_IDS, _MASK, _TYPES})
    types = {one.name: one.type for one in session.get_inputs()}
    if odd or _IDS not in shapes or not set(types.values()) <= set(_WHOLE):
        raise DataError(
            f"tower {source!r}: inputs {types}, expected {_IDS}, and {_MASK} and {_TYPES} where it takes them, whole "
            "numbers; export the text half alone"
        )
    batch, width = shapes[_IDS]
    words = _words(source, path, width or _LONGEST)
    config: dict[str, Any] = {"inputs": types, "batch": batch, "width": width, "longest": words.longest}
    backbone = {
        "source": f"onnx:{path.resolve()}",
        "words": digest(_folder(source, path), *WORD_FILES),
        "weights": content,
    }
    return TextInput("onnx", config=config | _outputs(session, source, config, words), backbone=backbone)


def _size(shape: Sequence[Any], axis: int) -> int | None:
    """A fixed size; None where it is left open."""
    return shape[axis] if len(shape) > axis and isinstance(shape[axis], int) and shape[axis] > 0 else None


def _folder(source: str, path: Path) -> Found:
    """Where the tokeniser lies. Raises DataError."""
    above = [path.parent.parent] if path.parent.name == "onnx" else []
    for folder in (path.parent, path.parent / "tokenizer", *above):
        if any(one for name in WORD_FILES for one in folder.glob(name)):
            return Found(source, folder)
    raise DataError(
        f"tower {source!r}: no tokeniser beside it; put tokenizer.json there, or what save_pretrained of its tokeniser "
        "writes"
    )


def _words(source: str, path: Path, longest: int) -> Words:
    # How many rows its table has is not written anywhere: a number beyond it is refused when it runs.
    return Words(_folder(source, path), longest, 2**31)


def _outputs(session: Any, source: str, config: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """Names and widths of the outputs that are read: only running it tells, as a file may leave sizes open."""
    names = [one.name for one in session.get_outputs()]
    found = run_session(session, source, names, _given(words.tokens(["a"]), config, words.pad), config["batch"])
    pooled = chosen([name for name in names if np.ndim(found[name]) == 2], _POOLED)
    states = chosen([name for name in names if np.ndim(found[name]) == 3], _STATES)
    if pooled is None and states is None:
        shapes = {name: np.shape(value) for name, value in found.items()}
        raise DataError(f"tower {source!r}: outputs {shapes}, expected one with two axes (text) or three (tokens)")
    expect_finite_outputs(source, {name: found[name] for name in (pooled, states) if name})
    return {
        "pooled": pooled,
        "states": states,
        "pooled_width": found[pooled or states].shape[-1],  # type: ignore[index]
        "states_width": found[states or pooled].shape[-1],  # type: ignore[index]
    }


def _given(tokens: Tokens, config: Mapping[str, Any], pad: int) -> dict[str, np.ndarray[Any, Any]]:
    """The network's inputs, padded to its width where that is fixed."""
    ids = np.asarray(tokens.ids)
    if config["width"]:
        wide = np.full((len(ids), config["width"]), pad, np.int64)
        wide[:, : ids.shape[1]] = ids
        ids = wide
    all_of_it = {
        _IDS: ids,
        _MASK: np.arange(ids.shape[1])[None, :] < np.asarray(tokens.lengths)[:, None],
        _TYPES: np.zeros_like(ids),
    }
    return {name: np.ascontiguousarray(all_of_it[name], _WHOLE[kind]) for name, kind in config["inputs"].items()}


class OnnxTexts(NetworkTexts):
    """The tower over an exported text encoder; see `NetworkTexts`.

    A network without a vector of its own gives the mean of its states, one without states its vector as the one
    fragment.

    Args:
        inputs: as `read_onnx_texts` gives them.
        head, further: of `NetworkTexts`.

    Raises:
        CheckpointError: the file is gone, or it or its tokeniser is another than the run was made with.
    """

    def __init__(self, inputs: TextInput, head: Head, **further: Any) -> None:
        assert inputs.config is not None and inputs.backbone is not None
        config, source = dict(inputs.config), str(inputs.backbone["source"])
        words = _words(source, _again(inputs.backbone), config["longest"])
        super().__init__(words, (config["states_width"], config["pooled_width"]), head, **further)
        self.config, self.source = config, source
        # In a tuple, and not copied with the tower: a session cannot be.
        self._session = (open_session(source),)
        self.register_buffer("place", torch.zeros(0), persistent=False)

    place: Tensor

    def cut(self, text: str) -> list[str]:
        return super().cut(text) if self.config["states"] else [text]

    def read(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        states, valid, own = (value.to(self.place.device) for value in self._read(tokens))
        return states, valid, own

    def _read(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Token states (n, w, c), which of them are real, and the vector of each text (n, p)."""
        names = {part: self.config[part] for part in ("pooled", "states") if self.config[part]}
        given = _given(tokens, self.config, self.words.pad)
        found = run_session(self._session[0], self.source, list(names.values()), given, self.config["batch"])
        out = {part: torch.from_numpy(found[name].astype(np.float32)) for part, name in names.items()}
        if "states" not in out:
            return out["pooled"][:, None], torch.ones(len(out["pooled"]), 1, dtype=torch.bool), out["pooled"]
        longest = np.shape(tokens.ids)[1]
        states = out["states"][:, :longest]
        valid = lengths_to_valid(torch.as_tensor(tokens.lengths), longest)
        return states, valid, out["pooled"] if "pooled" in out else mean_pool(states, valid)


def _again(backbone: Mapping[str, Any]) -> Path:
    """The file a run was made with. Raises CheckpointError where it is gone or another one."""
    source = str(backbone["source"])
    try:
        path = file_of(source)
        now = {"words": digest(_folder(source, path), *WORD_FILES), "weights": onnx_digest(path)}
    except DataError as error:
        raise CheckpointError(f"text {error}; put it back where it was") from None
    for part, what in (("words", "tokeniser"), ("weights", "network")):
        if now[part] != backbone[part]:
            raise CheckpointError(
                f"text tower {source!r}: another {what} than the run was made with ({now[part][:12]}, expected "
                f"{str(backbone[part])[:12]}); put that back"
            )
    return path
