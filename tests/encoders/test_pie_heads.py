"""PIE-Net against the authors' numbers, and the heads made with it: sets, samples, Gaussians, boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.draws import recorded
from manymatch.embeddings import Boxes, Encoded, Gaussians, Samples, Sets
from manymatch.encoders.base import Head, Locals
from manymatch.encoders.boxes import BoxHead
from manymatch.encoders.gaussians import GaussianHead, SampleHead, TokenGaussianHead
from manymatch.encoders.heads import PointHead, SetHead, SlotAttention
from manymatch.encoders.pie import PIEHead, PIENet
from manymatch.errors import DataError, UnknownName
from manymatch.runs.importers.pcme import ELEMENT_HEAD

FEW = settings(max_examples=25, deadline=None)

PARITY = Path(__file__).parents[1] / "parity" / "pie_net.npz"
WIDTH, DIM = 8, 6
HEADS = {
    "point": lambda: PointHead(),
    "order": lambda: PointHead(order="above"),
    "pie": lambda: PIEHead(WIDTH, DIM, elements=3),
    "slots": lambda: SetHead(SlotAttention(WIDTH, DIM, head_width=4, hidden=8, positions="sequence"), DIM),
    "transformer": lambda: SetHead(SlotAttention(WIDTH, DIM, head_width=4, hidden=8, over="inputs"), DIM),
    "samples": lambda: SampleHead(WIDTH, DIM, side="text"),
    "gaussian": lambda: GaussianHead(WIDTH, DIM),
    "softplus": lambda: GaussianHead(WIDTH, DIM, bound="softplus"),
    "tokens": lambda: TokenGaussianHead(WIDTH, DIM, context_heads=2),
    "box": lambda: BoxHead(WIDTH, DIM),
}
EACH = pytest.mark.parametrize("name", HEADS)


def head_of(name: str) -> Head:
    torch.manual_seed(0)
    return HEADS[name]().eval()


def locals_of(n: int, f: int, seed: int, width: int = WIDTH) -> Locals:
    torch.manual_seed(seed)
    valid = torch.arange(f) < torch.randint(1, f + 1, (n, 1))
    return Locals(torch.randn(n, f, width), valid, torch.randn(n, DIM), key=torch.arange(n) + 100 * seed)


@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("form", ["full", "padded"])
def test_pie_net_equals_the_official_implementation(case: int, form: str) -> None:
    with np.load(PARITY) as file:
        given_ = {k: torch.from_numpy(file[k]) for k in file if k != "options"}
    start = f"in.w.{case}."
    weights = {k.removeprefix(start): v for k, v in given_.items() if k.startswith(start)}
    elements = len(weights["attention.w_2.weight"])
    net = PIENet(12, 8, elements=elements)
    net.load_state_dict({_ours(k): v for k, v in weights.items()})
    vectors = given_[f"in.local{case}"].requires_grad_()
    lengths = given_[f"in.lengths{case}"] if form == "padded" else torch.full((len(vectors),), vectors.shape[1])
    valid = torch.arange(vectors.shape[1]) < lengths[:, None]
    out, residual = net(vectors, valid, given_[f"in.global{case}"])
    _, shares = net.attention.attend(vectors, valid)
    torch.testing.assert_close(shares, given_[f"out.attn_{form}{case}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(out.squeeze(1), given_[f"out.y_{form}{case}"], rtol=0, atol=1e-5)
    torch.testing.assert_close(residual.squeeze(1), given_[f"out.residual_{form}{case}"], rtol=0, atol=1e-5)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    torch.testing.assert_close(vectors.grad, given_[f"out.dlocal_{form}{case}"], rtol=1e-4, atol=1e-5)


def _ours(key: str) -> str:
    theirs = next(k for k in ELEMENT_HEAD if key.startswith(k))
    return ELEMENT_HEAD[theirs] + key[len(theirs) :]


@EACH
@FEW
@given(n=st.integers(1, 4), f=st.integers(1, 6), extra=st.integers(1, 4), seed=st.integers(0, 1000))
def test_padding_and_the_rest_of_the_batch_change_nothing(name: str, n: int, f: int, extra: int, seed: int) -> None:
    head, local = head_of(name), locals_of(n, f, seed)
    out = head(local)
    junk = torch.full((n, extra, WIDTH), 9.0)
    longer = Locals(
        torch.cat([local.vectors, junk], 1),
        torch.cat([local.valid, torch.zeros(n, extra, dtype=torch.bool)], 1),
        local.pooled,
        key=local.key,
    )
    same(head(longer), out)
    for row in range(n):
        assert local.key is not None
        length = int(local.valid[row].sum())
        one = slice(row, row + 1)
        alone = Locals(local.vectors[one, :length], local.valid[one, :length], local.pooled[one], key=local.key[one])
        same(head(alone), Encoded(out.embedding[one]))


def same(one: Encoded, other: Encoded) -> None:
    for key, value in one.embedding.tensors().items():
        torch.testing.assert_close(value, other.embedding.tensors()[key], rtol=1e-5, atol=1e-5)


@EACH
def test_training_reaches_every_weight(name: str) -> None:
    head, local = HEADS[name]().train(), locals_of(4, 5, 1)
    for given_ in (local.vectors, local.pooled):
        given_.requires_grad_()
    encoded = head(local)
    sum(v.square().sum() * (n + 1) + v.sum() for n, v in enumerate(encoded.embedding.tensors().values())).backward()
    read = [*head.parameters(), local.pooled] if name != "tokens" else [*head.parameters(), local.vectors]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and (p.grad != 0).any() for p in read)


@FEW
@given(seed=st.integers(0, 1000), elements=st.integers(1, 4))
def test_slots_share_each_input_and_take_a_mean(seed: int, elements: int) -> None:
    local = locals_of(2, 5, seed)
    torch.manual_seed(seed)
    module = SlotAttention(WIDTH, DIM, elements=elements, head_width=4, hidden=8).eval()
    _, shares = module.attend(local.vectors, local.valid)
    real = local.valid[:, None, :].expand(-1, 4, -1)
    torch.testing.assert_close(shares.sum(dim=2), real.float(), rtol=0, atol=1e-5)
    weights = shares / (shares.sum(dim=-1, keepdim=True) + 1e-7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, elements), rtol=0, atol=1e-5)
    if elements == 1:
        torch.testing.assert_close(shares[:, :, 0], real.float(), rtol=0, atol=1e-6)


@FEW
@given(seed=st.integers(0, 1000))
def test_without_competition_inputs_sum_to_one_and_slots_do_not(seed: int) -> None:
    local = locals_of(2, 5, seed)
    torch.manual_seed(seed)
    released, paper = (
        SlotAttention(WIDTH, DIM, head_width=4, hidden=8, over="inputs", mode=mode).eval()
        for mode in ("released", "paper")
    )
    released.load_state_dict(paper.state_dict())
    out, shares = paper.attend(local.vectors, local.valid)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(2, 4, 4), rtol=0, atol=1e-5)
    assert (shares.sum(dim=2)[local.valid[:, None, :].expand(-1, 4, -1)] - 1).abs().max() > 1e-3
    torch.testing.assert_close(released(local.vectors, local.valid), out)
    order = torch.randperm(5)
    again = paper(local.vectors[:, order], local.valid[:, order])
    torch.testing.assert_close(again, out, rtol=0, atol=1e-5)


def test_grid_cells_know_their_place() -> None:
    torch.manual_seed(0)
    module = SlotAttention(WIDTH, DIM, head_width=4, hidden=8, positions="grid").eval()
    cells, valid = torch.randn(1, 9, WIDTH), torch.ones(1, 9).bool()
    turned = cells.view(1, 3, 3, WIDTH).transpose(1, 2).flatten(1, 2)
    assert (module(cells, valid) - module(turned, valid)).abs().max() > 1e-4
    with pytest.raises(DataError, match="8 fragments are no square grid"):
        module(cells[:, :8], valid[:, :8])


def test_points_keep_what_relations_read() -> None:
    local = locals_of(3, 4, 0, width=DIM)
    encoded = PointHead()(local)
    assert encoded.fragments is not None and encoded.fragments.vectors is local.vectors
    assert encoded.tensor("raw") is local.pooled and encoded.fragments.pooled is local.pooled
    assert PointHead()(locals_of(3, 4, 0)).fragments is None
    size = encoded.embedding.tensors()["vectors"].abs()
    torch.testing.assert_close(PointHead(order="above")(local).embedding.tensors()["vectors"], size)
    torch.testing.assert_close(PointHead(order="below")(local).embedding.tensors()["vectors"], -size)


def test_pie_sets_have_unit_elements_and_residuals_between_0_and_1() -> None:
    encoded = head_of("pie")(locals_of(3, 4, 0))
    assert isinstance(encoded.embedding, Sets) and encoded.embedding.elements.shape == (3, 3, DIM)
    torch.testing.assert_close(encoded.embedding.elements.norm(dim=-1), torch.ones(3, 3))
    residual = encoded.tensor("residual")
    assert residual.shape == (3, 3, DIM) and ((residual > 0) & (residual < 1)).all()


def test_samples_are_mean_and_noise_of_the_item() -> None:
    head, local = head_of("samples"), locals_of(3, 4, 0)
    encoded = head(local)
    assert isinstance(encoded.embedding, Samples) and encoded.embedding.vectors.shape == (3, 7, DIM)
    mean, log_sigma = encoded.tensor("mean"), encoded.tensor("log_sigma")
    torch.testing.assert_close(mean.norm(dim=-1), torch.ones(3))
    noise = (encoded.tensor("samples") - mean[:, None]) / log_sigma.exp()[:, None]
    with recorded({"text noise.0": noise}):
        torch.testing.assert_close(head(local).tensor("samples"), encoded.tensor("samples"))
    with recorded({"text noise.0": torch.zeros(3, 7, DIM)}):
        torch.testing.assert_close(head.train()(local).tensor("samples"), mean[:, None].expand(-1, 7, -1))
    assert not torch.equal(head(local).tensor("samples"), head(local).tensor("samples"))


def test_samples_need_a_key_to_repeat() -> None:
    local = locals_of(2, 3, 0)
    keyless = Locals(local.vectors, local.valid, local.pooled)
    head = head_of("samples")
    assert head.keyed
    with pytest.raises(DataError, match="text samples: the tower gives no key"):
        head(keyless)
    assert head.train()(keyless).tensor("samples").shape == (2, 7, DIM)


def test_a_second_global_vector_is_read_where_announced() -> None:
    local = locals_of(2, 3, 0)
    head = SampleHead(WIDTH, DIM, side="image", spread=True).eval()
    with pytest.raises(DataError, match="built with spread=True, but the tower gives no second global vector"):
        head(local)
    with_spread = Locals(local.vectors, local.valid, local.pooled, torch.full((2, DIM), 2.0), local.key)
    without = Locals(local.vectors, local.valid, local.pooled, torch.zeros(2, DIM), local.key)
    difference = head(with_spread).tensor("log_sigma") - head(without).tensor("log_sigma")
    torch.testing.assert_close(difference, torch.full((2, DIM), 2.0))
    with pytest.raises(DataError, match="built with spread=False, but the tower gives a second global vector"):
        head_of("box")(with_spread)


def test_variances_stay_in_their_bounds() -> None:
    local = locals_of(3, 4, 0)
    wild = Locals(local.vectors * 100, local.valid, local.pooled * 100, key=local.key)
    for name, low, high in (("gaussian", 0.0, 6.0), ("softplus", float(np.log(0.01)) - 1e-5, np.inf)):
        gaussians = head_of(name)(wild).embedding
        assert isinstance(gaussians, Gaussians)
        assert (gaussians.log_variance >= low).all() and (gaussians.log_variance <= high).all()
        torch.testing.assert_close(gaussians.mean.norm(dim=-1), torch.ones(3))
    assert len(head_of("gaussian")(local).embedding.tensors()["log_variance"].unique()) > 2
    with pytest.raises(UnknownName, match="did you mean 'relu6'"):
        GaussianHead(WIDTH, DIM, bound="relu")  # type: ignore[arg-type]


def test_boxes_hold_some_candidates_and_not_others_at_the_start() -> None:
    torch.manual_seed(0)
    local = Locals(torch.randn(64, 4, 32), torch.ones(64, 4).bool(), torch.randn(64, 256))
    boxes = BoxHead(32, 256).eval()(local).embedding
    assert isinstance(boxes, Boxes) and (boxes.offset > 0).all()
    torch.testing.assert_close(boxes.center.norm(dim=-1), torch.ones(64))
    inside = (boxes.center[:, None] - boxes.center[None]).abs() <= boxes.offset[:, None]
    assert 0.2 < float(inside.float().mean()) < 0.8


def test_what_slots_refuse() -> None:
    with pytest.raises(UnknownName, match="did you mean 'sequence'"):
        SlotAttention(4, 4, positions="sequences")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="did you mean 'inputs'"):
        SlotAttention(4, 4, over="input")  # type: ignore[arg-type]
