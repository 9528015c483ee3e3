"""Official checkpoints and vocabularies: every form is read, and a file that asks for more than data runs nothing."""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import types
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.restricted import Namespace
from manymatch.encoders.torch_files import read_torch_file
from manymatch.errors import CheckpointError, DataError, Error
from manymatch.runs.official_files import read_official, read_vocabulary

Save = Callable[[Any, Path], None]


def save_zip(value: Any, path: Path) -> None:
    torch.save(value, path)


def save_old(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


both_formats = pytest.mark.parametrize("save", [save_zip, save_old])


def checkpoint() -> dict[str, Any]:
    shared = torch.arange(30, dtype=torch.float32)
    return {
        "epoch": 3,
        "best_rsum": np.float64(401.5),
        "count": np.int32(7),
        "model": OrderedDict(
            {
                "module.img.weight": shared.as_strided((3, 4), (2, 3), 1),
                "module.img.fc.module.bias": shared[5:9],
                "module.txt.half": torch.ones(2, 0, dtype=torch.float16),
                "module.txt.steps": torch.tensor(12),
                "module.txt.mask": torch.tensor([True, False]),
            }
        ),
        "opt": argparse.Namespace(
            dim=32, name="resnet18", nested=argparse.Namespace(rate=1e-3), sizes=(1, 2), none=None
        ),
        "milestones": Counter({15: 1}),
        "seen": {1, 2},
        "optimizer": {"state": {0: {"step": torch.zeros(3)}}},
    }


# ---- what is read


@both_formats
def test_reads_weights_options_and_the_rest(tmp_path: Path, save: Save) -> None:
    save(checkpoint(), path := tmp_path / "c.pth")
    found = read_official(path)
    wanted = {k.replace("module.", ""): v for k, v in checkpoint()["model"].items()}
    assert list(found.state()) == list(wanted)
    for name, value in wanted.items():
        assert torch.equal(found.state()[name], value) and found.state()[name].dtype == value.dtype
    assert found.options == {"dim": 32, "name": "resnet18", "nested": {"rate": 1e-3}, "sizes": (1, 2), "none": None}
    assert found.extra == {"epoch": 3, "best_rsum": 401.5, "count": 7, "milestones": {15: 1}, "seen": {1, 2}}
    assert type(found.extra["best_rsum"]) is float
    assert found.option("dim") == 32 and found.option("depth", 4) == 4
    with pytest.raises(CheckpointError, match=r"no option 'depth' \(it has 5\)"):
        found.option("depth")


def test_parts_of_two_encoders_get_prefixes(tmp_path: Path) -> None:
    parts = [{"fc.bias": torch.ones(1)}, OrderedDict({"fc.bias": torch.zeros(1)})]
    torch.save({"model": parts, "args": {"a": 1}}, path := tmp_path / "c.pth")
    found = read_official(path)
    assert found.state("images.", "texts.") == {"images.fc.bias": torch.ones(1), "texts.fc.bias": torch.zeros(1)}
    assert found.options == {"a": 1}
    with pytest.raises(CheckpointError, match="holds 2 state dicts, expected 1"):
        found.state()


@pytest.mark.parametrize("options", ["opt", "args", "config", "hyper_parameters"])
def test_lightning_and_plain_forms(tmp_path: Path, options: str) -> None:
    torch.save({"state_dict": {"a": torch.ones(1)}, options: {"x": {"y": 2}}}, path := tmp_path / "c.ckpt")
    assert read_official(path).options == {"x": {"y": 2}}
    torch.save({"module.a": torch.ones(1)}, path)
    assert list(read_official(path).state()) == ["a"] and read_official(path).options == {}


def test_parameters_and_the_first_rebuild_function_are_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.nn.Parameter(torch.ones(2))}}, path := tmp_path / "c.pth")
    assert torch.equal(read_official(path).state()["a"], torch.ones(2))
    rebuild = reduced(torch._utils._rebuild_tensor, Claim(3), 1, (2,), (1,))
    forge(path, {"model": {"a": rebuild}}, {"0": np.arange(3, dtype=np.float32).tobytes()})
    assert read_official(path).state()["a"].tolist() == [1.0, 2.0]


# ---- what is refused by name


class Reduced:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return (self.parts[0], self.parts[1:])


def reduced(function: Any, *arguments: Any) -> Reduced:
    return Reduced(function, *arguments)


def attacks(marker: Path) -> dict[str, Reduced]:
    command = f"touch {marker}"
    return {
        "posix.system": reduced(os.system, command),
        "builtins.eval": reduced(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "builtins.exec": reduced(builtins.exec, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": reduced(builtins.getattr, command, "upper"),
        "subprocess.Popen": reduced(subprocess.Popen, ["touch", str(marker)]),
        "_io.open|io.open": reduced(open, str(marker), "w"),
        "torch.serialization.load": reduced(torch.load, str(marker)),
        "functools.partial": reduced(__import__("functools").partial, os.system, command),
    }


names = pytest.mark.parametrize("name", list(attacks(Path("m"))))


def nestings(attack: Reduced) -> list[Any]:
    weights = {"a": torch.ones(1)}
    return [
        attack,
        {"model": weights, "opt": argparse.Namespace(inner=[attack])},
        {"model": {"a": attack}},
        {"model": weights, "optimizer": {"state": attack}},
        {"model": weights, "opt": {("a", attack): 1}},
    ]


@both_formats
@names
def test_checkpoints_that_ask_for_more_are_refused_by_name(tmp_path: Path, save: Save, name: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "c.pth"
    for value in nestings(attacks(marker)[name]):
        save(value, path)
        with pytest.raises(
            CheckpointError, match=f"c.pth': refuses to load ({name.replace('.', '[.]')}); only tensors"
        ):
            read_official(path)
    assert not marker.exists()


@names
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_vocabularies_that_ask_for_more_are_refused_by_name(tmp_path: Path, name: str, protocol: int) -> None:
    marker, path = tmp_path / "marker", tmp_path / "v.pkl"
    attack = attacks(marker)[name]
    for value in (attack, {"word2idx": attack}, vocabulary_object("vocab", {"<pad>": 0, "a": attack})):
        path.write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(CheckpointError, match=r"v.pkl': refuses to load \w+[.]\w+"):
            read_vocabulary(path)
    assert not marker.exists()


def test_a_named_module_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Vocabulary", "Other"):
        (tmp_path / "v.pkl").write_bytes(b"\x80\x02cevil_module\n" + name.encode() + b"\n.")
        with pytest.raises(CheckpointError, match=r"refuses to load evil_module[.]Other|expected numbers by word"):
            read_vocabulary(tmp_path / "v.pkl")
    assert not (tmp_path / "marker").exists() and "evil_module" not in sys.modules


HAND_MADE = {
    "a dotted name": (b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93.", "argparse.Namespace.__init__"),
    "an odd name": (b"\x80\x04\x8c\x02os\x8c\x04a\nb!\x93.", r"refuses to load 'os\.a\\nb!'"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1 1, which no program writes"),
    "attributes of a class": (b"\x80\x02cargparse\nNamespace\n(N}X\x04\x00\x00\x00evilK\x01stb.", "damaged"),
    "attributes of a function": (b"\x80\x02c_codecs\nencode\n}X\x04\x00\x00\x00evilK\x01sb.", "damaged"),
    "a base class": (b"\x80\x02ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.", "damaged"),
    "a large memo": (b"\x80\x02}r\xff\xff\xff\x7f.", "LONG_BINPUT 2147483647, which no program writes"),
    "a long string": (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"ab.", "damaged, cut short"),
    "a long text": (b"\x80\x02X\xff\xff\xff\x7fab.", "damaged, cut short"),
    "an outside reference": (b"\x80\x02Pabc\n.", "something outside"),
    "no end": (b"\x80\x02}", "damaged, cut short"),
    "an empty stack": (b"\x80\x02.", "damaged"),
    "nothing of a pickle": (b"word2idx", "not a pickle"),
}


@pytest.mark.parametrize("case", list(HAND_MADE))
def test_hand_made_pickles(tmp_path: Path, case: str) -> None:
    data, message = HAND_MADE[case]
    (path := tmp_path / "v.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_vocabulary(path)
    assert not hasattr(Namespace, "evil")


def test_many_lists_of_lists_cost_nothing(tmp_path: Path) -> None:
    value: Any = []
    for _ in range(90):
        value = [value, value]
    torch.save({"model": {"a": torch.ones(1)}, "bomb": value}, path := tmp_path / "c.pth")
    began = time.process_time()
    assert len(read_official(path).extra["bomb"]) == 2
    assert time.process_time() - began < 5
    deep: Any = []
    deep.append(deep)
    torch.save({"model": {"a": torch.ones(1)}, "bomb": deep}, path)
    with pytest.raises(CheckpointError, match="nested deeper than 100"):
        read_official(path)


# ---- claims about storages


class Claim:
    def __init__(self, count: int, key: str = "0", kind: Any = torch.FloatStorage) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class _Forger(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.pid if isinstance(value, Claim) else None


def forged(value: Any) -> bytes:
    _Forger(out := io.BytesIO(), 2).dump(value)
    return out.getvalue()


def forge(path: Path, value: Any, storages: dict[str, bytes], **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", forged(value))
        for key, data in storages.items():
            file.writestr(f"archive/data/{key}", data)


def tensor(claim: Any, offset: Any, size: Any, stride: Any) -> Reduced:
    return reduced(torch._utils._rebuild_tensor_v2, claim, offset, size, stride, False, OrderedDict())


TRICKS = {
    "behind the end": ([Claim(4)], 0, (5,), (1,), "reaches number 4 of a storage of 4"),
    "far strides": ([Claim(4)], 0, (2, 2), (1, 4), "reaches number 5 of a storage of 4"),
    "before the beginning": ([Claim(4)], -1, (2,), (1,), "without a storage or a shape"),
    "backwards": ([Claim(4)], 3, (2,), (-1,), "without a storage or a shape"),
    "more than stored": ([Claim(5)], 0, (5,), (1,), "has 16 bytes, but 20 are claimed"),
    "fewer than stored": ([Claim(3)], 0, (3,), (1,), "has 16 bytes, but 12 are claimed"),
    "another kind": ([Claim(4, kind=torch.DoubleStorage)], 0, (4,), (1,), "has 16 bytes, but 32 are claimed"),
    "two kinds": ([Claim(4), Claim(2, kind=torch.DoubleStorage)], 0, (4,), (1,), "two kinds or sizes"),
    "a huge count": ([Claim(2**62)], 0, (4,), (1,), "bytes, but 18446744073709551616 are claimed"),
    "a huge view": ([Claim(4)], 0, (2**20, 2**20), (0, 0), "numbers are read"),
    "a huge view of nothing": ([Claim(4)], 0, (0, 2**40), (0, 0), "numbers are read"),
    "another entry": ([Claim(4, "../data.pkl")], 0, (4,), (1,), "no entry"),
    "no such entry": ([Claim(4, "7")], 0, (4,), (1,), "no entry 'data/7'"),
    "a negative count": ([Claim(-4)], 0, (4,), (1,), "storage without a size"),
    "shape and strides": ([Claim(4)], 0, (4,), (1, 1), "a tensor of shape"),
    "no storage": (["0"], 0, (4,), (1,), "without a storage"),
    "a size that is no number": ([Claim(4)], 0, ("4",), (1,), "without a storage or a shape"),
    "a list for a shape": ([Claim(4)], 0, [4], [1], "without a storage or a shape"),
}


@pytest.mark.parametrize("case", list(TRICKS))
def test_false_claims_about_storages(tmp_path: Path, case: str) -> None:
    claims, offset, size, stride, message = TRICKS[case]
    value = {"model": {str(n): tensor(claim, offset, size, stride) for n, claim in enumerate(claims)}}
    forge(path := tmp_path / "c.pth", value, {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=message):
        read_official(path)


def test_a_storage_cannot_be_changed_by_the_pickle(tmp_path: Path) -> None:
    plain = forged({"model": {"a": tensor(Claim(4), 0, (4,), (1,))}})
    change = b"]\x94(U\x010U\x01xM\xff\xffK\x00eb"
    place = plain.index(b"Q") + 1
    path = tmp_path / "c.pth"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", plain[:place] + change.replace(b"\x94", b"") + plain[place:])
        file.writestr("a/data/0", bytes(16))
    with pytest.raises(CheckpointError, match="damaged, or not what it seems"):
        read_official(path)
    torch.save({"model": {"a": torch.ones(4)}}, path)
    assert read_official(path).state()["a"].tolist() == [1.0] * 4


def test_compressed_and_compiled_files_are_refused(tmp_path: Path) -> None:
    path, value = tmp_path / "c.pth", {"model": {"a": tensor(Claim(4), 0, (4,), (1,))}}
    forge(path, value, {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        read_official(path)
    forge(path, value, {"0": bytes(16)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_official(path)
    forge(path, value, {"0": bytes(16)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/byteorder", b"big")
    with pytest.raises(CheckpointError, match="big-endian"):
        read_official(path)


@both_formats
def test_an_attack_stays_refused_where_storages_are_false_too(tmp_path: Path, save: Save) -> None:
    marker = tmp_path / "marker"
    save({"model": {"a": torch.ones(3)}, "z": attacks(marker)["posix.system"]}, path := tmp_path / "c.pth")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError):
        read_official(path)
    assert not marker.exists()


# ---- damage


@both_formats
def test_every_cut_is_an_error(tmp_path: Path, save: Save) -> None:
    save(checkpoint(), path := tmp_path / "c.pth")
    data = path.read_bytes()
    for end in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match=r"get it again|expected a checkpoint's file"):
            read_official(path)


@cache
def whole(old: bool) -> bytes:
    torch.save(checkpoint(), out := io.BytesIO(), _use_new_zipfile_serialization=not old)
    return out.getvalue()


@settings(deadline=None, max_examples=60)
@given(data=st.data(), old=st.booleans())
def test_damaged_bytes_never_escape_as_another_error(
    data: st.DataObject, old: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    raw = bytearray(whole(old))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(raw)
    try:
        assert read_official(path).parts
    except Error as error:
        assert "\n" not in str(error)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    with pytest.raises(DataError, match="checkpoint: no such file"):
        read_official(path)
    cases: dict[bytes, str] = {
        b"": r"empty \(0 bytes\)",
        b"hello": "not a file that torch.save wrote",
        pickle.dumps({"model": 1}, 2): "not a file that torch.save wrote",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=message):
            read_official(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"a zip that torch[.]save did not write"):
        read_official(path)
    for value, message in (
        ([1, 2], "a value of type list, expected a dict"),
        ({"weights": 1, "epoch": 2}, "holds 'weights', 'epoch', expected weights under 'model' or 'state_dict'"),
        ({"model": [{"a": torch.ones(1)}, 3]}, "'model', part 1, is a value of type int"),
        ({"model": {"a": torch.ones(1), "module.a": torch.ones(1)}}, "differ in 'module.' alone"),
        ({}, "holds nothing"),
    ):
        torch.save(value, path)
        with pytest.raises(CheckpointError, match=message):
            read_official(path)


# ---- vocabularies


def vocabulary_object(module: str, numbers: dict[str, Any]) -> Any:
    made = sys.modules.get(module) or types.ModuleType(module)
    kind = getattr(made, "Vocabulary", None) or type("Vocabulary", (), {"__module__": module})
    made.Vocabulary = kind  # type: ignore[attr-defined]
    sys.modules[module] = made
    out = kind()
    out.word2idx, out.idx2word, out.idx = (
        numbers,
        {n: w for w, n in numbers.items() if isinstance(n, int)},
        len(numbers),
    )
    return out


@pytest.fixture(autouse=True)
def no_module_left() -> Any:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if hasattr(sys.modules[name], "Vocabulary"):
            del sys.modules[name]


NUMBERS = {"<pad>": 0, "<start>": 1, "<end>": 2, "<unk>": 3, "café": 4, "dog": 5}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", ["vocab", "my_vocab_module", "os_like"])
def test_pickled_objects_of_any_module(tmp_path: Path, protocol: int, module: str) -> None:
    (path := tmp_path / "v.pkl").write_bytes(pickle.dumps(vocabulary_object(module, NUMBERS), protocol))
    del sys.modules[module]
    found = read_vocabulary(path)
    assert found.words == tuple(NUMBERS) and found.numbers == NUMBERS and len(found) == 6 and not found.wordpiece
    assert module not in sys.modules


def test_pickles_of_python_2(tmp_path: Path) -> None:
    word = "café".encode()
    strings = b"(U\x05<pad>K\x00U" + bytes([len(word)]) + word + b"K\x01u"
    new = b"\x80\x02cvocab\nVocabulary\n)\x81}U\x08word2idx}" + strings + b"sb."
    old = b"\x80\x02(cvocab\nVocabulary\no}U\x08word2idx}" + strings + b"sb."
    oldest = b"(ivocab\nVocabulary\n(dS'word2idx'\n(dS'<pad>'\nI0\nsS'cafe'\nI1\nssb."
    for data in (new, old, oldest):
        (path := tmp_path / "v.pkl").write_bytes(data)
        assert read_vocabulary(path).words == ("<pad>", "cafe" if data is oldest else "café")
    path.write_bytes(new.replace(word, "cafés".encode("latin1")))
    with pytest.raises(CheckpointError, match="word 1 is not UTF-8"):
        read_vocabulary(path)


def test_plain_dicts_and_json(tmp_path: Path) -> None:
    whole = {"idx": 6, "word2idx": NUMBERS, "idx2word": {str(n): w for w, n in NUMBERS.items()}}
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(whole, 2))
    (tmp_path / "a.json").write_text(json.dumps(whole))
    (tmp_path / "b.json").write_text(json.dumps(dict(reversed(NUMBERS.items())), ensure_ascii=False), "utf-8-sig")
    for name in ("v.pkl", "a.json", "b.json"):
        assert read_vocabulary(tmp_path / name).words == tuple(NUMBERS)


def test_wordpieces(tmp_path: Path) -> None:
    (path := tmp_path / "vocab.txt").write_bytes("[PAD]\r\n[UNK]\n\u2028\n##s\n##s\n".encode())
    found = read_vocabulary(path)
    assert found.words == ("[PAD]", "[UNK]", "\u2028", "##s", "##s") and found.wordpiece
    assert found.numbers["##s"] == 4


def test_bad_vocabularies(tmp_path: Path) -> None:
    cases = {
        "a.json": ('{"a": 0, "b": 2}', "'b' has number 2, expected each from 0 to 1 once"),
        "b.json": ('{"a": 0, "b": 0}', "'b' has number 0"),
        "c.json": ('{"a": 1000000000000000}', "has number 1000000000000000, expected each from 0 to 0"),
        "d.json": ('{"a": true, "b": 1}', "'a' has number True"),
        "e.json": ("[1]", "a value of type list, expected numbers by word"),
        "f.json": ("{}", "expected numbers by word"),
        "g.json": ('{"a": 0', "is not JSON"),
        "h.json": ("[" * 100_000, "is not JSON"),
        "i.json": ("", "has 0 bytes"),
        "j.bin": ("a", "suffix '.bin', expected .pkl, .json or .txt"),
    }
    for name, (text, message) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_vocabulary(tmp_path / name)
    (tmp_path / "v.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(CheckpointError, match="byte 3 is not UTF-8"):
        read_vocabulary(tmp_path / "v.txt")
    with pytest.raises(DataError, match="vocabulary: no such file"):
        read_vocabulary(tmp_path / "none.pkl")


# ---- recorded files


@pytest.mark.slow
def test_every_recorded_checkpoint_is_read_as_torch_reads_it(reference: Path, tmp_path: Path) -> None:
    paths = sorted((reference / "parity").glob("*/*.pth"))
    assert len(paths) > 15
    for path in paths:
        with torch.serialization.safe_globals([argparse.Namespace]):
            theirs = torch.load(path, weights_only=True)
        save_old(theirs, again := tmp_path / "old.pth")
        for ours in (read_torch_file(path), read_torch_file(again)):
            equal(ours, theirs)
        found = read_official(path)
        assert all(part for part in found.parts)
        assert found.options or path.name.endswith("state.pth"), path


def equal(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, argparse.Namespace):
        theirs = vars(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            equal(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            equal(one, other)
    elif isinstance(theirs, torch.Tensor):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.mark.slow
def test_every_recorded_vocabulary_is_read(reference: Path) -> None:
    for folder in sorted((reference / "parity").iterdir()):
        official = [path for path in folder.glob("*vocab*") if path.name != "vocab.json"]
        for path in official:
            found = read_vocabulary(path)
            plain = json.loads((folder / "vocab.json").read_text())
            # The plain file has what the training script appends after reading.
            assert {w: n for w, n in plain.items() if w != "<mask>"} == found.numbers, path
