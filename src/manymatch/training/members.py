"""Training a composite method: each member into a run folder of its own, then all of them joined.

`RUN/members/NAME` are complete runs, resumed where they stopped, and stay to be looked at; RUN itself needs none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..data.pairs import Pairs
from ..data.writing import write_json
from ..errors import CheckpointError, DataError
from ..methods import Model
from ..methods.composite import Composite
from ..methods.joint import Joint
from ..runs import device_named, load, read_run
from .config import TrainConfig
from .diary import bank_kept
from .feed import supplied
from .identity import expect_same, identity_of
from .joining import finish
from .member_settings import config_of
from .state import PLAN, STATE, has_members

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["train_members"]

_FOLDER = Path(PLAN).parent.name

Say = Callable[[str], None]


class Train(Protocol):
    """`training.train`."""

    def __call__(
        self,
        model: Model,
        pairs: Pairs,
        *,
        validate: Pairs | None,
        out: str | Path,
        config: TrainConfig | None,
        resume: bool,
        say: Say | None,
        store: Where,
    ) -> Model: ...


def train_members(
    joint: Joint,
    pairs: Pairs,
    validate: Pairs | None,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool,
    say: Say | None,
    store: Where,
    train: Train,
) -> Model:
    """Train every member that is not trained yet, in their order, then join them.

    Args:
        joint: of untrained members, from a composite method's `build`.
        pairs, validate, config, resume, say, store: as `train`.
        out: the run folder, made.
        train: what trains a member.

    Raises:
        DataError: a joint of runs, or a config that changes what is each member's own.
        CheckpointError: as `train`.
        KeyboardInterrupt: as `train`, from within a member.
    """
    tell = say or (lambda line: None)
    method = joint.method
    if not isinstance(method, Composite) or not method.parts:
        raise DataError(f"{joint.name}: it was joined of trained runs; train those, and join them again")
    # Members are searched joined: a bank of each would cost a minute, and `manymatch bank` can add one.
    configs = {name: replace(config_of(method, name, config), bank=0) for name in joint.members}
    identity = _identity(joint, pairs, validate, configs, config)
    if resume and (out / "run.json").is_file():
        expect_same(out, read_run(out).get("identity"), identity)
        tell(f"trained already: {out}")
        bank_kept(out, config.bank, tell)
        return load(out)
    if has_members(out):
        expect_same(out, _plan(out), identity)
    elif resume:
        tell(f"nothing to resume in {out}: starting a new run")
    (out / _FOLDER).mkdir(exist_ok=True)
    write_json(out / PLAN, identity)
    trained: dict[str, Model] = {}
    seconds: dict[str, float] = {}
    for number, (name, model) in enumerate(zip(joint.members, joint.models, strict=True), 1):
        folder = out / _FOLDER / name
        tell(f"member {number} of {len(joint.members)}, {name} ({model.name}):")
        if not _finished(folder):
            there = (folder / STATE).is_file() or (folder / "run.json").is_file()
            train(
                model,
                pairs,
                validate=validate,
                out=folder,
                config=configs[name],
                resume=resume and there,
                say=say,
                store=store,
            )
        else:
            tell(f"trained already: {folder}")
        trained[name] = load(folder)
        seconds[name] = float(trained[name].notes.get("seconds", 0.0))
    made = Joint.of(method, trained, seed=config.seed).to(device_named(config.device))
    facts = {"data": pairs.describe(), "config": asdict(config), "identity": identity}
    rows = [_kept_row(out / _FOLDER / name, name, model) for name, model in trained.items()]
    given = (supplied(made, pairs, store, tell), None if validate is None else supplied(made, validate, store, tell))
    return finish(made, *given, out, facts, bank=config.bank, tell=tell, seconds=seconds, rows=rows)


def _identity(
    joint: Joint,
    pairs: Pairs,
    validate: Pairs | None,
    configs: Mapping[str, TrainConfig],
    config: TrainConfig,
) -> dict[str, Any]:
    """As `identity_of`, of every member under its name."""
    out: dict[str, Any] = {"method": joint.name, "width": joint.shape.dim, "seed": config.seed}
    for name, model in zip(joint.members, joint.models, strict=True):
        settings = {} if model.method.fitted else asdict(configs[name].recipe(model.method))
        found = identity_of(model, pairs, validate, settings, config.precision)
        shared = {key: found.pop(key) for key in ("training pairs", "validation pairs", "precision")}
        out |= {f"{name}.{key}": value for key, value in found.items()} | shared
    return out


def _plan(out: Path) -> Any:
    try:
        return json.loads((out / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"resume: {str(out / PLAN)!r} cannot be read ({error}); choose another --out") from None


def _finished(folder: Path) -> bool:
    return (folder / "run.json").is_file() and bool(read_run(folder).get("finished"))


def _kept_row(folder: Path, name: str, model: Model) -> dict[str, Any]:
    """The line of a member's diary on the epoch that was kept; its epochs are none of the joint."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [row["epoch"] for row in rows if "epoch" in row]
    kept = model.notes.get("best", {}).get("epoch")
    row: dict[str, Any] = next((row for row in reversed(rows) if row.get("epoch") == kept), {})
    said = {"epochs": epochs[-1], "kept": kept} if epochs else {}
    return {"member": name, **said, **{key: value for key, value in row.items() if key != "epoch"}}
