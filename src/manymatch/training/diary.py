"""What the validation split says: each epoch a line of JSON in the run's diary, at the end calibration and bank."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..data.pairs import Pairs
from ..data.writing import whole_file
from ..evaluation import calibrate, evaluate, fit_bank
from ..methods import Model
from ..runs import read_run

__all__ = ["append_row", "bank_kept", "banked", "calibrated", "measure", "trim_rows"]


def measure(model: Model, validate: Pairs) -> dict[str, float]:
    """RSUM, R@K both ways, and the log circular variance of sets."""
    out: dict[str, float] = {}
    for row in evaluate(model, validate, protocol="own", resamples=0, find_duplicates=False).rows:
        if row["metric"] == "RSUM":
            out["RSUM"] = row["value"]
        elif row["metric"] == "log circular variance" or row["metric"].startswith("R@"):
            out[f"{row['direction']} {row['metric']}"] = row["value"]
    return out


def calibrated(model: Model, validate: Pairs | None, tell: Callable[[str], None]) -> None:
    """Give a trained model the calibration of its validation pairs, where there are any, and say so."""
    model.calibration = None
    if validate is not None:
        began = time.perf_counter()
        model.calibration = calibrate(model, validate)
        tell(f"{model.calibration}, {time.perf_counter() - began:.1f} s")


def banked(model: Model, pairs: Pairs, validate: Pairs | None, most: int, tell: Callable[[str], None]) -> None:
    """Give a trained model the query bank of its training pairs, where validation can choose its numbers; say so.

    Args:
        most: captions and images of the bank, of each at most; 0 gives none.
    """
    model.bank = None
    if validate is not None and most:
        model.bank = fit_bank(model, pairs, validate, most=most, say=tell)


def bank_kept(out: Path, wanted: int, tell: Callable[[str], None]) -> None:
    """Say it where a finished run, as it stays, has not the bank that is asked for."""
    was = read_run(out).get("config", {}).get("bank")
    if was is not None and was != wanted:
        how = f"--data DATA --size {wanted}" if wanted else "--remove"
        tell(f"its query bank stays as it is (bank={was}); for bank={wanted}: manymatch bank {out} {how}")


def append_row(path: Path, row: dict[str, Any]) -> None:
    """One more line of JSON."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def trim_rows(path: Path, steps: int) -> None:
    """Leave out the lines an interrupted run wrote after its last save: they will be written again."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            if json.loads(line).get("step", 0) <= steps:
                rows.append(line)
        except ValueError:
            continue
    with whole_file(path) as temporary:
        temporary.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
