"""What a text tower will be given, from the training captions or from a folder of a pretrained one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.official_text import read_vocabulary
from ..data.text import Tokenizer, Vocabulary
from ..errors import DataError, UnknownName

__all__ = ["TextInput", "read_at"]

_TOWERS = ("bigru", "bigru:FILE", "bert:FOLDER")
_BERT = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
"""What of a BERT configuration shapes its weights and numbers, with the values of a file that leaves it out."""


@dataclass(frozen=True)
class TextInput:
    """What a text tower will be given: written into the run, enough to build the tower again.

    Attributes:
        tower: "bigru", "bert" or "bag".
        vocabulary: words of the training captions (for "bag" pairs of words too), or BERT's word-pieces.
        config: of "bert", what `transformers.BertConfig` is made from.
    """

    tower: str
    vocabulary: Vocabulary
    config: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        out = {"tower": self.tower, "vocabulary": self.vocabulary.to_json()}
        return out if self.config is None else out | {"config": dict(self.config)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextInput:
        return cls(value["tower"], Vocabulary.from_json(value["vocabulary"]), value.get("config"))


def read_at(
    captions: Iterable[str], tower: str | None, *, least: int, longest: int | None = None, released: bool = False
) -> TextInput:
    """What the named text tower reads.

    Args:
        captions: of the training split.
        tower: "bigru" (default), "bigru:FILE" with a file of word vectors to begin from, or "bert:FOLDER" with
            config.json, vocab.txt and model.safetensors. Only BERT's folder is read here, and not its weights.
        least: a word must occur this often (BiGRU).
        longest: words kept of a text, 0 keeps all (BiGRU); default 24, or all if `released`.
        released: the published systems' words and numbers, see `Vocabulary.build` (BiGRU).

    Raises:
        UnknownName: another tower.
        DataError: "bert" without a folder, or with one that holds no uncased BERT.
    """
    name, _, source = (tower or "bigru").partition(":")
    if name == "bert":
        return _read_bert(source)
    if name != "bigru":
        raise UnknownName("text tower", name, _TOWERS)
    tokenizer = None if longest is None else Tokenizer(longest, "nltk" if released else "words")
    return TextInput("bigru", Vocabulary.build(captions, least=least, tokenizer=tokenizer, released=released))


def _read_bert(folder: str) -> TextInput:
    if not folder:
        raise DataError(
            "text tower 'bert': expected bert:FOLDER, a folder that save_pretrained of a BERT model and of its "
            "tokeniser wrote"
        )
    path = Path(folder)
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        if not (path / name).is_file():
            raise DataError(
                f"text tower bert:{folder}: {name} is missing; save_pretrained of a BERT model writes config.json and "
                "model.safetensors, that of its tokeniser vocab.txt"
            )
    config = _json(path / "config.json")
    for key, wanted in (("model_type", "bert"), ("position_embedding_type", "absolute"), ("is_decoder", False)):
        if config.get(key, wanted) != wanted:
            raise DataError(f"{path / 'config.json'}: {key} is {config[key]!r}, expected {wanted!r}")
    if (path / "tokenizer_config.json").is_file():
        _expect_uncased(path / "tokenizer_config.json")
    kept = {key: config.get(key, value) for key, value in _BERT.items()}
    vocabulary = read_vocabulary(path / "vocab.txt").vocabulary(longest=int(kept["max_position_embeddings"]) - 2)
    rows = config.get("vocab_size", len(vocabulary))
    if rows < len(vocabulary):
        raise DataError(f"{path / 'vocab.txt'}: {len(vocabulary)} word-pieces, but config.json has vocab_size {rows}")
    return TextInput("bert", vocabulary, {**kept, "vocab_size": rows})


def _expect_uncased(path: Path) -> None:
    if _json(path).get("do_lower_case", True) is not True:
        raise DataError(f"{path}: do_lower_case is false, expected an uncased BERT such as bert-base-uncased")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: found {type(value).__name__}, expected a JSON object")
    return value
