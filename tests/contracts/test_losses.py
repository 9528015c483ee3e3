"""Every loss term, found by its file: what any of them must keep."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch
from torch.nn import functional

import manymatch.losses as room
from manymatch.embeddings import Encoded, Samples
from manymatch.errors import DataError
from manymatch.losses import Containment, Objective, Regulariser, ScoreLoss, Scores, Taught


def found(base: type) -> list[type]:
    out = []
    for module in iter_modules(room.__path__):
        values = vars(import_module(f"manymatch.losses.{module.name}")).values()
        out += [v for v in values if isinstance(v, type) and issubclass(v, base) and v.__module__.endswith(module.name)]
    return [c for c in out if c.forward is not base.forward]


EXEMPT = {
    # Draws its negatives: two calls on the same scores differ, and a lower negative changes which is drawn. With
    # recorded draws its gradient and numbers are checked in its own tests.
    "DistanceWeighted": {"monotone", "order", "gradient"},
    # A negative above the row's true pair counts as a match, so lowering it costs.
    "PseudoPositives": {"monotone"},
    # A logarithm of a mean of numbers up to 1.
    "Uniformity": {"not negative"},
}


def skip_if_exempt(term: type, promise: str) -> None:
    if promise in EXEMPT.get(term.__name__, set()):
        pytest.skip(f"{term.__name__} does not promise it: {promise}")


SCORE_LOSSES = pytest.mark.parametrize("loss", found(ScoreLoss), ids=lambda c: c.__name__)
REGULARISERS = pytest.mark.parametrize("term", found(Regulariser), ids=lambda c: c.__name__)


def example(seed: int = 0, images: int = 4, each: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(images, images * each, generator=draw, dtype=torch.float64)
    matches = torch.arange(images)[:, None] == torch.arange(images * each)[None] // each
    return scores, matches


@SCORE_LOSSES
@pytest.mark.parametrize("seed", range(5))
def test_a_lower_negative_never_raises_it(loss: type[ScoreLoss], seed: int) -> None:
    skip_if_exempt(loss, "monotone")
    term, (scores, matches) = loss().double(), example(seed)
    before = float(term(Scores.of(scores), matches).detach())
    rows, columns = (~matches).nonzero(as_tuple=True)
    for n in range(0, len(rows), 5):
        lower = scores.clone()
        lower[rows[n], columns[n]] -= 0.3
        assert float(term(Scores.of(lower), matches).detach()) <= before + 1e-12


@SCORE_LOSSES
def test_order_of_the_batch_does_not_matter(loss: type[ScoreLoss]) -> None:
    skip_if_exempt(loss, "order")
    term, (scores, matches) = loss().double(), example()
    rows, columns = torch.randperm(4), torch.randperm(12)
    torch.testing.assert_close(
        term(Scores.of(scores), matches), term(Scores.of(scores[rows][:, columns]), matches[rows][:, columns])
    )


@SCORE_LOSSES
def test_gradient(loss: type[ScoreLoss]) -> None:
    skip_if_exempt(loss, "gradient")
    term, (scores, matches) = loss().double(), example(3)
    scores = (scores + matches * 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: term(Scores.of(s), matches), (scores,), eps=1e-7, atol=1e-4)


@SCORE_LOSSES
def test_no_positives_raises(loss: type[ScoreLoss]) -> None:
    scores, matches = example()
    with pytest.raises(DataError, match="no match among"):
        loss().double()(Scores.of(scores), torch.zeros_like(matches))


@SCORE_LOSSES
def test_siblings_are_never_negatives(loss: type[ScoreLoss]) -> None:
    scores, matches = example()
    scores = scores.requires_grad_()
    loss().double()(Scores.of(scores), matches).backward()
    assert scores.grad is not None and (scores.grad[matches] <= 0).all()


@SCORE_LOSSES
def test_both_directions_count(loss: type[ScoreLoss]) -> None:
    torch.manual_seed(0)
    term, (scores, matches) = loss().double(), example(1)
    i2t, t2i = (side.clone().requires_grad_() for side in (scores, scores.T))
    term(Scores(i2t, t2i), matches).backward()
    for side, truth in ((i2t, matches), (t2i, matches.T)):
        assert side.grad is not None and (side.grad[truth] < 0).any() and (side.grad[~truth] > 0).any()


@SCORE_LOSSES
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1)])
def test_a_batch_without_negatives_is_finite(loss: type[ScoreLoss], shape: tuple[int, int]) -> None:
    scores = torch.full(shape, 0.5, dtype=torch.float64, requires_grad=True)
    value = loss().double()(Scores.of(scores), torch.ones(shape, dtype=torch.bool))
    value.backward()
    assert value.ndim == 0 and torch.isfinite(value) and value >= 0
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


@SCORE_LOSSES
def test_items_without_a_match_are_finite(loss: type[ScoreLoss]) -> None:
    scores, matches = example()
    matches[1] = False
    scores.requires_grad_()
    value = loss().double()(Scores.of(scores), matches)
    value.backward()
    assert torch.isfinite(value) and scores.grad is not None and torch.isfinite(scores.grad).all()


def encoded(n: int, k: int, d: int, seed: int) -> Encoded:
    """Everything any head gives, of a head that gives k samples."""
    draw = torch.Generator().manual_seed(seed)
    made = {
        name: torch.randn(n, *shape, d, generator=draw, dtype=torch.float64, requires_grad=True)
        for name, shape in (("samples", (k,)), ("residual", (k,)), ("global", ()), ("mean", ()), ("log_sigma", ()))
    }
    return Encoded(Samples(functional.normalize(made["samples"], dim=-1)), tensors=made)


def reordered(items: Encoded, order: torch.Tensor) -> Encoded:
    return Encoded(items.embedding[order], tensors={k: v[order] for k, v in (items.tensors or {}).items()})


@REGULARISERS
def test_regularisers_are_finite_symmetric_and_order_free(term: type[Regulariser]) -> None:
    images, texts = encoded(5, 3, 6, 0), encoded(7, 3, 6, 1)
    value = term()(images, texts)
    assert value.ndim == 0 and torch.isfinite(value)
    torch.testing.assert_close(value, term()(texts, images))
    torch.testing.assert_close(value, term()(reordered(images, torch.randperm(5)), texts))


@REGULARISERS
def test_regularisers_are_not_negative(term: type[Regulariser]) -> None:
    skip_if_exempt(term, "not negative")
    assert float(term()(encoded(5, 3, 6, 0), encoded(7, 3, 6, 1)).detach()) >= -1e-9


@REGULARISERS
def test_regularisers_reach_both_sides(term: type[Regulariser]) -> None:
    both = encoded(5, 3, 6, 0), encoded(7, 3, 6, 1)
    term()(*both).backward()
    for items in both:
        gradients = [v.grad for v in (items.tensors or {}).values() if v.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients) and any(g.any() for g in gradients)


def test_objective_names_weighs_and_sums() -> None:
    from manymatch.losses import MMD, Diversity, Triplet

    objective = Objective({"triplet": (1.0, Triplet()), "mmd": (0.5, MMD()), "none": (0.0, Diversity())})
    images, texts = encoded(4, 2, 6, 0), encoded(12, 2, 6, 1)
    scores, matches = example()
    terms = objective(Scores.of(scores), matches, images, texts)
    assert set(terms) == {"triplet", "mmd", "loss"}
    torch.testing.assert_close(terms["loss"], terms["triplet"] + 0.5 * terms["mmd"])


CONTAINMENTS = pytest.mark.parametrize("term", found(Containment), ids=lambda c: c.__name__)


@CONTAINMENTS
def test_containments_are_finite_order_free_and_reach_both(term: type[Containment]) -> None:
    whole, part = encoded(5, 3, 6, 0), encoded(5, 3, 6, 1)
    value, order = term()(whole, part), torch.randperm(5)
    torch.testing.assert_close(value, term()(reordered(whole, order), reordered(part, order)))
    value.backward()
    assert value.ndim == 0 and torch.isfinite(value) and value >= 0
    for items in (whole, part):
        gradients = [v.grad for v in (items.tensors or {}).values() if v.grad is not None]
        assert gradients and all(torch.isfinite(g).all() and g.any() for g in gradients)


@CONTAINMENTS
def test_containments_tell_the_whole_from_the_part(term: type[Containment]) -> None:
    whole, wider = encoded(5, 3, 6, 0), encoded(5, 3, 6, 0)
    assert wider.tensors is not None
    wider = Encoded(wider.embedding, tensors={**wider.tensors, "log_sigma": wider.tensor("log_sigma") + 1})
    assert float(term()(whole, wider).detach()) < float(term()(wider, whole).detach())


@CONTAINMENTS
def test_a_batch_without_parts_costs_nothing(term: type[Containment]) -> None:
    images, texts = encoded(4, 2, 6, 0), encoded(12, 2, 6, 1)
    scores, matches = example()
    terms = Objective({"held": (2.0, term())})(Scores.of(scores), matches, images, texts)
    assert float(terms["loss"]) == float(terms["held"]) == 0.0


@pytest.mark.parametrize("term", found(Taught), ids=lambda c: c.__name__)
def test_taught_terms_need_the_rows_of_a_batch(term: type[Taught]) -> None:
    scores, matches = example()
    with pytest.raises(DataError, match="soft: the batch does not say which training rows it holds"):
        Objective({"soft": (1.0, term())})(Scores.of(scores), matches, encoded(4, 2, 6, 0), encoded(12, 2, 6, 1))
