"""The main job on real photographs: trained, evaluated, indexed and searched to the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import DataError, IndexMismatch
from manymatch.evaluation.banking import biases_of, usable_banks
from manymatch.evaluation.encoding import scores_of
from manymatch.methods import Model
from manymatch.training import TrainConfig, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def all_cores() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def photos(reference: Path) -> Pairs:
    folder = reference / "data" / "flickr8k"
    return Pairs.read(
        folder / "captions.jsonl",
        images=folder / "images_160.tar",
        features=folder / "mobilenetv2_regions9_pca256_i8.npz",
        pooled=folder / "mobilenetv2_pool_u8.npy",
    )


@pytest.fixture(scope="module")
def cca(photos: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Model:
    training = photos.split("train")
    model = mm.method("cca").build(training)
    return train(model, training, validate=photos.split("val"), out=tmp_path_factory.mktemp("cca") / "run", say=None)


@pytest.fixture(scope="module")
def dive(photos: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two epochs: far from the end of training, far above chance."""
    training = photos.split("train")
    model = mm.method("dive").build(training)
    out = tmp_path_factory.mktemp("dive") / "run"
    return train(model, training, out=out, config=TrainConfig(epochs=2), say=None)


def test_reads_whole(photos: Pairs) -> None:
    assert (len(photos), len(photos.captions), photos.problems) == (8091, 40455, ())
    assert photos.splits == {"train": 6000, "val": 1000, "test": 1000, "extra": 91}


def test_the_linear_control_is_where_it_was_measured(cca: Model, photos: Pairs) -> None:
    assert mm.evaluate(cca, photos.split("test"), protocol="own").value("RSUM", "both") >= 268


def test_dive_starts(dive: Model, photos: Pairs) -> None:
    report = mm.evaluate(dive, photos.split("test"), protocol="own")
    assert report.value("RSUM", "both") > 120, "chance is 3"
    for row in report.rows:
        if row["metric"] == "log circular variance":
            assert -4 < row["value"] < -0.69, "sets are still sets"


@pytest.mark.parametrize("name", ["cca", "dive"])
def test_search_gives_what_evaluate_ranked(
    name: str, photos: Pairs, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(name)
    test = photos.split("test")
    index = mm.Index.build(model, test, tmp_path / "photos.index")
    # cca was trained with validation and so has a query bank, dive has none.
    encoded = model.encode_images(test.images), model.encode_texts(test.captions)
    banks, _ = usable_banks([model], [name], test, None)
    source = scores_of([model], [encoded], test, None, biases_of([model], [encoded], test, banks))
    every = np.concatenate([part for _, part in source.rows("t2i")])
    rows = np.argsort(-every, axis=1, kind="stable")[:, :11]
    scores = np.take_along_axis(every, rows, axis=1)
    place = {image: n for n, image in enumerate(test.image_ids)}
    for n in range(0, 5000, 25):
        found = index.search(test.captions[n], k=10)
        assert found.exact and found.bank == (banks is not None) and len(found.hits) == 10
        ours, theirs = [place[hit.id] for hit in found], rows[n, :10].tolist()
        # float16 moves a score by up to 5e-5: only items that close may change places, or the tenth its neighbour.
        for rank, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if a != b:
                assert abs(found.hits[rank].score - float(scores[n, rank])) < 1e-4
        np.testing.assert_allclose([h.score for h in found], scores[n, :10], rtol=0, atol=1e-4)
    assert (name == "cca") == (banks is not None)
    index.close()


def test_an_index_refuses_another_run(cca: Model, dive: Model, photos: Pairs, tmp_path: Path) -> None:
    few = photos.split("test").take(range(20))
    mm.Index.build(cca, few, tmp_path / "x").close()
    with pytest.raises(IndexMismatch):
        mm.Index.open(tmp_path / "x", dive)


def test_a_picture_asks_only_a_run_that_sees_pixels(cca: Model, photos: Pairs, tmp_path: Path) -> None:
    few = photos.split("test").take(range(20))
    index = mm.Index.build(cca, few, tmp_path / "x")
    with pytest.raises(DataError, match="like=ID"):
        index.search(photos.images[0])
    assert few.image_ids[3] not in [hit.id for hit in index.search(like=few.image_ids[3])]
    index.close()


def test_pixels_train_too(photos: Pairs, tmp_path: Path) -> None:
    few = Pairs(photos.split("train").items[:600], pictures=photos.pictures, name="few")
    model = mm.method("dive", longest_side=64, dim=128).build(few)
    assert model.image_input == "pixels"
    trained = train(model, few, out=tmp_path / "run", config=TrainConfig(epochs=3), say=None)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]
    index = mm.Index.build(trained, few.take(range(30)), tmp_path / "x")
    assert len(index.search(few.images[2], k=5).hits) == 5
    index.close()
