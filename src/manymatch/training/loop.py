"""One plain loop, driven by the recipe. Everything random is a function of (seed, step), so resuming is exact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..data.pairs import Pairs
from ..errors import CheckpointError, DataError
from ..methods import Model
from ..runs import device_named, load, read_run, save_search
from .config import TrainConfig
from .diary import append_row, banked, calibrated, measure, trim_rows
from .feed import batches
from .health import batch_health, health
from .identity import expect_same, identity_of
from .lines import announcement, epoch_line, progress
from .machine import interruptible, precision_of
from .memory import give_back_freed_memory
from .plan import Plan
from .state import STATE, read_facts
from .stepper import Stepper

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
        self.device = device_named(config.device)
        self.precision = precision_of(config, self.device)
        model.to(self.device)
        self.sampler = model.method.sampler()
        recipe = config.recipe(model.method)
        if recipe.schedule == "plateau" and validate is None:
            raise DataError("training: schedule 'plateau' reads validation RSUM, found no validation pairs; give some")
        self._keeps_last = validate is None or recipe.keep == "last"
        self.plan = Plan(recipe, self.sampler.steps(pairs))
        self.stepper = Stepper(model, self.plan, seed=config.seed, precision=self.precision, tell=tell)
        self.best: dict[str, Any] = {}
        self.seen = {"training": pairs.digest}
        if not self._keeps_last and validate is not None:
            self.seen["validation"] = validate.digest
        self.sums: dict[str, tuple[float, int]] = {}
        self.seconds = 0.0
        settings = {**asdict(recipe), "seed": config.seed}
        self.facts["identity"] = identity_of(model, pairs, validate, settings, self.precision)

    # ---- the loop

    def go(self, resume: bool) -> Model:
        start = self._restore(resume)
        for line in announcement(self.model, self.pairs, self.plan, f"{self.precision} on {self.device}"):
            self.tell(line)
        give_back_freed_memory()
        self._clock = self._saved = time.perf_counter()
        feed = batches(self.model, self.pairs, self.sampler, self.plan, seed=self.config.seed, start=start)
        try:
            with interruptible() as stop, progress(self.model, self.plan, start, shown=self.bar) as bar:
                for step, batch in feed:
                    terms = self.stepper(step, batch)
                    del batch  # before the feed reads one more
                    for name, value in terms.items():
                        total, steps = self.sums.get(name, (0.0, 0))
                        self.sums[name] = (total + value, steps + 1)
                    bar.set_postfix({k: f"{v:.3f}" for k, v in terms.items()}, refresh=False)
                    bar.update()
                    self._after(step + 1, stop.is_set())
        finally:
            self.stepper.freezer.release()
        return self._finish()

    def _after(self, done: int, stopped: bool) -> None:
        if done % self.plan.epoch_steps == 0:
            self._epoch_end(done)
        elif stopped or time.perf_counter() - self._saved > 60 * self.config.save_minutes:
            self._save(done)
        if stopped and done < self.plan.steps:
            self.tell(f"stopped at step {done} of {self.plan.steps}, saved; go on with: --resume (same command)")
            raise KeyboardInterrupt

    # ---- the end of an epoch, and of the run

    def _epoch_end(self, done: int) -> None:
        epoch = done // self.plan.epoch_steps
        # A relation may begin in the middle of an epoch: its terms have fewer steps than the others.
        terms = {name: total / steps for name, (total, steps) in self.sums.items()}
        self.sums = {}
        self.stepper.swap()
        try:
            found = measure(self.model, self.validate) if self.validate is not None else {}
            rate = self.plan.recipe.lr * self.stepper.rate(done - 1)
            seen = batch_health(self.model, self.pairs, self.sampler, seed=self.config.seed)
            seen |= health(self.model, self.pairs)
            row = {"step": done, "epoch": epoch, "lr": rate, **terms, **seen, **found}
            row["seconds"] = round(self._elapsed(), 1)
            append_row(self.out / "metrics.jsonl", row)
            better = not self.best or self._keeps_last or found["RSUM"] > self.best["RSUM"]
            if better:
                self.best = {"epoch": epoch, **found}
                self._note(done)
                save_search(self.model, self.out, {**self.facts, "finished": False})
        finally:
            self.stepper.swap()
        if self.plan.recipe.schedule == "plateau":
            self.stepper.plateau.see(found["RSUM"])
        self.tell(epoch_line(row, self.plan.recipe.epochs, better and not self._keeps_last))
        self._save(done)
        give_back_freed_memory()

    def _note(self, done: int) -> None:
        self.model.notes = {
            "objective": self.model.method.objective,
            "terms": self.model.objective_terms.describe(),
            "recipe": asdict(self.plan.recipe),
            "relation acted": None if self.model.relation is None else self.model.relation.acted,
            "precision": self.precision,
            "best": self.best,
            "seen": self.seen,
            "steps": done,
            "of_steps": self.plan.steps,
            "seconds": round(self._elapsed(), 1),
            "parameters": self.model.parameter_count(),
        }

    def _finish(self) -> Model:
        self._note(self.plan.steps)
        best = load(self.out, device=str(self.device))
        calibrated(best, self.validate, self.tell)
        banked(best, self.pairs, self.validate, self.config.bank, self.tell)
        best.to("cpu")
        best.notes = {**best.notes, **{k: self.model.notes[k] for k in ("steps", "seconds", "best")}}
        save_search(best, self.out, {**self.facts, "finished": True})
        if self.model.relation is not None and not self.model.relation.acted:
            self.tell("the relation never acted: the run ended before its start; train longer or start it earlier")
        kept = "last" if self._keeps_last else f"best, {self.best['epoch']}"
        self.tell(f"trained in {self._elapsed():.0f} s; epoch kept: {kept}; the run is in {self.out}")
        return best

    # ---- saving and going on

    def _save(self, done: int) -> None:
        facts = {"step": done, "best": self.best, "seconds": self._elapsed(), "sums": self.sums}
        self.stepper.write(self.out / STATE, {**facts, "identity": self.facts["identity"]})
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
        expect_same(self.out, facts.get("identity"), self.facts["identity"])
        self.stepper.read(path, facts)
        self.best, self.seconds = facts["best"], float(facts["seconds"])
        self.sums = {name: (total, steps) for name, (total, steps) in facts["sums"].items()}
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
