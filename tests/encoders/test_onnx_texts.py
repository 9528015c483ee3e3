"""Text encoders exported to ONNX as frozen text towers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnx", reason="tests make their models with the package onnx")
pytest.importorskip("transformers", reason="the extra `hf` is not installed")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.encoders import MaxMeanPool, PointHead, TextInput
from manymatch.encoders.pretrained.onnx_texts import OnnxTexts, read_onnx_texts
from manymatch.encoders.text_input import read_at
from manymatch.errors import CheckpointError, DataError
from onnx_models import image_model, text_model, weights

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "blue", "green", "circle", "square", "star", "small", "large")
TEXTS = ["a small red circle", "blue", "a large green star a square"]


def tokenizer(folder: Path) -> None:
    """A tokeniser of whole words in `tokenizer.json` alone."""
    out = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    out.normalizer, out.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    marks = {"single": "[CLS] $A [SEP]", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    out.post_processor = processors.TemplateProcessing(**marks)
    out.add_special_tokens(list(WORDS[:4]))
    folder.mkdir(parents=True, exist_ok=True)
    out.save(str(folder / "tokenizer.json"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tokenizer(tmp_path)
    return text_model(tmp_path / "texts.onnx", words=len(WORDS), outputs=("last_hidden_state", "text_embeds"))


def tower_of(path: Path, dim: int | None = None) -> OnnxTexts:
    pool = None if dim is None else MaxMeanPool()
    return OnnxTexts(read_onnx_texts(f"onnx:{path}"), PointHead(), dim=dim, pool=pool).eval()


def rows_of(text: str) -> np.ndarray:
    numbers = [2, *(WORDS.index(word) if word in WORDS else 1 for word in text.split()), 3]
    return weights(len(WORDS), 8, seed=1)[numbers]


def test_states_and_vectors_are_the_networks(path: Path) -> None:
    tower = tower_of(path)
    local = tower.local(tower.tokens(TEXTS))
    assert local.vectors.shape == (3, 8, 8) and local.valid.sum(1).tolist() == [6, 3, 8]
    for n, text in enumerate(TEXTS):
        rows = rows_of(text)
        np.testing.assert_allclose(local.vectors[n, : len(rows)].numpy(), rows, rtol=1e-6)
        np.testing.assert_allclose(local.pooled[n].numpy(), rows.mean(0), rtol=1e-5, atol=1e-6)


def test_without_a_vector_of_its_own_it_is_the_mean_of_the_states(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    tower = tower_of(text_model(tmp_path / "t.onnx", words=len(WORDS)))
    local = tower.local(tower.tokens(TEXTS))
    for n, text in enumerate(TEXTS):
        np.testing.assert_allclose(local.pooled[n].numpy(), rows_of(text).mean(0), rtol=1e-5, atol=1e-6)


def test_without_states_its_vector_is_the_one_fragment(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    tower = tower_of(text_model(tmp_path / "t.onnx", words=len(WORDS), outputs=("text_embeds",)), dim=16)
    local = tower.local(tower.tokens(TEXTS))
    assert local.vectors.shape == (3, 1, 16) and bool(local.valid.all())
    assert tower.cut(TEXTS[0]) == [TEXTS[0]]


def test_padding_changes_nothing(path: Path) -> None:
    tower = tower_of(path, dim=16)
    together = tower(tower.tokens(TEXTS)).embedding.vectors
    for n, text in enumerate(TEXTS):
        alone = tower(tower.tokens([text])).embedding.vectors
        torch.testing.assert_close(alone[0], together[n], rtol=1e-5, atol=1e-6)


def test_only_what_is_learned_is_in_the_state(path: Path) -> None:
    tower = tower_of(path, dim=16)
    assert set(tower.state_dict()) == {"linear.weight", "linear.bias", "whole.weight", "whole.bias"}
    assert not tower_of(path).state_dict()
    tower.train()
    loss = tower(tower.tokens(TEXTS)).embedding.vectors.sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_words_are_known_and_cut(path: Path) -> None:
    tower = tower_of(path)
    assert tower.knows("a red star") and not tower.cuts("a red star")
    assert tower.cut("a red star")[1:4] == ["a", "red", "star"]
    assert tower.cuts("a " * 600) and tower.longest == 512
    assert tower.tokens(["a " * 600]).ids.shape == (1, 512)


@pytest.mark.parametrize("place", ["tokenizer", "above"])
def test_the_tokeniser_may_lie_beside_in_a_folder_or_above(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "onnx"
    tokenizer(tmp_path if place == "above" else folder / "tokenizer")
    tower = tower_of(text_model(folder / "t.onnx", words=len(WORDS)))
    assert tower.tokens(["blue"]).ids.tolist() == [[2, 6, 3]]


def test_the_input_is_read_again_from_json(path: Path) -> None:
    inputs = read_at([], f"onnx:{path}", least=1)
    again = TextInput.from_json(inputs.to_json())
    assert again.tower == "onnx" and again.config == inputs.config
    OnnxTexts(again, PointHead(), dim=None)


def test_another_file_is_refused(path: Path) -> None:
    inputs = read_onnx_texts(f"onnx:{path}")
    text_model(path, words=len(WORDS) + 1, outputs=("last_hidden_state", "text_embeds"))
    with pytest.raises(CheckpointError, match="another network than the run was made with"):
        OnnxTexts(inputs, PointHead(), dim=None)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        OnnxTexts(inputs, PointHead(), dim=None)


def test_another_tokeniser_is_refused(path: Path) -> None:
    inputs = read_onnx_texts(f"onnx:{path}")
    changed = (path.parent / "tokenizer.json").read_text().replace('"red"', '"ruby"')
    (path.parent / "tokenizer.json").write_text(changed)
    with pytest.raises(CheckpointError, match="another tokeniser than the run was made with"):
        OnnxTexts(inputs, PointHead(), dim=None)


def test_what_is_no_text_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no tokeniser beside it; put tokenizer\.json there"):
        read_onnx_texts(f"onnx:{text_model(tmp_path / 't.onnx', words=9)}")
    with pytest.raises(DataError, match=r"inputs .*pixel_values.*, expected input_ids"):
        read_onnx_texts(f"onnx:{image_model(tmp_path / 'i.onnx')}")
    with pytest.raises(DataError, match="text_tuning=lora is for a pretrained network"):
        read_at([], f"onnx:{tmp_path / 't.onnx'}", least=1, tuning="lora")


def test_a_run_with_two_exported_towers(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "store"))
    pairs = Pairs.toy(24, seed=0, size=32)
    images = image_model(tmp_path / "images.onnx")
    model = mm.method("vse_infty", dim=16, hidden=16, batch=8).build(
        pairs, image_tower=f"onnx:{images}", text_tower=f"onnx:{path}"
    )
    mm.train(model, pairs, out=tmp_path / "run", config=mm.TrainConfig(epochs=1), say=None)
    loaded = mm.load(tmp_path / "run")
    found = loaded.encode_texts(TEXTS).vectors
    assert found.shape == (3, 16)
    torch.testing.assert_close(
        loaded.encode_images(pairs.images[:3]).vectors,
        loaded.encode_images(loaded.supply(pairs, tmp_path / "store").images[:3]).vectors,
        rtol=1e-3,
        atol=1e-3,
    )
