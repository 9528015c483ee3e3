"""Training begins here: what is checked before the first step, and the methods that need no steps at all."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.pairs import Pairs
from ..errors import CheckpointError
from ..methods import Model
from ..methods.joint import Joint
from ..runs import load, make_folder, read_run, save_search
from .config import TrainConfig
from .diary import append_row, bank_kept, banked, calibrated, measure
from .feed import supplied
from .identity import expect_same, identity_of
from .loop import Run, Say
from .members import train_members
from .memory import keep_freed_memory
from .state import STATE, has_members, holds_run

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["train"]

_LOOKED_AT = 20_000
"""Captions, evenly spread, by which the share of those that are not read to their end is told."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def train(
    model: Model,
    pairs: Pairs,
    *,
    validate: Pairs | None = None,
    out: str | Path,
    config: TrainConfig | None = None,
    resume: bool = False,
    say: Say | None = _print,
    store: Where = None,
) -> Model:
    """Train (or fit in closed form) on `pairs`, keep the best by RSUM on `validate`, write the run folder.

    Args:
        model: from `method.build(pairs, ...)`.
        pairs: the training split.
        validate: pairs for choosing the best epoch; without them the last weights are kept.
        out: the run folder; must not hold a run unless `resume`.
        config: what to change about the method's recipe.
        resume: go on from the last save in `out`; starts a new run, and says so, when there is none.
        say: told every line worth reading; None is silent (no progress bar either).
        store: the feature store (or its folder) that a frozen image network's features are read from, and put into
            where they are missing; None for the usual one.

    Returns:
        The best model, as `load(out)` would give it.

    Raises:
        CheckpointError: a run is there already, or the state to resume is of another model or data.
        DataError: nothing to train on, or a loss that is not finite.
        KeyboardInterrupt: after an interrupt, once the state is saved.
    """
    config = config or TrainConfig()
    keep_freed_memory()
    out = Path(out)
    tell: Say = say or (lambda line: None)
    if not resume and holds_run(out):
        raise CheckpointError(f"train: {str(out)!r} holds a run already; go on with --resume or choose another --out")
    _expect_kind(model, out)
    if isinstance(model, Joint):
        make_folder(out, "train")
        return train_members(model, pairs, validate, out, config, resume=resume, say=say, store=store, train=train)
    pairs = supplied(model, pairs, store, tell) if model.method.learns else pairs
    validate = None if validate is None else supplied(model, validate, store, tell)
    make_folder(out, "train")
    _warn_of_words(model, pairs, tell)
    # Of the weights it may have begun with.
    model.bank = None
    facts = {"data": pairs.describe(), "config": asdict(config)}
    if model.method.fitted:
        return _fit(model, pairs, validate, out, facts, resume, tell)
    model.objective_terms.prepare(pairs, seed=config.seed, say=tell)
    return Run(model, pairs, validate, out, config, facts, tell, bar=say is not None).go(resume)


def _expect_kind(model: Model, out: Path) -> None:
    """Raises CheckpointError where a run began that has members and this has none, or the reverse."""
    there = "a run of several members" if has_members(out) else "a run without members"
    if has_members(out) if not isinstance(model, Joint) else (out / STATE).is_file():
        raise CheckpointError(f"resume: {str(out)!r} holds {there}, found {model.name}; choose another --out")


def _warn_of_words(model: Model, pairs: Pairs, tell: Say) -> None:
    """Say it where more than one caption in a hundred is not read, or not to its end."""
    # A tokeniser of another library may take minutes over a million captions; a share needs no more than these.
    captions, texts = pairs.captions[:: -(-len(pairs.captions) // _LOOKED_AT) or 1], model.texts
    unknown = sum(not texts.knows(caption) for caption in captions) / max(len(captions), 1)
    cut = sum(texts.cuts(caption) for caption in captions) / max(len(captions), 1)
    if cut > 0.01:
        tell(
            f"{cut:.0%} of the training captions are longer than the {texts.longest} words that "
            f"{model.name}'s text tower reads; their ends are not seen"
        )
    if unknown > 0.01:
        tell(
            f"{unknown:.0%} of the training captions hold no word of the vocabulary and teach nothing: words must "
            "occur least_count times, and a script without blanks between words has too few"
        )


def _fit(
    model: Model, pairs: Pairs, validate: Pairs | None, out: Path, facts: dict[str, Any], resume: bool, tell: Say
) -> Model:
    facts["identity"] = identity_of(model, pairs, validate, facts["config"], None)
    if resume and (out / "run.json").is_file():
        expect_same(out, read_run(out).get("identity"), facts["identity"])
        tell(f"fitted already: {out}")
        bank_kept(out, facts["config"]["bank"], tell)
        return load(out)
    began = time.perf_counter()
    model.notes = {"fit": model.method.fit(model, pairs, tell), "seconds": 0.0, "seen": {"training": pairs.digest}}
    model.notes["seconds"] = round(time.perf_counter() - began, 1)
    if validate is not None:
        found = measure(model, validate)
        model.notes["validation"] = found
        tell(f"fitted in {model.notes['seconds']:.0f} s, validation RSUM {found['RSUM']:.1f}")
    calibrated(model, validate, tell)
    banked(model, pairs, validate, facts["config"]["bank"], tell)
    (out / "metrics.jsonl").unlink(missing_ok=True)
    append_row(out / "metrics.jsonl", {"fitted": True, **model.notes.get("validation", {})})
    save_search(model, out, {**facts, "finished": True})
    return load(out)
