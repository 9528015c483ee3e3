"""Word dropping: what may change, what must stay, how often, and that a step can be replayed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.text import Specials, Tokenizer, Vocabulary
from manymatch.draws import recorded
from manymatch.encoders.word_drop import WordDrop
from manymatch.errors import DataError, UnknownName

OWN = Vocabulary(tuple("abcdefghij"))
MARKED = Vocabulary(tuple("abcdefghij"), specials=Specials(pad=0, start=1, end=2, unknown=3, mask=14))
PIECES = Vocabulary(
    ("ab", "##c", "##d", "e"), Tokenizer(0, "wordpiece"), Specials(pad=0, unknown=1, start=2, end=3, mask=4)
)
AB, C, D, E = 5, 6, 7, 8
MANNERS = ("mask", "unknown")


def texts_of(n: int, w: int, vocabulary: Vocabulary) -> tuple[torch.Tensor, torch.Tensor]:
    """Random texts, start and end around them where the vocabulary has them."""
    special = vocabulary.specials
    lengths = torch.randint(3, w + 1, (n,))
    ids = torch.tensor(sorted(vocabulary.numbers.values()))[torch.randint(len(vocabulary.words), (n, w))]
    if special.start is not None and special.end is not None:
        ids[:, 0] = special.start
        ids[torch.arange(n), lengths - 1] = special.end
    return ids.masked_fill(torch.arange(w) >= lengths[:, None], special.pad), lengths


@given(
    p=st.floats(0.0, 1.0),
    n=st.integers(1, 6),
    w=st.integers(3, 9),
    seed=st.integers(0, 99),
    vocabulary=st.sampled_from([OWN, MARKED]),
    manner=st.sampled_from(MANNERS),
)
@settings(max_examples=60, deadline=None)
def test_dropped_words_leave_a_text(p: float, n: int, w: int, seed: int, vocabulary: Vocabulary, manner: str) -> None:
    torch.manual_seed(seed)
    ids, lengths = texts_of(n, w, vocabulary)
    out, left = WordDrop(vocabulary, p, manner=manner)(ids, lengths)  # type: ignore[arg-type]
    special = vocabulary.specials
    assert ((left >= 1) & (left <= lengths)).all()
    assert ((out != special.pad) == (torch.arange(w) < left[:, None])).all(), "survivors are packed to the front"
    if special.start is not None:
        assert (out[:, 0] == special.start).all()
        assert (out[torch.arange(n), left - 1] == special.end).all()
        assert ((out == special.start).sum(1) == 1).all() and ((out == special.end).sum(1) == 1).all()
    if p == 0.0:
        assert torch.equal(out, ids)
    if manner == "unknown":
        free = lengths - (0 if special.start is None else 2)
        removed = lengths - left
        assert ((removed - free * p).abs() <= 1).all() and (removed <= free * p + 1e-5).all()


def test_nothing_is_dropped_in_evaluation() -> None:
    ids, lengths = texts_of(4, 7, MARKED)
    out, left = WordDrop(MARKED, 0.9).eval()(ids, lengths)
    assert torch.equal(out, ids) and torch.equal(left, lengths)


def test_shares_of_the_three_fates() -> None:
    torch.manual_seed(0)
    ids, lengths = torch.full((2000, 12), 5), torch.full((2000,), 12)
    out, left = WordDrop(MARKED, 0.2)(ids, lengths)
    total = ids.numel()
    assert float((lengths - left).sum()) / total == pytest.approx(0.08, abs=0.01)
    assert float((out == MARKED.specials.mask).sum()) / total == pytest.approx(0.10, abs=0.01)
    swapped = out[(out != 5) & (out != MARKED.specials.mask) & (out != 0)]
    assert len(swapped) / total == pytest.approx(0.02 * 9 / 10, abs=0.005)
    assert set(swapped.tolist()) == set(MARKED.numbers.values()) - {5}, "replacements are words, never special"


def test_unknown_words_and_an_exact_number_of_removals() -> None:
    torch.manual_seed(0)
    ids, lengths = torch.full((3000, 12), 5), torch.full((3000,), 12)
    ids[:, 0], ids[:, 11] = 1, 2
    out, left = WordDrop(MARKED, 0.1, manner="unknown")(ids, lengths)
    assert (left == 11).all(), "int(0.1 * 10) words of ten"
    assert float((out == 3).float().sum()) / (3000 * 9) == pytest.approx(0.1, abs=0.01)
    short = WordDrop(MARKED, 0.1, manner="unknown")(ids[:, 2:], torch.full((3000,), 10))[1]
    assert (short == 10).all(), "int(0.1 * 9) is none"


def test_start_and_end_go_only_where_they_may() -> None:
    torch.manual_seed(0)
    ids, lengths = texts_of(200, 6, MARKED)
    out, _ = WordDrop(MARKED, 0.9, marks=True)(ids, lengths)
    assert (out[:, 0] != MARKED.specials.start).any()
    with pytest.raises(DataError, match="expected start and end to stay"):
        WordDrop(MARKED, 0.1, manner="unknown", marks=True)


@pytest.mark.parametrize(("fate", "expected"), [(0.9, [2, E, AB, C, 3]), (0.1, [2, 4, 4, 4, E, AB, C, 3])])
def test_a_word_goes_with_all_its_pieces(fate: float, expected: list[int]) -> None:
    ids, lengths = torch.tensor([[2, AB, C, D, E, AB, C, 3]]), torch.tensor([8])
    selection = torch.ones(1, 8)
    # Draws count words: [CLS], ab##c##d, e, ab##c, [SEP]; what stands at a later place is read by nobody.
    selection[0, 1] = 0.0
    with recorded({"word selection.0": selection, "word fate.0": torch.full((1, 8), fate)}):
        out, left = WordDrop(PIECES, 0.5)(ids, lengths)
    assert out[0, : int(left)].tolist() == expected


def test_whole_words_are_deleted() -> None:
    torch.manual_seed(0)
    _, left = WordDrop(PIECES, 0.5)(torch.tensor([[2, AB, C, D, AB, C, D, 3]] * 300), torch.full((300,), 8))
    assert set(left.tolist()) == {2, 5, 8}, "three pieces a word"


def test_recorded_draws_replay_a_step() -> None:
    ids, lengths = texts_of(5, 8, OWN)
    draws = {
        "word selection.0": torch.rand(5, 8),
        "word fate.0": torch.rand(5, 8),
        "word replacement.0": torch.randint(3, 13, (5, 8)),
    }
    outs = []
    for _ in range(2):
        with recorded(draws):
            outs.append(WordDrop(OWN, 0.7)(ids, lengths))
    assert torch.equal(outs[0][0], outs[1][0]) and torch.equal(outs[0][1], outs[1][1])
    assert not torch.equal(outs[0][0], ids)


def test_no_mask_word_is_said_while_training_only() -> None:
    vocabulary = Vocabulary(("a", "b"), specials=Specials(mask=None))
    drop = WordDrop(vocabulary, 0.2)
    ids, lengths = torch.tensor([[2, 3]]), torch.tensor([2])
    with pytest.raises(DataError, match="the vocabulary has no mask word"):
        drop(ids, lengths)
    assert torch.equal(drop.eval()(ids, lengths)[0], ids)
    with pytest.raises(UnknownName, match="manner of dropping words 'masks': did you mean 'mask'"):
        WordDrop(OWN, 0.2, manner="masks")  # type: ignore[arg-type]
