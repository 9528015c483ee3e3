"""Pictures become the same numbers, to the last bit, as the library's image processors make of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.encoders.pretrained.hub import Found
from manymatch.encoders.pretrained.preprocessing import Preprocessing
from manymatch.encoders.pretrained.processors import preprocessing_of, read_preprocessing
from manymatch.errors import DataError, UnknownName

transformers = pytest.importorskip("transformers")

FIXED = ("CLIPImageProcessor", "SiglipImageProcessor", "BitImageProcessor", "ViTImageProcessor")
MODES = ("RGB", "L", "RGBA", "P", "LA", "CMYK", "1", "YCbCr")
MODEL = {"CLIPImageProcessor": "clip", "Siglip2ImageProcessor": "siglip2"}


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Image.fromarray(values, "RGBA") if mode in ("RGBA", "LA") else Image.fromarray(values[..., :3], "RGB")
    return image.convert(mode)


def library(kind: str, config: dict[str, Any]) -> Any:
    return getattr(transformers, f"{kind}Pil")(**config)


def theirs(kind: str, config: dict[str, Any], image: Image.Image) -> np.ndarray[Any, Any]:
    value = np.asarray(library(kind, config)(images=image)["pixel_values"][0])
    return value.astype(np.float32)


def ours(kind: str, config: dict[str, Any], image: Image.Image) -> np.ndarray[Any, Any]:
    return preprocessing_of({**config, "image_processor_type": kind}, "clip")(image)


def same(kind: str, config: dict[str, Any], image: Image.Image) -> None:
    mine, other = ours(kind, config, image), theirs(kind, config, image)
    assert mine.dtype == np.float32
    assert mine.shape == other.shape
    assert np.array_equal(mine.view(np.int32), other.view(np.int32))


SIDES = st.integers(1, 90)
SIZES = st.one_of(
    st.fixed_dictionaries({"height": st.integers(1, 60), "width": st.integers(1, 60)}),
    st.fixed_dictionaries({"shortest_edge": st.integers(1, 60)}),
    st.fixed_dictionaries({"max_height": st.integers(20, 60), "max_width": st.integers(20, 60)}),
    st.integers(1, 60),
    st.tuples(st.integers(1, 60), st.integers(1, 60)).map(list),
)
CHANNELS = st.one_of(
    st.lists(st.floats(0.05, 3.0), min_size=3, max_size=3),
    st.floats(0.05, 3.0),
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "do_resize": st.booleans(),
        "size": SIZES,
        "resample": st.integers(0, 5),
        "do_center_crop": st.booleans(),
        "do_rescale": st.booleans(),
        "rescale_factor": st.sampled_from([1 / 255, 1 / 127.5, 1, 0.0039]),
        "do_normalize": st.booleans(),
        "image_mean": CHANNELS,
        "image_std": CHANNELS,
        "default_to_square": st.booleans(),
    },
)


@settings(max_examples=150)
@given(
    st.sampled_from(FIXED),
    CONFIGS,
    st.one_of(st.integers(1, 50), st.fixed_dictionaries({"height": st.integers(1, 50), "width": st.integers(1, 50)})),
    SIDES,
    SIDES,
)
@example("CLIPImageProcessor", {"size": {"shortest_edge": 31}}, 50, 33, 90)
@example("BitImageProcessor", {"do_resize": False}, {"height": 50, "width": 7}, 10, 9)
def test_configured_as_it_may_be_a_picture_becomes_the_same_bits(
    kind: str, config: dict[str, Any], crop: Any, width: int, height: int
) -> None:
    if isinstance(size := config.get("size"), dict) and "max_height" in size:
        # A side that would be rounded to nothing the library refuses.
        assume(min(width, height) * min(size["max_height"] / height, size["max_width"] / width) >= 1)
    same(kind, {**config, "crop_size": crop}, picture(width, height))


@settings(max_examples=60)
@given(
    SIDES,
    SIDES,
    st.integers(4, 40),
    st.integers(4, 80),
    st.integers(0, 3),
)
def test_a_longest_edge_holds_the_longer_side(
    width: int, height: int, shortest: int, longest: int, resample: int
) -> None:
    # A side that would be rounded to nothing the library refuses.
    assume(max(width, height) / min(width, height) * 0.5 < longest)
    config = {"size": {"shortest_edge": shortest, "longest_edge": longest}, "resample": resample}
    same("SiglipImageProcessor", config, picture(width, height))


@pytest.mark.parametrize("kind", FIXED[:3])
@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode(kind: str, mode: str) -> None:
    same(kind, {}, picture(37, 53, mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_vit_is_given_rgb_where_the_library_gives_it_what_it_cannot_read(mode: str) -> None:
    image = picture(37, 53, mode)
    made = ours("ViTImageProcessor", {}, image)
    if mode in ("RGB", "CMYK", "YCbCr", "L", "1"):
        assert np.array_equal(made, theirs("ViTImageProcessor", {}, image.convert("RGB")))
    assert made.shape == (3, 224, 224)


def test_a_colour_that_stands_for_transparency_turns_white_as_the_processor_says() -> None:
    image = picture(9, 9)
    image.info["transparency"] = image.getpixel((4, 4))
    for kind in FIXED:
        same(kind, {"do_resize": False, "do_center_crop": False}, image)


@settings(max_examples=60)
@given(SIDES, SIDES, st.sampled_from([4, 8, 14, 16]), st.integers(1, 64), st.integers(0, 3))
@example(1, 90, 8, 20, 2)
def test_proportions_are_kept_in_the_same_patches(
    width: int, height: int, patch: int, most: int, resample: int
) -> None:
    config = {"patch_size": patch, "max_num_patches": most, "resample": resample}
    image = picture(width, height)
    found = library("Siglip2ImageProcessor", config)(images=image)
    made = preprocessing_of(config, "siglip2").pixels([image])
    assert made.grids is not None
    assert [list(map(int, grid)) for grid in made.grids] == [list(found["spatial_shapes"][0])]
    strip = made.array[0].reshape(3, patch, most, patch).transpose(2, 1, 3, 0).reshape(most, -1)
    assert np.array_equal(strip, found["pixel_values"][0])
    assert int(made.grids.prod()) == int(np.sum(found["pixel_attention_mask"][0])) <= most


@pytest.mark.parametrize(
    "value",
    [
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32},
        {"image_processor_type": "CLIPImageProcessorFast", "size": {"shortest_edge": 40}, "crop_size": 32},
        {"image_processor_type": "CLIPImageProcessorPil", "size": {"shortest_edge": 40}, "crop_size": [32, 32]},
        {"size": 40, "crop_size": 32, "do_pad": False, "device": None, "disable_grouping": None, "do_resize": None},
    ],
)
def test_older_spellings_of_a_processor_mean_the_same(value: dict[str, Any]) -> None:
    wanted = preprocessing_of({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}, "clip")
    assert preprocessing_of(value, "clip") == wanted


def test_what_a_processor_says_survives_json() -> None:
    for config, model in (({}, "clip"), ({}, "siglip2"), ({"size": {"height": 5, "width": 6}}, "vit")):
        made = preprocessing_of(config, model)
        assert Preprocessing(**json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"do_pad": True}, r"p\.json: do_pad = True is not done here \(CLIPImageProcessor\)"),
        ({"crop_pct": 0.9}, r"crop_pct = 0\.9 is not done here"),
        ({"use_square_size": True}, r"use_square_size = True is not done here"),
        ({"do_resize": "yes"}, r"p\.json: do_resize = 'yes', expected true or false"),
        ({"size": {"longest_edge": 5}}, r"size \{'longest_edge': 5\} is not done here"),
        ({"size": {"min_pixels": 5, "max_pixels": 9}}, r"is not done here"),
        ({"size": {"shortest_edge": 0}}, r"size\.shortest_edge = 0, expected a whole number from 1"),
        ({"size": {"shortest_edge": 1e9}}, r"size\.shortest_edge = 1000000000\.0, expected a whole number"),
        ({"size": "large"}, r"size = 'large', expected height and width"),
        ({"crop_size": {"shortest_edge": 5}}, r"crop_size \{'shortest_edge': 5\}, expected height and width"),
        ({"resample": 9}, r"resample = 9, expected a whole number from 0 to 5"),
        ({"resample": "bicubic"}, r"resample = 'bicubic', expected a whole number"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean = \[0\.5, 0\.5\], expected three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, r"image_std = \[0\.5, 0, 0\.5\], expected three numbers other than 0"),
        ({"image_mean": "grey"}, r"image_mean = 'grey', expected a number"),
        ({"rescale_factor": float("nan")}, r"rescale_factor = nan, expected a number"),
    ],
)
def test_what_is_not_done_is_named_in_one_line(value: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        preprocessing_of(value, "clip", "p.json")
    assert "\n" not in str(raised.value)


def test_an_unknown_processor_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown image processor 'ConvNextImageProcessor': .*known: BitImage"):
        preprocessing_of({"image_processor_type": "ConvNextImageProcessor"}, "clip")
    with pytest.raises(UnknownName, match="unknown image processor 'swin'"):
        preprocessing_of({}, "swin")


def test_patches_cannot_be_cut_of_what_is_not_resized() -> None:
    with pytest.raises(DataError, match="do_resize is false"):
        preprocessing_of({"do_resize": False}, "siglip2")


def test_a_folder_says_it_in_either_file(tmp_path: Path) -> None:
    found = Found("hf:here", tmp_path)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/preprocessor_config.json: missing")):
        read_preprocessing(found, "clip")
    (tmp_path / "preprocessor_config.json").write_text('{"crop_size": 7}')
    assert read_preprocessing(found, "clip").fixed == (7, 7)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')
    assert read_preprocessing(found, "clip").fixed == (7, 7)
    (tmp_path / "processor_config.json").write_text('{"image_processor": {"crop_size": 9}}')
    assert read_preprocessing(found, "clip").fixed == (9, 9)
    library_reads = transformers.CLIPImageProcessorPil.from_pretrained(tmp_path)
    assert (library_reads.crop_size.height, library_reads.crop_size.width) == (9, 9)


def test_pictures_of_different_sizes_cannot_stand_together() -> None:
    prepare = preprocessing_of({"do_center_crop": False, "size": {"shortest_edge": 8}}, "clip")
    assert prepare.fixed is None
    assert prepare.pixels([picture(8, 8), picture(16, 16)]).array.shape == (2, 3, 8, 8)
    with pytest.raises(DataError, match=r"they come to different sizes, \(8, 8\) and \(8, 16\)"):
        prepare.pixels([picture(8, 8), picture(16, 8)])


def test_a_mode_that_cannot_be_rgb_is_said() -> None:
    with pytest.raises(DataError, match="picture: mode La cannot be made RGB"):
        ours("CLIPImageProcessor", {}, Image.new("La", (4, 4)))


def test_a_strip_of_pixels_does_not_become_a_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel high, resized by its shorter side it would be millions wide; what is cut out of it is made alone."""
    strip = picture(3000, 4)
    whole = ours("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": 16}, strip)
    monkeypatch.setattr("manymatch.encoders.pretrained.preprocessing.MAX_PIXELS", 16 * 1000)
    part = ours("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": 16}, strip)
    assert part.shape == whole.shape
    assert np.abs(part - whole).max() < 0.05
    wide = ours("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": {"height": 20, "width": 16}}, strip)
    assert wide.shape == (3, 20, 16)
    with pytest.raises(DataError, match=r"3000 x 4 would be resized to 12000 x 16, at most 16,000 pixels"):
        ours("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "do_center_crop": False}, strip)


def test_what_is_seen_of_a_picture() -> None:
    prepare = preprocessing_of({"size": {"shortest_edge": 10}, "crop_size": 10}, "clip")
    assert prepare.seen(10, 10) == (0.0, 0.0, 1.0, 1.0)
    assert prepare.seen(40, 20) == (0.25, 0.0, 0.75, 1.0)
    assert prepare.seen(20, 40) == (0.0, 0.25, 1.0, 0.75)
    around = preprocessing_of({"size": {"shortest_edge": 10}, "crop_size": 20}, "clip")
    assert around.seen(10, 10) == (-0.5, -0.5, 1.5, 1.5)
    assert preprocessing_of({}, "vit").seen(10, 30) == (0.0, 0.0, 1.0, 1.0)
