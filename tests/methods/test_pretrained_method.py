"""The method `pretrained`, and pretrained text towers inside other methods: frozen, tuned and by LoRA."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.encoders.pretrained.hub import Found
from manymatch.errors import CheckpointError, DataError
from manymatch.index import Index
from manymatch.methods import Model, method_class, methods
from manymatch.training import TrainConfig, train
from manymatch.training.optimiser import make_optimiser
from tiny_towers import bert_tokens, tiny_clip, tiny_dinov2, tiny_minilm, tiny_siglip, tiny_siglip2

SMALL: dict[str, Any] = {"dim": 16, "hidden": 16, "batch": 16, "captions": 2, "least_count": 1}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("towers") / "clip")


@pytest.fixture(scope="module")
def few(world: Pairs) -> Pairs:
    return world.take(range(24))


@pytest.mark.parametrize("make", [tiny_clip, tiny_siglip, tiny_siglip2])
def test_it_embeds_as_the_library_does(make: Any, few: Pairs, tmp_path: Path) -> None:
    import transformers as library

    folder = make(tmp_path / "network")
    model = mm.load(f"hf:{folder}")
    network = library.AutoModel.from_pretrained(folder).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    processor = library.AutoImageProcessor.from_pretrained(folder, backend="pil")
    texts, pictures = few.captions[:12], few.images.decode()
    padding = True if make is tiny_clip else "max_length"
    given = tokenizer(texts, padding=padding, truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        wanted = [
            network.get_text_features(**given).pooler_output,
            network.get_image_features(**processor(pictures, return_tensors="pt")).pooler_output,
        ]
    wanted = [torch.nn.functional.normalize(vectors, dim=-1) for vectors in wanted]
    found = [model.encode_texts(texts).vectors, model.encode_images(few.images).vectors]
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=2e-5)
    # Features of pictures are what float16 holds.
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=2e-3)
    torch.testing.assert_close(model.similarity(*map(mm.Points, found)), wanted[0] @ wanted[1].T, rtol=0, atol=3e-3)


def test_it_says_what_it_is_and_trains_nothing(clip: Path) -> None:
    model = mm.load(f"hf:{clip}")
    assert model.summary == "pretrained: as it is" and model.parameter_count() == 0 and model.device.type == "cpu"
    row = next(row for row in mm.methods_table() if row["name"] == "pretrained")
    assert row["kind"] == "as it is" and row["fields"] == {} and row["similarity"] == "Cosine"
    assert not model.search_state()
    assert model.knows("a red circle") and not model.knows("")
    copy.deepcopy(model)


def test_one_tower_names_both_and_other_towers_are_refused(clip: Path, few: Pairs, tmp_path: Path) -> None:
    alone = mm.method("pretrained").build(few, image_tower=f"hf:{clip}")
    assert alone.fingerprint() == mm.load(f"hf:{clip}").fingerprint()
    with pytest.raises(DataError, match=r"image tower none, text tower none; expected --image-tower hf:NAME"):
        mm.method("pretrained").build(few)
    with pytest.raises(DataError, match=r"image tower cnn, text tower bigru; expected"):
        mm.method("pretrained").build(few, image_tower="cnn", text_tower="bigru")
    minilm = tiny_minilm(tmp_path / "minilm")
    with pytest.raises(DataError, match=r"makes vectors of width 24, .* of 32; expected two halves of one space"):
        mm.method("pretrained").build(few, image_tower=f"hf:{clip}", text_tower=f"hf:{minilm}")
    # A text network that was taught another's space stands in for its text half.
    taught = tiny_minilm(tmp_path / "taught", dense=24)
    model = mm.method("pretrained").build(few, image_tower=f"hf:{clip}", text_tower=f"hf:{taught}")
    assert model.encode_texts(few.captions[:3]).vectors.shape == (3, 24)


def test_a_network_without_both_halves_is_no_model(tmp_path: Path) -> None:
    for make, kind in ((tiny_dinov2, "dinov2"), (tiny_minilm, "sentence-transformers")):
        folder = make(tmp_path / kind)
        with pytest.raises(DataError, match=rf"{kind} is no network of pictures and texts \(clip, siglip, siglip2\)"):
            mm.load(f"hf:{folder}")
    with pytest.raises(DataError, match="no such folder"):
        mm.load(f"hf:{tmp_path / 'nowhere'}")


def test_the_fingerprint_goes_by_what_the_network_is_and_not_where_it_lies(clip: Path, tmp_path: Path) -> None:
    same, other = tiny_clip(tmp_path / "same"), tiny_clip(tmp_path / "other", seed=1)
    first = mm.load(f"hf:{clip}").fingerprint()
    assert mm.load(f"hf:{same}").fingerprint() == first != mm.load(f"hf:{other}").fingerprint()


# ---- in methods that train


def built(clip: Path, few: Pairs, name: str = "vsepp", **settings: Any) -> Model:
    tower = f"hf:{clip}"
    return mm.method(name, **{**SMALL, **settings}).build(few, image_tower=tower, text_tower=tower)


@pytest.mark.parametrize("name", [name for name in methods() if "text_tuning" not in method_class(name).fixed])
def test_every_method_takes_a_step_on_pretrained_towers(name: str, clip: Path, few: Pairs) -> None:
    model = built(clip, few, name)
    rows = next(model.method.sampler().epoch(few, seed=0, epoch=0))
    terms = model.training_step(model.batch(few, rows.images, rows.captions, rows.matches))
    terms["loss"].backward()
    assert torch.isfinite(terms["loss"])
    frozen = ("images.backbone.", "texts.network.")
    assert not any(key.startswith(frozen) for key in model.state_dict()), "they are no part of the run"


@pytest.mark.parametrize("tuning", ["tuned", "lora"])
def test_tuning_reaches_the_text_network_and_comes_back_from_disk(
    tuning: str, clip: Path, few: Pairs, tmp_path: Path
) -> None:
    model = built(clip, few, text_tuning=tuning, backbone_rate=0.5, layer_decay=0.5)
    own = [name for name, p in model.named_parameters() if p.requires_grad and name.startswith("texts.network.")]
    assert own and all("lora_" in name for name in own) == (tuning == "lora")
    groups = {group["base"] / 1e-2 for group in make_optimiser(model, mm.methods.Recipe(lr=1e-2)).param_groups}
    assert groups == ({1.0} if tuning == "lora" else {1.0, 0.5, 0.25, 0.125})
    config = TrainConfig(epochs=2, lr=1e-2, precision="float32")
    out = train(model, few, validate=few, out=tmp_path / "run", config=config, say=None)
    again = mm.load(tmp_path / "run")
    texts = few.captions[:5]
    assert torch.equal(out.encode_texts(texts).vectors, again.encode_texts(texts).vectors)
    moved = torch.cat([p.detach().flatten() for n, p in out.named_parameters() if n in own])
    began = torch.cat(
        [p.detach().flatten() for n, p in built(clip, few, text_tuning=tuning).named_parameters() if n in own]
    )
    assert not torch.allclose(moved, began)
    from safetensors import safe_open

    with safe_open(tmp_path / "run" / "model.safetensors", framework="pt") as file:
        kept = [name for name in file.keys() if name.startswith("texts.network.")]  # noqa: SIM118
    assert all("lora_" in name for name in kept) == (tuning == "lora")
    if tuning == "lora":
        again.requires_grad_()
        assert all("lora_" in n for n, p in again.named_parameters() if p.requires_grad and "texts.network" in n)


def test_tuning_is_for_pretrained_towers(few: Pairs) -> None:
    with pytest.raises(DataError, match=r"text_tuning=lora is for a pretrained network \(--text-tower hf:NAME\)"):
        mm.method("vsepp", **SMALL, text_tuning="lora").build(few, image_tower="cnn", text_tower="bigru")
    with pytest.raises(DataError, match=r"pretrained\.text_tuning: found 'tuned', but pretrained networks are taken"):
        mm.method("pretrained", text_tuning="tuned")


def test_a_run_needs_the_network_it_was_trained_on(clip: Path, few: Pairs, tmp_path: Path) -> None:
    folder = tiny_clip(tmp_path / "here" / "clip")
    model = built(folder, few)
    about = json.loads(json.dumps(model.describe()))
    assert Model.from_description(about).describe() == about
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="MANYMATCH_TOWERS"):
        Model.from_description(about)


def test_steps_on_frozen_towers_lower_the_loss(clip: Path, few: Pairs, tmp_path: Path) -> None:
    model = built(clip, few, "dive", head_width=8, slot_hidden=16, elements=2)
    train(model, few, out=tmp_path / "run", config=TrainConfig(epochs=20, lr=5e-3, precision="float32"), say=None)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_exported_halves_are_a_model(few: Pairs, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from onnx_models import image_model, text_model

    words = bert_tokens(tmp_path / "text")["vocab_size"]
    halves = image_model(tmp_path / "image.onnx"), text_model(tmp_path / "text" / "text.onnx", words=words)
    images, texts = (f"onnx:{path}" for path in halves)
    model = mm.method("pretrained").build(few, image_tower=images, text_tower=texts)
    assert model.parameter_count() == 0 and not model.search_state() and model.input_of_images.fragments == 0
    train(model, few, validate=few, out=tmp_path / "run", config=TrainConfig(), say=None)
    again = mm.load(tmp_path / "run")
    assert again.fingerprint() == model.fingerprint()
    pictures, captions = again.encode_images(few.images), again.encode_texts(few.captions)
    assert torch.equal(pictures.vectors, model.encode_images(few.images).vectors)
    scores = model.similarity(captions, pictures)
    with Index.build(again, few, tmp_path / "x", precision="float32") as index:
        hits = index.search(few.captions[0], k=3, bank=False).hits
    assert [hit.id for hit in hits] == [few.image_ids[n] for n in scores[0].argsort(descending=True)[:3].tolist()]
    assert mm.evaluate(again, few).value("RSUM", "both") == mm.evaluate(model, few).value("RSUM", "both")
    with pytest.raises(
        CheckpointError, match=r"'onnx:.*' is one half alone; name both with: manymatch train pretrained"
    ):
        mm.load(images)
    with pytest.raises(DataError, match=r"image\.onnx'?: inputs .* expected input_ids"):
        mm.method("pretrained").build(few, image_tower=images)


@pytest.mark.parametrize("tuning", ["frozen", "lora", "as it is"])
def test_a_network_of_the_hub_is_asked_for_at_its_revision(
    tuning: str, clip: Path, few: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def found(source: str) -> Found:
        asked.append(source)
        return Found(source, clip, "c0ffee")

    for module in ("encoders.pretrained.vision", "encoders.pretrained.images", "encoders.pretrained.texts"):
        monkeypatch.setattr(f"manymatch.{module}.find", found)
    monkeypatch.setattr("manymatch.methods.pretrained.find", found)
    if tuning == "as it is":
        model = mm.load("hf:someone/clip")
    else:
        model = mm.method("vsepp", **SMALL, image_tuning=tuning, text_tuning=tuning).build(
            few, image_tower="hf:someone/clip", text_tower="hf:someone/clip"
        )
    assert asked[0] == "hf:someone/clip", "at first whatever is there"
    asked.clear()
    about = json.loads(json.dumps(model.describe()))
    again = Model.from_description(about)
    assert set(asked) == {"hf:someone/clip@c0ffee"} and len(asked) >= 2
    again.load_search_state(model.search_state())
    assert again.fingerprint() == model.fingerprint()
    if tuning != "lora":
        assert model.images.backbone.source == "hf:someone/clip"  # type: ignore[union-attr]
    del about["images"]["backbone"]["revision"], about["texts"]["backbone"]["revision"]
    without = Model.from_description(about)
    without.load_search_state(model.search_state())
    assert without.fingerprint() == model.fingerprint(), "where it was found is no part of what it is"
