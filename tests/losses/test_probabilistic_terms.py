"""Losses on match probabilities and the regularisers around them, against PCME's and PCME++'s numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.draws import recorded
from manymatch.embeddings import Boxes, Encoded, Gaussians, Points, Samples, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.losses import KLPrior, MatchNLL, PseudoPositives, Scores, Uniformity, pseudo_targets, score
from manymatch.similarity import MatchProbability, SampledMatchProbability

PARITY = Path(__file__).parents[1] / "parity"


def leaves(recorded_: Any, *names: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(recorded_[f"in.{name}"]).requires_grad_() for name in names}


def close(tensor: torch.Tensor | None, expected: np.ndarray[Any, Any]) -> None:
    assert tensor is not None
    np.testing.assert_allclose(tensor.detach().reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [0, 1])
def test_equals_pcme(case: int) -> None:
    theirs = np.load(PARITY / "pcme_soft_contrastive.npz")
    options = json.loads(str(theirs["options"]))["cases"][case]
    inputs = leaves(theirs, "img", "cap", "img_logsigma", "cap_logsigma")
    both = [
        Encoded(Samples(inputs[m]), tensors={"samples": inputs[m], "log_sigma": inputs[f"{m}_logsigma"]})
        for m in ("img", "cap")
    ]
    similarity = SampledMatchProbability(options["init_negative_scale"], options["init_shift"])
    scores, matches = score(similarity, both[0].embedding, both[1].embedding), torch.eye(5).bool()
    close(similarity.probability(scores.i2t), theirs[f"out.match_prob{case}"])
    term = MatchNLL(positives="diagonal")
    for side, rows in zip(("i2t", "t2i"), term.of_pairs(scores, matches), strict=True):
        close(rows.diagonal().sum(), theirs[f"out.{side}_pos_loss{case}"])
        close(rows[~matches].sum(), theirs[f"out.{side}_neg_loss{case}"])
        close(rows.sum(), theirs[f"out.{side}_loss{case}"])
    close(term.of_pairs(scores, matches)[0], theirs[f"out.nll_rows{case}"].reshape(5, 5))
    nll = term(scores, matches)
    vib, uniform = KLPrior(reduction="sum", mode="released")(*both), Uniformity()(*both)
    close(vib, theirs[f"out.vib_loss{case}"])
    close(uniform, theirs["out.uniform"])
    loss = nll + options["vib_beta"] * vib + options["uniform_lambda"] * uniform
    close(loss, theirs[f"out.loss{case}"])
    loss.backward()
    for name, tensor in inputs.items():
        close(tensor.grad, theirs[f"out.d_{name}{case}"])
    close(similarity.scale.grad, theirs[f"out.d_negative_scale{case}"])
    close(similarity.shift.grad, theirs[f"out.d_shift{case}"])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_equals_the_sampled_loss_of_pcmepp(case: int) -> None:
    theirs = np.load(PARITY / "pcmepp_mc_loss.npz")
    options = json.loads(str(theirs["options"]))["cases"][case]
    inputs = leaves(theirs, "img_mean", "img_std", "cap_mean", "cap_std")
    noise = {m: torch.from_numpy(theirs[f"in.eps_{m}"]) for m in ("img", "cap")}
    embeddings = [
        Samples(inputs[f"{m}_mean"][:, None] + inputs[f"{m}_std"].exp()[:, None] * noise[m]) for m in ("img", "cap")
    ]
    if options["prob_distance"] == "squared_l2":
        differences = embeddings[0].vectors[:, None, :, None] - embeddings[1].vectors[None, :, None, :]
        each = 10 * (1 - differences.square().sum(-1)).flatten(2)
        yes, no = functional.logsigmoid(each), functional.logsigmoid(-each)
        scores = Scores.of(yes.logsumexp(-1) - no.logsumexp(-1))
    else:
        scores = score(SampledMatchProbability(5.0, 5.0), *embeddings)
    both = [Encoded(Gaussians(inputs[f"{m}_mean"], inputs[f"{m}_std"])) for m in ("img", "cap")]
    matches = torch.from_numpy(theirs["in.matched"]).bool()
    loss = MatchNLL()(scores, matches) + options["vib_beta"] * KLPrior(reduction="mean")(*both)
    close(loss, theirs[f"out.loss{case}"])
    loss.backward()
    for name, tensor in inputs.items():
        close(tensor.grad, theirs[f"out.d_{name}{case}"])


def pcmepp_matches(theirs: Any, kind: str) -> tuple[torch.Tensor, float]:
    """What is given as matches, and the smoothing that makes their targets of it."""
    if kind == "mixed":
        return torch.from_numpy(theirs["in.matched_mixed"]), 0.0
    if kind == "none":
        return torch.eye(6).bool(), 0.0
    return torch.from_numpy(theirs["in.matched_smooth"]) > 0.5, 1e-4


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_equals_pcmepp(case: int) -> None:
    theirs = np.load(PARITY / "pcmepp_loss.npz")
    options = json.loads(str(theirs["options"]))["cases"][case]
    inputs = leaves(theirs, "img_mean", "img_std", "cap_mean", "cap_std")
    both = [Encoded(Gaussians(inputs[f"{m}_mean"], inputs[f"{m}_std"])) for m in ("img", "cap")]
    measure = {"csd": "csd", "wdist": "wasserstein"}[options["prob_distance"]]
    similarity = MatchProbability(options["init_negative_scale"], options["init_shift"], measure)  # type: ignore[arg-type]
    scores = score(similarity, both[0].embedding, both[1].embedding)
    close(scores.i2t, theirs[f"out.logits{case}"])
    matches, smoothing = pcmepp_matches(theirs, options["matched"])
    alpha = options["smoothness_alpha"]
    base = PseudoPositives(0.0, smoothing=smoothing)(scores, matches)
    close(base, 2 * theirs[f"out.base_loss{case}"])
    matching = PseudoPositives(alpha, smoothing=smoothing, mode="released")(scores, matches)
    close((matching - base) / alpha, theirs[f"out.pseudo_i2t{case}"] + theirs[f"out.pseudo_t2i{case}"])
    targets = matches.float() * (1 - 2 * smoothing) + smoothing
    raised = [
        pseudo_targets(side, truth, mode="released") for side, truth in ((scores.i2t, targets), (scores.t2i, targets.T))
    ]
    for side, found in zip(("i2t", "t2i"), raised, strict=True):
        close(found, theirs[f"out.pseudo_matched_{side}{case}"])
    vib = KLPrior(reduction="mean", mode="released")(*both)
    if options["vib_beta"]:
        close(vib, theirs[f"out.vib_loss{case}"])
    loss = matching + options["vib_beta"] * vib
    close(loss, theirs[f"out.loss{case}"])
    loss.backward()
    for name, tensor in inputs.items():
        close(tensor.grad, theirs[f"out.d_{name}{case}"])
    close(similarity.scale.grad, theirs[f"out.d_negative_scale{case}"])
    close(similarity.shift.grad, theirs[f"out.d_shift{case}"])


def test_uniformity_equals_pcme_with_recorded_rows() -> None:
    theirs = np.load(PARITY / "pcme_uniform_subsample.npz")
    x = torch.from_numpy(theirs["in.x"])

    def halves(vectors: torch.Tensor) -> list[Encoded]:
        return [Encoded(Points(part)) for part in vectors.chunk(2)]

    with recorded({"uniform rows.0": torch.from_numpy(theirs["in.indices"])}):
        close(Uniformity()(*halves(x)), theirs["out.uniform"])
    close(Uniformity()(*halves(x[:100])), theirs["out.uniform_all"])
    assert not torch.equal(Uniformity()(*halves(x)), Uniformity()(*halves(x))), "each time other rows"


# ---- match probability


@given(seed=st.integers(0, 999), images=st.integers(1, 4), captions=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_directions_coincide_and_the_sum_is_the_mean_times_the_pairs(seed: int, images: int, captions: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, captions, generator=draw, dtype=torch.float64) * 5
    matches = torch.rand(images, captions, generator=draw) < 0.5
    matches[0, 0] = True
    i2t, t2i = MatchNLL().of_pairs(Scores.of(scores), matches)
    torch.testing.assert_close(i2t, t2i.T)
    p = torch.sigmoid(scores)
    torch.testing.assert_close(i2t, -torch.where(matches, p, 1 - p).log())
    one, other = (MatchNLL(reduction=r)(Scores.of(scores), matches) for r in ("sum", "mean"))  # type: ignore[arg-type]
    torch.testing.assert_close(one, other * scores.numel())
    torch.testing.assert_close(one, 2 * i2t.sum())


def test_one_sample_is_a_plain_logistic_loss_with_doubled_scalars() -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(4, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    similarity = SampledMatchProbability(1.5, 2.5).double()
    found = MatchNLL()(score(similarity, Samples(left[:, None]), Samples(right[:, None])), torch.eye(4).bool())
    logits = 5.0 - 3.0 * (torch.cdist(left, right).square() + 1e-6).sqrt()
    expected = 2 * functional.binary_cross_entropy_with_logits(logits, torch.eye(4).double(), reduction="sum")
    torch.testing.assert_close(found, expected)


def test_sure_and_wrong_stays_finite() -> None:
    scores = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    for term in (MatchNLL(), PseudoPositives()):
        loss = term(Scores.of(scores), torch.eye(2).bool())
        (gradient,) = torch.autograd.grad(loss, scores)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all() and (gradient.diagonal() < 0).all()


def test_a_sibling_is_a_match_unless_only_the_diagonal_counts() -> None:
    scores, matches = Scores.of(torch.full((2, 2), 8.0)), torch.ones(2, 2).bool()
    assert float(MatchNLL()(scores, matches)) < 0.01
    assert float(MatchNLL(positives="diagonal")(scores, matches)) > 32 - 1e-3
    with pytest.raises(DataError, match="expected as many images as captions"):
        MatchNLL(positives="diagonal")(Scores.of(torch.zeros(2, 3)), torch.ones(2, 3).bool())


# ---- pseudo-positives


def test_what_outscores_the_best_true_pair_is_taken_for_true() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    targets = torch.tensor([[0.9, 0.9, 0.1, 0.1]])
    torch.testing.assert_close(pseudo_targets(scores, targets), torch.tensor([[0.9, 0.9, 0.9, 0.1]]))
    above_first = torch.tensor([[1.0, 2.0, 1.5, 0.0]])
    torch.testing.assert_close(pseudo_targets(above_first, targets), targets)
    released = pseudo_targets(above_first, targets, mode="released")
    torch.testing.assert_close(released, torch.tensor([[0.9, 0.9, 0.9, 0.1]]))


def test_a_row_without_a_match_gets_no_pseudo_positive() -> None:
    targets = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    for mode in ("paper", "released"):
        assert torch.equal(pseudo_targets(torch.rand(2, 2), targets, mode=mode)[0], targets[0])  # type: ignore[arg-type]


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_batch_does_not_matter_in_paper_mode(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores, matches = torch.randn(3, 6, generator=draw), torch.arange(3)[:, None] == torch.arange(6) // 2
    order = torch.randperm(6, generator=draw)
    one = PseudoPositives(0.5)(Scores.of(scores), matches)
    torch.testing.assert_close(one, PseudoPositives(0.5)(Scores.of(scores[:, order]), matches[:, order]))


# ---- regularisers


def gaussian(mean: torch.Tensor, log_sigma: torch.Tensor) -> Encoded:
    return Encoded(Samples(mean[:, None]), tensors={"mean": mean, "log_sigma": log_sigma, "samples": mean[:, None] + 1})


@given(seed=st.integers(0, 999), n=st.integers(1, 4), d=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_prior_is_the_divergence_and_zero_at_the_prior(seed: int, n: int, d: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mean, log_sigma = (torch.randn(n, d, generator=draw, dtype=torch.float64) for _ in range(2))
    standard = gaussian(torch.zeros(n, d).double(), torch.zeros(n, d).double())
    found = KLPrior()(gaussian(mean, log_sigma), standard)
    one, other = torch.distributions.Normal(mean, log_sigma.exp()), torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(found, torch.distributions.kl_divergence(one, other).sum())
    assert float(KLPrior()(standard, standard)) == 0.0
    same = Encoded(Gaussians(mean, 2 * log_sigma))
    for mode in ("paper", "released"):
        torch.testing.assert_close(KLPrior(mode=mode)(same, same), 2 * found)  # type: ignore[arg-type]


def test_released_prior_reads_the_draws_and_the_deviation_as_a_variance() -> None:
    mean, log_sigma = torch.rand(2, 3), torch.rand(2, 3)
    item = gaussian(mean, log_sigma)
    expected = Encoded(Gaussians(mean + 1, log_sigma))
    torch.testing.assert_close(KLPrior(mode="released")(item, item), KLPrior()(expected, expected))
    assert not torch.allclose(KLPrior()(item, item), KLPrior()(expected, expected))
    named = Encoded(Points(mean), tensors={"mean": mean + 1, "log_variance": log_sigma})
    torch.testing.assert_close(KLPrior()(named, named), KLPrior()(expected, expected))
    with pytest.raises(DataError, match="the tower gave no 'mean': found none"):
        KLPrior()(Encoded(Points(mean)), item)


@given(seed=st.integers(0, 999), n=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_uniformity_is_at_most_zero_and_falls_with_distance(seed: int, n: int) -> None:
    x = torch.randn(2 * n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    near, far = (Uniformity()(*(Encoded(Points(part * s)) for part in x.chunk(2))) for s in (1.0, 2.0))
    assert float(far) < float(near) <= 0.0
    assert torch.isfinite(Uniformity()(*(Encoded(Points(part * 1e3)) for part in x.chunk(2))))


def test_uniformity_of_one_place_is_zero_and_has_a_gradient() -> None:
    x = torch.ones(3, 2, 4, requires_grad=True)
    value = Uniformity()(Encoded(Sets(x)), Encoded(Samples(x)))
    value.backward()
    assert float(value.detach()) == 0.0
    assert x.grad is not None and (x.grad == 0).all()
    with pytest.raises(DataError, match="uniformity: got boxes, expected sets, samples or points"):
        Uniformity()(Encoded(Boxes(x[:, 0], x[:, 0])), Encoded(Sets(x)))


def test_bad_settings() -> None:
    with pytest.raises(UnknownName, match="match_nll reduction 'total'"):
        MatchNLL(reduction="total")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="positives 'diag'"):
        MatchNLL(positives="diag")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="kl_prior reduction"):
        KLPrior(reduction="max")  # type: ignore[arg-type]
    for alpha, smoothing in ((-1.0, 0.0), (math.nan, 0.0), (0.1, 0.5)):
        with pytest.raises(DataError, match="expected alpha of at least 0 and smoothing"):
            PseudoPositives(alpha, smoothing=smoothing)
    with pytest.raises(UnknownName, match="mode 'official'"):
        PseudoPositives(mode="official")  # type: ignore[arg-type]
    for t, most in ((0.0, 128), (2.0, 1)):
        with pytest.raises(DataError, match="expected a positive t and at least 2"):
            Uniformity(t, most=most)
