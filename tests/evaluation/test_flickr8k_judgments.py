"""Real judgments end to end: Flickr8k's experts and crowd on a fitted run, NLVR's true and false sentences.

Every number is computed again here from the files and the score matrix, without the readers and metrics under test.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from math import log2
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app

pytestmark = pytest.mark.slow

Rows = dict[tuple[str, str, str], dict]


def call(*arguments: object) -> tuple[str, str]:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.stdout, told.stderr


def read(rows: str) -> Rows:
    return {(row["protocol"], row["direction"], row["metric"]): row for row in json.loads(rows)}


@pytest.fixture(scope="module")
def flickr(reference: Path) -> Path:
    return reference / "data" / "flickr8k"


@pytest.fixture(scope="module")
def evaluated(flickr: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, str, np.ndarray, mm.Pairs]:
    """What the command printed, its notes, the scores (1000, 5000), and the test split."""
    run, features = tmp_path_factory.mktemp("cca") / "run", flickr / "mobilenetv2_regions9_pca256_i8.npz"
    given = ["--features", features, "--pooled", flickr / "mobilenetv2_pool_u8.npy"]
    call("train", "cca", flickr / "captions.jsonl", *given, "--out", run)
    judged = ["--truth", flickr / "ExpertAnnotations.txt", "--truth", flickr / "CrowdFlowerAnnotations.clean.txt.gz"]
    named = [part for name in ("own", "graded", "crowd", "judged", "uncertainty") for part in ("--protocol", name)]
    told = call("evaluate", run, "--data", flickr / "captions.jsonl", *given, *judged, *named, "--no-bank", "--json")
    pairs = mm.Pairs.read(flickr / "captions.jsonl", features=features, pooled=given[3]).split("test")
    model = mm.load(run)
    with torch.inference_mode():
        scores = model.similarity(model.encode_images(pairs.images), model.encode_texts(pairs.captions))
    return read(told[0]), told[1], scores.double().numpy(), pairs


def judgments(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [line.split("\t") for line in text.splitlines()]


def places(pairs: mm.Pairs) -> tuple[dict[str, int], dict[str, int]]:
    return {n: i for i, n in enumerate(pairs.image_ids)}, {n: i for i, n in enumerate(pairs.caption_ids)}


def test_expert_grades(flickr: Path, evaluated: tuple[Rows, str, np.ndarray, mm.Pairs]) -> None:
    rows, notes, scores, pairs = evaluated
    image_of, caption_of = places(pairs)
    lists: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    everything = []
    for image, caption, *grades in judgments(flickr / "ExpertAnnotations.txt"):
        i, c, grade = image_of[image], caption_of[caption], sum(map(int, grades)) / 3
        lists["i2t", i].append((scores[i, c], grade))
        lists["t2i", c].append((scores[i, c], grade))
        everything.append((scores[i, c], grade))
    for side in ("i2t", "t2i"):
        ndcg, precision = [], []
        for (direction, _), judged in lists.items():
            if direction != side:
                continue
            ranked = [grade for _, grade in sorted(judged, key=lambda pair: -pair[0])]
            best = sum((g - 1) / log2(n + 2) for n, g in enumerate(sorted(ranked, reverse=True)[:10]))
            if best > 0:
                ndcg.append(sum((g - 1) / log2(n + 2) for n, g in enumerate(ranked[:10])) / best)
            right = [n + 1 for n, g in enumerate(ranked) if g >= 3]
            if right:
                precision.append(np.mean([(k + 1) / place for k, place in enumerate(right)]))
        for metric, values in (("nDCG@10", ndcg), ("mAP", precision)):
            found = rows["graded", side, metric]
            assert found["value"] == pytest.approx(100 * np.mean(values), abs=0.02), (side, metric)
            assert found["queries"] == len(values) and found["low"] < found["value"] < found["high"]
    assert rows["graded", "i2t", "nDCG@10"]["queries"] == 979 and rows["graded", "t2i", "mAP"]["queries"] == 334
    assert "graded: 4023 of 5000 captions were not judged" in notes

    def ranked_by(values: np.ndarray) -> np.ndarray:
        """Ranks from 1, those of equal values averaged."""
        out, order = np.empty(len(values)), np.argsort(values, kind="stable")
        out[order] = np.arange(1, len(values) + 1)
        for value in np.unique(values):
            out[values == value] = out[values == value].mean()
        return out

    score, grade = np.array(everything).T
    found = rows["graded", "both", "spearman"]
    expected = np.corrcoef(ranked_by(score), ranked_by(np.round(grade, 6)))[0, 1]
    assert found["value"] == pytest.approx(expected, abs=1e-4) and found["queries"] == 5822
    assert 0.2 < found["low"] < found["value"] < found["high"] < 0.8


def test_crowd_votes(flickr: Path, evaluated: tuple[Rows, str, np.ndarray, mm.Pairs]) -> None:
    rows, notes, scores, pairs = evaluated
    image_of, caption_of = places(pairs)
    right = pairs.matches().dense()
    for image, caption, _, yes, no in judgments(flickr / "CrowdFlowerAnnotations.clean.txt.gz"):
        if int(yes) > int(no):
            right[image_of[image], caption_of[caption]] = True
    assert right.sum() - 5000 == 1985
    assert "crowd: 1,985 right answers beside the 5,000 own captions" in notes
    for side, s, dense in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        # Captions in the same words tie; this order settles what the expected value does not.
        ranked = np.take_along_axis(dense, np.argsort(-s, axis=1, kind="stable"), axis=1)
        for k in (1, 5, 10):
            found = rows["crowd", side, f"R@{k}"]
            assert found["value"] == pytest.approx(100 * ranked[:, :k].any(axis=1).mean(), abs=0.3)
            assert found["value"] >= rows["own", side, f"R@{k}"]["value"]
        counts = dense.sum(axis=1)
        shares = [line[:r].mean() for line, r in zip(ranked, counts, strict=True)]
        found = [
            np.sum(np.cumsum(q[:r]) / np.arange(1, r + 1) * q[:r]) / r for q, r in zip(ranked, counts, strict=True)
        ]
        assert rows["crowd", side, "R-precision"]["value"] == pytest.approx(100 * np.mean(shares), abs=0.3)
        assert rows["crowd", side, "mAP@R"]["value"] == pytest.approx(100 * np.mean(found), abs=0.3)
        assert (rows["crowd", side, "R@1"]["queries"], rows["crowd", side, "R@1"]["gallery"]) == s.shape


def test_all_that_people_judged_right(flickr: Path, evaluated: tuple[Rows, str, np.ndarray, mm.Pairs]) -> None:
    rows, notes, scores, pairs = evaluated
    image_of, caption_of = places(pairs)
    right = pairs.matches().dense()
    for image, caption, _, yes, no in judgments(flickr / "CrowdFlowerAnnotations.clean.txt.gz"):
        right[image_of[image], caption_of[caption]] |= int(yes) > int(no)
    for image, caption, *grades in judgments(flickr / "ExpertAnnotations.txt"):
        right[image_of[image], caption_of[caption]] |= sum(map(int, grades)) >= 9
    assert right.sum() - 5000 == 2224
    assert "judged: 2,224 right answers beside the 5,000 own captions" in notes
    for side, s, dense in (("i2t", scores, right), ("t2i", scores.T, right.T)):
        ranked = np.take_along_axis(dense, np.argsort(-s, axis=1, kind="stable"), axis=1)
        counts = dense.sum(axis=1)
        precision = np.mean([line[:r].mean() for line, r in zip(ranked, counts, strict=True)])
        discount = 1 / np.log2(np.arange(10) + 2)
        best = np.array([discount[: min(r, 10)].sum() for r in counts])
        assert rows["judged", side, "R-precision"]["value"] == pytest.approx(100 * precision, abs=0.3)
        gain = 100 * np.mean(ranked[:, :10] @ discount / best)
        assert rows["judged", side, "nDCG@10"]["value"] == pytest.approx(gain, abs=0.3)


def test_confidence(evaluated: tuple[Rows, str, np.ndarray, mm.Pairs]) -> None:
    rows, notes, scores, _ = evaluated
    assert "right answers are those of protocol 'crowd'" in notes
    for side, s in (("i2t", scores), ("t2i", scores.T)):
        assert f"uncertainty: {side}: embeddings of kind points have no ambiguity of their own" in notes
        risk = 1 - rows["crowd", side, "R@1"]["value"] / 100
        assert rows["uncertainty", side, "AURC at random"]["value"] == pytest.approx(100 * risk)
        found, best = (rows["uncertainty", side, f"AURC {by}"]["value"] for by in ("by score", "at best"))
        # Of the best order the errors come last: 1 - x of the first q (1 - x) queries are right.
        assert best == pytest.approx(100 * (risk + (1 - risk) * np.log(1 - risk)), abs=0.2)
        assert best < found < 100 * risk, "a higher best score should mean fewer errors"
        assert rows["uncertainty", side, "AURC by score"]["queries"] == len(s)


def test_true_and_false_sentences(reference: Path, tmp_path: Path) -> None:
    folder, run = reference / "data" / "nlvr", tmp_path / "run"
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    training = [{**row, "split": "train"} for row in rows if row["split"] == "dev" and row["label"]]
    (tmp_path / "true.jsonl").write_text("".join(json.dumps(row) + "\n" for row in training))
    given = ["--images", folder / "images.tar", "--field", "captions=sentence"]
    small = {"epochs": 2, "dim": 64, "word_dim": 32, "longest_side": 100, "least_count": 1}
    settings = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    call("train", "vsepp", tmp_path / "true.jsonl", *given, *settings, "--out", run)
    told, notes = call("evaluate", run, "--data", folder / "captions.jsonl", *given, "--json")
    found = read(told)
    assert {protocol for protocol, _, _ in found} == {"true-false"}
    assert "true-false: a false sentence is no right answer" in notes

    pairs = mm.Pairs.read(
        folder / "captions.jsonl", images=folder / "images.tar", fields={"captions": "sentence"}
    ).split("test")
    model = mm.load(run)
    with torch.inference_mode():
        images, texts = model.encode_images(pairs.images), model.encode_texts(pairs.captions)
        scores = model.similarity(images, texts).diagonal().double().numpy()
    label = np.array([item.metadata["label"] for item in pairs])
    texts_same = np.array(pairs.captions)[label][:, None] == np.array(pairs.captions)[~label]
    won = (scores[label][:, None] > scores[~label]) + 0.5 * (scores[label][:, None] == scores[~label])
    auc, same = found["true-false", "both", "AUC"], found["true-false", "both", "AUC same sentence"]
    assert auc["value"] == pytest.approx(100 * won.mean(), abs=0.01) and (auc["queries"], auc["gallery"]) == (556, 434)
    assert same["value"] == pytest.approx(100 * won[texts_same].mean(), abs=0.2)
    assert texts_same.sum() == 898 and "within 217 sentences" in notes
    assert auc["low"] < auc["value"] < auc["high"]
