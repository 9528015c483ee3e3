"""A composite method: members trained apart and resumed where they stopped, joined at the end, set one by one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.methods.joint import Joint
from manymatch.methods.manymatch import ManyMatch
from manymatch.methods.recipe import SETTLED, Recipe
from manymatch.training import TrainConfig, split_settings, train
from manymatch.training import loop as training_loop
from manymatch.training.member_settings import SHARED, config_of
from manymatch.training.members import _kept_row
from manymatch.training.state import PLAN, STATE

SETS = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 20, "least_count": 1, "head_width": 8, "slot_hidden": 16}
SETS |= {"epochs": 2, "lr": 5e-3}
LINEAR = {"dim": 12, "hidden": 8, "batch": 20, "least_count": 1, "epochs": 2}
CONFIG = TrainConfig(precision="float32", bank=40)


def method(**more: Any) -> ManyMatch:
    made = mm.method("manymatch", **{"dim": 20, "linear": LINEAR, "sets": SETS, **more})
    assert isinstance(made, ManyMatch)
    return made


@pytest.fixture(scope="module")
def splits(featured: Pairs) -> tuple[Pairs, Pairs]:
    return featured.take(range(60)), featured.take(range(60, 90))


@pytest.fixture(scope="module")
def whole(splits: tuple[Pairs, Pairs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    said: list[str] = []
    train(method().build(splits[0]), splits[0], validate=splits[1], out=out, config=CONFIG, say=said.append)
    assert "member 1 of 2, linear (cca_tuned):" in said and "member 2 of 2, sets (dive):" in said
    assert any(line.startswith("joint with weights linear 0.") for line in said)
    assert said[-1].startswith("manymatch: linear (cca_tuned) x 0.") and said[-1].endswith(f"the run is in {out}")
    return out


def test_members_are_runs_and_the_whole_needs_none(whole: Path, splits: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    model = mm.load(whole)
    assert isinstance(model, Joint) and model.name == "manymatch" and model.bank is not None
    for name, kind in (("linear", "cca_tuned"), ("sets", "dive")):
        member = mm.load(whole / "members" / name)
        assert member.name == kind and member.bank is None and member.calibration is not None
        assert member.fingerprint() == model.members[name].fingerprint()
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("members"))
    assert mm.load(tmp_path / "run").fingerprint() == model.fingerprint()
    assert mm.evaluate(mm.load(whole / "members" / "sets"), splits[1]).value("RSUM", "both") > 0


def test_a_finished_run_keeps_its_bank_and_says_so(whole: Path, splits: tuple[Pairs, Pairs]) -> None:
    for bank, how in ((40, ""), (30, f"manymatch bank {whole} --data DATA --size 30"), (0, "--remove")):
        said: list[str] = []
        config = TrainConfig(precision="float32", bank=bank)
        fresh = method().build(splits[0])
        train(fresh, splits[0], validate=splits[1], out=whole, config=config, resume=True, say=said.append)
        assert said[0].startswith("trained already") and len(said) == 1 + bool(how)
        assert not how or (said[1].startswith("its query bank stays as it is (bank=40); for") and how in said[1])


def test_what_a_run_notes(whole: Path, splits: tuple[Pairs, Pairs]) -> None:
    value = json.loads((whole / "run.json").read_text())
    assert value["finished"] and value["method"] == "manymatch" and value["identity"]["seed"] == 0
    assert [member["method"] for member in value["members"]] == ["cca_tuned", "dive"]
    assert value["notes"]["seconds of"].keys() == {"linear", "sets", "join"}
    assert value["notes"]["seconds"] == pytest.approx(sum(value["notes"]["seconds of"].values()), abs=0.11)
    assert value["notes"]["seen"] == {"training": splits[0].digest, "validation": splits[1].digest}
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row.get("member") for row in rows] == ["linear", "sets", None]
    assert all("epoch" not in row and row["RSUM"] > 0 for row in rows) and rows[1]["epochs"] == 2
    for row in rows[:2]:
        best = mm.load(whole / "members" / row["member"]).notes["best"]
        assert (row["kept"], row["RSUM"]) == (best["epoch"], best["RSUM"])
    assert value["notes"]["seen of members"].keys() == {"linear", "sets"}
    assert value["notes"]["validation"]["RSUM"] == rows[2]["RSUM"]


def test_the_line_of_a_member_is_of_the_epoch_kept(whole: Path, tmp_path: Path) -> None:
    lines = [{"step": 3 * n, "epoch": n, "RSUM": value} for n, value in ((1, 100.0), (2, 300.0), (3, 200.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    model = mm.load(whole / "members" / "sets")
    model.notes["best"] = {"epoch": 2, "RSUM": 300.0}
    found = _kept_row(tmp_path, "sets", model)
    assert found == {"member": "sets", "epochs": 3, "kept": 2, "step": 6, "RSUM": 300.0}
    model.notes = {}
    (tmp_path / "metrics.jsonl").write_text('{"fitted": true, "RSUM": 5.0}\n')
    assert _kept_row(tmp_path, "linear", model) == {"member": "linear", "fitted": True, "RSUM": 5.0}


def test_a_run_of_another_make_is_not_gone_on_with(splits: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    few = splits[0].take(range(30))
    whole = method().build(few)
    for name, model, said in (
        (STATE, whole, "holds a run without members, found manymatch; choose another --out"),
        (PLAN, whole.members["sets"], "holds a run of several members, found dive; choose another --out"),
    ):
        out = tmp_path / model.name
        (out / name).parent.mkdir(parents=True)
        (out / name).write_bytes(b"")
        with pytest.raises(CheckpointError, match=said):
            train(model, few, out=out, config=CONFIG, resume=True, say=None)
        assert [path.name for path in out.iterdir()] == [Path(name).parent.name]


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Interrupt the member of that method after so many steps, as Ctrl-C does."""

    def arrange(name: str, step: int) -> None:
        after = training_loop.Run._after

        def maybe(self: Any, done: int, now: bool) -> None:
            after(self, done, now or (self.model.name == name and done == step))

        monkeypatch.setattr(training_loop.Run, "_after", maybe)

    return arrange


@pytest.mark.parametrize(("name", "step"), [("cca_tuned", 2), ("dive", 4)])
def test_an_interrupted_one_goes_on_in_the_right_member(
    name: str,
    step: int,
    whole: Path,
    splits: tuple[Pairs, Pairs],
    tmp_path: Path,
    stopped: Callable[[str, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, few = tmp_path / "run", splits[0]
    said: list[str] = []

    def call(resume: bool, made: ManyMatch | None = None) -> Any:
        model = (made or method()).build(few)
        return train(model, few, validate=splits[1], out=out, config=CONFIG, resume=resume, say=said.append)

    with monkeypatch.context():
        stopped(name, step)
        with pytest.raises(KeyboardInterrupt):
            call(resume=False)
    assert said[-1].startswith(f"stopped at step {step} of ") and said[-1].endswith("--resume (same command)")
    with pytest.raises(CheckpointError, match="go on with --resume"):
        mm.load(out)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="holds a run already; go on with --resume"):
        call(resume=False)
    with pytest.raises(CheckpointError, match=r"sets\.batch \(20, now 30\)"):
        call(resume=True, made=method(sets={**SETS, "batch": 30}))
    said.clear()
    model = call(resume=True)
    assert (f"trained already: {out / 'members' / 'linear'}" in said) == (name == "dive")
    assert sum(line.startswith("resuming at step") for line in said) == 1
    assert not any(line.startswith("nothing to resume") for line in said)
    assert model.fingerprint() == mm.load(whole).fingerprint()
    said.clear()
    assert call(resume=True).fingerprint() == model.fingerprint()
    assert said[-1] == f"trained already: {out}"


def test_without_features_the_sets_are_alone(world: Pairs, tmp_path: Path) -> None:
    few, said = world.take(range(30)), list[str]()
    model = method(sets={**SETS, "longest_side": 32}).build(few, say=said.append)
    assert said == [
        "manymatch: without features there is no linear member (--features FILE, or --image-tower hf:NAME); sets alone"
    ]
    made = train(model, few, validate=world.take(range(30, 40)), out=tmp_path / "run", config=CONFIG, say=None)
    assert list(made.members) == ["sets"] and made.image_input == "pixels" and made.joining.rotation is None
    alone, texts = mm.load(tmp_path / "run" / "members" / "sets"), few.captions[:4]
    torch.testing.assert_close(made.encode_texts(texts).elements, alone.encode_texts(texts).elements)


def test_without_validation_the_weights_are_equal(splits: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    said: list[str] = []
    few = splits[0].take(range(30))
    made = train(method().build(few), few, out=tmp_path / "run", config=CONFIG, say=said.append, resume=True)
    assert [line for line in said if line.startswith("nothing to resume")] == [
        f"nothing to resume in {tmp_path / 'run'}: starting a new run"
    ]
    assert made.joining.weights.tolist() == [0.5, 0.5] and made.calibration is made.bank is None
    assert "no validation pairs: nothing is known of the joint's worth" in said


def test_members_take_settings_by_name(splits: tuple[Pairs, Pairs]) -> None:
    asked = {"sets.epochs": "3", "sets.heads": "2", "linear.dropout": ".2", "dim": "64", "elements": "2", "seed": "1"}
    of_method, of_config = split_settings("manymatch", asked)
    made = mm.method("manymatch", **of_method)
    assert isinstance(made, ManyMatch) and of_config == {"seed": 1} and made.dim == 64
    assert made.training_of("sets") == {"epochs": 3} and made.members()["linear"].dropout == 0.2
    assert made.members()["sets"].heads == made.members()["sets"].elements == 2  # type: ignore[attr-defined]
    seeds = [method().build(splits[0], seed=seed).search_state() for seed in (1, 1, 2)]
    assert all(torch.equal(seeds[0][key], seeds[1][key]) for key in seeds[0])
    assert not torch.equal(seeds[0]["joining.rotation"], seeds[2]["joining.rotation"])


def test_a_preset_of_the_users_takes_the_place_of_the_parts_own() -> None:
    made = mm.method("manymatch", sets={"preset": "published"})
    assert isinstance(made, ManyMatch) and made.training_of("sets") == {}
    assert config_of(made, "sets", TrainConfig()).recipe(made.members()["sets"]).epochs == 80
    spread = mm.method("manymatch")
    assert spread.training_of("sets") == {"epochs": 16} and spread.members()["sets"].preset == "spread"  # type: ignore[attr-defined]


def test_settings_of_a_member_meet() -> None:
    whole = {"epochs": 3}
    for asked in ({"sets.heads": 2, "sets": whole}, {"sets": whole, "sets.heads": 2}):
        assert split_settings("manymatch", asked)[0] == {"sets": {"heads": 2, "epochs": 3}}
    assert whole == {"epochs": 3}
    assert split_settings("manymatch", {"sets": "3", "sets.heads": 2})[0] == {"sets": "3"}
    made = mm.method("manymatch", sets={"elements": "2"})
    assert made.elements == made.members()["sets"].elements == 2  # type: ignore[attr-defined]


def test_a_members_training_has_the_fields_of_the_config() -> None:
    known = {spec.name for spec in fields(Recipe)} - SETTLED
    assert known == {spec.name for spec in fields(TrainConfig)} - set(SHARED)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": "3"}, "manymatch: epochs of which member.*--set linear.epochs=... or --set sets.epochs=..."),
        ({"heads": "3"}, r"manymatch: heads of which member\? They train apart; name one: --set sets.heads=\.\.\.$"),
        ({"sets.seed": "3"}, "all members of manymatch share it; give --set seed=3"),
        ({"sets.epoch": "3"}, "did you mean 'epochs'"),
        ({"set.epochs": "3"}, "did you mean 'sets'"),
        ({"element": "3"}, "did you mean 'elements'"),
        ({"sets.epochs": "many"}, "expected a whole number"),
        ({"sets": "3"}, r"manymatch.sets: found '3', expected settings of that member"),
    ],
)
def test_slips_in_settings_are_told(asked: dict[str, str], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        mm.method("manymatch", **split_settings("manymatch", asked)[0])


def test_slips_in_python_are_told(splits: tuple[Pairs, Pairs], tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"field of sets \(dive\) or of its training 'epoch'.*did you mean 'epochs'"):
        mm.method("manymatch", sets={"epoch": 3})
    with pytest.raises(UnknownName, match=r"field of sets \(dive\) or of its training 'betas'"):
        mm.method("manymatch", sets={"betas": (0.9, 0.9)})
    with pytest.raises(DataError, match=r"manymatch\.batch: found 3, but its members train apart"):
        mm.method("manymatch", batch=3)
    few = splits[0].take(range(30))
    with pytest.raises(DataError, match=r"epochs=3 in the training config is of which member.*sets=\{'epochs': 3\}"):
        train(method().build(few), few, out=tmp_path / "run", config=TrainConfig(epochs=3), say=None)
    assert not (tmp_path / "run" / "members").exists()
