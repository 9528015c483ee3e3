"""HREM's association graph: what it must keep whatever the weights, and what each of its settings does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_worlds import WIDTH, side
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from manymatch.embeddings import Encoded, Points, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.relations.association import Association, AssociationGraph, connect
from manymatch.relations.interaction import Fusion, Standalone

SIZES = {
    "regions": st.lists(st.integers(1, 6), min_size=2, max_size=6),
    "words": st.lists(st.integers(1, 6), min_size=2, max_size=6),
    "seed": st.integers(0, 99),
}
INTERACTIONS = st.sampled_from(["fusion", "standalone"])
NONE = torch.zeros(0)


def graph(seed: int = 0, **fields: Any) -> AssociationGraph:
    torch.manual_seed(seed)
    return AssociationGraph(WIDTH, **{"heads": 2, "top": 4, **fields}).eval()


def batch(regions: list[int] | None = None, words: list[int] | None = None, seed: int = 0) -> tuple[Encoded, Encoded]:
    regions, words = regions or [3, 5, 5, 2], words or [4, 6, 3, 2, 5]
    return side(regions, 6, seed), side(words, 6, seed + 100)


def enhanced(relation: AssociationGraph, images: Encoded, texts: Encoded) -> tuple[Tensor, Tensor]:
    name, vbar, ubar = relation(images, texts, NONE).pairs[-1]
    assert name == "enhanced" and isinstance(vbar, Points) and isinstance(ubar, Points)
    return vbar.vectors, ubar.vectors


@settings(deadline=None, max_examples=25)
@given(**SIZES, share=st.floats(0.1, 1.0), squared=st.booleans())
def test_connections_and_closeness(
    regions: list[int], words: list[int], seed: int, share: float, squared: bool
) -> None:
    found, i = graph(seed, share=share, squared=squared).graph(*batch(regions, words, seed)), len(regions)
    for columns in (slice(0, i), slice(i, None)):
        block = found.connected[:, columns]
        assert (block.sum(1) >= max(1, int(share * block.shape[1]))).all()
    assert found.connected.diagonal().all()
    for own in (slice(0, i), slice(i, None)):
        closeness = found.relevance[own, own]
        assert (closeness > 0).all() and (closeness <= 1).all()
        torch.testing.assert_close(closeness, closeness.T, rtol=0, atol=1e-6)
        torch.testing.assert_close(closeness.diagonal(), torch.ones(len(closeness)), rtol=0, atol=1e-6)


def test_equal_embeddings_are_as_close_as_can_be() -> None:
    images, texts = batch()
    v = images.embedding.tensors()["vectors"][[0, 0, 0, 0]].requires_grad_()
    found = graph().graph(Encoded(Points(v), images.fragments), texts)
    torch.testing.assert_close(found.relevance[:4, :4], torch.ones(4, 4), rtol=0, atol=1e-6)
    assert found.connected[:4, :4].diagonal().all()
    found.relevance.sum().backward()
    torch.testing.assert_close(v.grad, torch.zeros_like(v), rtol=0, atol=1e-5)


def test_ties_with_the_last_are_kept() -> None:
    scores = torch.tensor([[3.0, 1.0, 1.0, 0.0], [0.0, 5.0, 6.0, 7.0]])
    assert connect(scores, 0.5).tolist() == [[True, True, True, False], [False, False, True, True]]
    assert connect(scores, 0.1).sum(1).tolist() == [1, 1]


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99))
def test_everything_connected_without_relevance_is_a_plain_transformer_layer(seed: int) -> None:
    relation, (images, texts) = graph(seed, connections=False, bias=0.0), batch(seed=seed)
    plain = nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, dropout=0.0)
    assert isinstance(relation.interaction, Fusion)
    ours = relation.interaction.layer
    for theirs, mine in (
        (plain.self_attn, ours.attention),
        (plain.linear1, ours.feed_forward[0]),
        (plain.linear2, ours.feed_forward[3]),
        (plain.norm1, ours.attention_norm),
        (plain.norm2, ours.feed_forward_norm),
    ):
        theirs.load_state_dict(mine.state_dict())
    nodes = torch.cat([s.embedding.tensors()["vectors"] for s in (images, texts)])
    wanted = nn.functional.normalize(plain(nodes[:, None])[:, 0], dim=-1)
    torch.testing.assert_close(torch.cat(enhanced(relation, images, texts)), wanted, rtol=0, atol=1e-5)


def reordered(one: Encoded, order: Tensor) -> Encoded:
    assert one.fragments is not None
    return Encoded(one.embedding[order], one.fragments[order])


@settings(deadline=None, max_examples=25)
@given(**SIZES, interaction=INTERACTIONS, mode=st.sampled_from(["paper", "released"]))
def test_order_of_the_batch_does_not_matter(
    regions: list[int], words: list[int], seed: int, interaction: str, mode: str
) -> None:
    relation, (images, texts) = graph(seed, interaction=interaction, mode=mode), batch(regions, words, seed)
    rows, columns = torch.randperm(len(regions)), torch.randperm(len(words))
    vbar, ubar = enhanced(relation, images, texts)
    moved = enhanced(relation, reordered(images, rows), reordered(texts, columns))
    torch.testing.assert_close(moved[0], vbar[rows], rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[1], ubar[columns], rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(images=st.integers(2, 4), texts=st.integers(2, 4), seed=st.integers(0, 99), kind=st.sampled_from(["f", "s"]))
def test_a_node_nobody_may_listen_to_changes_no_other(images: int, texts: int, seed: int, kind: str) -> None:
    torch.manual_seed(seed)
    interaction = (Fusion if kind == "f" else Standalone)(WIDTH, 2).eval()
    nodes, bias = torch.randn(images + texts, WIDTH), torch.randn(images + texts, images + texts)
    quiet = seed % (images + texts)
    others = torch.arange(images + texts) != quiet
    bias[others, quiet] = -torch.inf
    changed = nodes.clone()
    changed[quiet] += 1.0
    before, after = interaction(nodes, bias, images), interaction(changed, bias, images)
    torch.testing.assert_close(before[others], after[others], rtol=0, atol=1e-6)
    assert not torch.allclose(before[quiet], after[quiet])


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99), interaction=INTERACTIONS)
def test_its_weights_change_no_embedding_of_the_towers(seed: int, interaction: str) -> None:
    relation, (images, texts) = graph(seed, interaction=interaction), batch(seed=seed)
    plain = [s.embedding.tensors()["vectors"].clone() for s in (images, texts)]
    fragments = [s.fragments.vectors.clone() for s in (images, texts) if s.fragments is not None]
    first = relation(images, texts, NONE).pairs
    with torch.no_grad():
        for weight in relation.parameters():
            weight.add_(torch.randn_like(weight))
    second = relation(images, texts, NONE).pairs
    assert not torch.allclose(first[-1][1].tensors()["vectors"], second[-1][1].tensors()["vectors"])
    for pairs in (first, second):
        torch.testing.assert_close(pairs[0][1].tensors()["vectors"], plain[0], rtol=0, atol=0)
        torch.testing.assert_close(pairs[1][2].tensors()["vectors"], plain[1], rtol=0, atol=0)
    for one, before in zip((images, texts), fragments, strict=True):
        assert one.fragments is not None and torch.equal(one.fragments.vectors, before)


@settings(deadline=None, max_examples=20)
@given(images=st.integers(1, 5), texts=st.integers(1, 5), seed=st.integers(0, 99))
def test_the_regulariser_is_zero_where_relevance_is_the_guide_up_to_rows(images: int, texts: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    n = images + texts
    guide, relevance = torch.rand(images, texts, generator=draw), torch.randn(n, n, generator=draw)
    assert Association(images, relevance > 0, relevance, guide).regulariser() >= -1e-6
    relevance[:images, images:] = guide + torch.randn(images, 1, generator=draw)
    relevance[images:, :images] = guide.T + torch.randn(texts, 1, generator=draw)
    torch.testing.assert_close(
        Association(images, relevance > 0, relevance, guide).regulariser(), torch.zeros(()), rtol=0, atol=1e-6
    )
    if texts > 1:
        relevance[0, images] += 1.0
        assert Association(images, relevance > 0, relevance, guide).regulariser() > 1e-3


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_the_regulariser_trains_the_relevance_alone(mode: str) -> None:
    images, texts = batch()
    leaves = [s.embedding.tensors()["vectors"].requires_grad_() for s in (images, texts)]
    leaves += [s.fragments.vectors.requires_grad_() for s in (images, texts) if s.fragments is not None]
    relation = graph(mode=mode)
    weight, value = relation(images, texts, NONE).penalties["relevance"]
    value.backward()
    assert weight == 10.0 and all(leaf.grad is None or not leaf.grad.any() for leaf in leaves)
    assert {n.split(".")[0] for n, p in relation.named_parameters() if p.grad is not None and p.grad.any()} == {
        "relevance_i2t",
        "relevance_t2i",
    }


def test_enhanced_embeddings_train_both_towers_but_not_through_fragments() -> None:
    images, texts = batch()
    leaves = [s.embedding.tensors()["vectors"].requires_grad_() for s in (images, texts)]
    fragments = [s.fragments.vectors.requires_grad_() for s in (images, texts) if s.fragments is not None]
    vbar, ubar = enhanced(graph(), images, texts)
    (vbar[:, 0].sum() + ubar[:, 1].sum()).backward()
    assert all(leaf.grad is not None and leaf.grad.any() and leaf.grad.isfinite().all() for leaf in leaves)
    assert all(f.grad is None for f in fragments)


def test_pairs_come_in_the_order_of_the_authors_draws() -> None:
    images, texts = batch()
    names = [name for name, _, _ in graph()(images, texts, NONE).pairs]
    assert names == ["image-enhanced caption", "enhanced image-caption", "enhanced"]
    sizes = [(len(a), len(b)) for _, a, b in graph()(images, texts, NONE).pairs]
    assert sizes == [(4, 5)] * 3
    for vectors in enhanced(graph(), images, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


def test_each_part_can_be_left_out() -> None:
    images, texts = batch()
    related = graph(cross_consistency=False, regularisation=0.0)(images, texts, NONE)
    assert [name for name, _, _ in related.pairs] == ["enhanced"] and not related.penalties
    within = torch.block_diag(torch.ones(4, 4), torch.ones(5, 5)).bool()
    assert not graph(blocks="intra").graph(images, texts).connected[~within].any()
    inter = graph(blocks="inter").graph(images, texts).connected
    assert torch.equal(inter & within, torch.eye(9).bool()) and (inter & ~within).any(1).all()
    assert graph(connections=False).graph(images, texts).connected.all()
    assert torch.equal(graph(connections=False, blocks="intra").graph(images, texts).connected, within)


@pytest.mark.parametrize("interaction", ["fusion", "standalone"])
@pytest.mark.parametrize(("blocks", "across"), [("both", True), ("inter", True), ("intra", False)])
def test_blocks_say_who_hears_whom(interaction: str, blocks: str, across: bool) -> None:
    images, texts = batch()
    relation = graph(interaction=interaction, blocks=blocks)
    u = texts.embedding.tensors()["vectors"].requires_grad_()
    vbar, _ = enhanced(relation, images, texts)
    vbar[:, 0].sum().backward()
    assert vbar.isfinite().all() and (u.grad is not None and bool(u.grad.any())) == across


def test_both_relevance_networks_start_alike_and_apart() -> None:
    relation = graph()
    for one, other in zip(relation.relevance_i2t.parameters(), relation.relevance_t2i.parameters(), strict=True):
        assert torch.equal(one, other) and one is not other


def test_it_acts_after_8000_steps_or_a_fifth_of_the_run() -> None:
    relation = graph()
    for steps, first in ((1000, 200), (40_000, 8000), (100_000, 8000)):
        relation.advance(first - 1, steps)
        assert not relation.active()
        relation.advance(first, steps)
        assert relation.active()


def test_what_it_cannot_read_is_refused_in_words() -> None:
    images, texts = batch()
    with pytest.raises(DataError, match="dim 10 is no multiple of heads 16"):
        AssociationGraph(10)
    for wrong in ({"interaction": "fused"}, {"blocks": "intr"}, {"mode": "papers"}):
        with pytest.raises(UnknownName, match="did you mean"):
            graph(**wrong)
    with pytest.raises(DataError, match="the text tower's head gives no fragments"):
        graph()(images, Encoded(texts.embedding), NONE)
    with pytest.raises(DataError, match="the image tower gives sets, expected points"):
        graph()(Encoded(Sets(torch.ones(4, 1, WIDTH)), images.fragments), texts, NONE)


@settings(deadline=None, max_examples=20)
@given(**SIZES, interaction=INTERACTIONS)
def test_health_is_that_of_the_graph(regions: list[int], words: list[int], seed: int, interaction: str) -> None:
    images, texts = batch(regions, words, seed)
    relation = graph(seed, interaction=interaction)
    seen = relation.health(images, texts)
    with torch.no_grad():
        vbar, ubar = enhanced(relation, images, texts)
    cosines = [(vbar * images.embedding.vectors).sum(1), (ubar * texts.embedding.vectors).sum(1)]
    assert seen["enhanced cosine"] == pytest.approx(float(torch.cat(cosines).mean()), abs=1e-5)
    divergence = relation.graph(images, texts).regulariser().detach()
    assert seen["relevance divergence"] == pytest.approx(float(divergence), abs=1e-6)
    most = max(len(regions), len(words)) if interaction == "standalone" else len(regions) + len(words)
    assert -1e-6 <= seen["attention entropy"] <= float(torch.tensor(float(most)).log()) + 1e-5


def test_entropy_of_attention_is_that_of_its_weights() -> None:
    images, texts = batch()
    nodes = len(images.embedding.vectors) + len(texts.embedding.vectors)
    # Without relevance and with all keys equal everybody is heard as loudly as everybody else.
    alike = graph(bias=0.0, connections=False)
    with torch.no_grad():
        alike.interaction.layer.attention.in_proj_weight.zero_()
    assert alike.health(images, texts)["attention entropy"] == pytest.approx(float(torch.tensor(float(nodes)).log()))
    half = graph(bias=0.0)
    with torch.no_grad():
        half.interaction.layer.attention.in_proj_weight.zero_()
    heard = half.graph(images, texts).connected.sum(1).float()
    assert half.health(images, texts)["attention entropy"] == pytest.approx(float(heard.log().mean()), abs=1e-6)
