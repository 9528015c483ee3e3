"""Order embeddings against the authors' numbers, and what a sign says about the side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.embeddings import Points
from manymatch.losses import Scores, Triplet
from manymatch.similarity import Order

PARITY = Path(__file__).parents[1] / "parity" / "pvse_losses.npz"


def corner(n: int, d: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(n, d, generator=draw, dtype=torch.float64), dim=-1).abs()


def test_scores_and_gradients_equal_the_official_implementation() -> None:
    recorded = np.load(PARITY)
    images, texts = (torch.from_numpy(recorded[f"in.{side}3"]).requires_grad_() for side in ("img", "txt"))
    scores = Order()(Points(images), Points(-texts))
    np.testing.assert_allclose(scores.detach(), recorded["out.scores3"], rtol=0, atol=1e-6)
    loss = Triplet(0.05)(Scores.of(scores), torch.eye(5, dtype=torch.bool))
    np.testing.assert_allclose(loss.detach(), recorded["out.ranking_loss3"], rtol=1e-5)
    loss.backward()
    for tensor, name in ((images, "d_img3"), (texts, "d_txt3")):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad, recorded[f"out.{name}"], rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 999), d=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_by_its_definition_whoever_asks(seed: int, d: int) -> None:
    images, texts = corner(3, d, seed), corner(4, d, seed + 1)
    expected = -(texts[None] - images[:, None]).clamp(min=0).square().sum(-1).sqrt()
    torch.testing.assert_close(Order()(Points(images), Points(-texts)), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Order()(Points(-texts), Points(images)).T, expected, rtol=0, atol=1e-12)


def test_an_image_above_its_caption_breaks_no_order() -> None:
    image, caption = torch.tensor([[0.6, 0.8, 0.3]]), torch.tensor([[0.5, 0.8, 0.0]])
    assert Order()(Points(image), Points(-caption)).item() == 0.0
    assert Order()(Points(caption), Points(-image)).item() < -0.3


def test_two_of_one_side_compare_by_distance_also_in_mixed_company() -> None:
    images, texts = corner(3, 5, 0), corner(4, 5, 1)
    both = Points(torch.cat([images, -texts]))
    scores = Order()(both, both)
    torch.testing.assert_close(scores[:3, :3], -torch.cdist(images, images), rtol=0, atol=1e-7)
    torch.testing.assert_close(scores[3:, 3:], -torch.cdist(texts, texts), rtol=0, atol=1e-7)
    torch.testing.assert_close(scores[:3, 3:], Order()(Points(images), Points(-texts)), rtol=0, atol=1e-12)
