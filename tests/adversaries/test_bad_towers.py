"""Pretrained networks from strangers: garbage in any of their files is told in one line, and nothing of it is run.

MANYMATCH_EXAMPLES=2000 pytest -m slow -n 0 tests/adversaries/test_bad_towers.py
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from damage import Damage, damages, damages_of_json
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from manymatch.errors import Error

pytest.importorskip("transformers")

import torch

from manymatch.encoders.pretrained import open_backbone
from manymatch.runs import load
from tiny_towers import tiny_clip

FEW, MANY = 8, int(os.environ.get("MANYMATCH_EXAMPLES", "60"))
ROOM = 2**30
"""Bytes that a network of a few hundred kilobytes may take while it is looked at."""


@contextmanager
def bounded() -> Iterator[None]:
    """No more memory than `ROOM` on top of what there is."""
    told = Path("/proc/self/status")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if told.exists():
        lines = told.read_text().splitlines()
        now = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (now + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("tiny") / "clip")


def used(folder: Path, *, finite: bool = True) -> Error | None:
    """Open it and encode a picture and a text with it; the error that came."""
    try:
        with bounded():
            model = load(f"hf:{folder}")
            picture = Image.new("RGB", (40, 30), "red")
            embeddings = model.encode_images([picture]), model.encode_texts(["a red field"])
    except Error as error:
        assert str(error).strip() and len(str(error)) < 4000 and "Traceback" not in str(error)
        return error
    assert not finite or all(torch.isfinite(each.vectors).all() for each in embeddings)
    return None


class Evil:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, ("hacked",))


def tensors(header: Any, data: bytes = b"") -> bytes:
    told = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + data


GARBAGE: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(1000),
    "noise": bytes(range(256)) * 20,
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "text": b'"x"',
    "half": b'{"model_type": ',
    "deep": b"[" * 200_000,
    "deep-objects": b'{"model_type":' * 50_000,
    "latin-1": b'{"model_type": "\xe9"}',
    "pickle": pickle.dumps(Evil()),
    "pickle-in-zip": b"PK\x03\x04" + pickle.dumps(Evil()),
    "header-too-long": struct.pack("<Q", 2**60) + b"{}",
    "header-no-json": tensors(b"no json at all"),
    "petabytes": tensors({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}),
    "offsets-back": tensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}, bytes(8)),
    "other-type": tensors({"x": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "other-weights": tensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
}
FILES = ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_a_file_is_told(
    garbage: str, file: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "x")
    (tmp_path / "x" / file).write_bytes(GARBAGE[garbage])
    assert used(tmp_path / "x") is not None or (garbage, file) == ("object", "preprocessor_config.json")
    assert not (tmp_path / "hacked").exists()


CONFIGS: dict[str, Any] = {
    "model_type": ["gpt2", "", None, 5, [], "../x", "clip\0", "CLIP"],
    "auto_map": [{"AutoModel": "evil--modeling.Model"}, {"AutoConfig": "x.Y"}],
    "architectures": [["Evil"], None, 5],
    "projection_dim": [0, -1, 10**9, 10**30, "x", None, 1.5],
    "vision_config": [None, [], {}, 5],
    "text_config": [None, [], {}, 5],
    "vision_config.hidden_size": [0, -1, 33, 10**6, 10**30, "x", None],
    "vision_config.num_hidden_layers": [-1, 0, 10**4, 10**9, None, "x"],
    "vision_config.image_size": [0, -1, 10**6, [1, 2, 3], None, "x"],
    "vision_config.patch_size": [0, -1, 10**6, None, "x"],
    "vision_config.hidden_act": ["evil", None, 5, "__import__('os').mkdir('hacked')"],
    "text_config.vocab_size": [0, -1, 1, 10**9, None, "x"],
    "text_config.max_position_embeddings": [0, -1, 1, 10**9, None, "x"],
    "text_config.eos_token_id": [-1, 10**9, None, "x", [1, 2]],
}


@pytest.mark.parametrize("field", CONFIGS)
def test_wrong_numbers_of_a_network_are_told(
    field: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "x")
    for value in CONFIGS[field]:
        config = json.loads((whole / "config.json").read_text())
        *above, last = field.split(".")
        inner = config
        for name in above:
            inner = inner[name]
        inner[last] = value
        (tmp_path / "x" / "config.json").write_text(json.dumps(config))
        used(tmp_path / "x")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "name", ["", "..", "/etc", "/dev/zero", "nowhere/at/all", "a\0b", "x" * 5000, "\ud800", "a b@c@d"]
)
def test_a_source_that_is_none_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Error):
        open_backbone(f"hf:{name}")


@pytest.mark.parametrize("garbage", [*GARBAGE, "pipe", "folder", "missing"])
def test_garbage_as_an_exported_network_is_told(garbage: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "x.onnx"
    if garbage == "pipe":
        os.mkfifo(path)
    elif garbage == "folder":
        path.mkdir()
    elif garbage != "missing":
        path.write_bytes(GARBAGE[garbage])
    with pytest.raises(Error), bounded():
        open_backbone(f"onnx:{path}")


both = pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])


@both
@pytest.mark.parametrize("file", FILES)
def test_damaged_networks(file: str, count: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, tmp_path / "x")
    data = (whole / file).read_bytes()
    one = st.one_of(damages(), damages_of_json()) if file.endswith(".json") else damages()

    @settings(
        max_examples=count,
        database=None,
        derandomize=count == FEW,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(changes=st.lists(one, min_size=1, max_size=2))
    def read(changes: list[Damage]) -> None:
        bad = data
        for change in changes:
            bad = change(bad)
        (tmp_path / "x" / file).write_bytes(bad)
        # Any four bytes are a number, NaN among them: what such weights give is refused where it is ranked.
        used(tmp_path / "x", finite=not file.endswith(".safetensors"))

    read()
