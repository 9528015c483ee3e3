"""Frozen image networks give what the library gives, and say what they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny_towers
from manymatch.data.features import Features, Pixels
from manymatch.encoders.pretrained import open_backbone
from manymatch.encoders.pretrained.library import expect_finite
from manymatch.encoders.pretrained.vision import VisionBackbone
from manymatch.errors import DataError, UnknownName

transformers = pytest.importorskip("transformers")

Make = Callable[[Path], Path]
MAKERS: dict[str, Make] = {
    "clip": tiny_towers.tiny_clip,
    "siglip": tiny_towers.tiny_siglip,
    "siglip2": tiny_towers.tiny_siglip2,
    "dinov2": tiny_towers.tiny_dinov2,
    "vit": tiny_towers.tiny_vit,
}
CLASS_TOKEN = ("clip", "dinov2", "vit")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {name: make(root / name) for name, make in MAKERS.items()}


@pytest.fixture
def copy(folders: Mapping[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        shutil.copytree(folders[name], tmp_path / name)
        return tmp_path / name

    return copied


def pictures() -> list[Image.Image]:
    made = np.random.default_rng(0)
    shapes = ((40, 60), (60, 40), (33, 33), (9, 90))
    return [Image.fromarray(made.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in shapes]


def library(folder: Path, images: list[Image.Image]) -> tuple[list[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Patches of each picture, and the vector of each, by the library's own classes."""
    with tiny_towers.quiet():
        model = transformers.AutoModel.from_pretrained(folder).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    given = processor(images=images, return_tensors="pt")
    with torch.inference_mode():
        if hasattr(model, "get_image_features"):
            out = model.get_image_features(**given)
            pooled = out.pooler_output
        else:
            out = model(**given)
            pooled = out.last_hidden_state[:, 0]
    states = out.last_hidden_state[:, 1 if folder.name in CLASS_TOKEN else 0 :]
    if "pixel_attention_mask" in given:
        return [s[m.bool()].numpy() for s, m in zip(states, given["pixel_attention_mask"], strict=True)], pooled.numpy()
    return [s.numpy() for s in states], pooled.numpy()


@pytest.mark.parametrize("name", MAKERS)
def test_features_are_the_librarys_own(folders: Mapping[str, Path], name: str) -> None:
    backbone = open_backbone(f"hf:{folders[name]}")
    found = backbone.features(backbone.prepare(pictures()))
    patches, pooled = library(folders[name], pictures())
    assert found.pooled is not None and found.vectors is not None
    assert found.pooled.shape == pooled.shape == (4, backbone.pooled_width)
    assert found.vectors.shape == (4, backbone.fragments, backbone.fragment_width)
    assert np.allclose(found.pooled, pooled, rtol=1e-3, atol=1e-3)
    assert np.abs(pooled[0] - pooled[1]).max() > 0.05
    lengths = [backbone.fragments] * 4 if found.lengths is None else found.lengths
    for mine, theirs, length in zip(found.vectors, patches, lengths, strict=True):
        assert len(theirs) == length
        assert np.allclose(mine[:length], theirs, rtol=1e-3, atol=1e-3)
        assert not mine[length:].any()


@pytest.mark.parametrize("name", MAKERS)
def test_features_are_what_half_precision_holds_whatever_the_batch(folders: Mapping[str, Path], name: str) -> None:
    backbone = open_backbone(f"hf:{folders[name]}")
    together = backbone.features(backbone.prepare(pictures()))
    assert together.pooled is not None and together.vectors is not None
    for array in (together.pooled, together.vectors):
        assert array.dtype == np.float32
        assert np.array_equal(array, array.astype(np.float16).astype(np.float32))
    alone = backbone.features(backbone.prepare(pictures()[1:2]))
    assert alone.pooled is not None
    assert np.allclose(together.pooled[1], alone.pooled[0], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["siglip2", "vit"])
def test_any_number_of_pictures(folders: Mapping[str, Path], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = open_backbone(f"hf:{folders[name]}")
    together = backbone.features(backbone.prepare(pictures()))
    monkeypatch.setattr("manymatch.encoders.pretrained.vision._AT_A_TIME", 3)
    parted = backbone.features(backbone.prepare(pictures()))
    none = backbone.features(backbone.prepare([]))
    for field in ("vectors", "pooled", "lengths"):
        whole, parts, empty = (getattr(found, field) for found in (together, parted, none))
        if whole is None:
            assert parts is None and empty is None
        else:
            assert np.allclose(whole, parts, rtol=2e-3, atol=2e-3)
            assert empty.shape == (0, *whole.shape[1:])


def test_the_pooled_vector_alone(folders: Mapping[str, Path]) -> None:
    whole, alone = (open_backbone(f"hf:{folders['clip']}", fragments=f) for f in (True, False))
    assert (alone.fragments, alone.fragment_width, alone.pooled_width) == (0, 0, tiny_towers.JOINT)
    pixels = alone.prepare(pictures())
    found = alone.features(pixels)
    assert found.vectors is None and found.lengths is None
    assert np.array_equal(found.pooled, whole.features(pixels).pooled)  # type: ignore[arg-type]
    assert alone.key != whole.key


def test_vision_models_saved_alone(tmp_path: Path) -> None:
    """With a projection, and without one."""
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    sizes = {}
    for name, model, settings in (
        ("projected", "CLIPVisionModelWithProjection", {"projection_dim": 24}),
        ("plain", "CLIPVisionModel", {"projection_dim": 24}),
        ("siglip", "SiglipVisionModel", {}),
    ):
        made = "SiglipVisionConfig" if name == "siglip" else "CLIPVisionConfig"
        processor = "Siglip" if name == "siglip" else "CLIP"
        with tiny_towers.quiet():
            net = getattr(transformers, model)(getattr(transformers, made)(**config, **settings))
            net.save_pretrained(tmp_path / name)
            size = {"height": 32, "width": 32}
            getattr(transformers, f"{processor}ImageProcessorPil")(size=size, crop_size=size).save_pretrained(
                tmp_path / name
            )
        backbone = open_backbone(f"hf:{tmp_path / name}")
        found = backbone.features(backbone.prepare(pictures()))
        with torch.inference_mode():
            out = net.eval()(pixel_values=torch.from_numpy(backbone.prepare(pictures()).array))
        theirs = out.image_embeds if name == "projected" else out.pooler_output
        assert np.allclose(found.pooled, theirs.numpy(), rtol=1e-3, atol=1e-3)  # type: ignore[arg-type]
        sizes[name] = backbone.pooled_width
    assert sizes == {"projected": 24, "plain": 32, "siglip": 32}


def test_weights_in_half_precision_are_read_as_single(copy: Callable[[str], Path]) -> None:
    folder = copy("vit")
    save_file({k: v.half() for k, v in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors")
    backbone = open_backbone(f"hf:{folder}")
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert np.isfinite(backbone.features(backbone.prepare(pictures())).pooled).all()  # type: ignore[arg-type]


def test_nothing_of_a_backbone_learns(folders: Mapping[str, Path]) -> None:
    backbone = open_backbone(f"hf:{folders['dinov2']}")
    assert not backbone.training
    assert not any(p.requires_grad for p in backbone.parameters())


# ---- identity


def test_an_identity_is_of_what_changes_features_alone(
    folders: Mapping[str, Path], copy: Callable[[str], Path]
) -> None:
    folder = copy("clip")
    key = open_backbone(f"hf:{folders['clip']}").key
    assert open_backbone(f"hf:{folder}").key == key
    for name, change in (
        ("config.json", lambda value: {**value, "transformers_version": "9.9", "_name_or_path": "x"}),
        ("preprocessor_config.json", lambda value: {**value, "processor_class": "CLIPProcessor"}),
    ):
        path = folder / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        assert open_backbone(f"hf:{folder}").key == key
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "resample": 2}))
    assert open_backbone(f"hf:{folder}").key != key
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors")
    other = open_backbone(f"hf:{folder}")
    assert other.key != key
    assert str(folder) not in json.dumps(other.identity)


# ---- where patches lie


def test_patches_stand_row_by_row(folders: Mapping[str, Path]) -> None:
    """A picture that is changed in one place alone is changed most in the patch of that place."""
    for name in ("clip", "siglip", "dinov2", "vit"):
        backbone = open_backbone(f"hf:{folders[name]}")
        assert backbone.grid(32, 32) == (4, 4)
        assert backbone.grid(32, 64) == (4, 8)
        pixels = backbone.prepare([Image.new("RGB", (40, 40), "grey")])
        changed = pixels.array.copy()
        changed[:, :, 8:16, 16:24] += 2.0
        before, after = (backbone.features(Pixels(array)).vectors for array in (pixels.array, changed))
        assert before is not None and after is not None
        assert int(np.abs(after - before).sum(axis=2).argmax()) == 1 * 4 + 2


def test_patches_of_kept_proportions_stand_row_by_row(folders: Mapping[str, Path]) -> None:
    backbone = open_backbone(f"hf:{folders['siglip2']}")
    pixels = backbone.prepare([Image.new("RGB", (80, 40), "grey")])
    assert pixels.grids is not None
    rows, columns = map(int, pixels.grids[0])
    assert (rows, columns) == (3, 6)
    assert backbone.grid(*pixels.array.shape[2:]) is None
    changed = pixels.array.copy()
    changed[..., 8 * 8 : 9 * 8] += 2.0
    before, after = (backbone.features(Pixels(array, pixels.grids)).vectors for array in (pixels.array, changed))
    assert before is not None and after is not None
    assert int(np.abs(after - before).sum(axis=2).argmax()) == 8


def test_what_is_seen_of_a_picture(folders: Mapping[str, Path], copy: Callable[[str], Path]) -> None:
    assert open_backbone(f"hf:{folders['clip']}").seen(60, 40) == pytest.approx((1 / 6, 0, 5 / 6, 1))
    assert open_backbone(f"hf:{folders['dinov2']}").seen(40, 40) == pytest.approx((0.1, 0.1, 0.9, 0.9))
    assert open_backbone(f"hf:{folders['siglip2']}").seen(60, 40) == (0, 0, 1, 1)
    folder = copy("dinov2")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "crop_size": {"height": 35, "width": 39}}))
    cut = open_backbone(f"hf:{folder}")
    # Pixels that fill no whole patch are not looked at.
    assert cut.fragments == 16
    assert cut.seen(40, 40) == pytest.approx((0, 2 / 40, 32 / 40, 34 / 40))


# ---- what does not fit


def edit(path: Path, **changes: Any) -> None:
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in value.items() if v != "gone"}))


@pytest.mark.parametrize(
    ("name", "file", "changes", "message"),
    [
        (
            "clip",
            "config.json",
            {"model_type": "bert"},
            r"model_type 'bert', which is no image network .* \(clip, siglip",
        ),
        ("vit", "config.json", {"hidden_size": 0}, "config"),
        (
            "vit",
            "config.json",
            {"hidden_size": "wide"},
            r"config\.json: hidden_size is 'wide', expected a whole number",
        ),
        ("vit", "config.json", {"hidden_dropout_prob": "much"}, r"config\.json: not a configuration of vit"),
        ("vit", "config.json", {"hidden_act": "loud"}, "config.json"),
        ("vit", "config.json", {"num_channels": 4}, "reads 4 channels, expected 3"),
        ("vit", "config.json", {"quantization_config": {}}, "quantised weights are not read"),
        ("vit", "config.json", {"hidden_size": 34}, r"weight '.*' has shape .*32.*, expected .*34.* as config\.json"),
        ("vit", "config.json", {"num_hidden_layers": 5}, r"weight 'layers\.3.*' is missing \(\d+ are\)"),
        ("vit", "config.json", {"image_size": 64}, "makes pictures of 32 x 32, the network reads 64 x 64"),
        ("vit", "config.json", {"patch_size": [8, 4]}, r"\[8, 4\], expected the same side"),
        ("clip", "preprocessor_config.json", {"do_center_crop": False}, "leaves pictures at different sizes"),
        ("dinov2", "preprocessor_config.json", {"crop_size": 4}, "pictures of 4 x 4 hold no whole patch"),
        ("siglip2", "preprocessor_config.json", {"patch_size": 4}, "cuts patches of 4, the network reads 8"),
        ("siglip2", "preprocessor_config.json", {"image_processor_type": "ViTImageProcessor"}, "max_num_patches"),
        (
            "siglip",
            "preprocessor_config.json",
            {"image_processor_type": "Siglip2ImageProcessor"},
            "does not fit siglip;",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    copy: Callable[[str], Path], name: str, file: str, changes: dict[str, Any], message: str
) -> None:
    folder = copy(name)
    edit(folder / file, **changes)
    with pytest.raises(DataError, match=message) as raised:
        open_backbone(f"hf:{folder}")
    assert "\n" not in str(raised.value)


def test_pickled_weights_are_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("clip")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"found only pytorch_model\.bin, which hold code and are never loaded"):
        open_backbone(f"hf:{folder}")


def test_code_beside_a_network_is_not_run(copy: Callable[[str], Path]) -> None:
    folder = copy("vit")
    (folder / "modeling_evil.py").write_text("raise SystemExit('run')")
    names = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil", "AutoImageProcessor": "evil.Evil"}
    edit(folder / "config.json", auto_map=names, attn_implementation="someone/kernel", _attn_implementation="x/y")
    edit(folder / "preprocessor_config.json", auto_map=names)
    backbone = open_backbone(f"hf:{folder}")
    assert backbone.features(backbone.prepare(pictures())).pooled is not None


def test_another_kind_of_source_is_named() -> None:
    with pytest.raises(UnknownName, match="unknown kind of pretrained image tower 'timm'"):
        open_backbone("timm:vit")


def test_pixels_of_another_tower_are_refused(folders: Mapping[str, Path]) -> None:
    fixed, flexible = (open_backbone(f"hf:{folders[name]}") for name in ("vit", "siglip2"))
    with pytest.raises(DataError, match=r"pixels: \(48, 32\) without grids, but the network reads \(32, 32\)"):
        fixed.features(Pixels(np.zeros((1, 3, 48, 32), np.float32)))
    with pytest.raises(DataError, match=r"pixels: \(8, 160\) with grids, but the network reads \(32, 32\)"):
        fixed.features(flexible.prepare(pictures()))
    with pytest.raises(DataError, match=r"pixels: \(32, 32\) without grids, but the network reads \(8, 160\)"):
        flexible.features(fixed.prepare(pictures()))
    with pytest.raises(DataError, match="this run reads pixels, found precomputed features"):
        fixed.features(Features(pooled=np.zeros((1, 4))))  # type: ignore[arg-type]


# ---- quiet, and without a network

_OPEN = """
import sys
from manymatch.encoders.pretrained import open_backbone
from PIL import Image
for name in sys.argv[1:]:
    backbone = open_backbone(f"hf:someone/{name}")
    print(name, backbone.features(backbone.prepare([Image.new("RGB", (50, 40))])).pooled.shape[1])
"""


def test_from_the_hubs_cache_without_a_network_and_without_a_word(folders: Mapping[str, Path], tmp_path: Path) -> None:
    for name, folder in folders.items():
        snapshot = tmp_path / f"models--someone--{name}" / "snapshots" / ("0" * 40)
        shutil.copytree(folder, snapshot)
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _OPEN, *folders],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n")[:-1] == ["clip 24", "siglip 32", "siglip2 32", "dinov2 32", "vit 32"]


def test_the_library_is_asked_for_where_it_is_not_installed(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r'transformers is not installed; run pip install "manymatch\[hf\]"'):
        open_backbone(f"hf:{folders['vit']}")


def test_randomness_of_the_process_is_left_alone(folders: Mapping[str, Path]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert isinstance(open_backbone(f"hf:{folders['siglip']}"), VisionBackbone)
    assert torch.equal(torch.get_rng_state(), before)


def test_grids_are_one_a_picture() -> None:
    with pytest.raises(DataError, match=r"pixels: grids \(1, 2\), expected \(2, 2\)"):
        Pixels(np.zeros((2, 3, 8, 16)), np.ones((1, 2), int))
    cut = Pixels(np.zeros((3, 3, 8, 16)), np.arange(6).reshape(3, 2))[1:]
    assert cut.grids is not None and cut.grids.tolist() == [[2, 3], [4, 5]]


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("name", ["visual_projection.weight", "vision_model.encoder.layers.1.mlp.fc1.bias"])
def test_weights_that_are_not_finite_are_named(copy: Callable[[str], Path], name: str, value: float) -> None:
    folder = copy("clip")
    given = load_file(folder / "model.safetensors")
    given[name].view(-1)[3] = value
    save_file(given, folder / "model.safetensors")
    with pytest.raises(
        DataError, match=rf"weight '.*{name.partition('.')[2][-9:]}' holds NaN or infinity; get it again"
    ):
        open_backbone(f"hf:{folder}")


def test_large_weights_whose_sum_overflows_are_finite() -> None:
    layer = torch.nn.Linear(4, 1)
    torch.nn.init.constant_(layer.weight, 3e38)
    assert not torch.isfinite(layer.weight.sum())
    expect_finite(layer, "here")
    torch.nn.init.constant_(layer.bias, torch.inf)
    with pytest.raises(DataError, match="here: weight 'bias' holds NaN or infinity"):
        expect_finite(layer, "here")
