"""The house keeps its shape: imports go one way, the front is light, names are what they say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import manymatch
from manymatch.errors import DataError, UnknownName

SOURCE = Path(manymatch.__file__).parent
ROOMS = [
    "errors",
    "choices",
    "draws",
    "threads",
    "embeddings",
    "calibration",
    "data",
    "encoders",
    "similarity",
    "bank",
    "losses",
    "relations",
    "methods",
    "runs",
    "evaluation",
    "training",
    "index",
    "report",
    "web",
    "cli",
]
DOORS = {"web", "cli"}
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms a file imports, at its top or inside its functions; type-checking imports do not run."""
    out: set[str] = set()
    tree = ast.parse(path.read_text())
    quiet = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    package = ["manymatch", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in quiet:
            continue
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            full = [*base, *(node.module or "").split(".")] if node.module else base
            targets = [full] if len([p for p in full if p]) > 1 else [[*full, a.name] for a in node.names]
        elif isinstance(node, ast.Import):
            targets = [a.name.split(".") for a in node.names]
        else:
            continue
        out |= {t[1] for t in targets if t[0] == "manymatch" and len(t) > 1 and t[1] in ROOMS}
    return out


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    for other in imported_rooms(path) - {room}:
        if room in DOORS and other in DOORS:
            assert (room, other) == ("cli", "web"), f"{path}: a door imports the door {other}"
        else:
            assert ROOMS.index(other) < ROOMS.index(room), f"{path}: {room} imports {other}, which lies below it"


def test_every_folder_is_a_room() -> None:
    found = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert found <= set(ROOMS), "a folder that is no room"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350, "past 350 lines: which two files is this?"
    tree = ast.parse(text)
    assert not text.strip() or ast.get_docstring(tree), "a file says what it is for"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            body = node.end_lineno - node.body[0].lineno + 1  # type: ignore[operator]
            assert body <= 60, f"{node.name}: {body} lines"


def test_no_pickle() -> None:
    for path in FILES:
        text = path.read_text()
        assert "allow_pickle=True" not in text and "torch.load(" not in text, path
        if path.relative_to(SOURCE).as_posix() != "data/restricted.py":
            assert not re.search(r"^\s*(from|import) (pickle|dill|joblib)", text, re.M), path


def loaded_by(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(told.stdout.splitlines()[-1]))


def test_front_is_light() -> None:
    modules = loaded_by("import manymatch")
    assert not modules & {"torch", "numpy", "PIL"}


def test_help_needs_no_torch() -> None:
    modules = loaded_by("import manymatch.cli")
    assert not modules & {"torch", "faiss", "fastapi"}


def test_libraries_of_pretrained_networks_are_imported_when_one_is_used() -> None:
    room = SOURCE / "encoders" / "pretrained"
    names = [f"manymatch.encoders.pretrained.{path.stem}" for path in room.glob("[a-z]*.py")]
    modules = loaded_by(f"import manymatch.training, manymatch.index, manymatch.evaluation, {', '.join(names)}")
    assert "manymatch.encoders.pretrained.lora" in modules
    assert not modules & {"transformers", "peft", "tokenizers", "onnxruntime", "huggingface_hub", "pyarrow", "datasets"}


def test_reading_data_needs_no_torch() -> None:
    assert "torch" not in loaded_by("import manymatch; manymatch.Pairs")


def test_public_names_resolve() -> None:
    for name in manymatch.__all__:
        assert getattr(manymatch, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        manymatch.nothing  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {a.asname or a.name for n in ast.walk(block) if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen == set(manymatch.__all__) - {"__version__"}


def test_no_message_is_longer_than_a_screen() -> None:
    for error in (manymatch.Error("x" * 10_000), DataError("y" * 10_000), UnknownName("name", "z" * 10_000, ["a"])):
        assert len(str(error)) < 2_100 and str(error).endswith("characters)")
    assert str(DataError("x" * 2_000)) == "x" * 2_000
