"""Training: resuming is exact, interruption loses nothing, and numbers that are none stop it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import manymatch as mm
from manymatch.data.decoding import decode
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.methods import Model
from manymatch.training import TrainConfig, split_settings, train
from manymatch.training.memory import keep_freed_memory

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "captions": 2, "least_count": 1}


def build(pairs: Pairs, seed: int = 0, **settings: object) -> Model:
    return mm.method("dive", **SMALL, elements=2, **settings).build(pairs, seed=seed)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors") | load_file(run / "training" / "state.safetensors")


class Stopped(Exception):
    """Stands in for a process that dies between two steps."""


@pytest.mark.parametrize("stop", [1, 4, 7, 11])
def test_resume_is_bit_for_bit(
    featured: Pairs, tmp_path: Path, stop: int, run: Callable[..., dict[str, torch.Tensor]]
) -> None:
    few = featured.take(range(64))
    whole, cut = (run(name, few, method="dive", stop=at, epochs=3) for name, at in (("whole", None), ("cut", stop)))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    rows = [
        [json.loads(x) for x in (tmp_path / r / "metrics.jsonl").read_text().splitlines()] for r in ("whole", "cut")
    ]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}


CHILD = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import manymatch as mm
from conftest import GridFeatures
from manymatch.data.pairs import Pairs
from manymatch.training import TrainConfig, train
world = Pairs.toy(120, seed=3, size=32)
pairs = Pairs(world.items, features=GridFeatures(world), name="featured").take(range(64))
model = mm.method("dive", **{small!r}, elements=2).build(pairs)
print("ready", flush=True)
train(model, pairs, validate=pairs, out={out!r}, config=TrainConfig(epochs={epochs}, save_minutes=0.0), resume=True)
"""


EPOCHS = 12


def start(out: Path, epochs: int = EPOCHS) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parents[1]), small=SMALL, out=str(out), epochs=epochs)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def wait_for(path: Path, child: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.is_file(), child.communicate()


def test_kill_9_then_resume_equals_an_uninterrupted_run(featured: Pairs, tmp_path: Path) -> None:
    child = start(tmp_path / "killed")
    wait_for(tmp_path / "killed" / "training" / "state.safetensors", child)
    child.kill()
    assert child.wait() == -signal.SIGKILL, "the kill must have met a running training"
    child.communicate()
    if (tmp_path / "killed" / "run.json").is_file():
        mm.load(tmp_path / "killed")
    few = featured.take(range(64))
    for name in ("killed", "whole"):
        config = TrainConfig(epochs=EPOCHS, save_minutes=0.0)
        train(build(few), few, validate=few, out=tmp_path / name, config=config, resume=name == "killed", say=None)
    killed, whole = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(killed[k], whole[k]) for k in whole)


def test_interrupt_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    child = start(tmp_path / "run", epochs=10_000)
    wait_for(tmp_path / "run" / "training" / "state.safetensors", child)
    os.kill(child.pid, signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "go on with: --resume" in told and "KeyboardInterrupt" in told
    with safe_open(tmp_path / "run" / "training" / "state.safetensors", framework="pt") as file:
        saved = json.loads(file.metadata()["facts"])["step"]
    assert f"stopped at step {saved} of" in told, "what was said to be saved is saved"


def test_a_kill_between_the_first_best_and_the_first_state_loses_nothing(
    featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, config = featured.take(range(64)), TrainConfig(epochs=2)
    train(build(few), few, validate=few, out=tmp_path / "whole", config=config, say=None)

    def dies(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("manymatch.training.stepper.write_state", dies)
        with pytest.raises(Stopped):
            train(build(few), few, validate=few, out=tmp_path / "cut", config=config, say=None)
    assert (tmp_path / "cut" / "run.json").is_file()
    train(build(few), few, validate=few, out=tmp_path / "cut", config=config, resume=True, say=None)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_run_is_not_overwritten(featured: Pairs, tmp_path: Path) -> None:
    few, config = featured.take(range(32)), TrainConfig(epochs=1)
    train(build(few), few, out=tmp_path, config=config, say=None)
    with pytest.raises(CheckpointError, match="holds a run already; go on with --resume"):
        train(build(few), few, out=tmp_path, config=config, say=None)
    with pytest.raises(CheckpointError, match="other data or with other settings"):
        train(build(few), few, out=tmp_path, config=TrainConfig(epochs=2), resume=True, say=None)
    (tmp_path / "training" / "state.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds a run without training/state\.safetensors"):
        train(build(few), few, out=tmp_path, config=config, resume=True, say=None)


def test_a_fitted_run_is_not_overwritten_either(featured: Pairs, tmp_path: Path) -> None:
    def fit(pairs: Pairs, **options: bool) -> Model:
        return train(mm.method("cca", least_count=1).build(pairs), pairs, out=tmp_path, say=None, **options)

    few = featured.take(range(40))
    first = fit(few)
    with pytest.raises(CheckpointError, match="holds a run already"):
        fit(few)
    assert fit(few, resume=True).fingerprint() == first.fingerprint()
    with pytest.raises(CheckpointError, match="other data or with other settings"):
        fit(featured.take(range(50)), resume=True)
    with pytest.raises(CheckpointError, match="holds a run without"):
        train(build(few), few, out=tmp_path, resume=True, say=None)


@pytest.mark.parametrize("standardise", [True, False])
def test_other_features_are_another_run(featured: Pairs, tmp_path: Path, standardise: bool) -> None:
    few = featured.take(range(32))
    train(build(few, standardise=standardise), few, out=tmp_path, config=TrainConfig(epochs=1), say=None)

    class Louder:
        def get(self, items: object) -> Features:
            found = featured.features.get(items)  # type: ignore[union-attr, arg-type]
            return Features(found.vectors * 3, pooled=found.pooled)  # type: ignore[operator]

        def sizes(self) -> dict[str, int]:
            return featured.features.sizes()  # type: ignore[union-attr]

    other = Pairs(few.items, features=Louder(), name="louder")
    model = build(other, standardise=standardise)
    with pytest.raises(CheckpointError, match="other settings: features; give the same"):
        train(model, other, out=tmp_path, config=TrainConfig(epochs=1), resume=True, say=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch": 1}, "dive.batch: found 1, expected at least 2"),
        ({"elements": 0}, "dive.elements: found 0, expected at least 1"),
        ({"dropout": 1.5}, "expected at least 0 and at most 0.99"),
        ({"temperature": 0.001}, "expected at least 0.01"),
    ],
)
def test_numbers_have_ranges(settings: dict[str, float], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        mm.method("dive", **settings)
    with pytest.raises(DataError, match="lr: found -1"):
        TrainConfig(lr=-1.0)
    with pytest.raises(DataError, match=r"average: found '0\.9'"):
        TrainConfig(average="0.9")  # type: ignore[arg-type]


def test_a_device_that_is_not_there(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(32))
    with pytest.raises(mm.Error, match="device 'abacus' cannot be used"):
        train(build(few), few, out=tmp_path, config=TrainConfig(device="abacus"), say=None)


def test_a_gradient_that_is_no_number_stops(featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = featured.take(range(32))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(DataError, match="the gradient is nan at step 0"):
        train(build(few), few, out=tmp_path, config=TrainConfig(epochs=1), say=None)


def test_resume_without_a_run_starts_one_and_says_so(featured: Pairs, tmp_path: Path) -> None:
    told: list[str] = []
    few = featured.take(range(32))
    train(build(few), few, out=tmp_path / "new", config=TrainConfig(epochs=1), resume=True, say=told.append)
    assert any("nothing to resume" in line for line in told)
    assert any("dive: " in line and "objective infonce" in line for line in told)


def test_the_last_epoch_is_kept_where_asked(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(64))
    # Nothing is learned, so the first epoch is as good as any, and the best of equals.
    for keep in ("best", "last"):
        config = TrainConfig(epochs=4, lr=1e-12, schedule="constant", average=0.0, keep=keep)  # type: ignore[arg-type]
        train(build(few), few, validate=few, out=tmp_path / keep, config=config, say=None)
    rsum = [json.loads(row)["RSUM"] for row in (tmp_path / "last" / "metrics.jsonl").read_text().splitlines()]
    assert len(rsum) == 4 and set(rsum) == {rsum[0]}
    kept = {keep: mm.load(tmp_path / keep).notes for keep in ("best", "last")}
    assert kept["last"]["best"]["epoch"] == 4 and kept["best"]["best"]["epoch"] == 1
    assert kept["best"]["seen"] == {"training": few.digest, "validation": few.digest}
    assert kept["last"]["seen"] == {"training": few.digest}, "no epoch was chosen"


def test_the_best_epoch_is_kept(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(64))
    config = TrainConfig(epochs=4, lr=3e-3)
    best = train(build(few), few, validate=few, out=tmp_path, config=config, say=None)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert best.notes["best"]["RSUM"] == max(r["RSUM"] for r in rows)
    assert mm.evaluate(best, few, protocol="own").value("RSUM", "both") == pytest.approx(best.notes["best"]["RSUM"])
    assert {"loss", "infonce", "mmd", "diversity", "i2i log circular variance"} <= set(rows[0])


def test_a_loss_that_is_no_number_stops(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(32))
    model = build(few)
    with torch.no_grad():
        model.texts.words.weight[5] = float("nan")  # type: ignore[union-attr, index]
    with pytest.raises(DataError, match=r"the loss is nan at step 0 .*lower it with --set lr"):
        train(model, few, out=tmp_path, config=TrainConfig(epochs=1), say=None)


def test_pixels_train_and_unreadable_pictures_are_left_out(world: Pairs, tmp_path: Path) -> None:
    class Broken:
        def read(self, name: str) -> bytes:
            data = world.pictures.read(name)  # type: ignore[union-attr]
            return data[: len(data) // 2] if name == world.items[3].picture else data

        def open(self, name: str) -> object:
            return decode(self.read(name), name)

    few = Pairs(world.items[:40], pictures=Broken(), name="broken")  # type: ignore[arg-type]
    told: list[str] = []
    model = mm.method("dive", **SMALL, elements=2).build(few)
    assert model.image_input == "pixels"
    train(model, few, out=tmp_path, config=TrainConfig(epochs=1), say=told.append)
    assert any("1 pictures cannot be read" in line and "toy-00003.png" in line for line in told)


def test_settings_find_their_place() -> None:
    method, config = split_settings("dive", {"elements": "8", "epochs": "3"})
    assert method == {"elements": 8} and config == {"epochs": 3}
    with pytest.raises(UnknownName, match="did you mean 'epochs'"):
        split_settings("dive", {"epoch": "3"})
    with pytest.raises(DataError, match="epochs: found 'many'"):
        split_settings("dive", {"epochs": "many"})
    with pytest.raises(DataError, match="epochs: found 0, expected at least 1"):
        TrainConfig(epochs=0)


def test_features_that_are_not_there(world: Pairs) -> None:
    with pytest.raises(DataError, match="give --features or --pooled FILE"):
        mm.method("cca").build(world)
    with pytest.raises(DataError, match="give --features FILE or --pooled FILE"):
        mm.method("dive").build(world, image_tower="features")
    with pytest.raises(UnknownName, match="image tower"):
        mm.method("dive").build(world, image_tower="resnet")


def test_features_check_their_shapes() -> None:
    with pytest.raises(DataError, match="expected 3"):
        Features(np.zeros((2, 3)))
    with pytest.raises(DataError, match="expected as many in each"):
        Features(np.zeros((2, 3, 4)), pooled=np.zeros((3, 4)))
    with pytest.raises(DataError, match="neither vectors nor pooled"):
        Features(None)


def test_freed_memory_is_kept_where_there_is_glibc() -> None:
    assert keep_freed_memory() == sys.platform.startswith("linux")
