"""Attention for each dimension, and several views of one item."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.text import Tokenizer, Vocabulary
from manymatch.draws import recorded
from manymatch.embeddings import Points
from manymatch.encoders import AttentionPool, LeftToHead, Locals, MeanPool, ViewsHead, WordDrop, mean_pool


def some(n: int, f: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    valid = torch.arange(f) < torch.randint(1, f + 1, (n, 1), generator=draw)
    return torch.randn(n, f, d, generator=draw), valid


@given(n=st.integers(1, 4), f=st.integers(1, 5), d=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_attention_is_a_weighted_mean_of_each_dimension(n: int, f: int, d: int, seed: int) -> None:
    (vectors, valid), pool = some(n, f, d, seed), AttentionPool(d)
    weights = pool.weights(vectors, valid).detach()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(n, d))
    assert not weights[~valid].any()
    for item in range(n):
        real = vectors[item, valid[item]]
        shares = torch.softmax(real @ pool.score.weight.T.detach() + pool.score.bias.detach(), dim=0)
        torch.testing.assert_close(pool(vectors, valid)[item].detach(), (shares * real).sum(dim=0))
    # Between the smallest and the largest value of a dimension, as a mean is.
    low, high = (
        vectors.masked_fill(~valid[..., None], 9e9).amin(1),
        vectors.masked_fill(~valid[..., None], -9e9).amax(1),
    )
    pooled = pool(vectors, valid).detach()
    assert bool((pooled >= low - 1e-5).all() and (pooled <= high + 1e-5).all())


def test_attention_ignores_padding_and_order_and_begins_near_the_mean() -> None:
    vectors, valid = some(4, 6, 8, 0)
    torch.manual_seed(0)
    pool = AttentionPool(8)
    spoilt = vectors.masked_fill(~valid[..., None], 1e6)
    torch.testing.assert_close(pool(spoilt, valid), pool(vectors, valid))
    order = torch.randperm(6)
    torch.testing.assert_close(pool(vectors[:, order], valid[:, order]), pool(vectors, valid))
    with torch.no_grad():
        pool.score.weight.zero_()
    torch.testing.assert_close(pool(vectors, valid), mean_pool(vectors, valid))


def local(n: int = 5, f: int = 6, d: int = 8) -> Locals:
    vectors, valid = some(n, f, d, 3)
    return Locals(vectors, valid, torch.randn(n, d, generator=torch.Generator().manual_seed(4)))


def test_each_view_leaves_out_fragments_of_its_own() -> None:
    head, items = ViewsHead(MeanPool(), views=2, drop=0.5).train(), local()
    fates = [torch.rand(5, 6, generator=torch.Generator().manual_seed(n)) for n in (0, 1)]
    with recorded({f"view drop.{n}": fate for n, fate in enumerate(fates)}):
        made = head(items)
    views = made.tensor("views")
    assert views.shape == (5, 2, 8) and isinstance(made.embedding, Points)
    assert torch.equal(made.embedding.vectors, views[:, 0])
    for n, fate in enumerate(fates):
        kept = items.valid & (fate >= 0.5)
        kept = torch.where(kept.any(dim=1, keepdim=True), kept, items.valid)
        expected = torch.nn.functional.normalize(mean_pool(items.vectors, kept) + items.pooled, dim=-1)
        torch.testing.assert_close(views[:, n], expected)


def test_searching_sees_all_fragments_once() -> None:
    items = local()
    for head in (ViewsHead(MeanPool(), views=3, drop=0.9).eval(), ViewsHead(MeanPool(), views=1, drop=0.9).train()):
        made = head(items)
        assert set(made.tensors or {}) == {"raw"}
        raw = mean_pool(items.vectors, items.valid) + items.pooled
        torch.testing.assert_close(made.embedding.tensors()["vectors"], torch.nn.functional.normalize(raw, dim=-1))


def test_something_of_every_item_stays() -> None:
    views = ViewsHead(AttentionPool(8), views=4, drop=0.99).train()(local()).tensor("views")
    assert bool(torch.isfinite(views).all())
    torch.testing.assert_close(views.norm(dim=-1), torch.ones(5, 4))


def test_views_that_a_tower_gives_are_folded() -> None:
    items, head = local(6), ViewsHead(MeanPool(), views=3, drop=None).train()
    made = head(items)
    assert len(made.embedding) == 2 and made.tensor("views").shape == (2, 3, 8)
    torch.testing.assert_close(made.tensor("views").flatten(0, 1), _unit(items))


def _unit(items: Locals) -> torch.Tensor:
    return torch.nn.functional.normalize(mean_pool(items.vectors, items.valid) + items.pooled, dim=-1)


def test_shares_of_fragments_are_told_by_attention_alone() -> None:
    items = local()
    shares = ViewsHead(AttentionPool(8)).attend(items)
    assert shares is not None and shares.shape == (5, 1, 6) and not shares[:, 0][~items.valid].any()
    torch.testing.assert_close(shares.sum(dim=-1).detach(), torch.ones(5, 1))
    assert ViewsHead(MeanPool()).attend(items) is None


def test_a_pool_left_to_the_head_is_nothing() -> None:
    vectors, valid = some(3, 2, 4, 0)
    assert torch.equal(LeftToHead()(vectors, valid), torch.zeros(3, 4))


@pytest.mark.parametrize("p", [0.0, 0.9])
def test_texts_come_out_as_often_as_there_are_views(p: float) -> None:
    vocabulary = Vocabulary(("a", "b", "c", "d"), Tokenizer())
    drop = WordDrop(vocabulary, p)
    drop.views = 3
    texts = vocabulary.encode(["a b c d", "d c"])
    ids, lengths = torch.as_tensor(texts.ids), torch.as_tensor(texts.lengths)
    torch.manual_seed(0)
    out, counts = drop.train()(ids, lengths)
    assert out.shape[0] == 6 and counts.shape == (6,) and int(counts.min()) >= 1
    if not p:
        assert torch.equal(out, ids.repeat_interleave(3, dim=0))
    else:
        assert len({tuple(row) for row in out[:3].tolist()}) > 1
    again, same = drop.eval()(ids, lengths)
    assert torch.equal(again, ids) and torch.equal(same, lengths)
