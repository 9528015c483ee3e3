"""Image encoders exported to ONNX as frozen backbones."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
pytest.importorskip("onnx", reason="tests make their models with the package onnx")

from manymatch.data.features import Pixels
from manymatch.encoders.pretrained import open_backbone
from manymatch.encoders.pretrained.onnx import OnnxBackbone
from manymatch.encoders.pretrained.onnx_files import onnx_digest
from manymatch.errors import DataError
from onnx_models import image_model, text_model, weights

PIXELS = Pixels(np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32))


def source(path: Path) -> str:
    return f"onnx:{path}"


def by_hand(pixels: np.ndarray, width: int = 8, cell: int = 8) -> np.ndarray:
    """(n, cells, width), the tiny network in NumPy."""
    kernel = weights(width, 3, cell, cell) / cell
    n, _, h, w = pixels.shape
    cells = pixels.reshape(n, 3, h // cell, cell, w // cell, cell)
    return np.einsum("ncrhwk,dchk->nrwd", cells, kernel).reshape(n, -1, width)


def test_grids_and_pooled_vectors(tmp_path: Path) -> None:
    backbone = open_backbone(source(image_model(tmp_path / "m.onnx")))
    assert (backbone.fragments, backbone.fragment_width, backbone.pooled_width) == (16, 8, 8)
    assert backbone.grid(32, 32) == (4, 4)
    found = backbone.features(PIXELS)
    wanted = by_hand(PIXELS.array)
    np.testing.assert_allclose(found.vectors, wanted, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.pooled, wanted.mean(1), rtol=2e-3, atol=2e-3)
    for values in (found.vectors, found.pooled):
        assert values is not None and values.dtype == np.float32
        np.testing.assert_array_equal(values, values.astype(np.float16).astype(np.float32))


def test_fragments_have_three_axes_and_no_grid(tmp_path: Path) -> None:
    backbone = OnnxBackbone(source(image_model(tmp_path / "m.onnx", outputs=("fragments",))))
    assert (backbone.fragments, backbone.fragment_width, backbone.pooled_width) == (16, 8, 0)
    assert backbone.grid(32, 32) is None
    found = backbone.features(PIXELS)
    assert found.pooled is None
    np.testing.assert_allclose(found.vectors, by_hand(PIXELS.array), rtol=2e-3, atol=2e-3)


def test_the_pooled_vector_alone(tmp_path: Path) -> None:
    path = image_model(tmp_path / "m.onnx")
    backbone = open_backbone(source(path), fragments=False)
    assert backbone.fragments == 0 and backbone.features(PIXELS).vectors is None
    assert backbone.key != open_backbone(source(path)).key


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_fixed_batch_size_is_kept_to(tmp_path: Path, batch: int) -> None:
    fixed = OnnxBackbone(source(image_model(tmp_path / "fixed.onnx", batch=batch)))
    free = OnnxBackbone(source(image_model(tmp_path / "free.onnx")))
    for name in ("vectors", "pooled"):
        found, wanted = getattr(fixed.features(PIXELS), name), getattr(free.features(PIXELS), name)
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_without_a_configuration_pictures_are_prepared_as_for_imagenet(tmp_path: Path) -> None:
    backbone = OnnxBackbone(source(image_model(tmp_path / "m.onnx", side="side")))
    assert "no preprocessor_config.json beside it, so pictures are prepared as for ImageNet" in backbone.note
    assert "\n" not in backbone.note
    pixels = backbone.prepare([Image.new("RGB", (300, 512), (124, 116, 104))]).array
    assert pixels.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(pixels[0].mean((1, 2)), [0, 0, 0], atol=0.02)
    left, top, right, bottom = backbone.seen(300, 512)
    np.testing.assert_allclose([left, right], [16 / 256, 240 / 256])
    assert top > 0.2 and bottom < 0.8
    assert OnnxBackbone(source(image_model(tmp_path / "s.onnx", side=64))).prepare(
        [Image.new("RGB", (99, 99))]
    ).array.shape == (1, 3, 64, 64)


def configuration(folder: Path, side: int = 32) -> None:
    folder.mkdir(exist_ok=True)
    value = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(value))


@pytest.mark.parametrize("inside", ["", "onnx"])
def test_the_configuration_beside_it_is_read(tmp_path: Path, inside: str) -> None:
    configuration(tmp_path)
    backbone = OnnxBackbone(source(image_model(tmp_path / inside / "m.onnx")))
    assert not backbone.note
    pixels = backbone.prepare([Image.new("RGB", (64, 40), "white")])
    np.testing.assert_allclose(pixels.array, np.ones((1, 3, 32, 32)))
    assert backbone.features(pixels).vectors.shape == (1, 16, 8)  # type: ignore[union-attr]


def test_a_configuration_of_another_network_is_refused(tmp_path: Path) -> None:
    configuration(tmp_path, 48)
    with pytest.raises(DataError, match=r"takes 32 x 32 pixels, and preprocessor_config.json makes 48 x 48"):
        OnnxBackbone(source(image_model(tmp_path / "m.onnx")))


def test_the_key_is_of_weights_and_preprocessing_and_not_of_the_path(tmp_path: Path) -> None:
    one = OnnxBackbone(source(image_model(tmp_path / "a.onnx")))
    same = OnnxBackbone(source(image_model(tmp_path / "b" / "c.onnx")))
    other = OnnxBackbone(source(image_model(tmp_path / "d.onnx", scale=1.5)))
    configuration(tmp_path / "e")
    prepared = OnnxBackbone(source(image_model(tmp_path / "e" / "a.onnx")))
    assert one.key == same.key
    assert len({one.key, other.key, prepared.key}) == 3


def test_weights_beside_the_file_are_part_of_it(tmp_path: Path) -> None:
    path = image_model(tmp_path / "m.onnx", beside="m.data")
    assert (tmp_path / "m.data").is_file()
    np.testing.assert_allclose(
        OnnxBackbone(source(path)).features(PIXELS).vectors, by_hand(PIXELS.array), rtol=2e-3, atol=2e-3
    )
    before = onnx_digest(path)
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[5] ^= 1
    (tmp_path / "m.data").write_bytes(data)
    assert onnx_digest(path) != before
    (tmp_path / "m.data").unlink()
    with pytest.raises(DataError, match=r"no such file .*m\.data"):
        onnx_digest(path)


def test_weights_outside_its_folder_are_not_read(tmp_path: Path) -> None:
    path = image_model(tmp_path / "in" / "m.onnx", beside="m.data")
    damaged = path.read_bytes().replace(b"m.data", b"../m.d")
    path.write_bytes(damaged)
    for read in (onnx_digest, lambda path: OnnxBackbone(source(path))):
        with pytest.raises(DataError, match="outside its folder"):
            read(path)


def test_what_is_no_image_encoder_is_refused(tmp_path: Path) -> None:
    cases = {
        "its channels come last": image_model(tmp_path / "last.onnx", channels_last=True),
        "inputs pixel_values, input_ids, expected one": image_model(tmp_path / "two.onnx", extra_input=True),
        "inputs input_ids, attention_mask, expected one": text_model(tmp_path / "text.onnx", words=9),
        "expected one with two axes": image_model(tmp_path / "one.onnx", outputs=("one",)),
    }
    for why, path in cases.items():
        with pytest.raises(DataError, match=why):
            OnnxBackbone(source(path))


def test_what_is_no_onnx_is_refused(tmp_path: Path) -> None:
    whole = image_model(tmp_path / "m.onnx").read_bytes()
    changed = whole.replace(b"Conv", b"Cnov")
    for data in (b"hello " * 50, b"", whole[:-200], changed, b"\x08\x08:\xff\xff\x7f" + b"x" * 9):
        (tmp_path / "bad.onnx").write_bytes(data)
        with pytest.raises(DataError, match="ONNX file"):
            OnnxBackbone(source(tmp_path / "bad.onnx"))
    with pytest.raises(DataError, match=r"tower 'onnx:.*none.onnx': no such file"):
        OnnxBackbone(source(tmp_path / "none.onnx"))


def test_other_pixels_are_refused_in_one_line(tmp_path: Path) -> None:
    backbone = OnnxBackbone(source(image_model(tmp_path / "m.onnx")))
    with pytest.raises(DataError, match=r"it does not take \{'pixel_values': \(1, 3, 16, 16\)\}"):
        backbone.features(Pixels(np.zeros((1, 3, 16, 16), np.float32)))


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = image_model(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match=r'pip install "manymatch\[onnx\]"'):
        OnnxBackbone(source(path))


def test_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for name in ("pipe.onnx", "."):
        with pytest.raises(DataError, match="expected a file"):
            OnnxBackbone(source(tmp_path / name))


def test_what_float16_cannot_hold_becomes_its_largest(tmp_path: Path) -> None:
    found = open_backbone(source(image_model(tmp_path / "m.onnx", scale=1e6))).features(PIXELS)
    for values in (found.vectors, found.pooled):
        assert values is not None and np.abs(values).max() == 65504


def test_weights_that_are_not_finite_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its output '\w+' holds NaN or infinity; export the network again"):
        open_backbone(source(image_model(tmp_path / "m.onnx", scale=float("nan"))))
