"""Tiny pretrained networks with random weights, as `save_pretrained` writes them, of every architecture of towers.

Each function fills a folder with configuration, safetensors, image processor and (where it reads text) tokeniser, and
returns the folder. The same seed gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

SIDE, PATCH, WIDTH = 32, 8, 32
"""Of pictures, of patches, and of the hidden states: 16 patches a picture."""
JOINT = 24
"""Width of the joint space of CLIP, which projects both sides; SigLIP's is that of its hidden states."""
WORDS = 16
"""Longest text, in tokens, marks included."""

_VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "patch_size": PATCH,
}
_TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": WORDS,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and advice."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@torch.no_grad()
def _stir(model: nn.Module, seed: int) -> nn.Module:
    """Weights large enough that pictures differ by more than rounding."""
    made = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if value.ndim >= 2:
            value.copy_(torch.randn(value.shape, generator=made) * value.shape[-1] ** -0.5)
        elif name.endswith("bias"):
            value.copy_(torch.randn(value.shape, generator=made) * 0.1)
        elif "norm" in name or "lambda" in name:
            value.copy_(1.0 + torch.randn(value.shape, generator=made) * 0.1)
        elif value.numel() > 1:
            value.copy_(torch.randn(value.shape, generator=made))
    return model.eval()


def _write(folder: Path, model: nn.Module, processor: Any, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        _stir(model, seed).save_pretrained(folder)
        if processor is not None:
            processor.save_pretrained(folder)
    return folder


# ---- networks with both halves


def tiny_clip(folder: Path, seed: int = 0) -> Path:
    """CLIP: pictures and texts projected to one space of `JOINT`."""
    import transformers as library

    vision = {**_VISION, "image_size": SIDE, "intermediate_size": 64}
    text = {**_TEXT, **clip_tokens(folder)}
    with quiet():
        config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=JOINT)
        model = library.CLIPModel(config)
    processor = library.CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, do_convert_rgb=True
    )
    return _write(folder, model, processor, seed)


def tiny_siglip(folder: Path, seed: int = 0) -> Path:
    """SigLIP, and SigLIP 2 of fixed size, which is the same network."""
    import transformers as library

    vision = {**_VISION, "image_size": SIDE, "intermediate_size": 64}
    text = {**_TEXT, **siglip_tokens(folder)}
    with quiet():
        model = library.SiglipModel(library.SiglipConfig(text_config=text, vision_config=vision))
    processor = library.SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return _write(folder, model, processor, seed)


def tiny_siglip2(folder: Path, seed: int = 0) -> Path:
    """SigLIP 2 that keeps a picture's proportions (NaFlex): at most 20 patches of `PATCH`."""
    import transformers as library

    vision = {**_VISION, "num_patches": 16, "intermediate_size": 64}
    text = {**_TEXT, **siglip2_tokens(folder)}
    with quiet():
        model = library.Siglip2Model(library.Siglip2Config(text_config=text, vision_config=vision))
    processor = library.Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=20)
    return _write(folder, model, processor, seed)


# ---- networks of pictures


def tiny_dinov2(folder: Path, seed: int = 0) -> Path:
    """DINOv2, trained at another size than it is given (its places are interpolated)."""
    import transformers as library

    model = library.Dinov2Model(library.Dinov2Config(**_VISION, image_size=SIDE + PATCH, mlp_ratio=2))
    processor = library.BitImageProcessorPil(
        size={"shortest_edge": SIDE + 8},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    return _write(folder, model, processor, seed)


def tiny_vit(folder: Path, seed: int = 0) -> Path:
    """A ViT saved with its classifier, as most are."""
    import transformers as library

    config = library.ViTConfig(**_VISION, image_size=SIDE, intermediate_size=64, num_labels=5)
    processor = library.ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return _write(folder, library.ViTForImageClassification(config), processor, seed)


# ---- tokenisers: what each text half reads

SENTENCE = (
    "a an the one two three small medium large thing things circle circles square star triangle triangles cross "
    "crosses heart hearts moon moons ring row column and above below in on of at left right top bottom middle black "
    "blue green lilac mint orange pink purple red rose sand sky stone yellow"
)
"""Every word of the toy world."""


def _pieces(suffix: str, marks: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte pairs that make some of the toy world's words whole: numbers, the marks last, and merges.

    Made by hand: what a trainer makes of letters that are as frequent changes from call to call.
    """
    letters = [*"abcdefghijklmnopqrstuvwxyz.,!'", "Ċ", "Ġ"]
    pieces, merges = [*letters, *(letter + suffix for letter in letters if suffix)], []
    for word in SENTENCE.split()[::2]:
        symbols = [*word[:-1], word[-1] + suffix]
        for n in range(1, len(symbols)):
            pair = "".join(symbols[:n]), symbols[n]
            if "".join(pair) not in pieces:
                pieces.append("".join(pair))
                merges.append(pair)
    return {piece: n for n, piece in enumerate([*pieces, *marks])}, merges


def clip_tokens(folder: Path) -> dict[str, Any]:
    """Writes CLIP's tokeniser; what the text configuration must say for it."""
    import transformers as library

    start, end = "<|startoftext|>", "<|endoftext|>"
    numbers, merges = _pieces("</w>", [start, end])
    with quiet():
        library.CLIPTokenizer(vocab=numbers, merges=merges, model_max_length=WORDS).save_pretrained(folder)
    marks = {"bos_token_id": numbers[start], "eos_token_id": numbers[end], "pad_token_id": numbers[end]}
    return {"vocab_size": len(numbers), **marks}


def siglip_tokens(folder: Path) -> dict[str, Any]:
    """Writes SigLIP's tokeniser (SentencePiece); what the text configuration must say for it."""
    import sentencepiece
    import transformers as library

    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SENTENCE] * 3),
        model_writer=made,
        vocab_size=80,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    (folder / "spiece.model").write_bytes(made.getvalue())
    with quiet():
        reader = library.SiglipTokenizer(
            str(folder / "spiece.model"), model_max_length=WORDS, model_input_names=["input_ids"]
        )
        reader.save_pretrained(folder)
    return {"vocab_size": len(reader.get_vocab()), "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}


def siglip2_tokens(folder: Path) -> dict[str, Any]:
    """Writes SigLIP 2's tokeniser (byte pairs, padded on the right); what the text configuration must say for it."""
    import transformers as library
    from tokenizers import processors

    marks = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters, merges = _pieces("", [])
    numbers = {word: n for n, word in enumerate([*marks, "▁", *letters])}
    with quiet():
        reader = library.Siglip2Tokenizer(
            vocab=numbers,
            merges=merges,
            model_max_length=WORDS,
            padding_side="right",
            model_input_names=["input_ids"],
        )
        reader._tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", 1)]
        )
        reader.save_pretrained(folder)
    return {"vocab_size": len(numbers), "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}


def bert_tokens(folder: Path) -> dict[str, Any]:
    """Writes BERT's tokeniser; what its configuration must say for it."""
    import transformers as library

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*SENTENCE.split(), *"abcdefghijklm.,!", *(f"##{c}" for c in "abcdefghijklms"), "##ing"]
    numbers = {piece: n for n, piece in enumerate(dict.fromkeys([*marks, *pieces]))}
    with quiet():
        library.BertTokenizer(vocab=numbers, model_max_length=WORDS).save_pretrained(folder)
    return {"vocab_size": len(numbers), "pad_token_id": 0}


# ---- networks of texts


def tiny_bert(folder: Path, seed: int = 0, *, pooler: bool = True) -> Path:
    """BERT, with the pooler it was trained with or without."""
    import transformers as library

    config = library.BertConfig(**_TEXT, **bert_tokens(folder))
    with quiet():
        model = library.BertModel(config, add_pooling_layer=pooler)
    return _write(folder, model, None, seed)


def tiny_modernbert(folder: Path, seed: int = 0) -> Path:
    """ModernBERT saved with its head, as it is: layers of local and of global attention."""
    import transformers as library

    said = {**_TEXT, **bert_tokens(folder), "num_hidden_layers": 3, "local_attention": 4}
    marks = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
    with quiet():
        model = library.ModernBertForMaskedLM(library.ModernBertConfig(**{**said, **marks}))
    return _write(folder, model, None, seed)


def tiny_minilm(folder: Path, seed: int = 0, *, dense: int | None = None) -> Path:
    """MiniLM as sentence-transformers saves it: a BERT, the mean of its states, perhaps a linear map, unit length."""
    import json

    from safetensors.torch import save_file

    tiny_bert(folder, seed, pooler=False)
    parts = [("models.Transformer", ""), ("models.Pooling", "1_Pooling")]
    parts += [("models.Dense", "2_Dense")] if dense else []
    parts += [("models.Normalize", f"{len(parts)}_Normalize")]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.{kind}"}
        for n, (kind, path) in enumerate(parts)
    ]
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    files: dict[str, Any] = {
        "modules.json": listed,
        "sentence_bert_config.json": {"max_seq_length": WORDS - 2, "do_lower_case": False},
        "1_Pooling/config.json": pooling,
    }
    if dense:
        kind = "torch.nn.modules.activation.Tanh"
        files["2_Dense/config.json"] = {
            "in_features": WIDTH,
            "out_features": dense,
            "bias": True,
            "activation_function": kind,
        }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    if dense:
        layer = _stir(nn.Linear(WIDTH, dense), seed + 1)
        save_file(
            {f"linear.{k}": v.contiguous() for k, v in layer.state_dict().items()}, folder / "2_Dense/model.safetensors"
        )
    return folder
