"""An index of a run with a query bank: search ranks as evaluation does, through everything that happens to items."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import manymatch as mm
from manymatch import runs
from manymatch.bank import Bank, Queries, Setting, item_keys, owner_keys
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Embedding, Points
from manymatch.errors import DataError, IndexMismatch
from manymatch.evaluation import ModelScores
from manymatch.evaluation.banking import biases_of
from manymatch.evaluation.encoding import encode
from manymatch.index.local.candidates import asking_proxies
from manymatch.methods import Model

METHODS = {"vsepp": "points", "dive": "sets", "pcmepp": "gaussians", "p2rm": "boxes", "msrm": "mahalanobis"}
METHODS |= {"pcme": "samples"}
EXACT = ("vsepp", "msrm")
SMALL = {"dim": 32, "word_dim": 16, "hidden": 16, "least_count": 1}
TRAINING, INDEXED = range(50), range(50, 110)


@pytest.fixture(autouse=True)
def _fake_runs() -> None:
    """These runs are real ones, saved and loaded as such."""


def bank_of(model: Model, pairs: Pairs, alpha: float = 0.75, k: int = 5) -> Bank:
    """Both ways corrected, whatever validation would say of random weights."""
    queries = {
        "caption": Queries.of([model.encode_texts(pairs.captions)], owner_keys(pairs.image_ids)[pairs.owner]),
        "image": Queries.of([model.encode_images(pairs.images)], owner_keys(pairs.image_ids)),
    }
    held = torch.from_numpy(np.sort(item_keys(pairs)[0]))
    return Bank(queries, {asking: Setting(alpha, k) for asking in queries}, held)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models(featured: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    out = {}
    for name in METHODS:
        model = mm.method(name, **SMALL).build(featured.take(TRAINING), seed=2).eval()
        model.bank = bank_of(model, featured.take(TRAINING))
        out[name] = model
    return out


@pytest.fixture(scope="module")
def indexed(featured: Pairs) -> Pairs:
    return featured.take(INDEXED)


def evaluated(model: Model, pairs: Pairs, bank: Bank | None, stored: torch.dtype = torch.float16) -> dict[str, Any]:
    """What `evaluate` ranks by, both ways, of embeddings as an index stores them."""
    both = encode(model, pairs, 256, None)
    biases = biases_of([model], [both], pairs, None if bank is None else [bank])
    images, texts = (side.to(stored).to(torch.float32) for side in both)
    way: dict[str, np.ndarray] = {}
    for direction, gallery, queries in (("t2i", images, both[1]), ("i2t", texts, images)):
        sides = (gallery, queries) if direction == "t2i" else (queries, gallery)
        source = ModelScores(model.similarity, *sides, biases=biases)
        way[direction] = np.concatenate([rows for _, rows in source.rows(direction)])
    return way


def slack(scores: np.ndarray) -> float:
    return 2e-6 * max(1.0, float(np.abs(scores).max()))


def agree(index: mm.Index, model: Model, pairs: Pairs, used: Bank | None, **how: Any) -> None:
    """Words find images, and images captions, by the very scores."""
    scores = evaluated(model, pairs, used)
    some = range(0, len(pairs), 7)
    words = [pairs.captions[n] for n in some]
    for n, found in zip(some, index.search_many(words, 40, **how), strict=True):
        expect(found, pairs.image_ids, scores["t2i"][n], used is not None)
    for n in some:
        found = index.search(like=pairs.image_ids[n], k=40, among="captions", **how)
        expect(found, pairs.caption_ids, scores["i2t"][n], used is not None)


def expect(found: mm.index.Results, ids: Sequence[str], scores: np.ndarray, bank: bool) -> None:
    place = {id: n for n, id in enumerate(ids)}
    right = np.sort(scores)[::-1][: len(found)]
    there = scores[[place[hit.id] for hit in found]]
    assert len(found) == min(40, len(ids)) and found.bank == bank
    np.testing.assert_allclose(there, right, rtol=0, atol=2 * slack(scores))
    np.testing.assert_allclose([hit.score for hit in found], there, rtol=0, atol=2 * slack(scores))
    assert bank == any(abs(hit.score - hit.raw_score) > 1e-6 for hit in found)


@pytest.mark.parametrize("name", METHODS, ids=list(METHODS.values()))
def test_search_ranks_what_is_evaluated(name: str, models: dict[str, Model], indexed: Pairs, tmp_path: Path) -> None:
    model = models[name]
    with mm.Index.build(model, indexed, tmp_path / "x", engine="exact") as index:
        assert index.info()["bank"] is True and index.bank is model.bank
        agree(index, model, indexed, model.bank)
        agree(index, model, indexed, None, bank=False)
        # Between items of one modality nothing is taken off.
        for hit in index.search(like=indexed.image_ids[0], k=5):
            assert hit.score == hit.raw_score


@pytest.mark.parametrize("name", EXACT)
def test_exact_proxies_stay_exact(name: str, models: dict[str, Model], indexed: Pairs, tmp_path: Path) -> None:
    model = models[name]
    assert model.similarity.proxy_is_exact
    scores = evaluated(model, indexed, model.bank, torch.float32)
    both = encode(model, indexed, 256, None)
    with mm.Index.build(model, indexed, tmp_path / "x", precision="float32") as index:
        for asking, searched, queries in (("caption", "image", both[1]), ("image", "caption", both[0])):
            asked = asking_proxies(model.similarity, queries, asking, True)  # type: ignore[arg-type]
            with index._collection.reading() as reading:
                gallery = reading._view.shelf(searched, reading._snapshot).gallery  # type: ignore[attr-defined]
                products = asked @ np.concatenate([given for _, given in gallery.proxies()]).T
            wanted = scores["t2i" if asking == "caption" else "i2t"]
            for row, exact in zip(products, wanted, strict=True):
                assert np.diff(exact[np.argsort(-row)]).max() < 20 * slack(wanted)


@pytest.mark.parametrize("name", ["vsepp", "dive"])
def test_candidates_are_measured_with_biases(
    name: str, models: dict[str, Model], indexed: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 20)
    model = models[name]
    scores = evaluated(model, indexed, model.bank)["i2t"]
    with mm.Index.build(model, indexed, tmp_path / "x", engine="faiss") as index:
        promised, shares = index.info()["agreement"]["caption"].get("image"), []
        for n, id in enumerate(indexed.image_ids):
            tenth = np.sort(scores[n])[-10] - 1e-3
            found = index.search(like=id, among="captions")
            shares.append(sum(hit.score >= tenth for hit in found) / 10)
        assert np.mean(shares) >= (promised or 1.0) - 1e-6


def test_through_all_that_happens_to_items(models: dict[str, Model], featured: Pairs, tmp_path: Path) -> None:
    """Added, replaced, deleted, brought up to date, opened again without the run: biases are those of what is there."""
    model, folder = models["dive"], tmp_path / "x"
    runs.save_search(model, tmp_path / "run")
    first, more = featured.take(range(50, 80)), featured.take(range(80, 100))
    mm.Index.build(mm.load(tmp_path / "run"), first, folder).close()
    shutil.rmtree(tmp_path / "run")
    with mm.Index.open(folder) as index:
        index.add(more)
        both = featured.take(range(50, 100))
        agree(index, model, both, model.bank)
        # Other captions under a known id.
        turned = [replace(item, captions=item.captions[::-1][:3]) for item in first.items[:5]]
        index.add(Pairs(turned, features=featured.features))
        index.delete([item.id for item in first.items[5:10]])
        there = [*turned, *first.items[10:], *more.items]
        agree(index, model, Pairs(there, features=featured.features), model.bank)
        index.sync(Pairs(there[3:], features=featured.features), source="s")
        index.sync(Pairs(there[8:], features=featured.features), source="s")
        rest = [*there[:3], *there[8:]]
        agree(index, model, Pairs(rest, features=featured.features), model.bank)
        assert index.check().problems == []
        index.compact()
        index.refresh()
        agree(index, model, Pairs(rest, features=featured.features), model.bank)
    with mm.Index.open(folder, model=model) as index:
        agree(index, model, Pairs(rest, features=featured.features), model.bank)


def test_a_renamed_image_keeps_its_biases(models: dict[str, Model], featured: Pairs, tmp_path: Path) -> None:
    model, some = models["vsepp"], featured.take(range(50, 60))
    with mm.Index.begin(model, tmp_path / "x") as index:
        index.sync(some, source="s")
        before = {hit.id: hit.score for hit in index.search(some.captions[0], k=10)}

        class Renamed:
            def get(self, items: Any) -> Any:
                return featured.features.get([replace(item, id=item.id.removeprefix("new-")) for item in items])  # type: ignore[union-attr]

            def sizes(self) -> dict[str, int]:
                return featured.features.sizes()  # type: ignore[union-attr]

        renamed = [replace(item, id=f"new-{item.id}") for item in some.items]
        done = index.sync(Pairs(renamed, features=Renamed()), source="s")
        assert done.moved == 10
        after = {hit.id.removeprefix("new-"): hit.score for hit in index.search(some.captions[0], k=10)}
        assert after == before


def test_pictures_that_are_put_in_have_biases(world: Pairs, tmp_path: Path) -> None:
    model = mm.method("vsepp", **SMALL).build(world.take(TRAINING), image_tower="cnn", seed=2).eval()
    model.bank = bank_of(model, world.take(TRAINING))
    some = world.take(range(50, 62))
    with mm.Index.build(model, some.take(range(6)), tmp_path / "x") as index:
        for n in range(6, 12):
            data = io.BytesIO()
            some.images[n].save(data, "PNG")
            index.put_picture(some.items[n].id, data.getvalue(), some.items[n].captions)
        agree(index, model, some, model.bank)


def test_own_queries_do_not_count_in_an_index_of_what_was_trained_on(
    models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    model, training = models["vsepp"], featured.take(range(40, 60))
    images = model.encode_images(training.images)
    others = model.bank.bias(model.similarity, images, "caption", owner_keys(training.image_ids))  # type: ignore[union-attr]
    everybody = model.bank.bias(model.similarity, images, "caption")  # type: ignore[union-attr]
    assert (others[:10] <= everybody[:10]).all() and (others[:10] < everybody[:10]).any()
    np.testing.assert_array_equal(others[10:], everybody[10:])
    with mm.Index.build(model, training, tmp_path / "x") as index:
        found = {hit.id: hit.raw_score - hit.score for hit in index.search("a red circle", k=20)}
    np.testing.assert_allclose([found[id] for id in training.image_ids], others, rtol=0, atol=2e-6)


def test_embeddings_without_biases_get_those_of_the_bank(
    models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    model, some = models["dive"], featured.take(range(50, 70))
    from manymatch.index.store.packed import Packed

    with mm.Index.begin(model, tmp_path / "x") as index:
        index.add_embeddings(some.image_ids, model.encode_images(some.images), "image")
        owners = [some.image_ids[row] for row in some.owner]
        texts: Embedding | Packed = Packed.of(model.encode_texts(some.captions))
        index.add_embeddings(some.caption_ids, texts, "caption", owners=owners, captions=some.captions)
        agree(index, model, some, model.bank)
        index.add_embeddings(["bare"], model.encode_images(some.images[:1]), "image", biases={"caption": [0.0]})
        (hit,) = (hit for hit in index.search("a red circle", k=21) if hit.id == "bare")
        assert hit.score == hit.raw_score


def test_another_bank_of_the_same_run_changes_nothing_and_is_said(
    models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    first, more = featured.take(range(50, 70)), featured.take(range(70, 90))
    model = models["vsepp"]
    runs.save_search(model, tmp_path / "run")
    with mm.Index.build(mm.load(tmp_path / "run"), first, tmp_path / "x"):
        pass
    runs.save_bank(tmp_path / "run", bank_of(model, featured.take(range(30)), alpha=0.25, k=2))
    other = mm.load(tmp_path / "run")
    assert other.fingerprint() == model.fingerprint() and other.bank.digest != model.bank.digest  # type: ignore[union-attr]
    told: list[str] = []
    kept = "this index keeps the query bank it was made with, not the one that the run has now"
    with mm.Index.begin(other, tmp_path / "x") as index:
        index.sync(more, told=told.append)
        # Whether or not anything is encoded.
        index.sync(more, told=told.append)
        assert told == [kept, kept]
        agree(index, model, featured.take(range(50, 90)), model.bank)
    shutil.rmtree(tmp_path / "x" / "run")
    with pytest.raises(IndexMismatch, match="query bank is not the one its items' biases were made with"):
        mm.Index.begin(other, tmp_path / "x")
    with mm.Index.open(tmp_path / "x", other) as index, pytest.raises(DataError, match="its copy of the run is gone"):
        index.add(more)
    with mm.Index.begin(model, tmp_path / "x") as index:
        agree(index, model, featured.take(range(50, 90)), model.bank)


def test_an_index_that_was_made_without_a_bank_stays_so(
    models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    model, told = models["vsepp"], list[str]()
    runs.save_search(model, tmp_path / "run")
    runs.save_bank(tmp_path / "run", None)
    assert "bank" not in json.loads((tmp_path / "run" / "run.json").read_text())
    plain = mm.load(tmp_path / "run")
    mm.Index.build(plain, featured.take(range(50, 70)), tmp_path / "x").close()
    with mm.Index.begin(model, tmp_path / "x") as index:
        index.sync(featured.take(range(70, 90)), told=told.append)
        assert len(told) == 1 and "was made before the run had a query bank and goes on without one" in told[0]
        assert index.info()["bank"] is False and index.bank is None
        agree(index, model, featured.take(range(50, 90)), None)
        with pytest.raises(DataError, match="a query bank was asked for"):
            index.search("a red circle", bank=True)


def test_a_damaged_bank_is_told(models: dict[str, Model], tmp_path: Path) -> None:
    runs.save_search(models["vsepp"], tmp_path / "run")
    (tmp_path / "run" / "bank.safetensors").write_bytes(b"nothing")
    with pytest.raises(mm.Error, match=r"its query bank .* cannot be read .*manymatch bank .* --remove"):
        mm.load(tmp_path / "run")
    runs.save_bank(tmp_path / "run", None)
    assert mm.load(tmp_path / "run").bank is None and not (tmp_path / "run" / "bank.safetensors").exists()
    # One that lies there without being the run's is no bank of it.
    runs.save_search(models["vsepp"], tmp_path / "other")
    shutil.copy(tmp_path / "other" / "bank.safetensors", tmp_path / "run")
    assert mm.load(tmp_path / "run").bank is None


@pytest.mark.parametrize("harm", ["lost", "damaged", "changed", "taken away"])
def test_an_index_searches_without_its_bank_says_so_and_gets_it_back(
    harm: str, models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    model, first, more = models["vsepp"], featured.take(range(50, 70)), featured.take(range(70, 90))
    folder = tmp_path / "x"
    mm.Index.build(model, first, folder).close()
    path = folder / "run" / "bank.safetensors"
    if harm == "lost":
        path.unlink()
    elif harm == "damaged":
        path.write_bytes(b"nothing")
    elif harm == "changed":
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
    else:
        runs.save_bank(folder / "run", None)
    with mm.Index.open(folder) as index:
        agree(index, model, first, model.bank)
        (finding,) = index.check().problems
        assert finding.kind == "run" and f"put it back with: manymatch index DATA --model RUN --out {folder}" in str(
            finding
        )
        assert "bank RUN" not in str(finding) and "--remove" not in finding.todo
        if harm != "changed":
            with pytest.raises((DataError, IndexMismatch), match=r"bank.*; put it back with: manymatch index"):
                index.add(more)
    other = mm.method("vsepp", **SMALL).build(featured.take(TRAINING), seed=2).eval()
    with pytest.raises(IndexMismatch, match="the run's query bank is not the one"):
        mm.Index.begin(other, folder)
    with mm.Index.begin(model, folder) as index:
        index.add(more)
    with mm.Index.open(folder) as index:
        index.add(featured.take(range(90, 95)))
        assert index.check().problems == []
        agree(index, model, featured.take(range(50, 95)), model.bank)


def test_embeddings_that_do_not_fit_are_refused_as_without_a_bank(
    models: dict[str, Model], featured: Pairs, tmp_path: Path
) -> None:
    model, some = models["vsepp"], featured.take(range(50, 60))
    images, ids = model.encode_images(some.images), some.image_ids
    with mm.Index.begin(model, tmp_path / "x") as index:
        narrow = type(images)(images.vectors[:, :16])  # type: ignore[attr-defined, call-arg]
        for given, named, owners, error, said in (
            (narrow, ids, None, IndexMismatch, "the index holds points"),
            (images, list(range(10)), None, DataError, "id 0, expected words"),
            (images, ids[:9], None, DataError, "9 ids for 10 items"),
        ):
            with pytest.raises(error, match=said):
                index.add_embeddings(named, given, "image", owners=owners)  # type: ignore[arg-type]
        texts = model.encode_texts(some.captions)
        index.add_embeddings(ids, images.to(torch.float64), "image")
        with pytest.raises(DataError, match="3 owners for 50 items"):
            index.add_embeddings(some.caption_ids, texts, "caption", owners=ids[:3])
        before = {hit.id: hit.score for hit in index.search("a red circle", k=10)}
        index.add_embeddings(ids, images.to(torch.float16), "image")
        after = {hit.id: hit.score for hit in index.search("a red circle", k=10)}
        assert after == pytest.approx(before, abs=1e-3) and len(after) == 10


def test_whether_a_bank_takes_part_is_said_of_each_way_of_asking(
    models: dict[str, Model], featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 20)
    model, some = models["vsepp"], featured
    with mm.Index.build(model, some, tmp_path / "x", engine="faiss") as index:
        id = some.image_ids[0]
        assert index.search("a red circle").bank and index.search(like=id, among="captions").bank
        found, without = index.search(like=id), index.search(like=id, bank=False)
        assert not found.bank and not index.search(like=id, bank=True).bank
        # Nothing is taken off between photos, so that to leave it out changes nothing, not the speed either.
        assert [hit.score for hit in found] == [hit.score for hit in without] and found.exact == without.exact
    # Of words that ask alone.
    half = replace(model.bank, settings={"caption": Setting(0.5, 4), "image": Setting()}, digest="")  # type: ignore[type-var]
    monkeypatch.setattr(model, "bank", half)
    with mm.Index.build(model, some.take(range(10)), tmp_path / "half") as index:
        assert index.search("a red circle", bank=True).bank and index.info()["bank"]
        assert not index.search(like=id, among="captions", bank=True).bank


def test_photos_without_captions_are_measured_with_the_banks_queries(
    models: dict[str, Model], featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 20)
    model = models["vsepp"]
    rng = np.random.default_rng(0)
    vectors = model.encode_images(featured.images).vectors.numpy().repeat(20, axis=0)  # type: ignore[attr-defined]
    vectors = vectors + rng.normal(0, 0.05, vectors.shape)
    images = Points(torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).float())
    with mm.Index.begin(model, tmp_path / "x", engine="faiss") as index:
        index.add_embeddings([f"p{n}" for n in range(len(images))], images, "image")
        index.refresh()
        assert set(index.info()["agreement"]["image"]) == {"caption", "image"}
        found = index.search(featured.captions[5])
        assert found.bank and not found.exact and found.agreement is not None
        right = index.search(featured.captions[5], exact=True)
        assert len({hit.id for hit in found} & {hit.id for hit in right}) >= 8


def test_qdrant_takes_biases_off_too(models: dict[str, Model], indexed: Pairs, tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    from manymatch.index.qdrant.server import MEMORY

    model = models["dive"]
    with mm.Index.build(model, indexed, tmp_path / "x", engine="qdrant", url=MEMORY) as index:
        assert index.info()["bank"] is True
        agree(index, model, indexed, model.bank)
        agree(index, model, indexed, None, bank=False)
