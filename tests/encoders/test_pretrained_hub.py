"""Where pretrained networks are found, and what of their folders is read."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from manymatch.encoders.pretrained.hub import TOWERS, Found, config, digest, find, read_json, weight_files, weights
from manymatch.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "net"
    out.mkdir()
    (out / "config.json").write_text('{"model_type": "clip"}')
    save_file({"a": torch.arange(3.0), "b": torch.ones(2, 2)}, out / "model.safetensors")
    return out


def cached(cache: Path, name: str, folder: Path) -> Path:
    """The folder as the hub's cache lays it out: blobs, a snapshot of links to them, and a name for it."""
    repo = cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for n, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, repo / "blobs" / str(n))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(n))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_folder_is_found_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(f"hf:{folder}") == Found(f"hf:{folder}", folder, "")
    monkeypatch.chdir(folder.parent)
    assert find("hf:net").folder.resolve() == folder
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find("hf:~/net").folder == folder


def test_a_folder_of_towers_is_searched_by_the_last_part_of_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOWERS, str(folder.parent))
    for name in ("someone/net", "/gone/elsewhere/net", "net", "someone/net@main"):
        assert find(f"hf:{name}").folder == folder
    with pytest.raises(DataError, match=r"no such folder, nor '.*other'; give the folder that save_pretrained wrote"):
        find("hf:/gone/other")


@pytest.mark.parametrize("source", ["hf:", "hf:  ", "hf:a\0b"])
def test_no_name_is_said(source: str) -> None:
    with pytest.raises(DataError, match="expected hf:NAME or hf:FOLDER"):
        find(source)


def test_a_path_that_is_not_there_asks_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for source in (f"hf:{tmp_path}/none", "hf:./none", "hf:~/none", "hf:a/b/c"):
        with pytest.raises(DataError, match=re.escape(f"tower {source!r}: no such folder; give the folder")):
            find(source)
    with pytest.raises(DataError, match=r'the hub cannot be asked; run pip install "manymatch\[hf\]"'):
        find("hf:someone/net")


_FIND = """
import sys
from manymatch.encoders.pretrained.hub import find
from manymatch.errors import DataError
for source in sys.argv[1:]:
    try:
        found = find(source)
        print(found.folder, found.revision)
    except DataError as error:
        print("refused:", error)
"""


def test_the_hubs_cache_is_read_without_a_network(folder: Path, tmp_path: Path) -> None:
    whole = cached(tmp_path / "hub", "someone/net", folder)
    (folder / "model.safetensors").unlink()
    part = cached(tmp_path / "hub", "someone/part", folder)
    sources = [
        "hf:someone/net",
        f"hf:someone/net@{COMMIT}",
        "hf:someone/net@v2",
        "hf:no/body",
        "hf:a b",
        "hf:someone/part",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FIND, *sources],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    named, pinned, other, nobody, misspelt, incomplete = done.stdout.strip().split("\n")
    assert named == pinned == f"{whole} {COMMIT}"
    for refused, source in ((other, "hf:someone/net@v2"), (nobody, "hf:no/body"), (misspelt, "hf:a b")):
        assert refused.startswith(f"refused: tower {source!r}: no such folder, and not to be had from the Hugging Face")
        assert refused.endswith("give a folder as hf:FOLDER, or set MANYMATCH_TOWERS to the folder it lies in")
    # What is missing in it the readers say.
    assert incomplete == f"{part} {COMMIT}"
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        weights(Found("hf:someone/part", part, COMMIT))


def test_a_configuration_must_name_a_network(folder: Path) -> None:
    found = Found("hf:net", folder)
    assert config(found) == {"model_type": "clip"}
    for text, message in (
        ("{}", "no model_type"),
        ("[1]", "holds list, expected a JSON object"),
        ('{"a"', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"model_type": 3}', "no model_type"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(DataError, match=message):
            config(found)
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        config(found)
    (folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json: missing, expected in the folder of a pretrained network"):
        config(found)


def test_a_json_of_gigabytes_is_not_read(folder: Path) -> None:
    with open(folder / "config.json", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(DataError, match=r"8,589,934,592 bytes.* expected a small JSON file"):
        read_json(Found("hf:net", folder), "config.json")


def test_weights_are_read_by_name(folder: Path) -> None:
    read = weights(Found("hf:net", folder))
    assert sorted(read) == ["a", "b"]
    assert torch.equal(read["a"], torch.arange(3.0))


def test_weights_in_several_files_are_read_as_the_index_lists_them(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    save_file({"a": torch.zeros(1)}, folder / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(1)}, folder / "model-00002-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
    )
    found = Found("hf:net", folder)
    assert sorted(weights(found)) == ["a", "b"]
    assert len(weight_files(folder)) == 2
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors")
    with pytest.raises(DataError, match="weight 'a' is in two files"):
        weights(found)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(DataError, match=r"model-00002-of-00002\.safetensors: missing, but listed"):
        weights(found)


@pytest.mark.parametrize("value", ["../other.safetensors", "/etc/x.safetensors", "x.bin", 3, None])
def test_an_index_cannot_point_out_of_its_folder(folder: Path, value: object) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": value}}))
    with pytest.raises(DataError, match="expected weight_map, names of weights to files beside it"):
        weights(Found("hf:net", folder))


def test_pickled_weights_are_named_and_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no model\.safetensors; expected what save_pretrained writes"):
        weights(Found("hf:net", folder))
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    message = r"no model\.safetensors; found only pytorch_model\.bin, which hold code and are never loaded; save"
    with pytest.raises(DataError, match=message):
        weights(Found("hf:net", folder))


@pytest.mark.parametrize("data", [b"", b"\x00" * 7, b"\xff" * 64, b"PK\x03\x04" + b"\x00" * 60])
def test_damaged_weights_are_said_in_a_line(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read as safetensors"):
        weights(Found("hf:net", folder))


def test_weights_cut_short_are_said_in_a_line(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    for length in range(0, len(whole), 13):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(DataError, match="cannot be read as safetensors"):
            weights(Found("hf:net", folder))


def test_a_digest_is_of_names_and_bytes_alone(folder: Path, tmp_path: Path) -> None:
    first = digest(Found("hf:net", folder), "*.json", "*.safetensors")
    other = tmp_path / "elsewhere"
    shutil.copytree(folder, other)
    assert digest(Found("hf:x", other, "rev"), "*.json", "*.safetensors") == first
    assert digest(Found("hf:x", other), "config.json", "*.json", "model.safetensors") == first
    (other / "notes.md").write_text("not asked for")
    assert digest(Found("hf:x", other), "*.json", "*.safetensors") == first
    (other / "1_Pooling").mkdir()
    (other / "1_Pooling" / "config.json").write_text("{}")
    assert digest(Found("hf:x", other), "*.json", "*.safetensors") == first
    assert digest(Found("hf:x", other), "1_Pooling/config.json") != digest(Found("hf:x", other), "none")
    (other / "config.json").write_text('{"model_type": "vit"}')
    assert digest(Found("hf:x", other), "*.json", "*.safetensors") != first
