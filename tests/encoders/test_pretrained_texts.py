"""Pretrained text towers: every architecture equals the library, whatever stands beside a text, and bad folders."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from manymatch.data.text import Tokens
from manymatch.embeddings import Points
from manymatch.encoders import MaxMeanPool, PointHead, TextInput, read_at
from manymatch.encoders.pretrained.hub import Found
from manymatch.encoders.pretrained.library import quiet
from manymatch.encoders.pretrained.texts import PretrainedTexts, read_pretrained
from manymatch.encoders.pretrained.words import Words
from manymatch.errors import CheckpointError, DataError
from tiny_towers import (
    JOINT,
    WIDTH,
    WORDS,
    tiny_bert,
    tiny_clip,
    tiny_minilm,
    tiny_modernbert,
    tiny_siglip,
    tiny_siglip2,
    tiny_vit,
)

TEXTS = ["a small red circle", "Two large moons above a square, and the star!", "", "zebra 日本 ring", "one " * 40]
MAKERS: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_clip,
    "siglip": tiny_siglip,
    "siglip2": tiny_siglip2,
    "bert": tiny_bert,
    "bert_bare": lambda folder: tiny_bert(folder, pooler=False),
    "modernbert": tiny_modernbert,
    "minilm": tiny_minilm,
    "dense": lambda folder: tiny_minilm(folder, dense=12),
}
EACH = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp("towers") / name) for name, make in MAKERS.items()}


def tower_of(folder: Path, dim: int | None = None, **settings: Any) -> PretrainedTexts:
    torch.manual_seed(0)
    return PretrainedTexts(read_pretrained(f"hf:{folder}"), PointHead(), dim=dim, **settings).eval()


def theirs(name: str, folder: Path) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The library's own text embeddings (n, p), and the states of each text's tokens."""
    import transformers as library

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    if name in ("clip", "siglip", "siglip2"):
        model = library.AutoModel.from_pretrained(folder).eval()
        padding = True if name == "clip" else "max_length"
        given = tokenizer(TEXTS, padding=padding, truncation=True, max_length=WORDS, return_tensors="pt")
        assert ("attention_mask" in given) == (name == "clip"), "SigLIP sees its padding"
        with torch.inference_mode():
            out = model.get_text_features(**given)
            states = model.text_model(**given).last_hidden_state
        lengths = [len(row) for row in tokenizer(TEXTS, truncation=True, max_length=WORDS)["input_ids"]]
        return out.pooler_output, [row[:n] for row, n in zip(states, lengths, strict=True)]
    longest = WORDS - 2 if name in ("minilm", "dense") else WORDS
    given = tokenizer(TEXTS, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    kind = library.ModernBertModel if name == "modernbert" else library.BertModel
    with torch.inference_mode():
        out = kind.from_pretrained(folder).eval()(**given)
    states, mask = out.last_hidden_state, given["attention_mask"]
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    if name == "dense":
        layer = load_file(folder / "2_Dense" / "model.safetensors")
        mean = torch.tanh(mean @ layer["linear.weight"].T + layer["linear.bias"])
    pooled = {
        "bert": lambda: out.pooler_output,
        "minilm": lambda: torch.nn.functional.normalize(mean, dim=-1),
        "dense": lambda: torch.nn.functional.normalize(mean, dim=-1),
    }.get(name, lambda: states[:, 0])()
    return pooled, [row[: int(n)] for row, n in zip(states, mask.sum(1), strict=True)]


@EACH
def test_it_is_the_librarys_own_text_embedding(name: str, folders: dict[str, Path]) -> None:
    tower = tower_of(folders[name])
    pooled, states = theirs(name, folders[name])
    with torch.inference_mode():
        local = tower.local(tower.tokens(TEXTS))
    torch.testing.assert_close(local.pooled, pooled, rtol=0, atol=2e-5)
    assert local.valid.sum(1).tolist() == [len(rows) for rows in states]
    for mine, valid, rows in zip(local.vectors, local.valid, states, strict=True):
        torch.testing.assert_close(mine[valid], rows, rtol=0, atol=2e-5)
    assert local.pooled.std(dim=0).min() > 1e-4, "random weights tell texts apart"
    widths = {"clip": JOINT, "dense": 12}
    assert tower.reading.pooled_width == widths.get(name, WIDTH) == local.pooled.shape[1]


@EACH
def test_numbers_are_those_of_the_librarys_tokeniser(name: str, folders: dict[str, Path]) -> None:
    import transformers as library

    tower = tower_of(folders[name])
    tokens = tower.tokens(TEXTS)
    tokenizer = library.AutoTokenizer.from_pretrained(folders[name])
    wanted = tokenizer(TEXTS, truncation=True, max_length=tower.longest)
    for ids, length, row in zip(tokens.ids, tokens.lengths, wanted["input_ids"], strict=True):
        assert ids[:length].tolist() == row
    assert tower.longest == WORDS - (2 if name in ("minilm", "dense") else 0)
    whole = [len(row) for row in tokenizer(TEXTS)["input_ids"]]
    assert [tower.cuts(text) for text in TEXTS] == [length > tower.longest for length in whole]
    # Byte pairs spell any word; "zebra" is known to them, and to no tokeniser are these characters.
    assert [tower.knows(text) for text in (TEXTS[0], "", "  ", "日本")] == [True, False, False, False]
    for text, length in zip(TEXTS, tokens.lengths, strict=True):
        assert len(tower.cut(text)) == length


@EACH
def test_a_text_is_the_same_alone_and_in_any_batch(name: str, folders: dict[str, Path]) -> None:
    tower = tower_of(folders[name], dim=8, pool=MaxMeanPool())
    with torch.inference_mode():
        together = tower(tower.tokens(TEXTS)).embedding
        for n, text in enumerate(TEXTS):
            alone = tower(tower.tokens([text])).embedding
            torch.testing.assert_close(alone.vectors[0], together.vectors[n], rtol=0, atol=2e-5)


def test_words_of_each_fragment_are_spelt_as_in_the_text(folders: dict[str, Path]) -> None:
    cuts = {name: tower_of(folders[name]).cut("A red zebra!") for name in ("clip", "siglip", "siglip2", "bert")}
    assert cuts["bert"] == ["[start]", "A", "red", "[zebra]", "!", "[end]"]
    assert cuts["clip"][:3] == ["[start]", "A", "red"] and cuts["clip"][-2:] == ["!", "[end]"]
    assert cuts["clip"][3] == "z" and "".join(piece.removeprefix("##") for piece in cuts["clip"][3:-2]) == "zebra"
    assert all(piece.startswith("##") for piece in cuts["clip"][4:-2])
    assert cuts["siglip2"][0] == "A" and cuts["siglip2"][-1] == "[end]" == cuts["siglip"][-1]
    assert tower_of(folders["bert"]).cut("squares") == ["[start]", "square", "##s", "[end]"]
    assert tower_of(folders["bert"]).cut("") == ["[start]", "[end]"]


def test_siglip_padded_on_the_left_is_read_so(folders: dict[str, Path], tmp_path: Path) -> None:
    import transformers as library

    shutil.copytree(folders["siglip2"], folder := tmp_path / "left")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "padding_side": "left"}))
    given = library.AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=WORDS
    )
    assert given["input_ids"][0][0] == 0 != given["input_ids"][0][-1]
    model = library.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = model.text_model(input_ids=torch.tensor(given["input_ids"]))
        tower = tower_of(folder)
        local = tower.local(tower.tokens(TEXTS))
    torch.testing.assert_close(local.pooled, wanted.pooler_output, rtol=0, atol=2e-5)
    for mine, valid, rows in zip(local.vectors, local.valid, wanted.last_hidden_state, strict=True):
        torch.testing.assert_close(mine[valid], rows[WORDS - int(valid.sum()) :], rtol=0, atol=2e-5)


# ---- in a method's tower


def test_frozen_learns_a_linear_map_alone_and_keeps_the_network_out_of_its_state(folders: dict[str, Path]) -> None:
    tower = tower_of(folders["clip"], dim=8, pool=MaxMeanPool(), drop=0.3, dropout=0.1).train()
    before = {k: v.clone() for k, v in tower.backbone.state_dict().items()}
    assert set(tower.state_dict()) == {f"{part}.{n}" for part in ("linear", "whole") for n in ("weight", "bias")}
    out = tower(tower.tokens(TEXTS))
    out.embedding.vectors.square().sum().backward()
    out = tower(tower.tokens(TEXTS))
    out.tensors["raw"].square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    assert not tower.backbone.training and not any(p.requires_grad for p in tower.backbone.parameters())
    assert all(torch.equal(before[k], v) for k, v in tower.backbone.state_dict().items())
    assert out.fragments is not None and int(out.fragments.valid.sum()) < int(tower.tokens(TEXTS).lengths.sum())


def test_a_frozen_network_is_in_memory_once(folders: dict[str, Path]) -> None:
    one, two = tower_of(folders["bert"]), tower_of(folders["bert"], dim=4)
    assert one.backbone is two.backbone
    two.to("meta")
    assert one.backbone is not two.backbone
    assert (
        {p.device.type for p in two.backbone.parameters()}
        == {"meta"}
        != {p.device.type for p in one.backbone.parameters()}
    )
    assert tower_of(folders["bert"], tuning="tuned").backbone is not one.backbone


def test_tuned_begins_with_the_folders_weights_and_takes_them_along(folders: dict[str, Path]) -> None:
    frozen = tower_of(folders["modernbert"])
    tower = tower_of(folders["modernbert"], tuning="tuned")
    other = tower.local(tower.tokens(TEXTS)).pooled
    assert not torch.allclose(other, frozen.local(frozen.tokens(TEXTS)).pooled, atol=1e-2), "random before it begins"
    tower.begin(str(folders["modernbert"]))
    own = tower.local(tower.tokens(TEXTS)).pooled
    torch.testing.assert_close(own, frozen.local(frozen.tokens(TEXTS)).pooled)
    assert {name.split(".")[0] for name in tower.state_dict()} == {"network"}
    tower.train()(tower.tokens(TEXTS)).tensors["raw"].square().sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


# ---- what the run remembers


def test_input_survives_json_and_names_no_vocabulary(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders["dense"].parent)
    given = read_at([], "hf:dense", least=3)
    value = json.loads(json.dumps(given.to_json()))
    assert TextInput.from_json(value) == given and "vocabulary" not in value
    assert value["backbone"]["source"] == f"hf:{folders['dense']}", "found from any working directory"
    texts = PretrainedTexts(TextInput.from_json(value), PointHead(), dim=None).eval()
    with torch.inference_mode():
        first, second = (t(t.tokens(TEXTS)).embedding for t in (texts, tower_of(folders["dense"])))
    assert isinstance(first, Points) and torch.equal(first.vectors, second.tensors()["vectors"])


def test_a_folder_that_moved_changed_or_is_gone(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folders["clip"], tmp_path / "here" / "clip")
    given = read_pretrained(f"hf:{tmp_path / 'here' / 'clip'}")
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(CheckpointError, match=r"no such folder.*put it back, or set MANYMATCH_TOWERS to a folder that"):
        PretrainedTexts(given, PointHead(), dim=None)
    monkeypatch.setenv("MANYMATCH_TOWERS", str(tmp_path / "there"))
    PretrainedTexts(given, PointHead(), dim=None)
    folder = tmp_path / "there" / "clip"
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "logit_scale": torch.tensor(9.0)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"other weights than the run was made with \(\w{12}, expected \w{12}\)"):
        PretrainedTexts(given, PointHead(), dim=None)
    PretrainedTexts(given, PointHead(), dim=None, tuning="tuned")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "model_max_length": 5}))
    with pytest.raises(CheckpointError, match="another tokeniser or configuration than the run was made with"):
        PretrainedTexts(given, PointHead(), dim=None, tuning="tuned")


# ---- folders that are none


def changed(path: Path, change: dict[str, Any]) -> None:
    value = json.loads(path.read_text())
    for name, given in change.items():
        value[name] = {**value[name], **given} if isinstance(given, dict) and name == "text_config" else given
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("name", "file", "change", "says"),
    [
        ("bert", "config.json", {"model_type": "gpt2"}, r"model_type 'gpt2', which is no text network that is known"),
        ("bert", "config.json", {"is_decoder": True}, r"its BERT is a decoder"),
        ("bert", "config.json", {"hidden_size": 33}, r"do not fit config\.json \(The hidden size"),
        ("clip", "config.json", {"text_config": {"eos_token_id": 5}}, r"eos_token_id 5, but its tokeniser ends"),
        ("modernbert", "config.json", {"classifier_pooling": "max"}, "not a configuration of modernbert"),
        ("clip", "config.json", {"text_config": 3}, r"text_config is 3, expected an object"),
        (
            "bert",
            "config.json",
            {"vocab_size": 9},
            r"numbers up to \d+, but the network has rows for 9",
        ),
        ("bert", "tokenizer.json", {"model": 3}, r"tokeniser in .*: cannot be read"),
        (
            "minilm",
            "1_Pooling/config.json",
            {"pooling_mode_lasttoken": True},
            r"pooling pooling_mode_lasttoken, exp",
        ),
        ("minilm", "1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, r"pooling of no kind"),
        ("dense", "2_Dense/config.json", {"activation_function": "os.system"}, r"activation_function system, exp"),
        ("dense", "2_Dense/config.json", {"in_features": "x"}, r"in_features and out_features \['x', 12\]"),
    ],
)
def test_folders_that_cannot_be_a_text_tower(
    name: str, file: str, change: dict[str, Any], says: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders[name], tmp_path / "copy")
    changed(tmp_path / "copy" / file, change)
    with pytest.raises(DataError, match=says):
        tower_of(tmp_path / "copy")


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ([{"idx": 0, "type": "sentence_transformers.models.CLIPModel", "path": ""}], "part 1 is CLIPModel, expected"),
        ([{"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""}], "no Pooling among its parts"),
        ([{"idx": 0, "type": "a.Transformer", "path": "../elsewhere"}], "leads out of the folder"),
        ([3], "expected a list of parts with type and path"),
        ({}, "no Pooling among its parts"),
    ],
)
def test_sentence_transformers_of_other_parts(listed: Any, says: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["minilm"], tmp_path / "copy")
    (tmp_path / "copy" / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(DataError, match=says):
        read_pretrained(f"hf:{tmp_path / 'copy'}")


def test_prompts_are_refused_and_a_network_may_lie_deeper(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["minilm"], tmp_path / "copy")
    said = tmp_path / "copy" / "config_sentence_transformers.json"
    said.write_text(json.dumps({"default_prompt_name": "query"}))
    with pytest.raises(DataError, match="default_prompt_name 'query'"):
        read_pretrained(f"hf:{tmp_path / 'copy'}")
    said.unlink()
    (inside := tmp_path / "copy" / "0_Transformer").mkdir()
    for path in [*(tmp_path / "copy").glob("*.json"), tmp_path / "copy" / "model.safetensors"]:
        if path.name != "modules.json":
            path.rename(inside / path.name)
    listed = json.loads((tmp_path / "copy" / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (tmp_path / "copy" / "modules.json").write_text(json.dumps(listed))
    deep, flat = tower_of(tmp_path / "copy"), tower_of(folders["minilm"])
    with torch.inference_mode():
        torch.testing.assert_close(deep.local(deep.tokens(TEXTS)).pooled, flat.local(flat.tokens(TEXTS)).pooled)


def test_weights_that_are_missing_or_of_another_shape(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], folder := tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.output.dense.bias"
    save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors")
    with pytest.raises(DataError, match=rf"copy: weight '{name}' is missing, expected"):
        tower_of(folder)
    save_file({**weights, name: torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(DataError, match=r"has shape \(3,\), expected \(32,\) as config\.json says"):
        tower_of(folder)
    old = {f"bert.{k}".replace("LayerNorm.weight", "LayerNorm.gamma"): v.half() for k, v in weights.items()}
    save_file({k.replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in old.items()}, folder / "model.safetensors")
    older, newer = tower_of(folder), tower_of(folders["bert"])
    with torch.inference_mode():
        pooled = [t.local(t.tokens(TEXTS)).pooled for t in (older, newer)]
    torch.testing.assert_close(*pooled, rtol=0, atol=0.05)


def test_a_network_of_pictures_alone_has_no_text_half(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="model_type 'vit', which is no text network"):
        read_at([], f"hf:{tiny_vit(tmp_path / 'vit')}", least=1)
    tiny_bert(tmp_path / "bert")
    for path in (tmp_path / "bert").glob("token*"):
        path.unlink()
    with pytest.raises(DataError, match=r"tokeniser in .*: there is none"):
        read_at([], f"hf:{tmp_path / 'bert'}", least=1)


def test_code_in_a_folder_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["bert"], folder := tmp_path / "copy")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for file in ("tokenizer_config.json", "config.json"):
        changed(folder / file, {"auto_map": {"AutoTokenizer": ["evil.E", None], "AutoConfig": "evil.E"}})
    changed(folder / "tokenizer_config.json", {"tokenizer_class": "Evil"})
    try:
        tower_of(folder)
    except DataError as error:
        assert "\n" not in str(error)
    assert not (tmp_path / "ran").exists()


def test_nothing_reaches_standard_error(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    for name in MAKERS:
        tower = tower_of(folders[name])
        tower.local(tower.tokens([*TEXTS, "</s> twice </s>", "one " * 3000]))
        tower.cuts("one " * 3000)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_threads_share_a_tokeniser(folders: dict[str, Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tower = tower_of(folders["clip"])
    wanted = tower.tokens(TEXTS).ids

    def again(n: int) -> Tokens:
        tower.cuts(TEXTS[n % 5])
        return tower.tokens(TEXTS)

    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(found.ids, wanted) for found in pool.map(again, range(200)))


@pytest.mark.parametrize(("name", "file"), [("bert", "model.safetensors"), ("dense", "2_Dense/model.safetensors")])
def test_weights_that_are_not_finite_are_named(name: str, file: str, folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[name], folder := tmp_path / "copy")
    given = load_file(folder / file)
    next(reversed(given.values())).view(-1)[0] = torch.nan
    save_file(given, folder / file)
    with pytest.raises(DataError, match=r"copy: weight '[\w.]+' holds NaN or infinity; get it again"):
        tower_of(folder)


@pytest.mark.parametrize("name", ["bert", "clip", "siglip2"])
def test_a_tokeniser_that_is_tokenizer_json_alone_knows_its_marks(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(folders[name] / "tokenizer.json", tmp_path / "alone")
    whole, alone = (Words(Found("hf:x", folder), WORDS, 10_000) for folder in (folders[name], tmp_path / "alone"))
    texts = [*TEXTS, "日本", "!", "a"]
    assert [alone.knows(text) for text in texts] == [whole.knows(text) for text in texts]
    assert not alone.knows("日本") and alone.knows("a red circle")
    assert [alone.cut(text) for text in texts] == [whole.cut(text) for text in texts]
    assert alone.pad == whole.pad


def test_the_librarys_warnings_alone_are_silenced() -> None:
    with quiet():
        warnings.warn_explicit("of theirs", UserWarning, "file.py", 1, module="transformers.models.siglip")
        with pytest.warns(UserWarning, match="of somebody else's"):
            warnings.warn_explicit("of somebody else's", UserWarning, "file.py", 1, module="transformer")
        with pytest.warns(RuntimeWarning, match="ours"):
            warnings.warn("ours", RuntimeWarning, stacklevel=1)
