"""The text tower over a pretrained network (`--text-tower hf:NAME-OR-FOLDER`): its token states, and beside them its
own vector of a whole text."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ...data.text import Tokens
from ...errors import CheckpointError, DataError
from ..base import Head, lengths_to_valid
from ..images import Tuning
from ..text_input import TextInput
from . import settled
from .hub import TOWERS, Found, digest, find, pinned, weight_files
from .lora import adapt, is_own
from .network_texts import NetworkTexts
from .rates import layer_rates
from .sentences import Sentences
from .text_networks import Reading, TextNetwork, read_text
from .words import WORD_FILES, Words

__all__ = ["PretrainedTexts", "read_pretrained"]

_held: WeakValueDictionary[tuple[str, str], TextNetwork] = WeakValueDictionary()
"""Frozen networks in use, by their digests: however many models read one, it is in memory once."""


def read_pretrained(source: str) -> TextInput:
    """What the tower over "hf:NAME" or "hf:FOLDER" reads. Its weights are named and hashed, not loaded.

    Raises:
        DataError: no such folder, or no text network or tokeniser in it.
    """
    found = find(source)
    reading = read_text(found)
    words = _words(found, reading)
    _expect_end(found, reading, words)
    backbone = {
        "source": settled(source),
        "revision": found.revision,
        "words": _digest_of_words(found, reading),
        "weights": _digest_of_weights(found, reading),
    }
    config = {**reading.to_json(), "longest": words.longest, "pooled_width": reading.pooled_width}
    return TextInput("hf", config=config, backbone=backbone)


def _expect_end(found: Found, reading: Reading, words: Words) -> None:
    """CLIP reads the state of the end mark; of another number it would read the first token, and nobody would know."""
    said, tokens = reading.network.get("eos_token_id"), words.tokens(["a"])
    last = int(tokens.ids[0, int(tokens.lengths[0]) - 1])
    # Number 2 stands for "the highest in the text": what the first CLIPs were saved with.
    if reading.kind == "clip" and said not in (2, last):
        raise DataError(
            f"{found.folder / 'config.json'}: eos_token_id {said!r}, but its tokeniser ends a text with {last}; "
            "expected the same number"
        )


def _words(found: Found, reading: Reading) -> Words:
    inside = Found(found.source, found.folder / reading.folder, found.revision)
    return Words(inside, reading.longest, int(reading.network["vocab_size"]))


def _digest_of_words(found: Found, reading: Reading) -> str:
    """Of all but the weights."""
    inside = f"{reading.folder}/" if reading.folder else ""
    parts = Sentences(reading.folder, steps=reading.steps).files
    return digest(found, *(inside + name for name in (*WORD_FILES, "config.json")), *parts)


def _digest_of_weights(found: Found, reading: Reading) -> str:
    folders = [reading.folder, *(step.folder for step in reading.steps if not isinstance(step, str))]
    files = [path for folder in folders for path in weight_files(found.folder / folder)]
    return digest(found, *(path.relative_to(found.folder).as_posix() for path in files))


class PretrainedTexts(NetworkTexts):
    """The tower over a pretrained text network; see `NetworkTexts`.

    Args:
        inputs: as `read_pretrained` gives them.
        head, further: of `NetworkTexts`.
        tuning: the network is "frozen", and no part of the run's weights; "tuned" with the run; or by "lora": it runs
            as in evaluation, and of its weights the run holds the matrices beside them alone.
        rate, decay: of the layers of a network that is tuned; see `layer_rates`. LoRA's matrices learn at the full
            rate.
        rank: of LoRA's matrices.

    Raises:
        CheckpointError: the folder is gone, or holds another network or tokeniser than the run was made with.
    """

    def __init__(
        self,
        inputs: TextInput,
        head: Head,
        *,
        tuning: Tuning = "frozen",
        rate: float = 0.1,
        decay: float = 0.8,
        rank: int = 8,
        **further: Any,
    ) -> None:
        if inputs.backbone is None or inputs.config is None:
            raise DataError(f"pretrained text tower: the input of a {inputs.tower!r} tower names no network")
        reading = Reading.from_json(inputs.config)
        found = _again(inputs.backbone, reading, weights=tuning != "tuned")
        super().__init__(_words(found, reading), (reading.width, reading.pooled_width), head, **further)
        self.reading, self.tuning, self.rate, self.decay = reading, tuning, rate, decay
        if tuning == "frozen":
            # In a tuple, a module is not seen as a part.
            self._network = (_frozen(inputs.backbone, lambda: self._made(found)),)
        else:
            self.network = self._made(found if tuning == "lora" else None)
        if tuning == "lora":
            adapt(self.network, rank=rank)

    def _made(self, found: Found | None) -> TextNetwork:
        words = self.words
        return TextNetwork(self.reading, longest=words.longest, pad=words.pad, left=words.left, found=found)

    def begin(self, source: str | None) -> str:
        """A network that is tuned starts from the folder's weights; the others have them."""
        if self.tuning == "frozen":
            return ""
        if source is not None and self.tuning == "tuned":
            self.network.load(find(f"hf:{source}"))
        own = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        return f"text tower hf:{source}: {own:,} numbers of it {'are added and ' if self.tuning == 'lora' else ''}tuned"

    def rates(self) -> Mapping[str, float]:
        if self.tuning != "tuned":
            return {}
        found = layer_rates(self.network.body, rate=self.rate, decay=self.decay)
        return {**{f"network.body.{start}": factor for start, factor in found.items()}, "network.dense.": self.rate}

    def borrowed(self, name: str) -> bool:
        return self.tuning == "lora" and name.startswith("network.") and not is_own(name)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.tuning == "lora":
            self.network.eval()
        return self

    # ---- the frozen network is no part of the tower's state, but goes where the tower goes

    @property
    def backbone(self) -> TextNetwork:
        """The network, whether it is the run's own or not."""
        return self._network[0] if self.tuning == "frozen" else self.network

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.tuning == "frozen":
            here = next(self.backbone.parameters())
            there = fn(here[:0])
            if (there.device, there.dtype) != (here.device, here.dtype):
                # Others may hold it where it is.
                self._network = (copy.deepcopy(self.backbone)._apply(fn, recurse),)  # type: ignore[no-untyped-call]
        return self

    def read(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        network = self.backbone
        device = next(network.parameters()).device
        ids, lengths = torch.as_tensor(tokens.ids, device=device), torch.as_tensor(tokens.lengths, device=device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tuning != "frozen"):
            states, own = network(ids, lengths)
        return states, lengths_to_valid(lengths, ids.shape[1]), own


def _frozen(backbone: Mapping[str, Any], made: Callable[[], TextNetwork]) -> TextNetwork:
    """The network with the folder's weights, the one that is there already if there is one."""
    key = str(backbone["words"]), str(backbone["weights"])
    network = _held.get(key)
    if network is None or next(network.parameters()).device.type != "cpu":
        network = _held[key] = made().eval().requires_grad_(False)
    return network


def _again(backbone: Mapping[str, Any], reading: Reading, *, weights: bool) -> Found:
    """The folder a run was made with. Raises CheckpointError where it is gone or another one."""
    source = str(backbone["source"])
    mend = f"put it back, or set {TOWERS} to a folder that holds a {Path(source).name.partition('@')[0]!r} of the same"
    try:
        found = find(pinned(backbone))
    except DataError as error:
        raise CheckpointError(f"text {error}; or {mend}") from None
    same = {"words": "another tokeniser or configuration"} | ({"weights": "other weights"} if weights else {})
    for part, what in same.items():
        now = (_digest_of_words if part == "words" else _digest_of_weights)(found, reading)
        if now != backbone[part]:
            raise CheckpointError(
                f"text tower {source!r}: {found.folder} has {what} than the run was made with "
                f"({now[:12]}, expected {str(backbone[part])[:12]}); {mend} digest"
            )
    return found
