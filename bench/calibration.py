"""Do probabilities hold? Flickr8k's test photos: curves fitted on half of the images, measured on the other half.

    python bench/calibration.py DATA_FOLDER --run RUN [--run RUN ...] [--splits 10]

DATA_FOLDER holds Flickr8k's captions.jsonl and its two feature files, ExpertAnnotations.txt and
CrowdFlowerAnnotations.clean.txt.gz. Numbers are means over random halves, either half measured by curves of the other;
cut-offs are pooled.

Fitted on: `val`, the run's own calibration (or one fitted on val now), measured on the whole split; `val named`, the
same as if own captions were all that fits. On one half: `own`, all pairs, own captions are the right ones; `judged`,
all pairs, right are own captions and what people judged right; `own fits` and `judged fits`, the same as part of what
fits, which is what `calibrate` does; `expert` and `crowd`, judged pairs alone. Measured on the other half: all pairs,
50,000 random ones, the first ten answers of each query, and judged pairs alone. What nobody judged counts as wrong, so
there curves of all that fits promise too much, and their truth lies in the judged pairs.

ECE has 15 bins of equal mass, `even` 15 of equal width; P and R are precision and recall of the cut-off at 0.5, `said`
the mean probability of what it keeps; sum is that of the probabilities over the number of right answers.

Under them, by `val`: what two cut-offs keep of the whole split, how much of it is own captions, and how much fits if
the rest is right as often as those of it that experts or the crowd judged; judged pairs in bands of their probability.
Then Spearman with a query's number of right answers (own and judged, of queries that people looked at): of its expected
number by curves, and of the model's own ambiguity.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import manymatch as mm
from manymatch.calibration import Curve
from manymatch.evaluation.calibrating import calibrate
from manymatch.evaluation.curves import Tally, fit_curve
from manymatch.evaluation.measures import Correlation
from manymatch.evaluation.protocols.graded import RIGHT
from manymatch.evaluation.protocols.judged import judged
from manymatch.evaluation.reliability import brier_score, calibration_error, cut_off

Array = np.ndarray[Any, Any]
Sample = tuple[str, Array, Array, tuple[str, ...]]
"""Its name, which pairs, which of them are right, and the curves that claim to speak of it."""

PEOPLE = ("expert", "crowd")
BANDS = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
WAYS = {"t2i": ("caption", "image"), "i2t": ("image", "caption")}


class Part:
    """Scores, right answers and judged pairs of some images and captions, queries as rows."""

    def __init__(self, tables: dict[str, Array], spread: Array | None) -> None:
        self.tables, self.spread = tables, spread
        self.scores, self.own, self.judged = tables["scores"], tables["own"], tables["judged"]

    @classmethod
    def of(cls, model: mm.Model, pairs: mm.Pairs, images: Any, texts: Any, direction: str) -> Part:
        queries, gallery = (texts, images) if direction == "t2i" else (images, texts)
        with torch.inference_mode():
            scores = torch.cat([model.similarity(queries[n : n + 250], gallery) for n in range(0, len(queries), 250)])
        grades, shares = pairs.truths["graded"].grades(pairs), pairs.truths["crowd"].among(pairs)
        tables = {"own": pairs.matches().dense(), "judged": judged(pairs).dense()}
        for name, asked, right in (
            ("expert", grades[0], grades[1] >= RIGHT),
            ("crowd", shares[0], shares[1] > 0.5),
        ):
            tables[f"{name} seen"], tables[f"{name} right"] = asked.dense(), np.zeros(asked.shape, bool)
            tables[f"{name} right"][asked.images[right], asked.captions[right]] = True
        if direction == "t2i":
            tables = {name: table.T for name, table in tables.items()}
        spread = queries.ambiguity()
        return cls({"scores": scores.double().numpy(), **tables}, None if spread is None else spread.double().numpy())

    def take(self, queries: Array, gallery: Array) -> Part:
        spread = None if self.spread is None else self.spread[queries]
        return Part({name: table[np.ix_(queries, gallery)] for name, table in self.tables.items()}, spread)

    def fits(self) -> dict[str, Curve]:
        everything = np.ones(self.scores.shape, bool)
        wanted = {"own": (everything, self.own), "judged": (everything, self.judged)}
        wanted |= {name: (self.tables[f"{name} seen"], self.tables[f"{name} right"]) for name in PEOPLE}
        out = {}
        for name, (seen, right) in wanted.items():
            tally = Tally.of([self.scores[seen & right]], [self.scores[seen & ~right]])
            out[name] = fit_curve(tally)
            if name in ("own", "judged"):
                out[f"{name} fits"] = fit_curve(tally, complete=False)
        return out

    def first(self, k: int) -> Array:
        """The k best of each query (q, g)."""
        out = np.zeros(self.scores.shape, bool)
        np.put_along_axis(out, np.argpartition(-self.scores, k, axis=1)[:, :k], True, axis=1)
        return out

    def whole(self) -> Iterator[Sample]:
        """For the curve that knows none of these pairs."""
        yield "whole split, own", np.ones(self.scores.shape, bool), self.own, ("val",)
        yield "its first ten", self.first(10), self.own, ("val",)
        yield "all, judged", np.ones(self.scores.shape, bool), self.judged, ("val",)
        for name in PEOPLE:
            yield f"{name} pairs", self.tables[f"{name} seen"], self.tables[f"{name} right"], ("val named", "val")

    def half(self, rng: np.random.Generator) -> Iterator[Sample]:
        """For curves of the other half."""
        everything, drawn = np.ones(self.scores.shape, bool), np.zeros(self.scores.size, bool)
        drawn[rng.choice(self.scores.size, 50_000, replace=False)] = True
        random = drawn.reshape(self.scores.shape)
        for name, pairs in (("all", everything), ("random", random), ("first ten", self.first(10))):
            yield f"{name}, own", pairs, self.own, ("own",)
            yield f"{name}, judged", pairs, self.judged, ("judged", "own fits", "judged fits")
        for name in PEOPLE:
            curves = "own", "own fits", "judged", "judged fits", name
            yield f"{name} pairs", self.tables[f"{name} seen"], self.tables[f"{name} right"], curves

    def measure(self, samples: Iterator[Sample], curves: dict[str, Curve], into: dict[Any, list[Array]]) -> None:
        for what, pairs, right, names in samples:
            for fitted in names:
                p, y = curves[fitted].probability(self.scores[pairs]), right[pairs]
                cut = cut_off(p, y, 0.5)
                errors = [100 * calibration_error(p, y, equal=equal) for equal in ("mass", "width")]
                kept = cut.kept, cut.right, cut.kept * cut.promised if cut.kept else 0.0
                into[what, fitted].append(np.array([len(p), y.sum(), p.sum(), *errors, brier_score(p, y), *kept]))

    def cut_at(self, curve: Curve, least: float) -> str:
        """What a cut-off keeps, and how much of it fits if unjudged pairs fit as often as judged ones of those kept."""
        p = curve.probability(self.scores)
        kept = p >= least
        own, said = 100 * self.own[kept].mean(), []
        for name in PEOPLE:
            others = self.tables[f"{name} seen"] & kept & ~self.own
            fits = own + (100 - own) * self.tables[f"{name} right"][others].mean()
            said.append(f"{fits:.0f} % by the {name} of {others.sum():,}")
        return (
            f"at {least}: {kept.sum():,} pairs, said {100 * p[kept].mean():.0f} %; own {own:.0f} %, "
            f"{', '.join(said)}; {100 * self.own[kept].sum() / self.own.sum():.0f} % of the own"
        )

    def bands(self, curve: Curve) -> str:
        """Of judged pairs by their probability: what is promised, and what people said."""
        rows = []
        for name in PEOPLE:
            seen = self.tables[f"{name} seen"]
            p, right = curve.probability(self.scores[seen]), self.tables[f"{name} right"][seen]
            place = np.digitize(p, BANDS)
            found = [(100 * p[place == n].mean(), 100 * right[place == n].mean()) for n in np.unique(place)]
            rows.append(
                f"{name} pairs, promised > right: " + ", ".join(f"{said:.3g} > {is_:.3g}" for said, is_ in found)
            )
        return "\n".join(rows)

    def correlations(self, curves: dict[str, Curve]) -> dict[str, float]:
        """With the number of right answers, over the queries that the crowd looked at."""
        rows = np.flatnonzero(self.tables["crowd seen"].any(axis=1))
        counts, out = self.judged[rows].sum(axis=1), {}
        names = ("own", "own fits", "judged")
        values = {f"expected by {name}": curves[name].expected_matches(self.scores[rows]) for name in names}
        if self.spread is not None:
            values["ambiguity"] = self.spread[rows]
        for name, value in values.items():
            out[name] = Correlation(value, counts.astype(np.float64), rows).value
        return out


def show(head: str, found: dict[Any, list[Array]]) -> None:
    print(
        f"{head:<18}{'fitted on':<13}{'pairs':>10}{'right':>7}{'ECE %':>9}{'even %':>9}{'Brier':>9}"
        f"{'P@.5':>7}{'said':>7}{'R@.5':>7}{'sum':>7}"
    )
    for (what, fitted), rows in found.items():
        pairs, right, total, mass, width, brier, kept, hit, said = np.mean(rows, axis=0)
        precision, promised = (100 * part / kept if kept else np.nan for part in (hit, said))
        print(
            f"{what:<18}{fitted:<13}{pairs:>10,.0f}{right:>7,.0f}{mass:>9.3f}{width:>9.3f}{brier:>9.5f}"
            f"{precision:>7.1f}{promised:>7.1f}{100 * hit / right:>7.1f}{total / right:>7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path, action="append", required=True)
    parser.add_argument("--splits", type=int, default=10)
    asked = parser.parse_args()
    photos = mm.Pairs.read(
        asked.data / "captions.jsonl",
        features=asked.data / "mobilenetv2_regions9_pca256_i8.npz",
        pooled=asked.data / "mobilenetv2_pool_u8.npy",
        truth=[asked.data / "ExpertAnnotations.txt", asked.data / "CrowdFlowerAnnotations.clean.txt.gz"],
    )
    test = photos.split("test")
    for folder in asked.run:
        model = mm.load(folder)
        kept = model.calibration or calibrate(model, photos.split("val"), truth="own")
        images, texts = model.encode_images(test.images), model.encode_texts(test.captions)
        for direction, way in WAYS.items():
            whole = Part.of(model, test, images, texts, direction)
            fitted = kept.curve(*way)
            assert fitted is not None, kept.why_not(*way)
            found: dict[Any, list[Array]] = defaultdict(list)
            related: dict[str, list[float]] = defaultdict(list)
            whole.measure(whole.whole(), {"val": fitted, "val named": replace(fitted, named=1.0)}, found)
            for seed in range(asked.splits):
                rng = np.random.default_rng(seed)
                rows = np.array_split(rng.permutation(len(test)), 2)
                halves = []
                for part in map(np.sort, rows):
                    captions = np.flatnonzero(np.isin(test.owner, part))
                    halves.append(whole.take(*((captions, part) if direction == "t2i" else (part, captions))))
                for here, other in (halves, halves[::-1]):
                    curves = here.fits()
                    other.measure(other.half(rng), curves, found)
                    for name, value in other.correlations(curves).items():
                        related[name].append(value)
            show(f"{folder.name} {direction}", found)
            print(f"fitted on val, {fitted.meaning}")
            for least in (0.5, 0.9):
                print(whole.cut_at(fitted, least))
            print(whole.bands(fitted))
            said = ", ".join(f"{name} {np.mean(values):+.3f}" for name, values in related.items())
            print(f"spearman with the number of right answers: {said}\n", flush=True)


if __name__ == "__main__":
    main()
