"""Approximate search that is corrected by a query bank says what exact search says of probabilities, which are of raw
scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from index_fakes import FakeModel, some_pairs

from manymatch.calibration import Calibration, Curve
from manymatch.embeddings import Points
from manymatch.index import Index

N, D = 6000, 32


def curve(middle: float) -> Curve:
    facts = {"truth": "own captions", "queries": 9, "gallery": 9, "pairs": 81, "right": 9}
    return Curve("logistic", (middle - 0.01, middle + 0.01), (-1.0, 1.0), 0.99, **facts)


@pytest.fixture
def corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Points of which those that score high with the words asked for are pushed down, found by candidates."""
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 20)
    rng = np.random.default_rng(0)
    model = FakeModel("points", d=D)
    model.calibration = Calibration({("caption", "image"): curve(0.55)}, {})  # type: ignore[attr-defined]
    asked = model.encode_texts(["red"]).vectors[0].numpy()  # type: ignore[attr-defined]
    items = rng.standard_normal((N, D)).astype(np.float32)
    items[:400] += 4.0 * asked
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    cosines = unit @ asked
    biases = rng.normal(0.3, 0.1, N) + 0.8 * np.maximum(cosines, 0.0)
    some = some_pairs(50)
    index = Index.build(model, some, tmp_path / "x", engine="faiss", precision="float32")  # type: ignore[arg-type]
    index.delete(some.image_ids)
    ids = [f"q{n}" for n in range(N)]
    years = [{"year": n % 7} for n in range(N)]
    index.add_embeddings(ids, Points(torch.from_numpy(unit)), "image", years, biases={"caption": biases})
    words = model.encode_texts([f"red {n}" for n in range(300)])
    index.add_embeddings([f"{id}#0" for id in ids[:300]], words, "caption", owners=ids[:300], captions=["red"] * 300)
    index.refresh()
    return index


def test_probabilities_are_read_of_raw_candidates(corrected: Index) -> None:
    near, whole = corrected.search("red"), corrected.search("red", exact=True)
    assert near.bank and not near.exact and whole.exact and (whole.likely or 0) > 100
    assert near.likely == pytest.approx(whole.likely, rel=0.02)
    assert near.expected_matches == pytest.approx(whole.expected_matches, rel=0.05)
    # Of the first by corrected scores alone it would be far fewer.
    assert near.likely > 2 * sum((hit.probability or 0.0) >= 0.5 for hit in corrected.search("red", 50))
    raw = corrected.search("red", bank=False)
    assert raw.likely == whole.likely


def test_what_is_confident_is_found_however_far_biases_push_it_down(corrected: Index) -> None:
    near, whole = (corrected.search("red", 1000, confident=0.9, facets=["year"], exact=way) for way in (None, True))
    assert [hit.id for hit in near] == [hit.id for hit in whole] and near.likely == len(near) > 50
    assert near.exact and near.facets == whole.facets
