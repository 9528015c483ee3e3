"""What a text tower will be given, from the training captions or from a folder of a pretrained one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.official_text import read_vocabulary
from ..data.text import Tokenizer, Vocabulary
from ..errors import DataError, UnknownName
from .images import Tuning

__all__ = ["TextInput", "read_at"]

_TOWERS = ("bigru", "bigru:FILE", "bert:FOLDER", "hf:NAME-OR-FOLDER", "onnx:FILE")
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
        tower: "bigru", "bert", "bag", "hf" or "onnx".
        vocabulary: words of the training captions (for "bag" pairs of words too), or BERT's word-pieces; none of "hf"
            and "onnx", whose tokeniser stays in its folder.
        config: of "bert", what `transformers.BertConfig` is made from; of "hf" and "onnx", what the network is.
        backbone: of "hf" and "onnx", where it is: source, revision, and digests of its words and its weights.
        terms: words and pairs of words of the training captions, for a tower that begins at a linear solution.
    """

    tower: str
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(()))
    config: Mapping[str, Any] | None = None
    backbone: Mapping[str, Any] | None = None
    terms: Vocabulary | None = None

    @property
    def pooled_width(self) -> int:
        """Of a pretrained network's own vector of a text; 0 of others."""
        return int((self.config or {}).get("pooled_width", 0))

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"tower": self.tower}
        if self.backbone is None:
            out["vocabulary"] = self.vocabulary.to_json()
        for name, value in (("config", self.config), ("backbone", self.backbone)):
            if value is not None:
                out[name] = dict(value)
        if self.terms is not None:
            out["terms"] = self.terms.to_json()
        return out

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TextInput:
        backbone = value.get("backbone")
        words = Vocabulary.from_json(value["vocabulary"]) if backbone is None else Vocabulary(())
        terms = Vocabulary.from_json(value["terms"]) if "terms" in value else None
        return cls(value["tower"], words, value.get("config"), backbone, terms)


def read_at(
    captions: Iterable[str],
    tower: str | None,
    *,
    least: int,
    longest: int | None = None,
    released: bool = False,
    tuning: Tuning = "frozen",
) -> TextInput:
    """What the named text tower reads.

    Args:
        captions: of the training split.
        tower: "bigru" (default), "bigru:FILE" with a file of word vectors to begin from, "bert:FOLDER" with
            config.json, vocab.txt and model.safetensors, "hf:NAME-OR-FOLDER" of a pretrained text network, or
            "onnx:FILE" of an exported one. Weights are not read here.
        least: a word must occur this often (BiGRU).
        longest: words kept of a text, 0 keeps all (BiGRU); default 24, or all if `released`.
        released: the published systems' words and numbers, see `Vocabulary.build` (BiGRU).
        tuning: what of a pretrained network ("hf:...") learns.

    Raises:
        UnknownName: another tower.
        DataError: "bert" without a folder, or with one that holds no uncased BERT; "hf" that is no text network; a
            tuning of another tower.
    """
    name, _, source = (tower or "bigru").partition(":")
    if name == "hf":
        from .pretrained.texts import read_pretrained

        return read_pretrained(f"hf:{source}")
    if tuning != "frozen":
        raise DataError(
            f"text_tuning={tuning} is for a pretrained network (--text-tower hf:NAME), found {tower or 'none'}; "
            "leave it out"
        )
    if name == "onnx":
        from .pretrained.onnx_texts import read_onnx_texts

        return read_onnx_texts(f"onnx:{source}")
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
