"""A frozen backbone under a tower: the same features from a store and from pictures, and no weight of it in the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import manymatch as mm
import manymatch.encoders.pretrained as pretrained
from backbone_fakes import GridBackbone
from manymatch.data.features import Features
from manymatch.data.pairs import Images, Pairs
from manymatch.data.toy import write_toy
from manymatch.encoders import FeatureTower, ImageInput, LinearFeatures, MaxMeanPool, PointHead, ProjectorNeck
from manymatch.encoders import RegionProjector as Projector
from manymatch.encoders.pretrained.backed import AsIs, Backed, Computed
from manymatch.encoders.pretrained.base import Backbone
from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.methods import Model


def inputs_of(backbone: Backbone) -> ImageInput:
    return ImageInput("features", backbone.fragments, backbone.fragment_width, backbone.pooled_width)


def feature_tower(backbone: GridBackbone, dim: int = 16) -> FeatureTower:
    torch.manual_seed(0)
    neck = ProjectorNeck(Projector(backbone.fragment_width, dim, dim), MaxMeanPool(), dim=dim)
    return FeatureTower(inputs_of(backbone), neck, PointHead(), dim=dim)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Twenty toy pictures in a tar."""
    return Pairs.read(write_toy(tmp_path_factory.mktemp("photos"), 20))


def test_nothing_of_the_backbone_is_in_the_run() -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone))
    inside = {id(parameter) for parameter in backbone.parameters()}
    assert not any(id(parameter) in inside for parameter in tower.parameters())
    assert all(name.startswith("inner.") for name in tower.state_dict())
    assert set(tower.state_dict()) == {f"inner.{name}" for name in tower.inner.state_dict()}
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    tower.train()
    assert not backbone.training and tower.inner.training


def test_the_backbone_follows_from_device_to_device() -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone)).to("meta")
    assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in tower.parameters()} == {"meta"}


def test_pictures_and_stored_features_give_the_same(photos: Pairs, tmp_path: Path) -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone)).eval()
    said: list[str] = []
    supplied = tower.supply(photos, tmp_path, said.append)
    tower.fit_input(supplied.images)
    assert said[-1] == f"features of fake:grid-0: 0 of 20 from {tmp_path}, 20 computed now"
    with torch.no_grad():
        seen = tower(tower.prepare(photos.images.decode())).embedding.vectors
        stored = tower(supplied.images.read_features()).embedding.vectors
    np.testing.assert_array_equal(seen.numpy(), stored.numpy())


def test_the_second_supply_computes_nothing(photos: Pairs, tmp_path: Path) -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone))
    supplied = tower.supply(photos, tmp_path)
    assert backbone.looked == 20 and tower.takes(supplied.images) and not tower.takes(photos.images)
    said: list[str] = []
    again = tower.supply(photos, tmp_path, said.append)
    assert backbone.looked == 20
    assert said[-1] == f"features of fake:grid-0: 20 of 20 from {tmp_path}"
    assert tower.supply(again, tmp_path) is again
    assert Backed(GridBackbone(seed=1), feature_tower(backbone)).takes(again.images) is False


def test_the_default_store_is_named_by_the_environment(
    photos: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "here"))
    backbone = GridBackbone()
    Backed(backbone, feature_tower(backbone)).supply(photos)
    assert (tmp_path / "here" / "catalogue.sqlite").is_file()


def test_statistics_are_the_same_with_and_without_a_store(photos: Pairs, tmp_path: Path) -> None:
    backbone = GridBackbone()
    with_store, without = (Backed(backbone, feature_tower(backbone)) for _ in range(2))
    with_store.fit_input(with_store.supply(photos, tmp_path).images)
    without.fit_input(photos.images)
    for name, value in with_store.state_dict().items():
        torch.testing.assert_close(without.state_dict()[name], value)
    assert float(with_store.inner.pooled_scale.mean.abs().sum()) > 0  # type: ignore[union-attr]


def test_training_in_bfloat16_sees_the_features_of_the_store(photos: Pairs) -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone))
    pixels = tower.prepare(photos.images.decode())
    with torch.autocast("cpu", torch.bfloat16):
        found = tower.features(pixels)
    np.testing.assert_array_equal(found.pooled, backbone.features(pixels).pooled)


def test_an_unreadable_picture_is_left_out_and_listed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (20, 20), "red").save(folder / "red.png")
    (folder / "bad.jpg").write_bytes(b"not a picture")
    lines = ['{"image": "red.png", "captions": ["red"]}', '{"image": "bad.jpg", "captions": ["bad"]}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    pairs = Pairs.read(tmp_path / "c.jsonl", images=folder)
    backbone, said = GridBackbone(), []
    supplied = Backed(backbone, feature_tower(backbone)).supply(pairs, tmp_path / "store", said.append)
    assert [item.picture for item in supplied] == ["red.png"]
    assert supplied.problems[-1].kind == "unreadable picture" and "bad.jpg" in supplied.problems[-1].file
    assert any("1 pictures cannot be read and are left out" in line for line in said)
    (folder / "red.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of 2 pictures can be read"):
        Backed(backbone, feature_tower(backbone)).supply(pairs, tmp_path / "store")


def test_pairs_without_pictures_are_refused(photos: Pairs, tmp_path: Path) -> None:
    backbone = GridBackbone()
    with pytest.raises(DataError, match=r"no pictures for fake:grid-0 to look at; give --images PATH"):
        Backed(backbone, feature_tower(backbone)).supply(Pairs(photos.items), tmp_path)


def test_as_is_gives_the_pooled_vector(photos: Pairs) -> None:
    backbone = GridBackbone(fragments=False)
    tower = Backed(backbone, AsIs(inputs_of(backbone), PointHead()))
    assert not list(tower.parameters()) and not tower.state_dict()
    encoded = tower(tower.prepare(photos.images.decode()))
    given = Computed(backbone, photos.pictures).get(photos.items).pooled
    assert given is not None
    wanted = given / np.linalg.norm(given, axis=1, keepdims=True)
    np.testing.assert_allclose(encoded.embedding.vectors.numpy(), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="only fragments"):
        tower(Features(np.zeros((2, 4, 3), np.float32)))


def test_as_is_needs_a_pooled_vector() -> None:
    with pytest.raises(DataError, match="gives fragments alone"):
        AsIs(ImageInput("features", 4, 3, 0), PointHead())


def test_a_linear_tower_reads_a_backbone(photos: Pairs, tmp_path: Path) -> None:
    backbone = GridBackbone(fragments=False)
    tower = Backed(backbone, LinearFeatures(inputs_of(backbone), PointHead(), dim=8))
    images: Images = tower.supply(photos, tmp_path).images
    tower.fit_input(images)
    assert tower(images.read_features()).embedding.vectors.shape == (20, 8)


def test_the_grid_is_the_backbones() -> None:
    backbone = GridBackbone()
    tower = Backed(backbone, feature_tower(backbone))
    assert tower.grid(16, 16) == (4, 4) and tower.seen(20, 10) == (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["tiny_clip", "tiny_siglip2", "tiny_dinov2"])
def test_real_networks_pass_through_the_store(name: str, tmp_path: Path) -> None:
    """What a store gives is what the network gives; of SigLIP 2 pictures of any shape, with their real lengths."""
    pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    import tiny_towers
    from manymatch.encoders.pretrained import open_backbone

    folder = tmp_path / "photos"
    folder.mkdir()
    shapes = {"wide.png": (40, 90), "tall.png": (90, 40), "small.png": (9, 9), "strip.png": (8, 200)}
    for n, (picture, (height, width)) in enumerate(shapes.items()):
        pixels = np.random.default_rng(n).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / picture)
    lines = [f'{{"image": "{picture}", "captions": ["x"]}}\n' for picture in shapes]
    (tmp_path / "c.jsonl").write_text("".join(lines))
    pairs = Pairs.read(tmp_path / "c.jsonl", images=folder)
    backbone = open_backbone(f"hf:{getattr(tiny_towers, name)(tmp_path / 'network')}")
    tower = Backed(backbone, AsIs(inputs_of(backbone), PointHead()))
    found = tower.supply(pairs, tmp_path / "store").images.read_features()
    wanted = Computed(backbone, pairs.pictures).get(pairs.items)
    for part in ("vectors", "pooled"):
        np.testing.assert_allclose(getattr(found, part), getattr(wanted, part), rtol=2e-3, atol=2e-3, err_msg=part)
    assert (found.lengths is None) == (wanted.lengths is None)
    if wanted.lengths is not None and found.lengths is not None:
        np.testing.assert_array_equal(found.lengths, wanted.lengths)


def test_what_a_network_saw_is_not_read_as_features_of_the_users_own(
    photos: Pairs, featured: Pairs, tmp_path: Path
) -> None:
    backbone = GridBackbone()
    supplied = Backed(backbone, feature_tower(backbone)).supply(photos, tmp_path)
    tower = feature_tower(backbone)
    assert tower.takes(featured.images) and tower.takes(photos.images) and not tower.takes(supplied.images)
    small = {"dim": 8, "hidden": 8, "least_count": 1}
    with pytest.raises(DataError, match=r"what a pretrained network sees .* name it \(image_tower='hf:NAME'\)"):
        mm.method("vsepp", **small).build(supplied)
    model = mm.method("vsepp", **small).build(featured.take(range(20)))
    for use in (lambda: model.encode_images(supplied.images), lambda: mm.evaluate(model, supplied)):
        with pytest.raises(DataError, match=r"reads features of the user's own, found what a pretrained network sees"):
            use()


def opened_as(backbone: GridBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every "hf:..." is this backbone, without its fragments where none are asked for."""

    def opened(source: str, *, fragments: bool = True) -> GridBackbone:
        if fragments:
            return backbone
        alone = GridBackbone(fragments=False)
        alone.source = source
        return alone

    monkeypatch.setattr(pretrained, "open_backbone", opened)


@pytest.mark.parametrize(("pooling", "fragments"), [("published", 0), ("max_mean", 16)])
def test_a_tower_that_reads_the_pooled_vector_alone_asks_for_no_fragments(
    photos: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pooling: str, fragments: int
) -> None:
    opened_as(GridBackbone(), monkeypatch)
    method = mm.method("vsepp", dim=8, hidden=8, least_count=1, pooling=pooling)
    model = method.build(photos, image_tower="hf:grid", store=tmp_path)
    assert isinstance(model.images, Backed)
    assert model.images.backbone.fragments == model.input_of_images.fragments == fragments
    assert model.supply(photos, tmp_path).features.sizes().get("fragments", 0) == fragments  # type: ignore[union-attr]
    again = Model.from_description(json.loads(json.dumps(model.describe())))
    assert again.images.backbone.key == model.images.backbone.key  # type: ignore[union-attr]


def test_evaluation_and_indexing_in_python_use_a_store(
    photos: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = GridBackbone()
    opened_as(backbone, monkeypatch)
    model = mm.method("vsepp", dim=8, hidden=8, least_count=1).build(
        photos, image_tower="hf:grid", store=tmp_path / "s"
    )
    looked, said = backbone.looked, list[str]()
    report = mm.evaluate(model, photos, store=tmp_path / "s", say=said.append)
    # Before it, files written a moment ago may be said to be read again.
    assert backbone.looked == looked and said[-1] == f"features of fake:grid-0: 20 of 20 from {tmp_path / 's'}"
    bare = Pairs(photos.items, pictures=photos.pictures, features=Computed(backbone, photos.pictures))
    assert mm.evaluate(model, bare).rows == report.rows
    looked = backbone.looked
    with Index.build(model, photos, tmp_path / "x", store=tmp_path / "s") as stored:
        assert backbone.looked <= looked + 1, "at most the first picture, to see if it can"
        with Index.build(model, photos, tmp_path / "y") as seen:
            assert backbone.looked >= looked + 20
            assert seen.search("a red circle").hits == stored.search("a red circle").hits


def test_a_picture_that_cannot_be_read_is_noted_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").mkdir()
    for n in range(4):
        Image.new("RGB", (20, 20), (60 * n, 0, 0)).save(tmp_path / "p" / f"{n}.png")
    rows = [{"image": f"{n}.png", "captions": [f"number {n}"]} for n in range(4)]
    (tmp_path / "p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pairs = Pairs.read(tmp_path / "p.jsonl", images=tmp_path / "p")
    opened_as(GridBackbone(), monkeypatch)
    model = mm.method("vsepp", dim=8, hidden=8, least_count=1).build(pairs, image_tower="hf:grid", store=tmp_path / "s")
    (tmp_path / "p" / "2.png").write_bytes(b"no picture")
    notes = mm.evaluate(model, pairs, store=tmp_path / "s").notes
    assert any("1 of 4 images could not be read and are left out; the first: " in note for note in notes)
    with pytest.raises(DataError, match=r"2\.png"):
        Index.build(model, pairs, tmp_path / "x", store=tmp_path / "s")
