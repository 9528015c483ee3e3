"""The spread over training seeds: runs that differ in nothing but the seed, counted as one group."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from typing import Any

import numpy as np

from .report import Row

__all__ = ["Group", "group_differences", "group_spreads", "seed_groups"]

Key = tuple[str, str, str]
Values = Mapping[Key, Mapping[str, float]]
"""(protocol, direction, metric) -> run -> number."""


@dataclass(frozen=True)
class Group:
    """Runs of one method, its settings, towers and data, whose seeds differ.

    Attributes:
        name: what their names begin with.
        runs: two or more, one a seed.
    """

    name: str
    runs: tuple[str, ...]


def seed_groups(identities: Mapping[str, Mapping[str, Any] | None]) -> tuple[list[Group], list[str]]:
    """Groups of two seeds or more in the order of their first runs, and notes on what does not count twice.

    Args:
        identities: run -> everything its training depended on, `seed` among it; None where that is not known.
    """
    found: dict[str, dict[Any, str]] = {}
    notes = []
    for run, identity in identities.items():
        if identity is None or "seed" not in identity:
            continue
        rest = json.dumps({name: value for name, value in identity.items() if name != "seed"}, sort_keys=True)
        seeds = found.setdefault(rest, {})
        first = seeds.setdefault(identity["seed"], run)
        if first != run:
            notes.append(f"{run} is {first} once more, seed and all: in the spread over seeds one of them counts")
    several = [tuple(seeds.values()) for seeds in found.values() if len(seeds) > 1]
    names = [_name(runs) for runs in several]
    return [
        Group(name if names.count(name) == 1 else ", ".join(runs), runs)
        for name, runs in zip(names, several, strict=True)
    ], notes


def _name(runs: Sequence[str]) -> str:
    """What the names of the runs begin with, or all of them."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*runs, strict=False))
    # Of dive-10 and dive-11 the name is dive, not dive-1.
    common = re.sub(r"[\W_]*(seed)?[\W_]*\d*$", "", "".join(letters[0] for letters in same))
    return common or ", ".join(runs)


def group_spreads(groups: Sequence[Group], values: Values) -> list[Row]:
    """Mean, standard deviation (of the sample), least and largest number of each group over its seeds."""
    out = []
    for group in groups:
        for key, numbers in _known(group, values):
            out.append(
                {
                    "group": group.name,
                    **dict(zip(("protocol", "direction", "metric"), key, strict=True)),
                    "mean": float(np.mean(numbers)),
                    "sd": float(np.std(numbers, ddof=1)),
                    "min": min(numbers),
                    "max": max(numbers),
                    "seeds": len(numbers),
                }
            )
    return out


def group_differences(groups: Sequence[Group], values: Values, *, all_pairs: bool) -> list[Row]:
    """Differences of group means with the standard error that the seeds give them, against the first group or all.

    The standard error is sqrt(s^2/n + s'^2/n'), which supposes nothing of the two spreads (Welch 1947).
    """
    pairs = list(combinations(range(len(groups)), 2))
    out = []
    for other, one in pairs if all_pairs else [pair for pair in pairs if pair[0] == 0]:
        second = dict(_known(groups[other], values))
        for key, first in _known(groups[one], values):
            if key not in second:
                continue
            both = first, second[key]
            out.append(
                {
                    "group": groups[one].name,
                    "other": groups[other].name,
                    **dict(zip(("protocol", "direction", "metric"), key, strict=True)),
                    "difference": float(np.mean(first) - np.mean(second[key])),
                    "standard_error": float(np.sqrt(sum(np.var(each, ddof=1) / len(each) for each in both))),
                    "seeds": len(first),
                    "other_seeds": len(second[key]),
                }
            )
    return out


def _known(group: Group, values: Values) -> Iterator[tuple[Key, list[float]]]:
    """The numbers that every run of the group has."""
    for key, by_run in values.items():
        if all(run in by_run for run in group.runs):
            yield key, [by_run[run] for run in group.runs]
