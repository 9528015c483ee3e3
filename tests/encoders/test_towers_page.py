"""docs/towers.md is true: every example runs as it stands, on tiny networks of the names it says."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tiny_towers
from manymatch.cli import app
from manymatch.methods import method_class
from onnx_models import image_model, text_model

for package in ("transformers", "peft", "onnxruntime"):
    pytest.importorskip(package)

PAGE = (Path(__file__).parents[2] / "docs" / "towers.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"(?ms)^## (.*?)\n(.*?)(?=^## |\Z)", PAGE))
EXAMPLES = [
    pytest.param(example, id=f"{heading}-{n}")
    for heading, text in SECTIONS.items()
    for n, example in enumerate(re.findall(r"(?ms)^```sh\n(.*?)^```$", text))
]
NETWORKS: dict[str, Callable[[Path], Path]] = {
    "clip-vit-base-patch32": tiny_towers.tiny_clip,
    "siglip2-base-patch16-224": tiny_towers.tiny_siglip,
    "siglip2-base-patch16-naflex": tiny_towers.tiny_siglip2,
    "dinov2-base": tiny_towers.tiny_dinov2,
    "vit-base-patch16-224": tiny_towers.tiny_vit,
    "bert-base-uncased": tiny_towers.tiny_bert,
    "ModernBERT-base": tiny_towers.tiny_modernbert,
    "all-MiniLM-L6-v2": tiny_towers.tiny_minilm,
}
PHOTOS = ("dog", "beach", "street", "cat", "boat", "tree", "car", "hill")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Examples of a page build on each other: one folder for all of them, and no folder of the user's."""
    root = tmp_path_factory.mktemp("page")
    for name, make in NETWORKS.items():
        make(root / "towers" / name)
    here = root / "here"
    (here / "photos").mkdir(parents=True)
    made = np.random.default_rng(0)
    rows = []
    for n, name in enumerate(PHOTOS):
        Image.fromarray(made.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(here / "photos" / f"{name}.jpg")
        split = "val" if n % 4 == 2 else "test" if n % 4 == 3 else "train"
        rows.append({"image": f"photos/{name}.jpg", "captions": [f"a {name} by day", f"one {name}"], "split": split})
    (here / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    image_model(here / "encoder.onnx")
    (here / "text").mkdir()
    text_model(here / "text" / "model.onnx", words=tiny_towers.bert_tokens(here / "text")["vocab_size"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("MANYMATCH_TOWERS", str(root / "towers"))
        patch.setenv("MANYMATCH_STORE", str(root / "store"))
        patch.setenv("HF_HUB_CACHE", str(root / "hub"))
        yield here


def run(line: str) -> str:
    result = CliRunner().invoke(app, shlex.split(line)[1:])
    assert result.exit_code == 0, f"{line}: {result.output} {result.exception!r}"
    return result.output


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs(folder: Path, example: str) -> None:
    lines = example.splitlines()
    assert all(line.startswith("manymatch ") for line in lines)
    told = [run(line) for line in lines]
    if "runs/dinov2" in example:
        assert re.search(r"features of hf:.*dinov2-base: 4 of 4 from ", told[1])
    if "--check" in example:
        assert "checked store: " in told[2] and "8 of 8 were in store, 0 computed" in told[2]
        assert re.search(r"features of hf:.*dinov2-base: 4 of 4 from store", told[3])


def test_python_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)
    space: dict[str, object] = {}
    exec(compile(example, "docs/towers.md", "exec"), space)
    assert getattr(space["scores"], "shape", None) == (1, 1)
    assert re.search(r"clip-vit-base-patch32: [\d,]+ numbers of it are added and tuned", capsys.readouterr().out)


def test_every_network_of_the_page_is_one_that_is_known() -> None:
    named = set(re.findall(r"hf:([\w./-]+/[\w.-]+)", PAGE))
    assert {os.path.basename(name) for name in named} == set(NETWORKS)


def test_numbers_of_the_page_are_the_defaults() -> None:
    said = dict(re.findall(r"`(backbone_rate|layer_decay|lora_rank)`[^`(]*?\(([\d.]+)\)", " ".join(PAGE.split())))
    kind = method_class("dive")
    assert said == {name: str(getattr(kind, name)) for name in ("backbone_rate", "layer_decay", "lora_rank")}
