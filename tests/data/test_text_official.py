"""Vocabularies of the published systems: their files, and the numbers their own code gave recorded captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from manymatch.data.official_text import official_vocabulary, read_vocabulary, wordpiece_vocabulary
from manymatch.data.text import Specials, Vocabulary
from manymatch.errors import DataError

NUMBERS = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "dog": 4, "a": 5}
WORD_CASES = (
    "dive_butd_bigru",
    "dive_grid_resnet18",
    "pcme_coco",
    "pvse_coco_k2",
    "scan_i2t_avg",
    "scan_i2t_lse",
    "scan_t2i_avg",
    "scan_t2i_lse",
    "sgraf_saf",
    "sgraf_sgr",
    "vse_infty_region_bigru",
    "vsepp_precomp_gru",
    "vsrn_coco",
)
PIECE_CASES = ("dive_butd_bert", "hrem_region_bert", "hrem_region_bert_vse", "vse_infty_region_bert")


@pytest.mark.slow
@pytest.mark.parametrize("case", [*WORD_CASES, *PIECE_CASES])
def test_recorded_captions_get_their_recorded_numbers(reference: Path, case: str) -> None:
    folder = reference / "parity" / case
    vocabulary = read_vocabulary(folder / ("vocab.txt" if case in PIECE_CASES else "vocab.json")).vocabulary()
    vocabulary = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    tokens = vocabulary.encode((folder / "captions.txt").read_text(encoding="utf-8").splitlines())
    with np.load(folder / "inputs.npz") as inputs:
        np.testing.assert_array_equal(tokens.lengths, inputs["caption_lengths"])
        np.testing.assert_array_equal(tokens.ids, inputs["token_ids"][:, : tokens.lengths.max()])


def test_words_keep_their_official_numbers(tmp_path: Path) -> None:
    vocabulary = official_vocabulary(NUMBERS, mask=True)
    assert vocabulary.specials == Specials(pad=0, start=1, end=2, unknown=3, mask=6) and len(vocabulary) == 7
    assert {w: vocabulary.number(w) for w in ("dog", "a", "<mask>")} == {"dog": 4, "a": 5, "<mask>": None}
    assert official_vocabulary(NUMBERS).specials.mask is None
    for name, value in (("plain.json", NUMBERS), ("whole.json", {"word2idx": NUMBERS, "idx2word": {}, "idx": 6})):
        (tmp_path / name).write_text(json.dumps(value))
        assert read_vocabulary(tmp_path / name).vocabulary(mask=True) == vocabulary


def test_of_a_repeated_piece_the_last_number_counts(tmp_path: Path) -> None:
    pieces = ["[PAD]", "dog", "[UNK]", "[CLS]", "[SEP]", "dog", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    vocabulary = read_vocabulary(tmp_path / "vocab.txt").vocabulary()
    assert vocabulary == wordpiece_vocabulary(pieces) and len(vocabulary) == 7
    assert vocabulary.encode(["dog"]).ids.tolist() == [[3, 5, 4]]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("v.json", '{"<pad>": 0, "<start>": 1}', r"v\.json': <end> is missing, expected <pad>, <start>"),
        ("v.txt", "[PAD]\ndog\n", r"v\.txt': \[CLS\] is missing|v\.txt': \[UNK\] is missing"),
    ],
)
def test_files_without_the_special_words(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=says):
        read_vocabulary(tmp_path / name).vocabulary()


def test_numbers_with_a_gap() -> None:
    with pytest.raises(DataError, match="vocabulary: 'a' has number 9, expected 5: no gap, no repetition"):
        official_vocabulary({**NUMBERS, "a": 9})
