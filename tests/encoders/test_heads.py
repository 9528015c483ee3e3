"""Slot attention against the authors' numbers, and what it must keep in paper mode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from manymatch.encoders import Locals, PointHead, SetHead, SlotAttention
from manymatch.encoders.heads import sine_positions
from manymatch.errors import UnknownName
from manymatch.runs.importers.dive import SLOT_BLOCK

PARITY = Path(__file__).parents[1] / "parity" / "dive_slot_attention.npz"


def renamed(key: str) -> str:
    theirs = next(k for k in sorted(SLOT_BLOCK, key=len, reverse=True) if key.startswith(k))
    return SLOT_BLOCK[theirs] + key[len(theirs) :]


@pytest.mark.parametrize("case", [0, 1])
def test_equals_the_official_implementation(case: int) -> None:
    recorded = np.load(PARITY)
    options = json.loads(str(recorded["options"]))["cases"][case]
    module = SlotAttention(
        options["din"],
        options["dim"],
        elements=options["K"],
        iterations=options["depth"],
        hidden=options["dim"] * options["mult"],
        positions="sequence" if options["pos"] == "sine" else "none",
        mode="released",
    ).eval()
    start = f"in.w.{case}."
    weights = {renamed(k.removeprefix(start)): torch.from_numpy(recorded[k]) for k in recorded if k.startswith(start)}
    module.load_state_dict(weights)
    vectors = torch.from_numpy(recorded[f"in.x{case}"]).reshape(options["shape"][0], -1, options["din"])
    vectors.requires_grad_()
    valid = (
        ~torch.from_numpy(recorded["in.mask1"]).bool() if options["masked"] else torch.ones(vectors.shape[:2]).bool()
    )
    out, shares = module.attend(vectors, valid)
    np.testing.assert_allclose(out.detach(), recorded[f"out.y{case}"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(shares.detach().flatten(0, 1), recorded[f"out.attn_last{case}"], rtol=0, atol=1e-5)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    assert vectors.grad is not None and module.slots.grad is not None
    expected = recorded[f"out.dx{case}"].reshape(vectors.shape)
    np.testing.assert_allclose(vectors.grad, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(module.slots.grad, recorded[f"out.dlatents{case}"], rtol=1e-3, atol=1e-5)


def slots(**settings: object) -> SlotAttention:
    torch.manual_seed(0)
    return SlotAttention(6, 8, head_width=5, hidden=16, dropout=0.0, **settings).eval()  # type: ignore[arg-type]


def padded(extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(2, 5, dtype=torch.bool)
    junk = torch.full((2, extra, 6), 7.0)
    return torch.cat([vectors, junk], 1), torch.cat([valid, torch.zeros(2, extra, dtype=torch.bool)], 1)


@pytest.mark.parametrize("positions", ["none", "sequence"])
def test_padding_changes_nothing_in_paper_mode(positions: str) -> None:
    module = slots(positions=positions)
    torch.testing.assert_close(module(*padded(0)), module(*padded(3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", ["none", "sequence"])
def test_padding_changes_much_in_released_mode(positions: str) -> None:
    module = slots(positions=positions, mode="released")
    assert (module(*padded(0)) - module(*padded(3))).abs().max() > 1e-3


def test_shares_sum_to_one_over_slots_for_every_input() -> None:
    _, shares = slots().attend(*padded(2))
    torch.testing.assert_close(shares.sum(dim=2)[..., :5], torch.ones(2, 4, 5))
    assert (shares[..., 5:] == 0).all()


def test_order_of_inputs_is_free_without_positions_and_slots_permute() -> None:
    module = slots()
    vectors, valid = padded(0)
    out = module(vectors, valid)
    torch.testing.assert_close(module(vectors[:, [4, 2, 0, 1, 3]], valid), out, rtol=0, atol=1e-5)
    with torch.no_grad():
        module.slots.copy_(module.slots[[2, 0, 3, 1]])
    torch.testing.assert_close(module(vectors, valid), out[:, [2, 0, 3, 1]], rtol=0, atol=1e-5)


def test_heads_give_unit_vectors() -> None:
    vectors, valid = padded(0)
    local = Locals(vectors, valid, torch.randn(2, 8))
    encoded = SetHead(slots(), 8)(local)
    torch.testing.assert_close(encoded.embedding.tensors()["elements"].norm(dim=-1), torch.ones(2, 4))
    assert encoded.tensor("residual").shape == (2, 4, 8)
    point = PointHead()(local).embedding.tensors()["vectors"]
    torch.testing.assert_close(point.norm(dim=-1), torch.ones(2))


def test_positions_depend_on_the_text_alone_in_paper_mode() -> None:
    short = torch.tensor([[True, True, True]])
    long = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(sine_positions(short, 8), sine_positions(long, 8)[:, :3])
    released = sine_positions(long, 8, mode="released")[:, :3]
    assert (released - sine_positions(short, 8, mode="released")).abs().max() > 1e-2


def test_unknown_mode() -> None:
    with pytest.raises(UnknownName, match="did you mean 'paper'"):
        SlotAttention(4, 4, mode="papers")  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", ["none", "sequence"])
@pytest.mark.parametrize("over", ["slots", "inputs"])
def test_padding_left_out_while_learning_changes_nothing(positions: str, over: str) -> None:
    torch.manual_seed(0)
    module = SlotAttention(6, 8, elements=3, hidden=8, dropout=0.0, positions=positions, over=over)  # type: ignore[arg-type]
    vectors = torch.randn(3, 5, 6, requires_grad=True)
    valid = torch.arange(5) < torch.tensor([[5], [2], [3]])
    out = module(vectors, valid)
    with torch.no_grad():
        torch.testing.assert_close(out, module(vectors, valid), rtol=0, atol=1e-6)
    # One by one at its own length, an item has no padding to be left out.
    alone = torch.cat([module(vectors[n : n + 1, : int(valid[n].sum())], valid[n : n + 1, valid[n]]) for n in range(3)])
    weight = torch.randn(out.shape)
    expected = torch.autograd.grad((alone * weight).sum(), [vectors, *module.parameters()])
    for ours, theirs in zip(
        torch.autograd.grad((out * weight).sum(), [vectors, *module.parameters()]), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
