"""`manymatch key`: the key alone on stdout, the rest on stderr, and a file that a server reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from manymatch.cli import main
from manymatch.web.keys import Keys

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """`manymatch key ...` in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["manymatch", "key", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0), *capsys.readouterr()

    return called


def test_a_new_key_is_all_that_stdout_has(run: Run, tmp_path: Path) -> None:
    code, out, err = run("new", "--name", "the shop")
    token = out.removesuffix("\n")
    assert code == 0 and "\n" not in token and token not in err
    assert "in the new file manymatch-keys.json" in err and "serve X --key-file manymatch-keys.json" in err
    keys = Keys.open(tmp_path / "manymatch-keys.json")
    assert keys.access(token) == "read"
    code, out, err = run("new", "--write")
    assert keys.access(out.strip()) == "write" and "write key" in err and "added to" in err


def test_list_shows_what_may_be_shown(run: Run) -> None:
    token = run("new", "--name", "the shop", "--file", "k.json")[1].strip()
    run("new", "--write", "--file", "k.json")
    code, out, err = run("list", "--file", "k.json")
    first, second = out.splitlines()
    assert (code, err) == (0, "")
    assert first.split()[0] == token.split("_")[1] and "read" in first and first.endswith("the shop")
    assert "write" in second
    shown = json.loads(run("list", "--file", "k.json", "--json")[1])
    assert [set(one) for one in shown] == [{"id", "name", "access", "created"}] * 2
    assert [(one["name"], one["access"]) for one in shown] == [("the shop", "read"), ("", "write")]


@pytest.mark.parametrize("whole", [False, True])
def test_revoke_takes_an_id_or_the_key(run: Run, tmp_path: Path, whole: bool) -> None:
    token, other = run("new", "--name", "the shop")[1].strip(), run("new")[1].strip()
    keys = Keys.open(tmp_path / "manymatch-keys.json")
    code, out, _ = run("revoke", token if whole else token.split("_")[1])
    assert code == 0 and "the shop" in out and token not in out
    assert (keys.access(token), keys.access(other)) == (None, "read")
    run("revoke", other.split("_")[1])
    assert run("list") == (0, "", "no keys in manymatch-keys.json\n")
    assert run("list", "--json")[1] == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "no such file 'manymatch-keys.json'"),
        (["revoke", "01234567"], "no such file 'manymatch-keys.json'"),
        (["new", "--file", "nowhere/k.json"], "cannot be written"),
        (["new", "--name", "a\nb"], "expected one line"),
        (["list", "--file", "other.json"], "not JSON"),
        (["revoke", "mm_01234567_" + "A" * 43, "--file", "good.json"], "unknown key '01234567'"),
    ],
)
def test_what_can_be_mended_is_one_line(run: Run, arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").touch(0o600)
    run("new", "--file", "good.json")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and said in err and err.startswith("manymatch: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["new", "list", "revoke"])
def test_help_teaches(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0 and "--file" in out and "manymatch-keys.json" in out and len(out.splitlines()) > 5
