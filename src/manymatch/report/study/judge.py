"""What the test split says of each run, with and without its query bank; read once and kept beside the run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...data.pairs import Pairs
from ...embeddings import Embedding, Sets
from ...evaluation.banking import biases_of, usable_banks
from ...evaluation.encoding import encode, scores_of, supplied, unlike, usable
from ...evaluation.health import health
from ...evaluation.measure import judge
from ...evaluation.measures import Average, Floats, Measure, resampled
from ...evaluation.protocols import choose
from ...evaluation.specificity import specificity
from ...methods import Model
from ...runs import load
from .folders import RunFolder, digest_of
from .neighbours import hub_skew, proxy_recall
from .plan import Plan, Run
from .quantities import STATES, Measured, Quantity, load_measured, save_measured
from .runs import folder_of

__all__ = ["Judge"]

RESAMPLES = 1000

_VERSION = 2
"""Of what is measured: another version measures again."""

_LEAST = math.log(1e-7)
"""Log circular variance of a set that is one point but for rounding; what lies below says nothing more."""

_SIDES = {"i2i": "image", "t2t": "caption", "i2t": "i2t", "t2i": "t2i"}


@dataclass(frozen=True)
class Judge:
    """Measures runs on one split.

    Attributes:
        plan: the study.
        runs: folder of the runs.
        say: told what is being measured.
    """

    plan: Plan
    runs: Path
    say: Callable[[str], None]

    @cached_property
    def pairs(self) -> Pairs:
        """The test split; pictures that cannot be read are out for every run, so that all are asked the same."""
        data = self.plan.data
        pairs = data.read(data.truth).captioned()
        pairs = pairs.split("test")
        pixels = any(row.pictures for row in self.plan.rows) or pairs.features is None
        return usable(pixels, pairs, None)[0]

    @cached_property
    def protocols(self) -> list[str]:
        return choose(self.plan.protocols or None, self.pairs)

    @cached_property
    def weights(self) -> Floats:
        """(b, n) of the bootstrap over images, the same for every run."""
        return resampled(len(self.pairs), RESAMPLES)

    def measured(self, run: Run) -> dict[str, Measured]:
        """State -> what was measured, read from its file where it is known. Raises DataError as `evaluate`."""
        folder = folder_of(self.runs, run)
        members = list(self._models_of(run))
        keys = {state: self._key(members, state) for state in STATES if state == "raw" or _have_banks(members)}
        # Studies that share runs may ask for other protocols.
        named = [self.pairs.digest, [path.name for path in self.plan.data.truth], self.protocols]
        asked = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:8]
        places = {state: folder.path / f"measured-{asked}-{state}.npz" for state in keys}
        known = {state: load_measured(places[state], key) for state, key in keys.items()}
        out = {state: found for state, found in known.items() if found is not None}
        if len(out) < len(keys):
            self.say(f"{run.name}: measuring on {len(self.pairs):,} images")
            for state, found in self._measure([load(each.path) for each in members], keys):
                out[state] = found
                save_measured(places[state], found)
        return {state: found for state, found in out.items() if found.quantities}

    def _models_of(self, run: Run) -> Iterator[RunFolder]:
        """The folders whose models make the run: its own, or of an ensemble its members'."""
        if not run.row.ensemble:
            yield folder_of(self.runs, run)
        for member in run.members if run.row.ensemble else ():
            yield from self._models_of(member)

    def _key(self, members: Sequence[RunFolder], state: str) -> str:
        """Of everything the numbers depend on."""
        digest = hashlib.sha256()
        names = ["model.safetensors", *(["bank.safetensors"] if state == "bank" else [])]
        for each in members:
            described = each.described or {}
            kept = {name: described[name] for name in sorted(described) if name not in _FREE}
            digest.update(json.dumps(kept, sort_keys=True).encode())
            if state == "bank":
                digest.update(json.dumps(described["bank"], sort_keys=True).encode())
            for name in names:
                digest.update(digest_of(each.path / name).encode())
        digest.update(json.dumps([*self.asked, state]).encode())
        return digest.hexdigest()

    @cached_property
    def asked(self) -> list[Any]:
        """What numbers depend on beside the run. Pictures alone are taken to be what their names say."""
        data = self.plan.data
        files = [path for path in (data.path, data.features, data.pooled, *data.truth) if path is not None]
        read = [[path.name, digest_of(path) if path.is_file() else None] for path in files]
        return [_VERSION, RESAMPLES, self.pairs.digest, read, dict(data.fields), self.protocols]

    def _measure(self, models: Sequence[Model], keys: Mapping[str, str]) -> Iterator[tuple[str, Measured]]:
        labels = [model.name for model in models]
        pairs, lost = supplied(models, self.pairs, None, None)
        encoded = [encode(model, pairs, 256, None) for model in models]
        alone = encoded[0] if len(models) == 1 else (None, None)
        common = dict(self._of_items(models, encoded)) if len(models) == 1 else {}
        usable_ones, told = usable_banks(models, labels, pairs, None)
        for state, key in keys.items():
            banks = usable_ones if state == "bank" else None
            if state == "bank" and banks is None:
                # The raw line says why. What is empty is kept too, so that it is not tried again.
                yield state, Measured(key, {})
                continue
            source = scores_of(models, encoded, pairs, None, biases_of(models, encoded, pairs, banks))
            found = judge(source, pairs, self.protocols, "expected", *alone)
            measures = dict(_measures(found.measured))
            quantities = {name: Quantity.of(measure, self.weights) for name, measure in measures.items()}
            hubs = {
                way: hub_skew(source, way, len(gallery)) for way, gallery in (("i2t", pairs.captions), ("t2i", pairs))
            }
            quantities |= _both({f"{way} hub skew": value for way, value in hubs.items()})
            said = told if banks is usable_ones else []
            notes = [*lost, *unlike(models), *said, *found.notes]
            yield state, Measured(key, {**quantities, **common}, tuple(dict.fromkeys(notes)))

    def _of_items(self, models: Sequence[Model], encoded: Sequence[Any]) -> Iterator[tuple[str, Quantity]]:
        """What embeddings are like, and how well their proxies find: the same with and without the bank."""
        (images, texts), (model,) = encoded[0], models
        named = dict(_healthy(images, texts, self.pairs))
        if "uncertainty" in self.protocols:
            for row in specificity(model, self.pairs):
                named[f"uncertainty {row['direction']} {row['metric']}"] = float(row["value"])
        images, texts = images.to(model.device), texts.to(model.device)
        source = scores_of([model], [(images, texts)], self.pairs, None)
        with torch.inference_mode():
            for way, queries, gallery in (("i2t", images, texts), ("t2i", texts, images)):
                recall = proxy_recall(source, way, queries, gallery)
                if recall is not None:
                    named[f"{way} proxy recall"] = recall
        yield from _both(named).items()


def _healthy(images: Embedding, texts: Embedding, pairs: Pairs) -> Iterator[tuple[str, float]]:
    """What sets are like; a set of one element has no spread."""
    sides = {"i2i": images, "t2t": texts}
    for row in health(images, texts, pairs.matches()):
        items, value = sides[row["direction"]], float(row["value"])
        if row["metric"] == "log circular variance":
            if isinstance(items, Sets) and items.elements.shape[1] < 2:
                continue
            value = max(value, _LEAST)
        yield f"{_SIDES[row['direction']]} {row['metric']}", value


_FREE = ("bank", "calibration", "notes", "versions")
"""What `run.json` says that no test number depends on."""


def _have_banks(members: Sequence[RunFolder]) -> bool:
    return all("bank" in (each.described or {}) for each in members)


def _measures(measured: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Measure]]:
    """Every number by its name, such as "i2t R@1" or "judged t2i nDCG@10"; without a direction the mean of both."""
    for protocol, numbers in measured.items():
        start = "" if protocol == "own" else f"{protocol} "
        sides: dict[str, list[Measure]] = {}
        for one in numbers:
            way = "" if one.direction == "both" else f"{one.direction} "
            yield f"{start}{way}{one.metric}", one.measure
            if one.direction in ("i2t", "t2i"):
                sides.setdefault(one.metric, []).append(one.measure)
        for metric, both in sides.items():
            if len(both) == 2:
                yield f"{start}{metric}", Average(both)


def _both(named: Mapping[str, float]) -> dict[str, Quantity]:
    """The same numbers, and where both directions or both sides are known also their mean."""
    out = {name: Quantity(value) for name, value in named.items()}
    sides: dict[str, list[float]] = {}
    for name, value in named.items():
        sides.setdefault(name.partition(" ")[2], []).append(value)
    return out | {name: Quantity(sum(both) / 2) for name, both in sides.items() if len(both) == 2}
