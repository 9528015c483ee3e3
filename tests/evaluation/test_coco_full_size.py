"""The COCO protocols at full size, 5,000 images and 25,000 captions, against full sorts and Python sets.

There are no COCO photographs here. An image stands as the mean of random vectors of some words of its captions, a
caption as that of all its words, so that numbers are neither chance nor perfect, and equal captions tie.
"""

import csv
import gzip
import json
import re
from collections import Counter, defaultdict
from math import comb

import numpy as np
import pytest
import torch

from manymatch.data.pairs import Pairs
from manymatch.embeddings import Points
from manymatch.evaluation import ModelScores, judge
from manymatch.evaluation.ranks import score_tiles
from manymatch.evaluation.tiles import Side, Tiles
from manymatch.similarity import Cosine

pytestmark = pytest.mark.slow

DEPTHS = (1, 5, 10)
WIDTH = 128


def unpacked(path):
    with gzip.open(path, "rt") as file:
        return file.read()


def rated(path, enough):
    """Both ids of every row that is rated `enough` or more."""
    rows = [list(row.values()) for row in csv.DictReader(unpacked(path).splitlines())]
    return [[int(re.findall(r"\d+", name)[-1]) for name in row[:2]] for row in rows if float(row[2]) >= enough]


def embedded(pairs):
    """Random vectors of words, weighted by how rare they are; of an image, four in ten of the words of its captions."""
    rng = np.random.default_rng(0)
    texts = [re.findall("[a-z]+", caption.lower()) for caption in pairs.captions]
    seen = Counter(word for words in texts for word in set(words))
    vectors = {word: rng.normal(size=WIDTH) * np.log(len(texts) / count) for word, count in sorted(seen.items())}
    pooled = defaultdict(list)
    for words, owner in zip(texts, pairs.owner, strict=True):
        pooled[owner] += [word for word in words if rng.random() < 0.4]
    sides = [pooled[row] or ["a"] for row in range(len(pairs))], texts
    return [
        Points(torch.from_numpy(np.stack([np.sum([vectors[w] for w in words], axis=0) for words in side])).float())
        for side in sides
    ]


def whole(tiles):
    """All scores, to the last bit those that were ranked: the same products of the same tiles."""
    out = np.empty(tiles.shape, np.float32)
    for number in tiles:
        out[tiles.span(number)] = tiles[number].numpy()
    return out


def first_group(scores, right):
    """Of each row: items above its best right answer, items equal to it, right ones among these; by a full sort."""
    ordered = np.sort(scores, axis=1)
    for row, values, listed in zip(scores, ordered, right, strict=True):
        best = max(row[item] for item in listed)
        low, high = np.searchsorted(values, best, "left"), np.searchsorted(values, best, "right")
        yield int(len(values) - high), int(high - low), sum(row[item] == best for item in listed)


def table(groups):
    """R@K, median and mean rank, of ties the expected value."""
    out = {}
    for k in DEPTHS:
        slots = [(min(max(k - above, 0), tied), tied, m) for above, tied, m in groups]
        out[f"R@{k}"] = 100 * np.mean([1 - comb(tied - m, s) / comb(tied, s) for s, tied, m in slots])
    middle = sorted(above + (tied - m + 2) / 2 for above, tied, m in groups)
    low, high = middle[(len(middle) - 1) // 2], middle[len(middle) // 2]
    out["median rank"] = low if low == high else (low + high) // 2
    out["mean rank"] = np.mean([above + (tied + 1) / (m + 1) for above, tied, m in groups])
    return out


def precisions(row, listed):
    """R-precision and AP@R of one query, walking its full sort tie by tie."""
    order = np.argsort(-row.astype(np.float64), kind="stable")
    values, r, at, before, share, average = row[order], len(listed), 0, 0, 0.0, 0.0
    while at < r:
        end = at + int(np.argmin(np.append(values[at:] == values[at], False)))
        tied, m = end - at, sum(int(item) in listed for item in order[at:end])
        for slot in range(min(tied, r - at)):
            others = slot * (m - 1) / (tied - 1) if tied > 1 else 0
            share += m / tied
            average += m / tied * (before + 1 + others) / (at + slot + 1)
        at, before = end, before + m
    return share / r, average / r


class Reference:
    """What the annotations say, read and counted without the project's own code."""

    def __init__(self, folder):
        lines = [json.loads(line) for line in unpacked(folder / "karpathy5k_test.jsonl.gz").splitlines()]
        self.folder = folder
        self.images = {line["image_id"]: row for row, line in enumerate(lines)}
        listed = [number for line in lines for number in line["caption_ids"]]
        self.captions = {number: row for row, number in enumerate(listed)}
        self.own = np.repeat(np.arange(len(lines)), 5)

    def lists(self, name, queries, gallery):
        """Query row -> rows of its right answers, of queries that have one."""
        read = json.loads(unpacked(self.folder / "eccv" / f"{name}.json.gz"))
        found = {
            queries[int(q)]: {gallery[a] for a in right if a in gallery}
            for q, right in read.items()
            if int(q) in queries
        }
        return {query: right for query, right in found.items() if right}

    def among(self, name, rows, enough):
        """The same among items of one kind."""
        found = defaultdict(set)
        for first, second in rated(self.folder / "cxc" / f"{name}_test.csv.gz", enough):
            if first in rows and second in rows:
                found[rows[first]].add(rows[second])
                found[rows[second]].add(rows[first])
        return {query: right - {query} for query, right in found.items() if right - {query}}

    def siblings(self):
        return {row: set(range(row // 5 * 5, row // 5 * 5 + 5)) - {row} for row in range(len(self.captions))}


def by_direction(scores, truths):
    """(direction, metric) -> value."""
    out = {}
    for direction, right in truths.items():
        queries = sorted(right)
        asked = np.ascontiguousarray(scores(direction)[queries])
        groups = list(first_group(asked, [sorted(right[q]) for q in queries]))
        out |= {(direction, metric): value for metric, value in table(groups).items()}
    return out


def added(found):
    return found | {("both", "RSUM"): sum(v for (_, metric), v in found.items() if metric.startswith("R@"))}


def own_of(scores, own):
    """The whole table of own captions."""
    captions = {c: {int(i)} for c, i in enumerate(own)}
    images = defaultdict(set)
    for c, i in enumerate(own):
        images[int(i)].add(c)
    return added(by_direction(lambda d: scores if d == "i2t" else scores.T, {"i2t": images, "t2i": captions}))


def same_rows(measured, expected):
    found = {(each.direction, each.metric): each.measure.value for each in measured}
    assert set(found) <= set(expected)
    for key, value in found.items():
        assert value == pytest.approx(expected[key], rel=1e-9, abs=1e-9), key
    return found


@pytest.fixture(scope="module")
def judged(reference):
    folder = reference / "data" / "coco_annotations"
    pairs = Pairs.read(
        folder / "karpathy5k_test.jsonl.gz",
        fields={"id": "image_id", "labels": "labels80"},
        truth=[folder / "eccv", folder / "cxc"],
    )
    images, texts = embedded(pairs)
    found = judge(ModelScores(Cosine(), images, texts), pairs, ["coco-5k", "coco-1k", "eccv", "cxc"], "expected")
    return found, Reference(folder), images, texts


def test_every_protocol(judged):
    found, reference, images, texts = judged
    scores = whole(score_tiles(Cosine(), images, texts)[0])
    for direction in ("i2t", "t2i"):
        assert 5 < next(m.measure.value for m in found.measured["coco-5k"] if m.direction == direction) < 95
    assert len(same_rows(found.measured["coco-5k"], own_of(scores, reference.own))) == 11
    folds = [
        own_of(scores[n : n + 1000, 5 * n : 5 * n + 5000], reference.own[:5000]) for n in range(0, len(scores), 1000)
    ]
    means = {key: np.mean([fold[key] for fold in folds]) for key in folds[0]}
    assert len(same_rows(found.measured["coco-1k"], means)) == 11
    check_eccv(found.measured["eccv"], reference, scores)
    check_cxc(found.measured["cxc"], reference, scores, images, texts)


def test_how_many_asked_what(judged):
    counts = {name: {m.direction: (m.queries, m.gallery) for m in judged[0].measured[name]} for name in ("eccv", "cxc")}
    assert counts["eccv"] == {"i2t": (1_261, 25_000), "t2i": (1_332, 5_000)}
    across = {"i2t": (5_000, 25_000), "t2i": (24_972, 5_000)}
    assert counts["cxc"] == across | {"t2t": (25_000, 24_999), "i2i": (4_791, 4_999)}
    assert "eccv: 2 of 22,550 right answers of image queries are not in the gallery and do not count" in judged[0].notes


def check_eccv(measured, reference, scores):
    sides = (
        ("i2t", scores, reference.lists("eccv_image_to_caption", reference.images, reference.captions)),
        ("t2i", scores.T, reference.lists("eccv_caption_to_image", reference.captions, reference.images)),
    )
    expected = {}
    for direction, matrix, right in sides:
        shares = [precisions(matrix[query], listed) for query, listed in right.items()]
        expected[direction, "R-precision"], expected[direction, "mAP@R"] = 100 * np.mean(shares, axis=0)
        expected |= by_direction(lambda _, matrix=matrix: matrix, {direction: right})
    assert len(same_rows(measured, expected)) == 6


def check_cxc(measured, reference, scores, images, texts):
    right = {
        "i2t": reference.lists("cxc_image_to_caption", reference.images, reference.captions),
        "t2i": reference.lists("cxc_caption_to_image", reference.captions, reference.images),
        "i2i": reference.among("sis", reference.images, 2.5),
    }
    similar = among_one_kind(images)
    np.fill_diagonal(similar, -np.inf)
    expected = by_direction({"i2t": scores, "t2i": scores.T, "i2i": similar}.__getitem__, right)
    rows = reference.siblings()
    for query, others in reference.among("sts", reference.captions, 3.0).items():
        rows[query] |= others
    expected |= {("t2t", metric): value for metric, value in table(list(within_texts(texts, rows))).items()}
    assert len(same_rows(measured, expected)) == 12


def tiles_within(items):
    return Tiles.of(Cosine(), items, items, None, (Side("item"), Side("item")))


def among_one_kind(items):
    return whole(tiles_within(items))


def within_texts(texts, right):
    """As `first_group` of all captions among captions, a few thousand rows at a time."""
    tiles = tiles_within(texts)
    for line in range(tiles.grid[0]):
        parts = [tiles[line, column].numpy() for column in range(tiles.grid[1])]
        rows = tiles.span((line, 0))[0]
        block = np.concatenate(parts, axis=1)
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = -np.inf
        yield from first_group(block, [sorted(right[row]) for row in range(rows.start, rows.stop)])
