"""A study's file: what it may say, and what is told where it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_fakes import HEAD, TWO, plan_file

from manymatch.errors import DataError, UnknownName
from manymatch.report.study import read_plan


def test_runs_go_seed_by_seed_and_what_is_made_of_others_comes_last(tmp_path: Path) -> None:
    made = '[[row]]\nname = "both"\nensemble = ["a", "b"]\n[[row]]\nname = "twice"\nensemble = ["a", "a"]\n'
    plan = read_plan(plan_file(tmp_path, HEAD + TWO + made))
    names = [run.name for run in plan.runs]
    assert names == ["a-0", "b-0", "a-1", "b-1", "both-0", "twice-0", "both-1", "twice-1"]
    members = {run.name: [member.name for member in run.members] for run in plan.runs}
    assert members["both-1"] == ["a-1", "b-1"]
    assert members["twice-0"] == ["a-0", "a-1"] and members["twice-1"] == ["a-1", "a-0"], "two seeds of one row"


def test_what_nothing_of_is_trained_is_fixed(tmp_path: Path) -> None:
    forms = "".join(f'[[row]]\nname = "{name}"\nmethod = "{name}"\n' for name in ("cca", "cca_tuned"))
    made = '[[row]]\nname = "c"\njoin = ["cca", "cca"]\n[[row]]\nname = "d"\nensemble = ["a", "cca"]\n'
    plan = read_plan(plan_file(tmp_path, HEAD + TWO + forms + made))
    assert [row.name for row in plan.rows if plan.fixed(row)] == ["cca", "c"]


def test_only_takes_what_a_row_is_made_of_along(tmp_path: Path) -> None:
    text = HEAD + TWO + '[[row]]\nname = "both"\njoin = ["a", "b"]\nweights = [1, 2.5]\ndim = 32\n'
    claim = '[[claim]]\nname = "c"\ntext = "b beats a"\nbetter = "b"\nworse = "a"\n'
    plan = read_plan(plan_file(tmp_path, text + claim))
    assert plan.row("both").options == ("--dim", "32", "--weight", "1", "--weight", "2.5")
    assert [row.name for row in plan.only(["both"]).rows] == ["a", "b", "both"]
    assert [row.name for row in plan.only(["a"]).rows] == ["a"] and not plan.only(["a"]).claims
    with pytest.raises(UnknownName, match="unknown row 'bothe': did you mean 'both'"):
        plan.only(["bothe"])


def test_settings_are_words_of_the_command_line(tmp_path: Path) -> None:
    settings = "set = { graph = false, lr = 1e-3, milestones = [2, 3], sets = { epochs = 2 } }"
    plan = read_plan(plan_file(tmp_path, f'{HEAD}[[row]]\nname = "a"\nmethod = "hrem"\n{settings}\n'))
    assert dict(plan.rows[0].settings) == {"graph": "false", "lr": "0.001", "milestones": "2,3", "sets.epochs": "2"}


def test_settings_of_the_study_are_of_every_trained_row(tmp_path: Path) -> None:
    shared = HEAD.replace("seeds", "set = { dim = 64, epochs = 2 }\nseeds", 1)
    one = '[[row]]\nname = "c"\nmethod = "dive"\nset = { dim = 32 }\n[[row]]\nname = "d"\nensemble = ["a", "b"]\n'
    plan = read_plan(plan_file(tmp_path, shared + TWO + one))
    assert [plan.row(name).settings.get("dim") for name in "abcd"] == ["64", "64", "32", None]
    assert plan.row("c").settings["epochs"] == "2" and not plan.row("d").settings
    with pytest.raises(DataError, match=r"set\.seed: found '3', expected seeds"):
        read_plan(plan_file(tmp_path, shared.replace("dim = 64", "seed = 3") + TWO))


def test_paths_may_hold_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TWO + '[data]\npath = "${PLACE}/pairs.jsonl"\nfeatures = "f.npy"\nfield = { captions = "sentence" }\n'
    monkeypatch.delenv("PLACE", raising=False)
    with pytest.raises(DataError, match=r"study\.toml', data\.path: .* 'PLACE', which is not set"):
        read_plan(plan_file(tmp_path, text))
    monkeypatch.setenv("PLACE", "/there")
    data = read_plan(plan_file(tmp_path, text)).data
    assert data.path == Path("/there/pairs.jsonl") and data.features == tmp_path / "f.npy"
    assert data.options() == ["/there/pairs.jsonl", "--features", str(data.features), "--field", "captions=sentence"]
    assert "--features" not in data.options(pictures=True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seeds = [0", "cannot be read as TOML"),
        (TWO, r"has no data\.path, expected text"),
        (HEAD, r"has no \[\[row\]\]"),
        (HEAD + TWO + TWO, "two rows are called 'a'"),
        (HEAD + TWO + '[[row]]\nname = "c"\ntitle = "a"\nmethod = "cca"', "two rows are titled 'a', expected titles"),
        (
            HEAD + TWO + '[[row]]\nname = "m"\nensemble = ["a", "b"]\n[[row]]\nname = "j"\njoin = ["a", "m"]',
            r"row\[j\]\.join: 'm' is an ensemble and no run",
        ),
        (HEAD.replace("[0, 1]", "[0, 0]") + TWO, r"seeds: found \[0, 0\], expected whole numbers"),
        (HEAD.replace("[0, 1]", "true") + TWO, "seeds: found True, expected a list of which each is a whole number"),
        (HEAD + '[[row]]\nname = "a/b"\nmethod = "cca"', r"row\[a/b\]\.name: found 'a/b', expected letters"),
        (HEAD + '[[row]]\nname = "a"', r"row\[a\]: found 'none of them', expected one of method, join, ensemble"),
        (HEAD + '[[row]]\nmethod = "cca"', r"has no row\[1\]\.name"),
        (HEAD + '[[row]]\nname = "a"\nmethod = "cca"\nset = { seed = 3 }', r"set\.seed: found '3', expected seeds"),
        (HEAD + TWO + '[[row]]\nname = "c"\nensemble = ["a"]', r"row\[c\]\.ensemble: .* expected two rows or more"),
        (
            HEAD + TWO + '[[row]]\nname = "c"\nensemble = ["a", "a", "a"]',
            "is made of row 'a', which has the seeds 0, 1",
        ),
        (HEAD + TWO + '[[row]]\nname = "c"\njoin = ["a", "b"]\nset = { dim = 3 }', "settings only where a method"),
        (HEAD + TWO + '[[claim]]\nname = "c"\ntext = "t"\nbetter = "a"', "either worse, a row, or above, a number"),
        (HEAD + TWO + '[[claim]]\nname = "c"\ntext = "t"\nbetter = "a"\nabove = 1\nmargin = 0', "a number above 0"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as error:
        read_plan(plan_file(tmp_path, text))
    assert "study.toml" in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sedes = [1]\n" + HEAD + TWO, "unknown key of a study in study.toml 'sedes': did you mean 'seeds'"),
        (HEAD + "pooledd = 'x'\n" + TWO, r"unknown key of \[data\] .*'pooledd': did you mean 'pooled'"),
        ('against = "c"\n' + HEAD + TWO, "unknown row in study.toml, against: 'c'"),
        (HEAD + '[[row]]\nname = "c"\nensemble = ["d", "d"]', r"unknown row above row\[c\] in study.toml 'd'"),
        (HEAD + TWO + '[[claim]]\nname = "c"\ntext = "t"\nbetter = "x"\nworse = "a"', r"claim\[c\]\.better: 'x'"),
    ],
)
def test_unknown_names_offer_the_nearest(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UnknownName, match=told):
        read_plan(plan_file(tmp_path, text))


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ('method = "dives"', UnknownName, r"row\[a\]: 'dives': did you mean 'dive'"),
        ('method = "dive"\nset = { elments = 2 }', UnknownName, r"row\[a\]: 'elments': did you mean 'elements'"),
        ('method = "dive"\nset = { elements = 0 }', DataError, r"row\[a\]: dive\.elements: found 0"),
        ('method = "dive"\nset = { epochs = 1.5 }', DataError, r"row\[a\]: the training config\.epochs"),
    ],
)
def test_settings_are_looked_at_before_anything_is_trained(
    tmp_path: Path, settings: str, error: type[Exception], told: str
) -> None:
    plan = read_plan(plan_file(tmp_path, f'{HEAD}[[row]]\nname = "a"\n{settings}\n'))
    with pytest.raises(error, match=told):
        plan.expect_settings()


def test_protocols_are_looked_at_before_anything_is_trained(tmp_path: Path) -> None:
    plan = read_plan(plan_file(tmp_path, 'protocols = ["own", "jugded"]\n' + HEAD + TWO))
    with pytest.raises(UnknownName, match=r"protocol in study.toml 'jugded': did you mean 'judged'"):
        plan.expect_settings()


def test_the_studies_of_the_docs_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYMATCH_REFERENCE", "/there")
    folder = Path(__file__).parents[2] / "docs" / "results"
    files = sorted(folder.glob("*.toml"))
    assert {"methods", "claims", "sets"} <= {path.stem for path in files}
    same: dict[tuple[str, str], object] = {}
    for path in files:
        plan = read_plan(path)
        plan.expect_settings()
        assert len(plan.row(plan.rows[0].name).seeds) == 3
        for row in plan.rows:
            if row.method is not None:
                folder_of = plan.runs_at if plan.runs_at != "runs" else f"../{path.stem}/runs"
                made = row.method, row.settings
                assert same.setdefault((folder_of, row.name), made) == made, "one folder"
