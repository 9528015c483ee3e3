"""What a run tells its user: one line at the start, one a stage, one an epoch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from ..data.pairs import Pairs
from ..methods import Model
from .plan import Plan, Stretch

__all__ = ["announcement", "epoch_line", "progress", "stage_line"]


def announcement(model: Model, pairs: Pairs, plan: Plan, where: str) -> Iterator[str]:
    """What will be trained, and what the published recipe has besides.

    Args:
        where: precision and device.
    """
    recipe = plan.recipe
    terms = ", ".join(f"{k} x {w:g}" if w != 1 else k for k, w in model.objective_terms.describe().items())
    yield (
        f"{model.name}: {model.parameter_count() / 1e6:.1f} M parameters, {len(pairs):,} images, "
        f"{len(pairs.captions):,} captions, {recipe.epochs} epochs of {plan.epoch_steps} steps, "
        f"objective {terms}, {recipe.optimiser} {recipe.lr:g} {recipe.schedule}, {where}"
    )
    for remark in [*model.begun, *([recipe.note] if recipe.note else [])]:
        yield f"note: {remark}"
    for start in sorted(set.intersection(*(set(stage.frozen) for stage in recipe.all_stages))):
        there = any(name.startswith(start) for name, _ in model.named_parameters())
        if there and any(random and start.startswith(tower) for tower, random in model.from_random.items()):
            yield (
                f"note: {start} is frozen in the whole run and begins from random weights; "
                "give its file (--image-tower NAME:FILE, --text-tower NAME:FILE) or let it train"
            )


def stage_line(plan: Plan, stretch: Stretch, frozen: int) -> str:
    """The stage that begins, and how many numbers it freezes."""
    stage, recipe = stretch.stage, plan.recipe
    parts = [f"stage {stretch.number}/{len(plan.stretches)}: {stage.epochs} epochs"]
    parts += [f"rate {recipe.lr if stage.lr is None else stage.lr:g}"]
    parts += [f"{frozen / 1e6:.2f} M parameters frozen ({', '.join(stage.frozen)})"] if stage.frozen else []
    return ", ".join(parts + (["the loss ramps up"] if stage.loss_ramp else []))


def epoch_line(row: Mapping[str, float], epochs: int, better: bool) -> str:
    """One row of `metrics.jsonl` in short."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.3f}"]
    if "RSUM" in row:
        parts.append(f"validation RSUM {row['RSUM']:.1f}{' (best)' if better else ''}")
    spread = [f"{v:.2f}" for k, v in row.items() if k.endswith("circular variance")]
    parts += [f"log circular variance {' / '.join(spread)}"] if spread else []
    if "elements with gradient" in row:
        parts.append(f"elements with gradient {row['elements with gradient']:.0%}")
    return ", ".join([*parts, f"{row['seconds']:.0f} s"])


def progress(model: Model, plan: Plan, start: int, *, shown: bool) -> Any:
    """A bar over the steps, where somebody watches."""
    return tqdm(
        total=plan.steps,
        initial=start,
        desc=model.name,
        unit="step",
        disable=not shown or not sys.stderr.isatty(),
        leave=False,
    )
