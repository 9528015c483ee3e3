"""Pretrained text networks: CLIP, SigLIP, SigLIP 2, BERT and ModernBERT, alone or in a sentence-transformers folder.

Token numbers to token states and the architecture's own vector of the whole text:

- CLIP: the state of the end mark, projected.
- SigLIP, SigLIP 2: the state of the last place of a text padded to full length, through the head. They were trained
  with padding that every token sees, so they are given the same.
- BERT: the pooler's output where the folder has one, else the state of [CLS].
- ModernBERT: the state of [CLS] or the mean of all, as its configuration says (`classifier_pooling`).
- sentence-transformers: as `modules.json` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import DataError
from ..base import lengths_to_valid
from ..pooling import max_pool, mean_pool
from .hub import Found, config, weights
from .library import building, expect_finite, library, loaded, quiet
from .sentences import Dense, read_sentences

__all__ = ["Reading", "TextNetwork", "read_text"]

_TEXT_OF = {"clip": "clip", "clip_text_model": "clip", "siglip": "siglip", "siglip2": "siglip2"}
_SIGLIP = ("siglip", "siglip2")
_PLAIN = ("bert", "modernbert")
_KNOWN = "clip, siglip, siglip2, bert, modernbert"
_NO_NUMBERS = (
    *("architectures", "attn_implementation", "auto_map", "dtype", "id2label", "label2id", "quantization_config"),
    *("torch_dtype", "transformers_version"),
)
"""Of a configuration: what changes nothing that is computed, or would have it computed by other code."""

_CLASSES = {
    "clip": ("CLIPTextConfig", "CLIPTextModelWithProjection"),
    "siglip": ("SiglipTextConfig", "SiglipTextModel"),
    "siglip2": ("Siglip2TextConfig", "Siglip2TextModel"),
    "bert": ("BertConfig", "BertModel"),
    "modernbert": ("ModernBertConfig", "ModernBertModel"),
}


@dataclass(frozen=True)
class Reading:
    """What a text network is, enough to build it again.

    Attributes:
        kind: "clip", "siglip", "siglip2", "bert" or "modernbert".
        network: the library's configuration of the text half.
        longest: tokens kept of a text.
        pools: how states become one vector: "own" is the library's output; else "cls", "max" and "mean", one behind
            the other.
        steps: what comes after: a Dense, or "normalize".
        folder: of the network inside a sentence-transformers folder.
    """

    kind: str
    network: Mapping[str, Any]
    longest: int
    pools: tuple[str, ...] = ("own",)
    steps: tuple[Dense | str, ...] = ()
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        steps = [step if isinstance(step, str) else asdict(step) for step in self.steps]
        return {**asdict(self), "pools": list(self.pools), "steps": steps}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reading:
        """Of `to_json`; further facts beside are left aside."""
        steps = tuple(step if isinstance(step, str) else Dense(**step) for step in value["steps"])
        kept = {one.name: value[one.name] for one in fields(cls)}
        return cls(**{**kept, "pools": tuple(value["pools"]), "steps": steps})

    @property
    def width(self) -> int:
        """Of a token's state."""
        return int(self.network["hidden_size"])

    @property
    def pooled_width(self) -> int:
        """Of the vector of a whole text."""
        dense = [step for step in self.steps if isinstance(step, Dense)]
        if dense:
            return dense[-1].outputs
        if self.pools == ("own",):
            own = {"clip": "projection_dim", "siglip": "projection_size", "siglip2": "projection_size"}
            return int(self.network[own.get(self.kind, "hidden_size")])
        return self.width * len(self.pools)


def read_text(found: Found) -> Reading:
    """What the folder's text network is; of its weights only the names are looked at.

    Raises:
        DataError: another architecture, one without a text half, a decoder, or files that cannot be read.
    """
    sentences = read_sentences(found)
    inside = found if sentences is None else replace(found, folder=found.folder / sentences.folder)
    said = config(inside)
    kind = _TEXT_OF.get(said["model_type"], said["model_type"])
    if kind not in _CLASSES:
        raise DataError(
            f"tower {found.source!r}: {inside.folder / 'config.json'} has model_type {said['model_type']!r}, which is "
            f"no text network that is known here ({_KNOWN})"
        )
    if said.get("is_decoder"):
        raise DataError(f"tower {found.source!r}: its BERT is a decoder (is_decoder), expected an encoder")
    network = _text_half(found, kind, said)
    out = Reading(kind, network, int(network["max_position_embeddings"]))
    if sentences is None:
        return out if kind not in _PLAIN else replace(out, pools=(_own_pool(inside, out),))
    if kind not in _PLAIN:
        raise DataError(f"tower {found.source!r}: sentence-transformers over {kind}; give the folder of {kind} itself")
    longest = min(out.longest, sentences.longest or out.longest)
    return replace(out, longest=longest, pools=sentences.pools, steps=sentences.steps, folder=sentences.folder)


def _text_half(found: Found, kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """The text half's configuration, with every number the library fills in."""
    code = library(f"tower {found.source!r}")
    name = {"clip": "CLIPConfig", "siglip": "SiglipConfig", "siglip2": "Siglip2Config"}.get(kind)
    try:
        with quiet():
            if name is None or said["model_type"] == "clip_text_model":
                half = getattr(code, _CLASSES[kind][0]).from_dict(dict(said)).to_dict()
            else:
                whole = getattr(code, name).from_dict(dict(said))
                half = whole.text_config.to_dict()
                half |= {"projection_dim": whole.projection_dim} if kind == "clip" else {}
    # The library checks its configurations in its own ways; whatever it says, config.json is to be mended.
    except Exception as error:
        line = " ".join(str(error).split())[:160]
        raise DataError(f"{found.folder / 'config.json'}: not a configuration of {kind} ({line})") from None
    return {k: v for k, v in half.items() if k not in _NO_NUMBERS and not k.startswith("_")}


def _own_pool(found: Found, reading: Reading) -> str:
    if reading.kind == "modernbert":
        return str(reading.network["classifier_pooling"])
    names = weights(found)
    return "own" if any(f"{prefix}pooler.dense.weight" in names for prefix in ("", "bert.")) else "cls"


class TextNetwork(nn.Module):
    """Token numbers to token states and a vector of the whole text.

    Args:
        reading: what it is.
        longest: places that a text of SigLIP is padded to.
        pad: number of padding.
        left: SigLIP's padding stands before the text.
        found: where its weights are, which are then mapped from the disk; random ones without.

    Raises:
        DataError: a configuration that the library cannot build; no safetensors, or a weight is missing, of another
            shape, or not finite.
    """

    def __init__(
        self, reading: Reading, *, longest: int, pad: int, left: bool = False, found: Found | None = None
    ) -> None:
        super().__init__()
        self.reading, self.longest, self.pad, self.left = reading, longest, pad, left
        self.body = _built(reading) if found is None else _read(reading, found)
        dense = [step for step in reading.steps if isinstance(step, Dense)]
        with building():
            self.dense = nn.ModuleList(nn.Linear(step.inputs, step.outputs, bias=step.bias) for step in dense)
        for layer, step in zip(self.dense, dense, strict=True):
            if found is not None:
                _copy(layer, replace(found, folder=found.folder / step.folder))
        if found is not None:
            expect_finite(self, str(found.folder))

    @torch.no_grad()
    def load(self, found: Found) -> None:
        """Weights from the folder, each by its name, copied over its own. Raises DataError as the class."""
        given = TextNetwork(self.reading, longest=self.longest, pad=self.pad, found=found)
        self.load_state_dict(given.state_dict())

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(n, w), (n,) -> states (n, w, c) and the vector of each text (n, p)."""
        valid = lengths_to_valid(lengths, ids.shape[1])
        states, own = self._padded(ids, lengths) if self.reading.kind in _SIGLIP else self._masked(ids, valid)
        pooled = torch.cat([self._pool(name, states, own, valid) for name in self.reading.pools], dim=-1)
        layers = iter(self.dense)
        for step in self.reading.steps:
            if isinstance(step, Dense):
                pooled = getattr(nn, step.activation)()(next(layers)(pooled))
            else:
                pooled = functional.normalize(pooled, dim=-1)
        return states, pooled

    def _masked(self, ids: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.body(input_ids=ids, attention_mask=valid.long())
        own = getattr(out, "text_embeds", None)
        return out.last_hidden_state, getattr(out, "pooler_output", None) if own is None else own

    def _padded(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Padded to full length, where the network has its padding; states as they came, padding behind."""
        place = torch.arange(ids.shape[1], device=ids.device)[None, :].expand(ids.shape)
        if self.left:
            place = place + (self.longest - lengths)[:, None]
        # Places of padding, which may lie beyond the end, all take the padding that is there.
        real = lengths_to_valid(lengths, ids.shape[1])
        full = torch.full((len(ids), self.longest), self.pad, dtype=ids.dtype, device=ids.device)
        rows = torch.arange(len(ids), device=ids.device)[:, None].expand(ids.shape)
        full[rows[real], place[real]] = ids[real]
        out = self.body(input_ids=full)
        states = out.last_hidden_state[rows, place.clamp(max=self.longest - 1)]
        return states, out.pooler_output

    def _pool(self, name: str, states: Tensor, own: Tensor | None, valid: Tensor) -> Tensor:
        if name == "own":
            assert own is not None
            return own
        if name == "cls":
            return states[:, 0]
        return max_pool(states, valid) if name == "max" else mean_pool(states, valid)


def _classes(reading: Reading) -> tuple[Any, Any, dict[str, Any]]:
    """The library's configuration, its class of network, and what that is called with."""
    code = library(f"text network {reading.kind}")
    of_config, of_model = (getattr(code, name) for name in _CLASSES[reading.kind])
    # Said here: a configuration might name code of somebody else's.
    settings: dict[str, Any] = {"attn_implementation": "sdpa"}
    settings |= {"add_pooling_layer": reading.pools == ("own",)} if reading.kind == "bert" else {}
    return of_config.from_dict(dict(reading.network)), of_model, settings


def _built(reading: Reading) -> nn.Module:
    """The library's network with random weights."""
    try:
        with building():
            made, model, settings = _classes(reading)
            return model._from_config(made, dtype=torch.float32, **settings)
    # Sizes that do not go together come to light in many places of the library.
    except (ValueError, TypeError, KeyError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        line = " ".join(str(error).split())[:160]
        raise DataError(f"text network {reading.kind}: its config.json makes no network ({line})") from None


def _read(reading: Reading, found: Found) -> nn.Module:
    """The library's network with the folder's weights."""
    inside = replace(found, folder=found.folder / reading.folder)
    with quiet():
        made, model, settings = _classes(reading)
    return loaded(model, made, weights(inside), settings, str(inside.folder))


@torch.no_grad()
def _copy(layer: nn.Module, found: Found) -> None:
    """A linear map's weights from a folder of its own."""
    given = {name.removeprefix("linear."): value for name, value in weights(found).items()}
    for name, mine in layer.state_dict().items():
        if name not in given or given[name].shape != mine.shape:
            shape = tuple(given[name].shape) if name in given else "missing"
            raise DataError(f"{found.folder}: weight 'linear.{name}' is {shape}, expected {tuple(mine.shape)}")
        mine.copy_(given[name])
