"""All that tables, tests and claims need of one run: what was measured, what its training noted, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .plan import Run
from .quantities import Measured, Quantity
from .runs import folder_of

__all__ = ["Found", "found_of"]


@dataclass(frozen=True)
class Found:
    """What is known of one run.

    Attributes:
        states: "raw" or "bank" -> what was measured.
        training: what training noted and what it cost; of a run made of others with what those cost.
        at_least: costs are known in part.
    """

    states: Mapping[str, Measured]
    training: Mapping[str, Quantity]
    at_least: bool = False


def found_of(run: Run, runs: Path, states: Mapping[str, Measured]) -> Found:
    """What was measured of a run, with what lies in its folder among `runs`."""
    folder = folder_of(runs, run)
    own: dict[str, float] = {}
    if folder.validation is not None:
        own["validation RSUM"] = folder.validation
    for name, value in folder.diary.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            own[f"diary {name}"] = float(value)
    all_of_it = [run, *run.parts]
    costs = {each.name: folder_of(runs, each).cost for each in all_of_it}
    known = [cost for cost in costs.values() if cost is not None]
    if known:
        own["minutes"] = sum(cost.seconds for cost in known) / 60
        own["CPU minutes"] = sum(cost.cpu_seconds for cost in known) / 60
        own["memory GiB"] = max(cost.peak_bytes for cost in known) / 2**30
        own["threads"] = float(max(cost.threads for cost in known))
    trained = [costs[each.name] for each in all_of_it if not each.row.ensemble]
    at_least = any(cost is None or not cost.whole for cost in trained)
    return Found(states, {name: Quantity(value) for name, value in own.items()}, at_least)
