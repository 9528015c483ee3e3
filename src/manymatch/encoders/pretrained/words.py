"""The tokeniser of a pretrained text network, as its folder has it: texts to numbers with the network's own marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.text import Tokens
from ...errors import DataError
from .hub import Found
from .library import library, quiet

__all__ = ["WORD_FILES", "Words"]

WORD_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
"""What a tokeniser is read from."""

_BLANK = "▁"
"""How SentencePiece spells a blank."""

_NO_LIMIT = 1_000_000
_PADDINGS = ("[PAD]", "<pad>", "<|pad|>")


class Words:
    """A tokeniser of the transformers library, cut at a fixed length.

    Args:
        found: the folder it lies in.
        longest: tokens kept of a text, marks included; fewer where the tokeniser itself says so.
        room: numbers the network has rows for.

    Raises:
        DataError: there is no tokeniser in the folder, it asks for code or packages that are not here, or it knows
            more tokens than the network.
    """

    def __init__(self, found: Found, longest: int, room: int) -> None:
        where = f"tower {found.source!r}: tokeniser in {found.folder}"
        self._tokenizer = _read(found, where)
        said = int(min(getattr(self._tokenizer, "model_max_length", _NO_LIMIT), _NO_LIMIT))
        self.longest = min(longest, said)
        numbers = self._tokenizer.get_vocab()
        most = max(numbers.values(), default=-1)
        if most >= room or most < 0:
            raise DataError(f"{where}: numbers up to {most}, but the network has rows for {room}; is it another one's?")
        self._quick = getattr(self._tokenizer, "backend_tokenizer", None)
        marks = _marks_said(self._tokenizer)
        if not marks.special and self._quick is not None:
            marks = _marks_of_file(self._quick)
        self._special, self._unknown, self._ends, self.pad = marks.special, marks.unknown, marks.ends, marks.pad
        self._wordless = self._special | {numbers[blank] for blank in (_BLANK, "Ġ") if blank in numbers}
        self.left = self._tokenizer.padding_side == "left"
        if self._quick is not None:
            # Set once: changing it while another thread encodes is an error.
            self._quick.enable_truncation(self.longest)
            self._quick.no_padding()

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Numbers with the tokeniser's own marks, padded behind; a text of no token is one padding."""
        rows = [row or [self.pad] for row in self._rows(texts)]
        lengths = np.array([len(row) for row in rows], np.int64)
        ids = np.full((len(rows), int(lengths.max(initial=1))), self.pad, np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
        return Tokens(ids, lengths)

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        if self._quick is not None:
            return [list(one.ids) for one in self._quick.encode_batch(list(texts))]
        with quiet():
            found = self._tokenizer(list(texts), truncation=True, max_length=self.longest) if texts else {}
        return [list(row) for row in found.get("input_ids", [])]

    def knows(self, text: str) -> bool:
        """Whether any token of it is a word or a part of one that the network has seen."""
        return bool(text.strip()) and any(number not in self._wordless for number in self._rows([text])[0])

    def cuts(self, text: str) -> bool:
        """Whether the text has more tokens than are read."""
        if self._quick is not None:
            return bool(self._quick.encode(text).overflowing)
        with quiet():
            return len(self._tokenizer(text)["input_ids"]) > self.longest

    def cut(self, text: str) -> list[str]:
        """What each token is of the text, spelt as there; "##" before what goes on with a word.

        Marks are [start] and [end], and what the tokeniser does not know stands in square brackets.
        """
        if self._quick is None:
            return self._spelt(text)
        one, out, before = self._quick.encode(text), [], None
        for number, mark, (start, end), word in zip(
            one.ids, one.special_tokens_mask, one.offsets, one.word_ids, strict=True
        ):
            if mark:
                out.append("[end]" if number in self._ends else "[start]")
                continue
            piece = text[start:end].strip() or self._piece(number)
            if number == self._unknown:
                piece = f"[{piece}]"
            elif word is not None and word == before and not any(c.isspace() for c in text[start - 1 : start + 1]):
                piece = f"##{piece}"
            out.append(piece)
            before = word
        return out or ["[unknown]"]

    def _spelt(self, text: str) -> list[str]:
        """As `cut`, of a tokeniser that does not say where in the text its tokens are."""
        out: list[str] = []
        for number in self._rows([text])[0]:
            piece = self._tokenizer.convert_ids_to_tokens(number)
            if number == self._unknown:
                out.append("[unknown]")
            elif number in self._special:
                out.append("[end]" if number in self._ends else "[start]")
            else:
                fresh = piece.startswith(_BLANK) or not out or out[-1] == "[start]"
                out.append(self._piece(number) if fresh else f"##{piece}")
        return out or ["[unknown]"]

    def _piece(self, number: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(number)).replace(_BLANK, "") or _BLANK


@dataclass(frozen=True)
class _Marks:
    """Numbers that stand for no word: all of them, and among them the unknown word, ends of a text, and padding."""

    special: set[int]
    unknown: int | None
    ends: set[int]
    pad: int


def _marks_said(tokenizer: Any) -> _Marks:
    """As the library knows them, from the files beside tokenizer.json."""
    ends = {mark for mark in (tokenizer.eos_token_id, tokenizer.sep_token_id) if mark is not None}
    pads = tokenizer.pad_token_id, tokenizer.eos_token_id
    pad = next((mark for mark in pads if mark is not None), 0)
    return _Marks(set(tokenizer.all_special_ids), tokenizer.unk_token_id, ends, pad)


def _marks_of_file(backend: Any) -> _Marks:
    """As tokenizer.json has them where it is alone: there they have no roles, but places."""
    special = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
    model = json.loads(backend.to_str())["model"]
    unknown = model.get("unk_id")
    if isinstance(model.get("unk_token"), str):
        unknown = backend.token_to_id(model["unk_token"])
    ends = {number for number in backend.encode("").ids[-1:] if number in special}
    said = (backend.padding or {}).get("pad_id")
    pads = said, *map(backend.token_to_id, _PADDINGS), *ends
    pad = next((mark for mark in pads if mark is not None), 0)
    return _Marks(special | ({unknown} if unknown is not None else set()), unknown, ends, pad)


def _read(found: Found, where: str) -> Any:
    """Never code of the folder's, never the network."""
    kind = library(where).AutoTokenizer
    if not any(path for name in WORD_FILES for path in found.folder.glob(name)):
        raise DataError(f"{where}: there is none; save_pretrained of the network's tokeniser writes it there")
    try:
        with quiet():
            return kind.from_pretrained(str(found.folder), local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        needs = "sentencepiece protobuf"
        raise DataError(f"{where}: it needs further packages ({_line(error)}); run pip install {needs}") from None
    # The library raises nearly anything at a damaged file; whatever it says, the folder is the user's to mend.
    except Exception as error:
        raise DataError(f"{where}: cannot be read ({_line(error)}); expected what save_pretrained writes") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
