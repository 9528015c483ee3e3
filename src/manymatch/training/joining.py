"""`join`: trained runs as one set model, with a run folder of its own; composite methods end here as well."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.pairs import Pairs
from ..errors import CheckpointError, DataError
from ..evaluation.joining import fit_join, scaled_weights
from ..methods import Model
from ..methods.composite import JoinedRuns
from ..methods.joint import Joint, named_members
from ..runs import device_named, load, make_folder, save_search
from .diary import append_row, banked, calibrated, measure
from .feed import supplied
from .state import holds_run

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["finish", "join"]

Say = Callable[[str], None]


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def join(
    runs: Sequence[str | Path | Model],
    pairs: Pairs,
    *,
    validate: Pairs | None = None,
    out: str | Path,
    dim: int = 512,
    weights: Sequence[float] | None = None,
    bank: int = 5_000,
    device: str = "auto",
    say: Say | None = _print,
    store: Where = None,
) -> Model:
    """Make several trained runs one set model, and write its run folder.

    Each element of the joint is the members' elements side by side, weighted and rotated to `dim`; its similarity is
    Smooth-Chamfer, or the cosine where every member has one vector. Weights are chosen by RSUM on `validate`, the
    rotation is fitted on embeddings of `pairs`.

    Args:
        runs: two or more run folders or models, of points, Gaussians (their means), or sets of equal size, which read
            the same features, or pictures in the same way. Models are used on `device` meanwhile, and end where and as
            they were.
        pairs: the training split of them all.
        validate: pairs that none of them was trained on; without them the weights are equal, and there is neither
            calibration nor query bank.
        out: the run folder; must not hold a run. It holds copies of all that it needs of the members.
        dim: width of its elements.
        weights: of the runs, in their order, instead of choosing; scaled to a sum of 1.
        bank: training captions, and images, of its query bank, of each at most; 0 is none.
        device: where it computes; "auto" takes a GPU when there is one.
        say: told every line worth reading; None is silent.
        store: the feature store of a frozen image network, as in `train`.

    Returns:
        The joint, as `load(out)` gives it.

    Raises:
        CheckpointError: a run is in `out` already, or the beginning of one; a folder that is no run.
        DataError: fewer than two runs, runs that cannot be joined, or weights that are not one positive number each.
    """
    out, tell = Path(out), say or (lambda line: None)
    if len(runs) < 2:
        raise DataError(f"join: found {len(runs)} run, expected at least two")
    if holds_run(out):
        raise CheckpointError(f"join: {str(out)!r} holds a run already; choose another --out")
    models = [run if isinstance(run, Model) else load(run) for run in runs]
    names = [run.name if isinstance(run, Model) else Path(run).resolve().name for run in runs]
    began = [(model, model.training, model.device) for model in models]
    try:
        joint = Joint.of(JoinedRuns(dim=dim), named_members(models, names)).eval()
        if weights is not None:
            scaled_weights(weights, joint)
        joint.to(device_named(device))
        pairs = supplied(joint, pairs, store, tell)
        validate = None if validate is None else supplied(joint, validate, store, tell)
        _expect_seen(joint, pairs, validate, tell)
        make_folder(out, "join")
        facts = {"data": pairs.describe(), "joined": [str(run) for run in runs if not isinstance(run, Model)]}
        return finish(joint, pairs, validate, out, facts, weights=weights, bank=bank, tell=tell)
    finally:
        for model, training, place in began:
            model.train(training).to(place)


def _expect_seen(joint: Joint, pairs: Pairs, validate: Pairs | None, tell: Say) -> None:
    """Say it where a member was trained on other pairs than the joint is fitted on.

    Raises:
        DataError: one was trained on the pairs that shall choose the weights.
    """
    for name, model in zip(joint.members, joint.models, strict=True):
        trained = model.notes.get("seen", {}).get("training")
        if validate is not None and trained == validate.digest:
            raise DataError(
                f"join: {name} was trained on the {len(validate)} images that shall choose the weights; give pairs "
                "that no member saw"
            )
        if trained not in (None, pairs.digest):
            tell(f"note: {name} was trained on other pairs than these {len(pairs)} images")


def _seen_of(joint: Joint) -> dict[str, Any]:
    """What each member noted that it saw, and those of a member that is a joint itself."""
    out: dict[str, Any] = {}
    for name, model in zip(joint.members, joint.models, strict=True):
        out[name] = model.notes.get("seen", {})
        out |= {f"{inner} of {name}": seen for inner, seen in model.notes.get("seen of members", {}).items()}
    return {name: seen for name, seen in out.items() if seen}


def finish(
    joint: Joint,
    pairs: Pairs,
    validate: Pairs | None,
    out: Path,
    facts: Mapping[str, Any],
    *,
    bank: int,
    tell: Say,
    weights: Sequence[float] | None = None,
    seconds: Mapping[str, float] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> Model:
    """Fit a joint of trained members, calibrate it, give it a query bank and write its run folder.

    Args:
        joint: on the device where it computes.
        pairs, validate: as its image tower reads them.
        facts: further entries of `run.json`.
        bank: as in `join`.
        tell: told what was chosen, and what it did on validation.
        weights: as in `join`.
        seconds: of the members' training.
        rows: lines of `metrics.jsonl` before its own.
    """
    began = time.perf_counter()
    found = fit_join(joint, pairs, validate, weights=weights)
    for line in found.lines() if found is not None else ["no validation pairs: nothing is known of the joint's worth"]:
        tell(line)
    joint.notes = {"seen": {"training": pairs.digest}, "seen of members": _seen_of(joint)}
    row: dict[str, Any] = {"joint": True}
    if found is not None and validate is not None:
        joint.notes |= {"join": found.to_json(), "validation": measure(joint, validate)}
        joint.notes["seen"] |= {"validation": validate.digest}
        row |= joint.notes["validation"]
    calibrated(joint, validate, tell)
    banked(joint, pairs, validate, bank, tell)
    spent = {**(seconds or {}), "join": round(time.perf_counter() - began, 1)}
    joint.notes |= {"seconds": round(sum(spent.values()), 1), "seconds of": spent}
    joint.notes["parameters"] = joint.parameter_count()
    (out / "metrics.jsonl").unlink(missing_ok=True)
    for each in (*rows, row):
        append_row(out / "metrics.jsonl", dict(each))
    save_search(joint.to("cpu"), out, {**facts, "finished": True})
    tell(f"{joint.summary}; the run is in {out}")
    return load(out)
