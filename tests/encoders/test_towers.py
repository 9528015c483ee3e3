"""Towers: an item's embedding depends on the item alone, and input that does not fit is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.data.features import Features, Pixels
from manymatch.data.pairs import Pairs
from manymatch.encoders import (
    FeatureTower,
    ImageInput,
    LinearFeatures,
    MaxMeanPool,
    MaxPool,
    PixelTower,
    PointHead,
    Pool,
    ProjectorNeck,
    RegionProjector,
    Standardise,
    look_at,
)
from manymatch.errors import DataError


def feature_tower(pool: Pool | None = None, norm: str = "batch", **settings: object) -> FeatureTower:
    torch.manual_seed(0)
    inputs = ImageInput("features", fragments=3, fragment_width=4, pooled_width=5)
    neck = ProjectorNeck(RegionProjector(4, 8, 6, norm=norm), pool or MaxMeanPool(), dim=8)  # type: ignore[arg-type]
    return FeatureTower(inputs, neck, PointHead(), dim=8, **settings).eval()  # type: ignore[arg-type]


def some_features(n: int = 4) -> Features:
    draw = np.random.default_rng(0)
    return Features(draw.normal(size=(n, 3, 4)).astype(np.float32), pooled=draw.random((n, 5)).astype(np.float32))


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("pool", [MaxPool(), MaxMeanPool()])
def test_padding_never_changes_an_image(norm: str, pool: Pool) -> None:
    tower, features = feature_tower(pool, norm), some_features()
    longer = np.concatenate([features.vectors, np.full((4, 2, 4), 9.0, np.float32)], axis=1)  # type: ignore[list-item]
    padded = Features(longer, lengths=np.full(4, 3), pooled=features.pooled)
    torch.testing.assert_close(
        tower(features).embedding.tensors()["vectors"], tower(padded).embedding.tensors()["vectors"], rtol=0, atol=1e-5
    )


def test_region_drop_leaves_a_region() -> None:
    tower = feature_tower(drop=1.0).train()
    assert torch.isfinite(tower(some_features()).embedding.tensors()["vectors"]).all()


def test_missing_halves_are_named() -> None:
    tower, features = feature_tower(), some_features()
    with pytest.raises(DataError, match="give --pooled FILE"):
        tower(Features(features.vectors))
    with pytest.raises(DataError, match="give --features FILE"):
        tower(Features(None, pooled=features.pooled))
    with pytest.raises(DataError, match="has no backbone to look at a picture"):
        tower(Pixels(np.zeros((1, 3, 8, 8), np.float32)))


@given(seed=st.integers(0, 99), positive=st.booleans())
@settings(max_examples=20, deadline=None)
def test_standardise_fits_what_it_streams(seed: int, positive: bool) -> None:
    draw = np.random.default_rng(seed)
    values = (draw.gamma(2.0, size=(60, 3)) if positive else draw.normal(3.0, 2.0, (60, 3))).astype(np.float32)
    whole, blocks = Standardise(3), Standardise(3)
    whole.fit(lambda: [values])
    blocks.fit(lambda: np.array_split(values, 7))
    torch.testing.assert_close(whole(torch.from_numpy(values)), blocks(torch.from_numpy(values)), rtol=1e-4, atol=1e-5)
    out = whole(torch.from_numpy(values))
    assert bool(whole.root) == bool((values >= 0).all())
    assert out.mean(0).abs().max() < 0.05 and out.abs().max() <= 6.0


def test_standardise_without_rows() -> None:
    with pytest.raises(DataError, match="no training row"):
        Standardise(3).fit(lambda: [])


def test_pixel_tower_scales_any_picture(world: Pairs) -> None:
    torch.manual_seed(0)
    tower = PixelTower(ImageInput("cnn", size=32), MaxMeanPool(), PointHead(), dim=16).eval()
    pixels = tower.prepare([world.images[0], world.images[1].resize((50, 20))])
    assert pixels.array.shape == (2, 3, 32, 32) and np.abs(pixels.array).max() <= 1.0
    both = tower(pixels).embedding.tensors()["vectors"]
    torch.testing.assert_close(tower(pixels[:1]).embedding.tensors()["vectors"], both[:1], rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="reads pixels"):
        tower(some_features())


@pytest.mark.parametrize(("size", "dim"), [(33, 100), (50, 5), (16, 8)])
def test_pixel_tower_takes_any_size_and_width(world: Pairs, size: int, dim: int) -> None:
    tower = PixelTower(ImageInput("cnn", size=size), MaxMeanPool(), PointHead(), dim=dim).eval()
    assert tower(tower.prepare([world.images[0]])).embedding.tensors()["vectors"].shape == (1, dim)
    with pytest.raises(DataError, match=f"the run reads {size} x {size}"):
        tower(Pixels(np.zeros((1, 3, 20, 20), np.float32)))


def test_features_of_another_kind_are_refused() -> None:
    tower, features = feature_tower(), some_features()
    assert features.vectors is not None and features.pooled is not None
    with pytest.raises(DataError, match="fragment width 1, but the run was trained on 4"):
        tower(Features(features.vectors[..., :1], pooled=features.pooled))
    with pytest.raises(DataError, match="pooled width 3, but the run was trained on 5"):
        tower(Features(features.vectors, pooled=features.pooled[:, :3]))
    torch.manual_seed(0)
    linear = LinearFeatures(ImageInput("features", 3, 4, 5), PointHead(), dim=8)
    with pytest.raises(DataError, match="fragments 2, but the run was trained on 3"):
        linear(Features(features.vectors[:, :2], pooled=features.pooled))


def test_the_usual_side_counts_and_unreadable_pictures_do_not(world: Pairs) -> None:
    class Odd:
        def open(self, name: str) -> Image.Image:
            if name == world.items[0].picture:
                raise DataError("cut short")
            wide = name == world.items[1].picture
            return Image.new("RGB", (200, 20) if wide else (80, 64))

    pairs = Pairs(world.items, pictures=Odd(), name="odd")  # type: ignore[arg-type]
    assert look_at(pairs, None, longest_side=96).size == 64
    assert look_at(pairs, None, longest_side=32).size == 32


def test_shift_keeps_the_picture_while_training(world: Pairs) -> None:
    from manymatch.encoders.pixels import _shifted

    pixels = torch.from_numpy(
        PixelTower(ImageInput("cnn", size=32), MaxMeanPool(), PointHead(), dim=16).prepare([world.images[0]]).array
    )
    torch.manual_seed(0)
    moved = _shifted(pixels, 2)
    assert moved.shape == pixels.shape
    shifts = [torch.roll(pixels, (-a, -b), (2, 3))[..., 4:-4, 4:-4] for a in range(-2, 3) for b in range(-2, 3)]
    assert any(torch.equal(moved[..., 4:-4, 4:-4], s) for s in shifts)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("root", [True, False])
def test_features_given_once_are_written_over_and_teach_the_same(standardise: bool, root: bool) -> None:
    tower = feature_tower(standardise=standardise, feature_dropout=0.4).train()
    if standardise:
        tower.fragment_scale.root.fill_(root)  # type: ignore[union-attr, operator]
    features = some_features()
    found = []
    for once in (False, True):
        vectors = features.vectors.copy()  # type: ignore[union-attr]
        torch.manual_seed(1)
        tower.zero_grad()
        out = tower(Features(vectors, pooled=features.pooled, once=once)).embedding.tensors()["vectors"]
        out.sum().backward()
        found.append([out.detach(), *(p.grad.clone() for p in tower.parameters() if p.grad is not None)])
        assert np.array_equal(vectors, features.vectors) is not once  # type: ignore[arg-type]
    assert len(found[0]) > 3 and all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    vectors = features.vectors.copy()  # type: ignore[union-attr]
    tower.eval()(Features(vectors, pooled=features.pooled, once=True))
    assert np.array_equal(vectors, features.vectors)  # type: ignore[arg-type]
