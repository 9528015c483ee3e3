"""Children that train: each once, able to go on, never two in one folder; what they cost and how they failed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from study_fakes import CHILD, HEAD, TWO, plan_file

from manymatch.errors import CheckpointError
from manymatch.report.study import read_plan
from manymatch.report.study.runs import Training, _Child, folder_of

STUDY = """
import sys
from pathlib import Path
from manymatch.report.study import read_plan
from manymatch.report.study.runs import Training
folder = Path(sys.argv[1])
plan = read_plan(folder / "study.toml")
say = lambda line: print(line, flush=True)
Training(plan, folder / "runs", 2, 1, say, program=(sys.executable, str(folder / "child.py"))).go()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "child.py").write_text(CHILD)
    plan_file(tmp_path, HEAD + TWO)
    return tmp_path


def trained(folder: Path, jobs: int = 2, **more: bool) -> tuple[list[str], Training]:
    said: list[str] = []
    plan, program = read_plan(folder / "study.toml"), (sys.executable, str(folder / "child.py"))
    training = Training(plan, folder / "runs", jobs, 1, said.append, program=program, **more)
    training.go()
    return said, training


def calls(folder: Path, run: str) -> list[list[str]]:
    path = folder / "runs" / run / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def test_each_run_is_trained_once(folder: Path) -> None:
    said, _ = trained(folder)
    assert sum("validation RSUM 10" in line for line in said) == 4 and "4 of 4 trained" in said[-1]
    (words,) = calls(folder, "b-1")
    assert words[:2] == ["train", "dive"] and "--resume" in words
    assert words[-4:] == ["--set", "elements=2", "--set", "seed=1"]
    cost = json.loads((folder / "runs" / "b-1" / "cost.json").read_text())["attempts"]
    assert cost[0]["seconds"] > 0 and cost[0]["peak_bytes"] > 1e6 and cost[0]["status"] == 0
    said, _ = trained(folder)
    assert said == ["all 4 runs are trained"] and len(calls(folder, "b-1")) == 1


def test_a_new_row_is_trained_and_the_others_are_left(folder: Path) -> None:
    trained(folder)
    plan_file(folder, HEAD + TWO + '[[row]]\nname = "c"\nmethod = "cca"\nseeds = [5]\n')
    said, _ = trained(folder)
    assert "1 of 5 runs lack training" in said[0] and len(calls(folder, "c-5")) == 1 and len(calls(folder, "a-0")) == 1


def test_other_settings_under_one_name_are_refused(folder: Path) -> None:
    trained(folder)
    plan_file(folder, HEAD + TWO.replace("elements = 2", "elements = 3"))
    with pytest.raises(CheckpointError, match=r'b-0. was made with other settings: set \{"elements": "2"\}, now .*"3"'):
        trained(folder)


def test_a_join_of_runs_of_other_settings_is_another_join(folder: Path) -> None:
    joined = '[[row]]\nname = "j"\njoin = ["a", "b"]\n'
    plan_file(folder, HEAD + TWO + joined)
    trained(folder)
    for seed in (0, 1):
        shutil.rmtree(folder / "runs" / f"b-{seed}")
    plan_file(folder, HEAD + TWO.replace("elements = 2", "elements = 3") + joined)
    with pytest.raises(CheckpointError, match=r"j-0. was made with other settings: of "):
        trained(folder)


def test_a_bank_is_fitted_as_large_as_the_row_says(folder: Path) -> None:
    plan_file(folder, HEAD.replace("0, 1", "0") + TWO.replace("elements = 2", "elements = 2, bank = 1000"))
    trained(folder)
    sizes = {}
    for name in ("a", "b"):
        place = folder / "runs" / f"{name}-0"
        described = json.loads((place / "run.json").read_text())
        del described["bank"]
        (place / "run.json").write_text(json.dumps(described))
        program = (sys.executable, "-c", f"import sys; open({str(place / 'words')!r}, 'w').write(' '.join(sys.argv))")
        plan = read_plan(folder / "study.toml").only([name])
        Training(plan, folder / "runs", 1, 1, lambda line: None, program=program, banks=True).go()
        sizes[name] = (place / "words").read_text().partition(" --size ")[2]
    assert sizes == {"a": "", "b": "1000"}


def test_a_child_that_ends_as_it_is_stopped_has_its_cost_noted(folder: Path) -> None:
    training = Training(read_plan(folder / "study.toml"), folder / "runs", 1, 1, lambda line: None)
    run = training.plan.run("a", 0)
    place = folder_of(folder / "runs", run)
    place.claim(training.plan.data)
    lock = place.lock()
    assert lock is not None
    place.begin("train", 1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    training._children = [_Child(run, place, "train", process, time.perf_counter(), lock)]
    training._stop()
    assert not training._children and place.cost is not None and place.cost.whole


def test_a_run_that_no_study_made_is_refused(folder: Path) -> None:
    (folder / "runs" / "a-0").mkdir(parents=True)
    (folder / "runs" / "a-0" / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a run that no study made"):
        trained(folder)


def test_a_failure_is_told_and_the_rest_goes_on(folder: Path) -> None:
    plan_file(folder, HEAD + TWO + '[[row]]\nname = "j"\njoin = ["a", "b"]\n')
    (folder / "runs").mkdir()
    broken = folder / "runs" / "broken-a-0"
    broken.write_text("")
    said, training = trained(folder)
    assert training.failed == {"a-0": "manymatch: it broke", "j-0": "it is made of a-0, which failed"}
    assert "a-0: failed: manymatch: it broke" in said and len(calls(folder, "j-1")) == 1
    assert calls(folder, "j-1")[0][:3] == ["join", str(folder / "runs" / "a-1"), str(folder / "runs" / "b-1")]
    broken.unlink()
    said, training = trained(folder)
    assert not training.failed and len(calls(folder, "a-0")) == 2, "the same command tries again"


def when_begun(folder: Path, then: Callable[[], object], *runs: str) -> threading.Thread:
    """Children will wait; call `then` once these have begun."""
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "runs" / "slow").write_text("")

    def wait() -> None:
        while not all((folder / "runs" / run / "begun").is_file() for run in runs):
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_children_save_and_the_next_call_goes_on(folder: Path, number: signal.Signals) -> None:
    said: list[str] = []
    program, before = (sys.executable, str(folder / "child.py")), signal.getsignal(number)
    training = Training(read_plan(folder / "study.toml"), folder / "runs", 2, 1, said.append, program=program)
    thread = when_begun(folder, lambda: os.kill(os.getpid(), number), "a-0", "b-0")
    with pytest.raises(KeyboardInterrupt):
        training.go()
    thread.join()
    assert signal.getsignal(number) is before
    assert said[-1] == "stopped; what was trained is kept, and the same command goes on from there"
    assert (folder / "runs" / "a-0" / "train.log").read_text().endswith("saved\n")
    assert json.loads((folder / "runs" / "a-0" / "cost.json").read_text())["attempts"][0]["status"] == 130
    (folder / "runs" / "slow").unlink()
    trained(folder)
    assert len(calls(folder, "a-0")) == 2 and len(calls(folder, "b-1")) == 1


def test_children_that_another_study_left_are_waited_for(folder: Path) -> None:
    plan, slow = read_plan(folder / "study.toml"), folder / "runs" / "slow"
    slow.parent.mkdir()
    slow.write_text("")
    left = folder_of(folder / "runs", plan.run("a", 0))
    left.claim(plan.data)
    handle = left.lock()
    assert handle is not None and left.lock() is None
    left.begin("train", 1)
    command = [sys.executable, str(folder / "child.py"), "train", "vsepp", "--out", str(left.path), "--set", "seed=0"]
    orphan = subprocess.Popen(command, stdout=subprocess.DEVNULL, pass_fds=(handle,))
    os.close(handle)
    assert left.lock() is None, "the child holds it"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "another process" in line:
            slow.unlink()
            orphan.wait()

    Training(plan, folder / "runs", 2, 1, say, program=(sys.executable, str(folder / "child.py"))).go()
    assert "a-0: another process is training it; waiting for it" in said
    assert len(calls(folder, "a-0")) == 1, "not trained twice"
    told = next(line for line in said if line.startswith("a-0: more than"))
    assert "validation RSUM 100.0" in told, "of a child whose end nobody saw only a part of the cost is known"


@pytest.mark.slow
def test_a_killed_study_goes_on(folder: Path) -> None:
    """The children of a study that is killed train to their end; the next call waits for them, then does the rest."""
    process: list[subprocess.Popen[bytes]] = []
    thread = when_begun(folder, lambda: process[0].kill(), "a-0", "b-0")
    process.append(subprocess.Popen([sys.executable, "-c", STUDY, str(folder)], stdout=subprocess.DEVNULL))
    thread.join()
    assert process[0].wait() == -signal.SIGKILL
    (folder / "runs" / "slow").unlink()
    trained(folder)
    assert [len(calls(folder, run)) for run in ("a-0", "b-0", "a-1", "b-1")] == [1, 1, 1, 1]
