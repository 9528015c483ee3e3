"""Pretrained image networks that learn: whole with layer-wise rates, or by LoRA; and frozen ones, which do not."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import manymatch as mm
import tiny_towers
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.encoders import ImageInput, look_at
from manymatch.encoders.pretrained import open_backbone
from manymatch.encoders.pretrained.backed import Backed
from manymatch.encoders.pretrained.images import TunedTower
from manymatch.encoders.pretrained.rates import layer_rates
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.methods import Batch, Model
from manymatch.training import TrainConfig
from manymatch.training.optimiser import Freezer, make_optimiser

pytest.importorskip("transformers")

MAKERS: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_towers.tiny_clip,
    "siglip": tiny_towers.tiny_siglip,
    "siglip2": tiny_towers.tiny_siglip2,
    "dinov2": tiny_towers.tiny_dinov2,
    "vit": tiny_towers.tiny_vit,
}
SMALL: dict[str, Any] = {"dim": 16, "word_dim": 8, "hidden": 8, "batch": 6, "captions": 1}
LAYERS = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {name: make(root / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return Pairs.toy(16, seed=0)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "store"))


def built(pairs: Pairs, folder: Path, tuning: str, name: str = "vsepp", **settings: Any) -> Model:
    method = mm.method(name, image_tuning=tuning, **{**SMALL, **settings})
    return method.build(pairs, image_tower=f"hf:{folder}")


def batch_of(model: Model, pairs: Pairs) -> Batch:
    return model.batch(pairs, np.arange(6), np.arange(6) * 5, np.eye(6, dtype=bool))


def step(model: Model, pairs: Pairs) -> set[str]:
    """One step of the optimiser; names of the weights that it changed."""
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = make_optimiser(model, model.method.recipe())
    model.advance(0, 10)
    model.training_step(batch_of(model, pairs))["loss"].backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


# ---- what learns


@pytest.mark.parametrize("name", MAKERS)
def test_a_tuned_network_learns_and_its_folder_does_not(folders: Mapping[str, Path], pairs: Pairs, name: str) -> None:
    before = digest(folders[name])
    model = built(pairs, folders[name], "tuned")
    assert isinstance(model.images, TunedTower)
    changed = step(model, pairs)
    own = {n for n, _ in model.named_parameters() if n.startswith("images.backbone.")}
    # Of DINOv2 the mask token, and of SigLIP what adds the same to every key, get no gradient.
    still = {n for n in own - changed if "mask_token" not in n}
    assert len(own) > 40 and all(n.endswith(("k_proj.bias", "in_proj_bias")) for n in still)
    assert any(n.startswith("images.inner.") for n in changed) and any(n.startswith("texts.") for n in changed)
    assert digest(folders[name]) == before
    assert model.image_input == "pixels"


@pytest.mark.parametrize("name", MAKERS)
def test_of_lora_the_matrices_alone_learn(folders: Mapping[str, Path], pairs: Pairs, name: str) -> None:
    pytest.importorskip("peft")
    before = digest(folders[name])
    model = built(pairs, folders[name], "lora", lora_rank=2)
    changed = {n for n in step(model, pairs) if n.startswith("images.backbone.")}
    # In the first step the first matrices see the zeros of the second ones, and weight decay alone moves them.
    second = {n for n, _ in model.named_parameters() if "lora_B" in n}
    assert second <= changed and len(second) == LAYERS * 6 and all("lora_" in n for n in changed)
    assert all(value.shape[1] == 2 for n, value in model.state_dict().items() if n in second)
    learning = {n for n, p in model.named_parameters() if p.requires_grad and n.startswith("images.backbone.")}
    assert learning == {n for n, _ in model.named_parameters() if "lora_" in n}
    assert digest(folders[name]) == before


@pytest.mark.parametrize("name", MAKERS)
def test_of_a_frozen_network_nothing_learns(folders: Mapping[str, Path], pairs: Pairs, name: str) -> None:
    model = built(pairs, folders[name], "frozen")
    assert isinstance(model.images, Backed)
    backbone = model.images.backbone
    before = {n: value.clone() for n, value in backbone.state_dict().items()}
    assert any(n.startswith("images.inner.") for n in step(model, pairs))
    assert all(torch.equal(value, before[n]) for n, value in backbone.state_dict().items())
    assert not any("backbone" in n for n in model.state_dict())


@pytest.mark.parametrize("tuning", ["tuned", "lora"])
@pytest.mark.parametrize("name", MAKERS)
def test_before_the_first_step_it_sees_what_the_frozen_one_sees(
    folders: Mapping[str, Path], pairs: Pairs, name: str, tuning: str
) -> None:
    model = built(pairs, folders[name], tuning).eval()
    assert isinstance(model.images, TunedTower)
    pixels = model.prepare_images(pairs.images[:4])
    frozen = open_backbone(f"hf:{folders[name]}").features(pixels)
    grids = None if pixels.grids is None else torch.as_tensor(pixels.grids)
    with torch.inference_mode():
        vectors, valid, pooled = model.images.backbone(torch.as_tensor(pixels.array), grids)
    assert frozen.vectors is not None and frozen.pooled is not None
    assert np.allclose(vectors.numpy() * valid[..., None].numpy(), frozen.vectors, rtol=2e-3, atol=2e-3)
    assert np.allclose(pooled.numpy(), frozen.pooled, rtol=2e-3, atol=2e-3)


# ---- rates


def test_layers_learn_at_the_rates_they_are_said_to(folders: Mapping[str, Path], pairs: Pairs) -> None:
    model = built(pairs, folders["clip"], "tuned", backbone_rate=0.5, layer_decay=0.1)
    recipe = replace(model.method.recipe(), lr=1.0)
    names = {id(p): n for n, p in model.named_parameters()}
    found = {
        names[id(p)]: group["base"] for group in make_optimiser(model, recipe).param_groups for p in group["params"]
    }
    body = "images.backbone.body."
    expected = {
        f"{body}embeddings.class_embedding": 0.0005,
        f"{body}embeddings.patch_embedding.weight": 0.0005,
        f"{body}pre_layrnorm.weight": 0.0005,
        f"{body}encoder.layers.0.mlp.fc1.weight": 0.005,
        f"{body}encoder.layers.1.self_attn.q_proj.bias": 0.05,
        f"{body}encoder.layers.2.layer_norm2.weight": 0.5,
        f"{body}post_layernorm.bias": 0.5,
        "images.backbone.projection.weight": 0.5,
        "texts.words.weight": 1.0,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["images.inner.pooled_linear.weight"] == 1.0
    assert len(found) == len(list(model.named_parameters()))


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_of_a_network_has_its_layers_rate(folders: Mapping[str, Path], pairs: Pairs, name: str) -> None:
    model = built(pairs, folders[name], "tuned")
    assert isinstance(model.images, TunedTower)
    found = layer_rates(model.images.backbone.body, rate=1.0, decay=0.5)
    for parameter, _ in model.images.backbone.body.named_parameters():
        starts = [start for start in found if parameter.startswith(start)]
        assert len(starts) == 1
        parts = parameter.split(".")
        layer = next((int(part) for part in parts if part.isdigit()), None)
        below = "embeddings" in parts[0] or "pre_layrnorm" in parts[0]
        assert found[starts[0]] == (0.5**LAYERS if below else 1.0 if layer is None else 0.5 ** (LAYERS - 1 - layer))


def test_a_network_without_layers_has_one_rate() -> None:
    assert layer_rates(nn.Linear(2, 2), rate=0.3, decay=0.5) == {"weight": 0.3, "bias": 0.3}


def test_a_longer_name_in_the_recipe_goes_before_a_layers_rate(folders: Mapping[str, Path], pairs: Pairs) -> None:
    model = built(pairs, folders["vit"], "tuned")
    recipe = model.method.recipe()
    groups = {"images.backbone.": 7.0, "images.backbone.body.layers.1.mlp.": 9.0, "texts.": 3.0}
    optimiser = make_optimiser(model, replace(recipe, lr=1.0, groups=groups))
    names = {id(p): n for n, p in model.named_parameters()}
    found = {names[id(p)]: group["base"] for group in optimiser.param_groups for p in group["params"]}
    assert found["images.backbone.body.layers.1.mlp.fc1.weight"] == 9.0
    assert found["images.backbone.body.layers.1.attention.q_proj.weight"] == pytest.approx(0.1 * 0.8)
    assert found["texts.words.weight"] == 3.0


def test_loras_matrices_learn_at_the_full_rate(folders: Mapping[str, Path], pairs: Pairs) -> None:
    pytest.importorskip("peft")
    model = built(pairs, folders["vit"], "lora", backbone_rate=0.01)
    optimiser = make_optimiser(model, replace(model.method.recipe(), lr=1.0))
    assert {group["base"] for group in optimiser.param_groups} == {1.0}


# ---- stages and modes


def test_stages_that_freeze_the_backbone_freeze_this_one(folders: Mapping[str, Path], pairs: Pairs) -> None:
    model = built(pairs, folders["vit"], "tuned", "vse_infty", preset="grid", standardise=False)
    first, second = model.method.recipe().all_stages[0], model.method.recipe().all_stages[-1]
    assert first.frozen == ("images.backbone.",)
    freezer = Freezer(model)
    held = freezer.freeze(first)
    assert held == sum(p.numel() for n, p in model.named_parameters() if n.startswith("images.backbone."))
    assert step_names(model) == {"images.inner", "texts"}
    assert freezer.freeze(second) == 0
    assert step_names(model) == {"images.inner", "texts", "images.backbone"}


def step_names(model: Model) -> set[str]:
    learning = [n for n, p in model.named_parameters() if p.requires_grad and n.startswith(("images", "texts"))]
    return {".".join(n.split(".")[:2]) if n.startswith("images") else "texts" for n in learning}


@pytest.mark.parametrize("tuning", ["tuned", "lora"])
def test_a_recipe_that_never_trains_the_backbone_cannot_tune_it(
    folders: Mapping[str, Path], pairs: Pairs, tuning: str
) -> None:
    model = built(pairs, folders["vit"], tuning, preset="published")
    with pytest.raises(DataError, match=rf"image_tuning={tuning}, but every stage .* set train_backbone=true"):
        make_optimiser(model, model.method.recipe())
    make_optimiser(built(pairs, folders["vit"], "frozen", preset="published"), model.method.recipe())
    trained = built(pairs, folders["vit"], tuning, preset="published", train_backbone=True)
    make_optimiser(trained, trained.method.recipe())


def test_the_librarys_dropout_is_that_of_the_configuration(
    folders: Mapping[str, Path], pairs: Pairs, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    folder = tmp_path / "vit"
    shutil.copytree(folders["vit"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.5}))
    for tuning, varies in (("tuned", True), ("lora", False)):
        model = built(pairs, folder, tuning).train()
        assert isinstance(model.images, TunedTower)
        network = model.images.backbone
        pixels = torch.as_tensor(model.prepare_images(pairs.images[:2]).array)
        assert torch.equal(network(pixels)[2], network(pixels)[2]) is not varies
        assert model.images.inner.training
        model.eval()
        assert torch.equal(network(pixels)[2], network(pixels)[2])


def test_features_that_change_go_through_a_norm_that_learns(folders: Mapping[str, Path], pairs: Pairs) -> None:
    tuned, raw = (built(pairs, folders["clip"], "tuned", standardise=s).images for s in (True, False))
    assert isinstance(tuned, TunedTower) and isinstance(raw, TunedTower)
    assert isinstance(tuned.inner.fragment_scale, nn.LayerNorm) and isinstance(tuned.inner.pooled_scale, nn.LayerNorm)
    assert isinstance(raw.inner.fragment_scale, nn.Identity)


# ---- runs


@pytest.mark.parametrize("tuning", ["frozen", "tuned", "lora"])
@pytest.mark.parametrize("name", ["clip", "siglip2"])
def test_a_run_is_trained_saved_and_loaded(
    folders: Mapping[str, Path], pairs: Pairs, tmp_path: Path, name: str, tuning: str
) -> None:
    model = built(pairs, folders[name], tuning)
    config = TrainConfig(epochs=1, precision="float32")
    kept = mm.train(model, pairs, out=tmp_path / "run", config=config, say=None)
    loaded = mm.load(tmp_path / "run")
    images = pairs.images[:5]
    assert torch.equal(
        kept.encode_images(images).tensors()["vectors"], loaded.encode_images(images).tensors()["vectors"]
    )
    assert kept.fingerprint() == loaded.fingerprint()
    names = set(load_file(tmp_path / "run" / "model.safetensors"))
    backbone = {n for n in names if n.startswith("images.backbone.")}
    assert bool(backbone) is (tuning != "frozen")
    assert all("lora_" in n for n in backbone) is (tuning != "tuned")
    if tuning == "lora":
        state = load_file(tmp_path / "run" / "training" / "state.safetensors")
        assert not any("base_layer" in n for n in state)


def test_a_tuned_run_needs_its_folder_no_more(folders: Mapping[str, Path], pairs: Pairs, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(folders["dinov2"], folder)
    kept = mm.train(built(pairs, folder, "tuned"), pairs, out=tmp_path / "run", config=TrainConfig(epochs=1), say=None)
    shutil.rmtree(folder)
    loaded = mm.load(tmp_path / "run")
    images = pairs.images[:3]
    assert torch.equal(
        kept.encode_images(images).tensors()["vectors"], loaded.encode_images(images).tensors()["vectors"]
    )


@pytest.mark.parametrize("tuning", ["frozen", "lora"])
def test_a_run_that_needs_its_folder_knows_it_again(
    folders: Mapping[str, Path],
    pairs: Pairs,
    tmp_path: Path,
    tuning: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("peft")
    folder = tmp_path / "net"
    shutil.copytree(folders["vit"], folder)
    mm.train(built(pairs, folder, tuning), pairs, out=tmp_path / "run", config=TrainConfig(epochs=1), say=None)
    (tmp_path / "towers").mkdir()
    shutil.move(folder, tmp_path / "towers" / "net")
    with pytest.raises(CheckpointError, match=r"run: tower 'hf:.*net': no such folder"):
        mm.load(tmp_path / "run")
    monkeypatch.setenv("MANYMATCH_TOWERS", str(tmp_path / "towers"))
    mm.load(tmp_path / "run")
    path = tmp_path / "towers" / "net" / "model.safetensors"
    weights = load_file(path)
    weights["vit.layernorm.weight"] += 1.0
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"image tower 'hf:.*net': .*weights .*than the run was trained on"):
        mm.load(tmp_path / "run")


def test_a_run_goes_on_as_if_it_had_never_stopped(folders: Mapping[str, Path], pairs: Pairs, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    out = {}
    for name in ("whole", "halves"):
        model = built(pairs, folders["vit"], "lora")
        config = TrainConfig(epochs=2, precision="float32")
        if name == "halves":
            stop = iter([False, True])

            def say(line: str, stop: Any = stop) -> None:
                if line.startswith("epoch ") and next(stop, False) is False:
                    raise InterruptedError

            with pytest.raises(InterruptedError):
                mm.train(model, pairs, out=tmp_path / name, config=config, say=say)
            model = built(pairs, folders["vit"], "lora")
        kept = mm.train(model, pairs, out=tmp_path / name, config=config, say=None, resume=name == "halves")
        out[name] = kept.encode_images(pairs.images[:4]).tensors()["vectors"]
    assert torch.equal(out["whole"], out["halves"])


# ---- what is asked for


def test_tuning_is_of_pretrained_networks_alone(pairs: Pairs) -> None:
    for tower in ("cnn", "resnet18", None):
        with pytest.raises(DataError, match=r"image_tuning=lora is for a pretrained network \(--image-tower hf:NAME\)"):
            mm.method("vsepp", image_tuning="lora").build(pairs, image_tower=tower)
    with pytest.raises(DataError, match=r"vsepp\.image_tuning: found 'half'"):
        mm.method("vsepp", image_tuning="half")


def test_towers_that_do_not_exist(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown image tower 'resnet19': did you mean 'resnet\d+'\?.*hf:NAME"):
        mm.method("vsepp").build(pairs, image_tower="resnet19")
    with pytest.raises(DataError, match="no such folder"):
        mm.method("vsepp").build(pairs, image_tower=f"hf:{tmp_path}/none")


def test_a_network_looks_at_pictures(folders: Mapping[str, Path], pairs: Pairs) -> None:
    blind = Pairs(pairs.items)
    with pytest.raises(DataError, match=r"the pairs have no pictures; give --images PATH"):
        look_at(blind, f"hf:{folders['vit']}", longest_side=96)
    model = built(pairs, folders["vit"], "tuned")
    with pytest.raises(DataError, match="this run reads pixels, found precomputed features"):
        model.images(Features(pooled=np.zeros((2, 32), np.float32)))


def test_peft_is_asked_for_where_it_is_not_installed(
    folders: Mapping[str, Path], pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DataError, match=r'peft is not installed; run pip install "manymatch\[lora\]"'):
        built(pairs, folders["vit"], "lora")


def test_towers_without_a_network_are_described_as_before() -> None:
    inputs = ImageInput("cnn", size=48)
    assert "backbone" not in inputs.to_json()
    assert ImageInput(**inputs.to_json()) == inputs


def test_attention_is_shown_where_the_patches_lie(folders: Mapping[str, Path], pairs: Pairs) -> None:
    small = {"head_width": 8, "slot_hidden": 8}
    for name, grid in (("clip", (4, 4)), ("siglip2", (4, 4))):
        for tuning in ("frozen", "tuned"):
            model = built(pairs, folders[name], tuning, "dive", **small)
            wide = [pairs.images[0].resize((90, 40)), pairs.images[1].resize((48, 48))]
            first, second = model.attend_images(wide)
            if name == "siglip2":
                assert (first.rows, first.columns) == (3, 6) and first.boxes is None
            else:
                assert (first.rows, first.columns) == grid
                assert first.boxes is not None and first.boxes[0][0] == pytest.approx((90 - 40) / 2 / 90, abs=0.01)
            assert (second.rows, second.columns) == grid and second.boxes is None
            assert first.kind == second.kind == "grid"


@pytest.mark.parametrize(
    "method",
    [name for name in mm.methods.methods() if "image_tuning" not in mm.methods.method_class(name).fixed],
)
def test_every_method_builds_on_a_network_that_learns(folders: Mapping[str, Path], pairs: Pairs, method: str) -> None:
    model = built(pairs, folders["clip"], "tuned", method)
    terms = model.training_step(batch_of(model, pairs))
    assert torch.isfinite(terms["loss"])
