"""BERT as a text tower: a tiny random one from a folder, its tokeniser, and folders that are none."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from manymatch.encoders import BertTower, BiGRUTower, MeanPool, PointHead, TextInput, read_at
from manymatch.errors import DataError, UnknownName

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdef!-'",
    "中",
    *(f"##{c}" for c in "abcdef"),
    "dog",
    "##ab",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel

    torch.manual_seed(5)
    out = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(out)
    (out / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return out


def tower_of(folder: Path, **changes: Any) -> BertTower:
    torch.manual_seed(0)
    tower = BertTower(read_at([], f"bert:{folder}", least=3), PointHead(), dim=8, **changes)
    tower.begin(str(folder))
    return tower.eval()


def vectors(tower: BertTower, texts: list[str]) -> torch.Tensor:
    with torch.inference_mode():
        return tower(tower.tokens(texts)).embedding.tensors()["vectors"]


def test_input_survives_json_and_builds_the_same_tower(folder: Path) -> None:
    given_ = read_at([], f"bert:{folder}", least=3)
    assert given_.config is not None and given_.config["hidden_size"] == 16 and len(given_.vocabulary) == len(PIECES)
    again = TextInput.from_json(json.loads(json.dumps(given_.to_json())))
    assert again == given_
    first = tower_of(folder)
    second = BertTower(again, PointHead(), dim=8).eval()
    second.load_state_dict(first.state_dict())
    assert torch.equal(vectors(first, ["dog a"]), vectors(second, ["dog a"]))
    assert torch.equal(vectors(copy.deepcopy(first), ["dog a"]), vectors(first, ["dog a"])), "training keeps a copy"
    assert {n.split(".")[0] for n in first.state_dict()} == {"bert", "linear"}, "rates go by these starts"


def test_states_are_those_of_the_saved_model(folder: Path) -> None:
    from transformers import BertModel

    tower = tower_of(folder)
    theirs = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = tower.tokens(["dog bab", "a b c d e f", "!"])
    ids = torch.from_numpy(tokens.ids)
    with torch.inference_mode():
        states = theirs(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
        expected = torch.nn.functional.normalize(tower.linear(states)[:, 0], dim=-1)
        got = tower(tokens)
    torch.testing.assert_close(got.embedding.vectors, expected, rtol=0, atol=1e-5)
    fragments = got.fragments
    assert fragments is not None and fragments.valid.sum(1).tolist() == tokens.lengths.tolist()


@pytest.mark.parametrize("pooling", ["cls", MeanPool()], ids=["cls", "mean"])
def test_a_text_is_the_same_alone_and_in_any_batch(folder: Path, pooling: Any) -> None:
    tower, texts = tower_of(folder, pooling=pooling), ["dog", "a b c d e f a b c", "", "zzz " * 40]
    together = vectors(tower, texts)
    assert tower.tokens(texts).lengths.tolist() == [3, 11, 2, 20], "cut to the positions that BERT has"
    for n, text in enumerate(texts):
        torch.testing.assert_close(vectors(tower, [text])[0], together[n], rtol=0, atol=1e-5)


@given(st.text(alphabet="abcdgoÄÉéz中!-' \t\n", max_size=30))
@settings(deadline=None)
def test_numbers_are_those_of_berts_own_tokeniser(folder: Path, text: str) -> None:
    from transformers import BertTokenizer

    theirs = BertTokenizer(str(folder / "vocab.txt"))
    vocabulary = read_at([], f"bert:{folder}", least=3).vocabulary
    wanted = theirs(text, truncation=True, max_length=20)["input_ids"]
    assert vocabulary.encode([text]).ids[0].tolist() == wanted


def test_training_drops_words_and_reaches_every_weight(folder: Path) -> None:
    tower = tower_of(folder, pooling=MeanPool(), drop=0.5).train()
    torch.manual_seed(0)
    out = tower(tower.tokens(["dog a b c d e f", "bab"]))
    out.tensors["raw"].square().sum().backward()
    unmoved = {n for n, p in tower.named_parameters() if p.grad is None}
    assert not unmoved
    lengths = {int(tower(tower.tokens(["dog " * 10])).fragments.valid.sum()) for _ in range(20)}
    assert len(lengths) > 1


def test_an_older_file_with_a_head_is_read(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    weights = {f"bert.{k.replace('LayerNorm.weight', 'LayerNorm.gamma')}": v for k, v in load_weights(folder).items()}
    weights = {k.replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in weights.items()}
    save_file(weights | {"cls.predictions.bias": torch.zeros(3)}, old / "model.safetensors")
    torch.testing.assert_close(vectors(tower_of(old), ["dog a"]), vectors(tower_of(folder), ["dog a"]))


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_weights_that_are_not_whole(folder: Path, tmp_path: Path) -> None:
    tower, less = tower_of(folder), tmp_path / "less"
    shutil.copytree(folder, less)
    weights = load_weights(folder)
    del weights["encoder.layer.1.output.dense.bias"]
    save_file(weights, less / "model.safetensors")
    with pytest.raises(DataError, match=r"safetensors: 'encoder\.layer\.1\.output\.dense\.bias' is missing, expected"):
        tower.begin(str(less))
    save_file({**load_weights(folder), "embeddings.LayerNorm.bias": torch.zeros(3)}, less / "model.safetensors")
    with pytest.raises(DataError, match=r"'embeddings\.LayerNorm\.bias' has shape \(3,\), expected \(16,\)"):
        tower.begin(str(less))
    (less / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read as safetensors"):
        tower.begin(str(less))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("vocab.txt", None, r"vocab\.txt is missing; save_pretrained of"),
        ("model.safetensors", None, r"model\.safetensors is missing"),
        ("config.json", "{", r"config\.json: cannot be read as JSON"),
        ("config.json", "[]", r"config\.json: found list, expected a JSON object"),
        ("config.json", '{"model_type": "gpt2"}', r"model_type is 'gpt2', expected 'bert'"),
        ("config.json", '{"vocab_size": 3}', rf"{len(PIECES)} word-pieces, but config\.json has vocab_size 3"),
        ("vocab.txt", "dog\n", r"vocab\.txt': \[PAD\] is missing"),
        ("tokenizer_config.json", '{"do_lower_case": false}', r"do_lower_case is false, expected an uncased BERT"),
    ],
)
def test_folders_that_hold_no_bert(folder: Path, tmp_path: Path, name: str, text: str | None, says: str) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    if text is None:
        (tmp_path / "copy" / name).unlink()
    else:
        (tmp_path / "copy" / name).write_text(text)
    with pytest.raises(DataError, match=says):
        read_at([], f"bert:{tmp_path / 'copy'}", least=3)


def test_bert_needs_a_folder_and_a_configuration(folder: Path) -> None:
    for tower in ("bert", "bert:"):
        with pytest.raises(DataError, match=r"text tower 'bert': expected bert:FOLDER"):
            read_at(["a"], tower, least=1)
    words = read_at(["a"], None, least=1)
    with pytest.raises(DataError, match="the input of a 'bigru' tower has no configuration of BERT"):
        BertTower(words, PointHead(), dim=8)
    with pytest.raises(UnknownName, match=r"unknown text pooling of BERT 'clss': did you mean 'cls'"):
        tower_of(folder, pooling="clss")
    assert BiGRUTower(words, PointHead(), dim=8).vocabulary == words.vocabulary
