"""One plain loop, driven by the recipe. Everything random is a function of (seed, step), so resuming is exact."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.batches import Rows
from ..data.pairs import Pairs
from ..errors import CheckpointError, DataError
from ..methods import Batch, Model
from ..runs import load, read_run, save_search
from .config import Plan, TrainConfig
from .diary import append_row, measure, trim_rows
from .identity import expect_same, identity_of
from .machine import device_of, interruptible, precision_of
from .memory import give_back_freed_memory
from .state import STATE, RunningAverage, make_optimiser, read_facts, read_state, write_state

__all__ = ["Run", "Say"]

Say = Callable[[str], None]


class Run:
    """A trained run: its plan, its state, and where it is written."""

    def __init__(
        self,
        model: Model,
        pairs: Pairs,
        validate: Pairs | None,
        out: Path,
        config: TrainConfig,
        facts: dict[str, Any],
        tell: Say,
        *,
        bar: bool,
    ) -> None:
        self.model, self.pairs, self.validate, self.out = model, pairs, validate, out
        self.config, self.facts, self.tell, self.bar = config, facts, tell, bar
        self.device = device_of(config)
        self.precision = precision_of(config, self.device)
        model.to(self.device)
        self.sampler = model.method.sampler()
        recipe = config.recipe(model.method)
        self.plan = Plan(recipe, self.sampler.steps(pairs))
        factors = {n: dict(recipe.groups).get(self.plan.group_of(n), 1.0) for n, _ in model.named_parameters()}
        self.optimiser = make_optimiser(model, recipe.lr, recipe.weight_decay, recipe.betas, factors)
        self.average = RunningAverage(model) if recipe.average else None
        self.best: dict[str, Any] = {}
        self.sums: dict[str, float] = {}
        self.seconds = 0.0
        self.facts["identity"] = identity_of(model, pairs, validate, facts["config"], self.precision)

    # ---- the loop

    def go(self, resume: bool) -> Model:
        start = self._restore(resume)
        self._announce()
        self._clock = self._saved = time.perf_counter()
        with interruptible() as stop, self._progress(start) as bar:
            for step, batch in self._batches(start):
                terms = self._step(step, batch)
                self.sums = {k: self.sums.get(k, 0.0) + v for k, v in terms.items()}
                bar.set_postfix({k: f"{v:.3f}" for k, v in terms.items()}, refresh=False)
                bar.update()
                done = step + 1
                if done % self.plan.epoch_steps == 0:
                    self._epoch_end(done)
                elif stop.is_set() or time.perf_counter() - self._saved > 60 * self.config.save_minutes:
                    self._save(done)
                if stop.is_set() and done < self.plan.steps:
                    self.tell(
                        f"stopped at step {done} of {self.plan.steps}, saved; go on with: --resume (same command)"
                    )
                    raise KeyboardInterrupt
        return self._finish()

    def _batches(self, start: int) -> Iterator[tuple[int, Batch]]:
        """Batches from step `start` on, the next one read from disk while this one is computed."""

        def rows() -> Iterator[tuple[int, Rows]]:
            for epoch in range(start // self.plan.epoch_steps, self.plan.recipe.epochs):
                first = epoch * self.plan.epoch_steps
                for n, chosen in enumerate(self.sampler.epoch(self.pairs, seed=self.config.seed, epoch=epoch)):
                    if first + n >= start:
                        yield first + n, chosen

        def read(chosen: Rows) -> Batch:
            return self.model.batch(self.pairs, chosen.images, chosen.captions, chosen.matches)

        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for step, chosen in rows():
                coming = (step, pool.submit(read, chosen))
                if ahead is not None:
                    yield ahead[0], ahead[1].result()
                ahead = coming
            if ahead is not None:
                yield ahead[0], ahead[1].result()

    def _step(self, step: int, batch: Batch) -> dict[str, float]:
        torch.manual_seed(self.config.seed * 1_000_003 + step)
        self.model.train()
        self.model.advance(step, self.plan.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * self.plan.rate(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            terms = self.model.training_step(batch)
        loss = terms["loss"]
        if not math.isfinite(float(loss.detach())):
            raise DataError(
                f"training: the loss is {float(loss.detach())} at step {step} "
                f"({', '.join(f'{k} {float(v.detach()):.3g}' for k, v in terms.items())}); lower it with --set lr=..., "
                "or look at the data with: manymatch check"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.recipe.clip or math.inf))
        if not math.isfinite(norm):
            raise DataError(f"training: the gradient is {norm} at step {step}; lower the rate with --set lr=...")
        self.optimiser.step()
        if self.average is not None:
            self.average.update(self.model, self.plan.averaging(step))
        return {name: float(value.detach()) for name, value in terms.items()}

    # ---- the end of an epoch, and of the run

    def _epoch_end(self, done: int) -> None:
        epoch = done // self.plan.epoch_steps
        terms = {name: total / self.plan.epoch_steps for name, total in self.sums.items()}
        self.sums = {}
        if self.average is not None:
            self.average.swap(self.model)
        try:
            found = measure(self.model, self.validate) if self.validate is not None else {}
            row = {"step": done, "epoch": epoch, **terms, **found, "seconds": round(self._elapsed(), 1)}
            append_row(self.out / "metrics.jsonl", row)
            better = not self.best or self.validate is None or found["RSUM"] > self.best["RSUM"]
            if better:
                self.best = {"epoch": epoch, **found}
                self._note(done)
                save_search(self.model, self.out, {**self.facts, "finished": False})
        finally:
            if self.average is not None:
                self.average.swap(self.model)
        self.tell(self._line(epoch, terms, found, better))
        self._save(done)
        give_back_freed_memory()

    def _line(self, epoch: int, terms: dict[str, float], found: dict[str, float], better: bool) -> str:
        parts = [f"epoch {epoch}/{self.plan.recipe.epochs}", f"loss {terms['loss']:.3f}"]
        if found:
            parts.append(f"validation RSUM {found['RSUM']:.1f}{' (best)' if better else ''}")
            health = [f"{v:.2f}" for k, v in found.items() if k.endswith("circular variance")]
            parts += [f"log circular variance {' / '.join(health)}"] if health else []
        return ", ".join([*parts, f"{self._elapsed():.0f} s"])

    def _note(self, done: int) -> None:
        self.model.notes = {
            "objective": self.model.method.objective,
            "terms": self.model.objective_terms.describe(),
            "recipe": asdict(self.plan.recipe),
            "relation acted": None if self.model.relation is None else self.model.relation.acted,
            "precision": self.precision,
            "best": self.best,
            "steps": done,
            "of_steps": self.plan.steps,
            "seconds": round(self._elapsed(), 1),
            "parameters": self.model.parameter_count(),
        }

    def _finish(self) -> Model:
        self._note(self.plan.steps)
        best = load(self.out)
        best.notes = {**best.notes, **{k: self.model.notes[k] for k in ("steps", "seconds", "best")}}
        save_search(best, self.out, {**self.facts, "finished": True})
        if self.model.relation is not None and not self.model.relation.acted:
            self.tell("the relation never acted: the run ended before its start; train longer or start it earlier")
        kept = "last" if self.validate is None else f"best, {self.best['epoch']}"
        self.tell(f"trained in {self._elapsed():.0f} s; epoch kept: {kept}; the run is in {self.out}")
        return best

    # ---- saving and going on

    def _save(self, done: int) -> None:
        facts = {"step": done, "best": self.best, "seconds": self._elapsed(), "sums": self.sums}
        facts["identity"] = self.facts["identity"]
        facts["acted"] = 0 if self.model.relation is None else self.model.relation.acted
        write_state(self.out / STATE, self.model, self.average, self.optimiser, facts)
        self._saved = time.perf_counter()

    def _restore(self, resume: bool) -> int:
        path = self.out / STATE
        if not path.is_file():
            if (self.out / "run.json").is_file():
                self._expect_begun()
            if resume:
                self.tell(f"nothing to resume in {self.out}: starting a new run")
            (self.out / "metrics.jsonl").unlink(missing_ok=True)
            return 0
        facts = read_facts(path)
        expect_same(self.out, str(facts.get("identity")), self.facts["identity"])
        read_state(path, self.model, self.average, self.optimiser)
        self.best, self.sums, self.seconds = facts["best"], facts["sums"], float(facts["seconds"])
        if self.model.relation is not None:
            self.model.relation.acted = int(facts["acted"])
        trim_rows(self.out / "metrics.jsonl", int(facts["step"]))
        self.tell(f"resuming at step {facts['step']} of {self.plan.steps}")
        return int(facts["step"])

    def _expect_begun(self) -> None:
        """A run without a state may be begun again only if it is this one, killed between its first two files."""
        found = read_run(self.out)
        if found.get("finished") or found.get("identity") != self.facts["identity"]:
            raise CheckpointError(f"resume: {str(self.out)!r} holds a run without {STATE}; choose another --out")

    def _elapsed(self) -> float:
        return self.seconds + time.perf_counter() - self._clock

    # ---- what the user sees

    def _announce(self) -> None:
        m, r = self.model, self.plan.recipe
        terms = ", ".join(f"{k} x {w:g}" if w != 1 else k for k, w in m.objective_terms.describe().items())
        self.tell(
            f"{m.name}: {m.parameter_count() / 1e6:.1f} M parameters, {len(self.pairs):,} images, "
            f"{len(self.pairs.captions):,} captions, {r.epochs} epochs of {self.plan.epoch_steps} steps, "
            f"objective {terms}, {self.precision} on {self.device}"
        )

    def _progress(self, start: int) -> Any:
        return tqdm(
            total=self.plan.steps,
            initial=start,
            desc=self.model.name,
            unit="step",
            disable=not self.bar or not sys.stderr.isatty(),
            leave=False,
        )
