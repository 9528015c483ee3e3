"""Text tower over BERT: last hidden states, one linear map, a global vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..data.text import Tokens
from ..errors import DataError, UnknownName
from .base import Head, Locals, Pool, TextTower, lengths_to_valid
from .dropout import Dropout
from .noise import key_of_ids
from .text_input import TextInput
from .word_drop import WordDrop

__all__ = ["BertTower"]


class BertTower(TextTower):
    """`Linear(last hidden states)` as fragments, [CLS] and [SEP] among them (VSE-infinity, HREM, DivE).

    Args:
        inputs: word-pieces and configuration, as `read_at` of "bert:FOLDER" gives them.
        head: makes the embedding; its fragments are `dim` wide.
        dim: joint width d.
        pooling: the global vector: "cls", the first token's, or a Pool over all tokens.
        dropout: on what leaves the linear map; inside BERT its configuration says.
        drop: share of whole words masked, replaced or deleted while training, as `WordDrop`.

    Raises:
        UnknownName: another pooling.
        DataError: transformers is not installed, or `inputs` carry no configuration.
    """

    def __init__(
        self,
        inputs: TextInput,
        head: Head,
        *,
        dim: int,
        pooling: Literal["cls"] | Pool = "cls",
        dropout: float = 0.0,
        drop: float = 0.2,
    ) -> None:
        super().__init__()
        if not isinstance(pooling, Pool) and pooling != "cls":
            raise UnknownName("text pooling of BERT", pooling, ("cls",))
        if inputs.config is None:
            raise DataError(f"BERT tower: the input of a {inputs.tower!r} tower has no configuration of BERT")
        self.vocabulary, self.head = inputs.vocabulary, head
        self.drop = WordDrop(inputs.vocabulary, drop)
        library = _library()
        pad = inputs.vocabulary.specials.pad
        config = library.BertConfig(**inputs.config, pad_token_id=pad, attn_implementation="sdpa")
        self.bert = library.BertModel(config, add_pooling_layer=False)
        self.linear = nn.Linear(config.hidden_size, dim)
        self.pool = pooling if isinstance(pooling, Pool) else None
        self.dropout = Dropout(dropout)

    def begin(self, source: str | None) -> str:
        """Start BERT from the weights in a folder (`--text-tower bert:FOLDER`).

        Raises:
            DataError: its model.safetensors cannot be read, or a weight of BERT is missing or of another shape.
        """
        if source is None:
            return ""
        path = Path(source) / "model.safetensors"
        found = {_plain(name): value for name, value in _weights(path).items()}
        for name, mine in self.bert.state_dict().items():
            if name not in found:
                raise DataError(f"{path}: {name!r} is missing, expected the weights of a BERT model")
            if found[name].shape != mine.shape:
                raise DataError(
                    f"{path}: {name!r} has shape {tuple(found[name].shape)}, expected {tuple(mine.shape)} "
                    "as config.json says"
                )
            mine.copy_(found[name])
        return ""

    def tokens(self, texts: list[str]) -> Tokens:
        return self.vocabulary.encode(texts)

    def local(self, tokens: Tokens) -> Locals:
        device = self.linear.weight.device
        ids, lengths = torch.as_tensor(tokens.ids, device=device), torch.as_tensor(tokens.lengths, device=device)
        ids, lengths = self.drop(ids, lengths)
        longest = int(lengths.max())
        ids, valid = ids[:, :longest], lengths_to_valid(lengths, longest)
        vectors = self.dropout(self.linear(self._states(ids)))
        pooled = vectors[:, 0] if self.pool is None else self.pool(vectors, valid)
        key = key_of_ids(ids, valid) if self.head.keyed and not self.training else None
        return Locals(vectors, valid, pooled, key=key)

    def _states(self, ids: Tensor) -> Tensor:
        """(n, w) -> last hidden states (n, w, 768), padding unseen."""
        real = (ids != self.vocabulary.specials.pad).long()
        states: Tensor = self.bert(input_ids=ids, attention_mask=real).last_hidden_state
        return states


def _plain(name: str) -> str:
    """A weight's name in a bare BertModel: files of a BERT with a head put "bert." before it, and the oldest call a
    norm's weights gamma and beta."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error})") from None


def _library() -> Any:
    try:
        import transformers
    except ImportError:
        raise DataError('text tower bert: transformers is not installed; run pip install "manymatch[hf]"') from None
    return transformers
