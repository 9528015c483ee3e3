"""`compare`: several runs on the same pairs, each difference with its interval and test, seeds reported apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..data.files import Progress
from ..data.pairs import Pairs
from ..errors import DataError, UnknownName
from ..methods import Model
from ..runs import load, names_network, read_run
from .banking import bankless, biases_of, usable_banks
from .comparison import Comparison
from .duplicates import duplicates
from .encoding import encode, scores_of, seen, usable
from .health import health
from .measure import Judged, judge
from .measures import Floats, Measure, interval, resampled
from .metrics import check_ties
from .protocols import choose
from .published import published_for
from .report import Report, Row
from .seeds import Key, group_differences, group_spreads, seed_groups
from .significance import Difference, holm, randomisation_test

__all__ = ["compare"]

_HEADLINES = ("RSUM", "R@1")
"""Tested when nobody names a metric. Each further test costs the others some of their p."""


def compare(
    runs: Sequence[str | Path | Model],
    pairs: Pairs,
    *,
    labels: Sequence[str] | None = None,
    protocol: str | Sequence[str] | None = None,
    ties: str = "expected",
    metric: str | Sequence[str] | None = None,
    all_pairs: bool = False,
    bank: bool | None = None,
    batch_size: int = 256,
    resamples: int = 1000,
    swaps: int = 10_000,
    progress: Progress | None = None,
) -> Comparison:
    """Measure runs on the same pairs and test each against the first.

    Args:
        runs: two or more run folders or models; only folders say which runs differ in nothing but the seed.
        pairs: what is encoded and ranked; usually one split. They hold what every run reads, pictures or features.
        labels: what tables call the runs; by default folder names, or the models' names.
        protocol, ties, batch_size: as for `evaluate`.
        metric: what is tested, such as "R@1" (in every direction) or "i2t R@1"; "all" tests all. By default RSUM and
            R@1; of a protocol that has neither, the first metric of each direction.
        all_pairs: test every run against every other, not only against the first.
        bank: as for `evaluate`, of each run by itself.
        resamples: of the bootstrap over images behind the 95 % intervals; 0 leaves them out.
        swaps: random ones of the paired randomisation test.
        progress: called with (done, total) of each stage of each run.

    Raises:
        CheckpointError: a folder that holds no run.
        DataError: fewer than two runs, two of one name, or as `evaluate`, naming the run.
        UnknownName: a protocol, a metric or a way with ties that does not exist.
    """
    given = _given(runs, labels)
    if swaps < 1:
        raise DataError(f"compare: {swaps} swaps, expected at least 1")
    check_ties(ties)
    names = choose(protocol, pairs)
    kept, notes = usable(any(each.pixels for each in given), pairs, progress)
    notes += duplicates(kept).notes()
    weights = resampled(len(kept), resamples) if resamples else None
    systems = []
    for each in given:
        model = each.load()
        notes += [*each.notes, *seen([model], [each.label], pairs)]
        systems.append(_measured(each.label, model, kept, names, ties, bank, batch_size, progress))
    keys = _chosen(systems, metric)
    groups, twice = seed_groups({each.label: each.identity for each in given})
    values = {
        key: {system.label: system.measures[key].value for system in systems if key in system.measures} for key in keys
    }
    couples = [(b, a) for a, b in combinations(systems, 2) if all_pairs or a is systems[0]]
    notes += [note for system in systems for note in system.judged.notes]
    notes += bankless({system.label: system.bank for system in systems}) + twice + _lacking(systems, keys)
    return Comparison(
        Report(
            [row for system in systems for row in system.rows(weights)],
            made=tuple(system.made for system in systems),
            published=published_for([system.method for system in systems], names, kept),
        ),
        _tested(couples, keys, weights, swaps, len(kept)),
        group_spreads(groups, values),
        group_differences(groups, values, all_pairs=all_pairs),
        tuple(dict.fromkeys(notes)),
        resamples,
        swaps,
    )


@dataclass(frozen=True)
class _Given:
    """One run as it was given: what is known before its weights are read.

    Attributes:
        label: what tables call it.
        load: reads it.
        pixels: whether its image tower reads pictures.
        identity: everything its training depended on, where that is known.
        notes: what the reader of its numbers should know.
    """

    label: str
    load: Callable[[], Model]
    pixels: bool
    identity: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def _given(runs: Sequence[str | Path | Model], labels: Sequence[str] | None) -> list[_Given]:
    if len(runs) < 2:
        raise DataError(f"compare: found {len(runs)} runs, expected at least two")
    names = list(labels) if labels is not None else _names(runs)
    if len(names) != len(runs):
        raise DataError(f"compare: {len(names)} labels of {len(runs)} runs, expected as many")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"compare: {twice!r} is there twice, expected every run once and under a name of its own")
    return [_known(name, run) for name, run in zip(names, runs, strict=True)]


def _names(runs: Sequence[str | Path | Model]) -> list[str]:
    """Folder names, where two are alike with the folders they lie in; the names of models as they are."""
    folders = [Path(os.path.abspath(run)) if isinstance(run, str | Path) else None for run in runs]
    parts = 1
    while True:
        names = [
            "/".join(folder.parts[-parts:]) if folder is not None else run.name  # type: ignore[union-attr]
            for folder, run in zip(folders, runs, strict=True)
        ]
        parts += 1
        if len(set(names)) == len(names) or parts > max((len(f.parts) for f in folders if f is not None), default=0):
            return names


def _known(label: str, run: str | Path | Model) -> _Given:
    if not isinstance(run, str | Path):
        return _Given(label, lambda: run, run.image_input == "pixels")
    if names_network(run):
        return _Given(label, partial(load, run, device="auto"), pixels=True)
    value = read_run(run)
    stopped = () if value.get("finished", True) else (f"{label} is not trained to its end",)
    pixels = value["images"]["tower"] != "features"
    return _Given(label, partial(load, run, device="auto"), pixels, value.get("identity"), stopped)


@dataclass(frozen=True)
class _System:
    """What was measured of one run.

    Attributes:
        label: what tables call it.
        method: our name of the method.
        made: how it was made, in words.
        judged: every protocol's numbers.
        health: rows on its embeddings.
        bank: whether its rankings are corrected by its query bank; None where it has none.
    """

    label: str
    method: str
    made: str
    judged: Judged
    health: list[Row]
    bank: bool | None

    @cached_property
    def measures(self) -> dict[Key, Measure]:
        found = self.judged.measured.items()
        return {(name, one.direction, one.metric): one.measure for name, numbers in found for one in numbers}

    def rows(self, weights: Floats | None) -> list[Row]:
        ranked = [{**row, "bank": bool(self.bank)} for row in self.judged.rows(weights)]
        return [{"run": self.label, **row} for row in (*ranked, *self.health)]


def _measured(
    label: str,
    model: Model,
    pairs: Pairs,
    names: Sequence[str],
    ties: str,
    bank: bool | None,
    batch_size: int,
    progress: Progress | None,
) -> _System:
    try:
        banks, said = usable_banks([model], [label], pairs, bank)
        encoded = encode(model, pairs, batch_size, progress)
        biases = biases_of([model], [encoded], pairs, banks)
        judged = judge(scores_of([model], [encoded], pairs, progress, biases), pairs, names, ties, *encoded)
    except DataError as error:
        raise DataError(f"{label}: {error}") from None
    made = model.summary if label == model.name else f"{label}: {model.summary}"
    judged = replace(judged, notes=(*(f"{label}: {note}" for note in said), *judged.notes))
    used = banks is not None if getattr(model, "bank", None) is not None else None
    return _System(label, model.name, made, judged, list(health(*encoded, pairs.matches())), used)


def _chosen(systems: Sequence[_System], metric: str | Sequence[str] | None) -> list[Key]:
    """What is tested, in the order of the tables. Raises UnknownName for a metric that no run has."""
    known = list(dict.fromkeys(key for system in systems for key in system.measures))
    if metric is None:
        return [key for key in known if _is_headline(key, known)]
    asked = [metric] if isinstance(metric, str) else list(metric)
    if "all" in asked:
        return known
    named = {key: {key[2], *([f"{key[1]} {key[2]}"] if key[1] != "both" else [])} for key in known}
    names = {"all"}.union(*named.values())
    for name in asked:
        if name not in names:
            raise UnknownName("metric", name, names)
    return [key for key in known if named[key] & set(asked)]


def _is_headline(key: Key, known: Sequence[Key]) -> bool:
    same = [other for other in known if other[0] == key[0]]
    if any(metric in _HEADLINES for _, _, metric in same):
        return key[2] in _HEADLINES
    return key == next(other for other in same if other[1] == key[1])


def _lacking(systems: Sequence[_System], keys: Sequence[Key]) -> list[str]:
    """A note for each run that some number was not measured of."""
    out = []
    for system in systems:
        lacks = [" ".join(key) for key in keys if key not in system.measures]
        if lacks:
            out.append(f"{system.label} is not compared by {', '.join(lacks)}, which it does not have")
    return out


def _tested(
    couples: Sequence[tuple[_System, _System]],
    keys: Sequence[Key],
    weights: Floats | None,
    swaps: int,
    images: int,
) -> list[Row]:
    """One row a difference: its interval, its p where it is a sum over images, corrected for all of them."""
    rows: list[Row] = []
    contributions: list[Floats | None] = []
    for one, other in couples:
        for key in keys:
            if key in one.measures and key in other.measures:
                difference = Difference(one.measures[key], other.measures[key])
                contributions.append(difference.contributions(images))
                rows.append(_row(one.label, other.label, key, difference, interval(difference, weights), images))
    summed = [each for each in contributions if each is not None]
    if not summed:
        return rows
    p = randomisation_test(np.stack(summed, axis=1), swaps).tolist()
    found = iter(zip(p, holm(p), strict=True))
    for row, each in zip(rows, contributions, strict=True):
        if each is not None:
            row["p"], row["p_corrected"] = next(found)
            row["comparisons"] = len(p)
    return rows


def _row(
    run: str,
    other: str,
    key: Key,
    difference: Difference,
    ends: tuple[float | None, float | None],
    images: int,
) -> Row:
    return {
        "run": run,
        "other": other,
        "protocol": key[0],
        "direction": key[1],
        "metric": key[2],
        "value": difference.first.value,
        "other_value": difference.second.value,
        "difference": difference.value,
        "low": ends[0],
        "high": ends[1],
        "p": None,
        "p_corrected": None,
        "comparisons": None,
        "images": images,
    }
