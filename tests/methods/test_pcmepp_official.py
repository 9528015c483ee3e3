"""PCME++'s heads, similarity and losses together against recorded outputs of the official implementation.

Its backbone, CLIP, is left out there too: tokens of both its streams are recorded, and go straight into the heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from official_case import Values, check_norms, check_ranks, close, load
from torch import Tensor, nn

import manymatch as mm
from manymatch.embeddings import Encoded, Gaussians
from manymatch.encoders import TokenGaussianHead
from manymatch.encoders.base import lengths_to_valid
from manymatch.losses import Objective, pseudo_targets, score
from manymatch.runs.official_files import read_official
from manymatch.similarity import MatchProbability, Similarity

pytestmark = pytest.mark.slow

NAMES = {
    "img_enc.image_encoder.fc.": "images.mean.",
    "img_enc.image_encoder.gpool.": "images.mean_pool.",
    "img_enc.image_std_encoder.fc.": "images.log_variance.",
    "img_enc.image_std_encoder.gpool.": "images.log_variance_pool.",
    "txt_enc.linear.": "texts.mean.",
    "txt_enc.gpool.": "texts.mean_pool.",
    "txt_enc.std_linear.": "texts.log_variance.",
    "txt_enc.std_gpool.": "texts.log_variance_pool.",
    "criterion.shift": "similarity.shift",
    "criterion.negative_scale": "similarity.scale",
}


def our_name(name: str) -> str:
    start = max((start for start in NAMES if name.startswith(start)), key=len)
    return NAMES[start] + name[len(start) :]


class Heads(nn.Module):
    """What stands behind the backbone."""

    similarity: Similarity

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        method = mm.method("pcmepp", preset="published", mode="released", dim=32)
        widths = [state[f"{name}.weight"].shape[1] for name in ("img_enc.image_encoder.fc", "txt_enc.linear")]
        self.images, self.texts = (TokenGaussianHead(width, 32, context_heads=0) for width in widths)
        self.similarity, self.objective = method.similarity(), method.objective_terms()
        ours = {our_name(k): v.reshape(()) if k.startswith("criterion.") else v for k, v in state.items()}
        self.load_state_dict({**ours, **{f"objective.{k}": v for k, v in self.objective.state_dict().items()}})
        assert isinstance(self.objective, Objective)


@dataclass(frozen=True)
class Recorded:
    """The case's files."""

    inputs: Values
    expected: Values
    state: dict[str, Tensor]

    def encode(self, heads: Heads, images: Tensor, captions: Tensor) -> tuple[Encoded, Encoded]:
        """Items by number: tokens of the main stream and of the uncertainty stream through the heads."""
        tokens, words = (torch.from_numpy(self.inputs[name]) for name in ("image_tokens", "caption_tokens"))
        lengths = torch.from_numpy(self.inputs["caption_lengths"])[captions]
        whole = torch.ones(len(images), tokens.shape[2], dtype=torch.bool)
        return (
            heads.images.of_streams(*tokens[images].unbind(1), whole),
            heads.texts.of_streams(*words[captions].unbind(1), lengths_to_valid(lengths, words.shape[2])),
        )

    def batch(self) -> tuple[Tensor, Tensor]:
        """Images and captions of the training batch, by number."""
        captions = torch.from_numpy(self.inputs["train_caption_ids"])
        return torch.from_numpy(self.inputs["caption_image_index"])[captions], captions


@pytest.fixture(scope="module")
def case(reference: Path) -> Recorded:
    folder = reference / "parity" / "pcmepp_heads"
    state = dict(read_official(folder / "checkpoint.pth").state())
    return Recorded(load(folder / "inputs.npz"), load(folder / "expected.npz"), state)


def check_gaussians(images: Encoded, texts: Encoded, expected: Values, start: str = "") -> None:
    for short, side in (("img", images), ("cap", texts)):
        assert isinstance(side.embedding, Gaussians)
        close(side.embedding.mean, expected[f"{start}{short}_mean"])
        close(side.embedding.log_variance, expected[f"{start}{short}_std"])


def test_gaussians_scores_and_ranks(case: Recorded) -> None:
    heads, expected = Heads(case.state).eval(), case.expected
    with torch.inference_mode():
        images, texts = case.encode(heads, torch.arange(6), torch.arange(30))
        check_gaussians(images, texts, expected)
        assert isinstance(heads.similarity, MatchProbability)
        distances = heads.similarity.distance(images.embedding, texts.embedding)  # type: ignore[arg-type]
        close(-distances, expected["scores_csd"], 2e-5)
    owners = case.inputs["caption_image_index"]
    check_ranks(heads.similarity, images.embedding, texts.embedding, owners, expected)


def test_losses_and_every_gradient(case: Recorded) -> None:
    heads, expected = Heads(case.state).train(), case.expected
    images, captions = case.batch()
    matches = images[:, None] == images[None]
    close(matches.float() * (1 - 2e-4) + 1e-4, expected["matched"], 1e-6)
    assert matches.sum() > len(matches), "some images come twice"
    both = case.encode(heads, images, captions)
    check_gaussians(*both, expected, "train_")
    scores = score(heads.similarity, both[0].embedding, both[1].embedding)
    terms = heads.objective(scores, matches, *both)
    close(terms["loss"], expected["loss"], 0, share=1e-4)
    close(terms["kl"], expected["loss_vib"], 0, share=1e-4)
    truth = torch.from_numpy(expected["matched"])
    both_ways = raised(scores.i2t.detach(), truth) + raised(scores.t2i.detach(), truth.T)
    close(both_ways, expected["n_pseudo_gts"], 0)
    terms["loss"].backward()
    ours = {name: p.grad for name, p in heads.named_parameters() if p.grad is not None}
    names = [our_name(name) for name in expected["grad_names"].tolist()]
    assert len(names) == 46
    check_norms(ours, names, expected["grad_norms"], 1e-6, 1e-3)


def raised(scores: Tensor, matched: Tensor) -> int:
    """How many pairs of a direction besides each row's own count as matches because they score as high."""
    own = scores.gather(1, matched.argmax(dim=1, keepdim=True))
    targets = pseudo_targets(scores, matched, mode="released")
    assert bool(((targets > 0.5) == ((matched > 0.5) | (scores >= own))).all())
    return int((scores >= own).sum()) - len(scores)
