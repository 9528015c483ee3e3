"""From the authors' files to a run that evaluates, indexes and searches, and what is said when a file is not theirs."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app, main
from manymatch.data.features import Features, Pixels
from manymatch.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.runs.folder import save_search, save_training
from manymatch.runs.importers import importer, systems
from manymatch.runs.official_files import read_official, read_vocabulary

WORDS = ["<pad>", "<start>", "<end>", "<unk>", *["a", "dog", "runs", "in", "the", "red", "house", "on", "snow"]]
OPTIONS = {"margin": 0.3, "batch_size": 8, "max_violation": True, "measure": "cosine", "no_imgnorm": False}


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert told.exit_code == 0
    return str(told.output)


@dataclass
class Theirs:
    """A checkpoint and a vocabulary as the authors of VSE++ leave them, and the layer its images go through."""

    checkpoint: Path
    vocabulary: Path
    images: torch.nn.Linear


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "vocab.json").write_text(json.dumps({"word2idx": {w: n for n, w in enumerate(WORDS)}}))
    torch.manual_seed(0)
    images = torch.nn.Linear(10, 16)
    texts = torch.nn.ModuleDict({"embed": torch.nn.Embedding(len(WORDS), 12), "rnn": torch.nn.GRU(12, 16)})
    parts = [{f"fc.{k}": v for k, v in images.state_dict().items()}, texts.state_dict()]
    torch.save({"model": parts, "opt": argparse.Namespace(**OPTIONS), "epoch": 7}, folder / "checkpoint.pth")
    return Theirs(folder / "checkpoint.pth", folder / "vocab.json", images)


def test_a_run_has_their_weights_options_and_words(theirs: Theirs, tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = call("import-checkpoint", "vsepp", theirs.checkpoint, "--vocabulary", theirs.vocabulary, "--out", out)
    assert "vsepp from checkpoint.pth (epoch 7)" in told and "pooled vector 10 wide" in told and "margin=0.3" in told
    assert f"next: manymatch evaluate {out} --data DATA --features FILE" in told
    model = mm.load(out)
    assert model.method.mode == "released" and model.method.margin == 0.3
    facts = {"system": "vsepp", "file": "checkpoint.pth", "said": {"epoch": 7}, "relation": None, "given": {}}
    assert model.notes["imported"] == facts
    pooled = torch.randn(3, 10)
    wanted = torch.nn.functional.normalize(theirs.images(pooled), dim=-1).detach()
    found = model.encode_images(Features(None, pooled=pooled.numpy())).tensors()["vectors"]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(model.texts.tokens(["A dog flies."]).ids, [[1, 4, 5, 3, 3, 2]])
    with pytest.raises(CheckpointError, match="holds a run already; choose another --out"):
        mm.import_checkpoint("vsepp", theirs.checkpoint, out, theirs.vocabulary)


def test_as_json(theirs: Theirs, tmp_path: Path) -> None:
    arguments = ["--vocabulary", theirs.vocabulary, "--out", tmp_path / "run", "--option", "finetune=false", "--json"]
    told = json.loads(call("import-checkpoint", "vsepp", theirs.checkpoint, *arguments))
    assert told["settings"]["margin"] == 0.3 and told["settings"]["mode"] == "released"
    assert told["given"] == {"finetune": False}
    assert told["words"] == len(WORDS) and told["fingerprint"] == mm.load(tmp_path / "run").fingerprint()


def test_one_line_for_files_that_are_not_theirs(
    theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cut, short, pieces = tmp_path / "cut.pth", tmp_path / "short.json", tmp_path / "vocab.txt"
    cut.write_bytes(theirs.checkpoint.read_bytes()[:-1000])
    short.write_text(json.dumps({word: n for n, word in enumerate(WORDS[:-1])}))
    pieces.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog"]) + "\n")
    (tmp_path / "file").write_text("in the way")
    file, words = str(theirs.checkpoint), ["--vocabulary", str(theirs.vocabulary)]
    cases: list[tuple[list[str], str]] = [
        (["vsep", file, *words], "unknown system 'vsep': did you mean 'vsepp'?"),
        (["vsepp", "none.pth", *words], "checkpoint: no such file 'none.pth'"),
        (["vsepp", str(cut), *words], "expected a checkpoint's file"),
        (["vsepp", file], "holds none; give the file it was trained with (--vocabulary FILE)"),
        (["vsepp", file, "--vocabulary", "none.pkl"], "vocabulary: no such file 'none.pkl'"),
        (["vsepp", file, "--vocabulary", file], "suffix '.pth', expected .pkl, .json or .txt"),
        (["vsepp", file, "--vocabulary", str(short)], f"was trained on {len(WORDS)}"),
        (["vsepp", file, "--vocabulary", str(pieces)], "was trained on"),
        (["vsepp", file, *words, "--criterion", file], "nothing of vsepp reads one"),
        (["vsepp", file, *words, "--option", "margin"], "--option 'margin': expected NAME=VALUE"),
        (["dive", file, *words], "holds 2 state dicts, expected 1; is it a checkpoint of another system?"),
        (
            ["hrem", file, *words],
            "has no weight 'txt_enc.bert.embeddings.word_embeddings.weight'; expected a checkpoint of",
        ),
    ]
    monkeypatch.chdir(tmp_path)
    for arguments, said in cases:
        monkeypatch.setattr(sys, "argv", ["manymatch", "import-checkpoint", *arguments, "--out", "run"])
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr().err
        assert left.value.code == 2 and said in told and told.count("\n") == 1, (arguments, told)
        assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="cannot be a run folder"):
        mm.import_checkpoint("vsepp", file, tmp_path / "file", theirs.vocabulary)


def test_weights_that_only_training_needs_come_back(featured: mm.Pairs, tmp_path: Path) -> None:
    small = {"dim": 16, "context_heads": 4, "word_dim": 8, "hidden": 8, "least_count": 1}
    model = mm.method("hrem", **small).build(featured)
    save_search(model, tmp_path)
    save_training(model, tmp_path)
    again = mm.load(tmp_path)
    state = again.training_state()
    assert state and all(torch.equal(value, state[key]) for key, value in model.training_state().items())
    with pytest.raises(CheckpointError, match="is missing from the run"):
        again.load_training_state({})
    (tmp_path / "training" / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"cannot be read .* the folder is damaged"):
        mm.load(tmp_path)


def test_help_names_every_system() -> None:
    text = " ".join(call("import-checkpoint", "--help").split())
    assert all(name in text for name in systems())


# ---- recorded files


@dataclass(frozen=True)
class Case:
    """A recorded case: of which system, its vocabulary, and whether its scores are recorded without noise."""

    system: str
    vocabulary: str | None
    recorded: bool = True


CASES = {
    "dive_butd_bert": Case("dive", "vocab.txt"),
    "dive_butd_bigru": Case("dive", "vocab.pkl"),
    "dive_grid_resnet18": Case("dive", "vocab.pkl"),
    "hrem_region_bert": Case("hrem", "vocab.txt"),
    "pcme_coco": Case("pcme", None, recorded=False),
    "pvse_coco_k2": Case("pvse", "vocab.pkl"),
    "vse_infty_region_bert": Case("vse_infty", "vocab.txt"),
    "vse_infty_region_bigru": Case("vse_infty", "coco_precomp_vocab.json"),
    "vsepp_precomp_gru": Case("vsepp", "coco_precomp_vocab.pkl"),
}


def as_data(folder: Path, out: Path) -> list[str]:
    """Write the case's captions and inputs as a user has them; options of the commands that say where."""
    inputs, captions = np.load(folder / "inputs.npz"), captions_of(folder)
    owner = inputs["caption_image_index"]
    rows = [
        {"image": f"{n}.png", "captions": [c for c, m in zip(captions, owner, strict=True) if m == n], "split": "test"}
        for n in range(int(owner.max()) + 1)
    ]
    assert [caption for row in rows for caption in row["captions"]] == captions
    (out / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "images_uint8" in inputs:
        (out / "images").mkdir()
        for n, picture in enumerate(inputs["images_uint8"]):
            Image.fromarray(picture).save(out / "images" / f"{n}.png")
        return ["--images", str(out / "images")]
    values = inputs["image_features"]
    arrays = {"pooled": values} if values.ndim == 2 else {"vectors": values, "lengths": inputs["image_lengths"]}
    np.savez(out / "features.npz", **arrays)
    return ["--features", str(out / "features.npz")]


def captions_of(folder: Path) -> list[str]:
    return (folder / "captions.txt").read_text(encoding="utf-8").splitlines()


def encodable(folder: Path) -> Features | Pixels:
    """The recorded inputs of the image side."""
    inputs = np.load(folder / "inputs.npz")
    if "images_uint8" in inputs:
        pixels = (inputs["images_uint8"] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
        return Pixels(pixels.astype(np.float32).transpose(0, 3, 1, 2))
    values = inputs["image_features"]
    if values.ndim == 2:
        return Features(None, pooled=values)
    return Features(values, lengths=inputs["image_lengths"])


MEASURES = {"R@1": 0, "R@5": 1, "R@10": 2, "median rank": 3, "mean rank": 4}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_whole_line(reference: Path, tmp_path: Path, name: str) -> None:
    case, folder, run, x = CASES[name], reference / "parity" / name, tmp_path / "run", tmp_path / "x"
    words = [] if case.vocabulary is None else ["--vocabulary", folder / case.vocabulary]
    call("import-checkpoint", case.system, folder / "checkpoint.pth", *words, "--out", run)
    model, size = mm.load(run), int(np.load(folder / "inputs.npz")["eval_batch_size"])
    expected, captions = np.load(folder / "expected.npz"), captions_of(folder)
    images, texts = model.encode_images(encodable(folder)), model.encode_texts(captions, batch_size=size)
    if case.recorded:
        scores = model.similarity(images, texts).detach()
        np.testing.assert_allclose(scores, expected["scores"], rtol=0, atol=5e-5)
    if case.system != "dive":
        alone = model.encode_texts(captions, batch_size=1).tensors()
        assert all(torch.allclose(value, alone[key], rtol=0, atol=1e-5) for key, value in texts.tensors().items())
    further, data = as_data(folder, tmp_path), tmp_path / "captions.jsonl"
    told = call("evaluate", run, "--data", data, *further, "--batch-size", size, "--json")
    rows = [row for row in json.loads(told) if row["metric"] in MEASURES]
    assert len(rows) == 10
    if further[0] == "--images":
        paths = [tmp_path / "images" / f"{n}.png" for n in range(len(images))]
        images = model.encode_images(paths)
        again = model.encode_images([Image.open(path) for path in paths])
        assert all(torch.equal(value, again.tensors()[key]) for key, value in images.tensors().items())
    elif case.recorded:
        for row in rows:
            wanted = expected[row["direction"]][MEASURES[row["metric"]]]
            np.testing.assert_allclose(row["value"], wanted, rtol=1e-6, err_msg=str(row))
    assert f"{len(images)} images" in call("index", data, *further, "--model", run, "--out", x)
    for query in captions[::7]:
        scores = model.similarity(model.encode_texts([query]), images).detach()[0]
        hits = json.loads(call("search", x, query, "-k", 3, "--json"))["hits"]
        best = scores.sort(descending=True).values[:3]
        # The index stores half precision.
        np.testing.assert_allclose([hit["score"] for hit in hits], best, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_the_graph_comes_along_and_learns_on(reference: Path, tmp_path: Path) -> None:
    folder = reference / "parity" / "hrem_region_bert"
    files: dict[str, Any] = {"file": folder / "checkpoint.pth", "vocabulary": folder / "vocab.txt"}
    fresh = mm.import_checkpoint("hrem", out=tmp_path / "fresh", **files)
    criterion = folder / "criterion_state.pth"
    told = call(
        *("import-checkpoint", "hrem", files["file"], "--vocabulary", files["vocabulary"]),
        *("--criterion", criterion, "--out", tmp_path / "run"),
    )
    assert "weights from criterion_state.pth" in told and fresh.notes["imported"]["relation"] == "fresh"
    model = mm.load(tmp_path / "run")
    assert model.fingerprint() == fresh.fingerprint()
    theirs = read_official(criterion).state()
    ours = model.training_state()
    assert len(ours) == len(theirs) == 20
    name = "adj_model.adj_learning.mlp_t2i.3.weight"
    assert torch.equal(ours["relation.relevance_t2i.2.weight"], theirs[name])
    again = mm.load(tmp_path / "fresh").training_state()
    assert all(torch.equal(value, again[key]) for key, value in fresh.training_state().items())
    further = as_data(folder, tmp_path)
    pairs = mm.Pairs.read(tmp_path / "captions.jsonl", features=further[1]).split("test")
    config = mm.TrainConfig(epochs=1, device="cpu")
    trained = mm.train(model.requires_grad_(), pairs, out=tmp_path / "more", config=config, say=None)
    assert trained.fingerprint() != fresh.fingerprint()
    with pytest.raises(CheckpointError, match="holds 2 state dicts, expected 1"):
        mm.import_checkpoint("hrem", out=tmp_path / "odd", criterion=files["file"], **files)
    with pytest.raises(CheckpointError, match=r"was trained with BERT; give its vocab[.]txt"):
        importer("hrem").build(
            read_official(files["file"]), read_vocabulary(reference / "parity" / "dive_butd_bigru" / "vocab.pkl")
        )


@pytest.mark.slow
def test_weights_alone_need_an_option(reference: Path, tmp_path: Path) -> None:
    folder, alone = reference / "parity" / "pvse_coco_k2", tmp_path / "coco.pth"
    torch.save({f"module.{k}": v.clone() for k, v in read_official(folder / "checkpoint.pth").state().items()}, alone)
    arguments = ["import-checkpoint", "pvse", alone, "--vocabulary", folder / "vocab.pkl"]
    assert "note" in call(*arguments, "--out", tmp_path / "a")
    told = call(*arguments, "--option", "legacy=true", "--out", tmp_path / "b")
    assert "text_global=last_step" in told and "note" not in told


def test_the_page_makes_files_of_the_layout_of_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "test_caps.txt" in code]
    monkeypatch.chdir(tmp_path)
    features = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    Path("test_caps.txt").write_text("".join(f"caption {n}\n" for n in range(10)), encoding="utf-8")
    for array in (features, features.repeat(5, axis=0)):
        np.save("test_ims.npy", array)
        exec(block, {})
        pairs = mm.Pairs.read("test.jsonl", features="test.npy")
        np.testing.assert_array_equal(pairs.images.read_features().vectors, features)
        assert pairs.items[1].captions == tuple(f"caption {n}" for n in range(5, 10))


def test_options_print_as_pythons_and_typos_are_refused(theirs: Theirs, tmp_path: Path) -> None:
    from manymatch.cli.import_checkpoint import _options

    read = _options(["legacy=False", "a=true", "b=None", "c=3", "d=word"])
    assert read == {"legacy": False, "a": True, "b": None, "c": 3, "d": "word"}
    out, words = tmp_path / "run", theirs.vocabulary
    with pytest.raises(UnknownName, match="did you mean 'finetune'"):
        mm.import_checkpoint("vsepp", theirs.checkpoint, out, words, options={"finetun": True})
    with pytest.raises(CheckpointError, match=r"says margin=0\.3, --option says 0\.5; leave it out"):
        mm.import_checkpoint("vsepp", theirs.checkpoint, out, words, options={"margin": 0.5})
    assert not out.exists()


def test_another_system_with_the_same_weights_and_weights_that_diverged(theirs: Theirs, tmp_path: Path) -> None:
    whole = torch.load(theirs.checkpoint, weights_only=False)
    whole["opt"].cross_attn = "i2t"
    torch.save(whole, tmp_path / "scan.pth")
    with pytest.raises(CheckpointError, match="trained with cross_attn='i2t', so it is another system's"):
        mm.import_checkpoint("vsepp", tmp_path / "scan.pth", tmp_path / "run", theirs.vocabulary)
    del whole["opt"].cross_attn
    whole["model"][0]["fc.bias"][3] = float("nan")
    torch.save(whole, tmp_path / "nan.pth")
    with pytest.raises(CheckpointError, match=r"weight 'img_enc\.fc\.bias' holds NaN"):
        mm.import_checkpoint("vsepp", tmp_path / "nan.pth", tmp_path / "run", theirs.vocabulary)
