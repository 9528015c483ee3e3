"""Small files of what was measured, one a run: a study goes on with them where the runs themselves are not.

Whoever has the records of a study can add a row of their own and compare it, paired over images, with rows they never
trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ...runs import make_folder
from .folders import asked_of, digest_of
from .found import Found
from .judge import Judge
from .plan import Run
from .quantities import Measured, Quantity, pack, read_arrays, unpack, write_arrays
from .runs import folder_of

__all__ = ["Records"]


class Records:
    """The records of a study in a folder.

    Args:
        folder: made where it is not there.
        judge: of the study; says what was measured, and on what.
        say: told which records do not fit.
    """

    def __init__(self, folder: Path, judge: Judge, say: Callable[[str], None]) -> None:
        make_folder(folder, "study")
        self.folder, self._judge, self._say = folder, judge, say

    @cached_property
    def _parted(self) -> list[str]:
        """What a record keeps each image's part of: all that is tested or claimed. Of the rest it keeps the number."""
        plan = self._judge.plan
        return sorted({*plan.tested, *(claim.metric for claim in plan.claims)})

    def found(self) -> dict[str, Found]:
        """Run name -> its record, of every run that has one that fits; the others are said."""
        read = {run.name: self._read(run) for run in self._judge.plan.runs}
        return {name: each for name, each in read.items() if each is not None}

    def keep(self, run: Run, found: Found, runs: Path) -> Found:
        """Write a run's record and return what it says, which is what the next call will read."""
        states: dict[str, Any] = {}
        arrays: dict[str, Any] = {}
        for state, measured in found.states.items():
            states[state], parts = pack(self._shortened(measured))
            # Parts take few values and must tie where they tied; numbers on drawn images take all values.
            parts["drawn"] = parts["drawn"].astype(np.float32)
            arrays |= {f"{state} {kind}": rows for kind, rows in parts.items()}
        training = {name: each.value for name, each in found.training.items()}
        weights = folder_of(runs, run).path / "model.safetensors"
        facts = {
            **self._asked(run),
            "parted": self._parted,
            "weights": digest_of(weights) if weights.is_file() else None,
            "training": training,
            "at_least": found.at_least,
            "states": states,
        }
        write_arrays(self._place(run), facts, arrays)
        kept = self._read(run)
        assert kept is not None
        return kept

    def weights(self) -> dict[str, str]:
        """Name of each run that has a record, whichever -> SHA-256 of its weights; of ensembles there are none."""
        found = {}
        for path in sorted(self.folder.glob("*.npz")):
            try:
                with read_arrays(path) as (facts, _):
                    found[path.stem] = facts["weights"]
            except DataError as error:
                self._say(str(error))
        return {name: weights for name, weights in found.items() if weights}

    def _place(self, run: Run) -> Path:
        return self.folder / f"{run.name}.npz"

    def _asked(self, run: Run) -> dict[str, Any]:
        """What makes a record this run's on this data, as JSON gives it back."""
        plain = {"run": asked_of(run, self._judge.plan.data), "measured on": self._judge.asked}
        return dict(json.loads(json.dumps(plain)))

    def _read(self, run: Run) -> Found | None:
        path = self._place(run)
        if not path.is_file():
            return None
        try:
            with read_arrays(path) as (facts, arrays):
                odd = [name for name, value in self._asked(run).items() if facts[name] != value]
                if odd or not set(self._parted) <= set(facts["parted"]):
                    what = f"of another {odd[0]}" if odd else "without the parts of what is tested now"
                    self._say(f"{run.name}: its record {str(path)!r} is {what}; it is trained and measured anew")
                    return None
                states = {
                    state: unpack(each, {kind: arrays[f"{state} {kind}"] for kind in ("contributions", "drawn")})
                    for state, each in facts["states"].items()
                }
                training = {name: Quantity(float(value)) for name, value in facts["training"].items()}
                return Found(states, training, bool(facts["at_least"]))
        except DataError as error:
            self._say(f"{error}; {run.name} is trained and measured anew")
            return None

    def _shortened(self, measured: Measured) -> Measured:
        kept: Mapping[str, Quantity] = {
            name: each if name in self._parted else Quantity(each.value) for name, each in measured.quantities.items()
        }
        return replace(measured, quantities=kept)
