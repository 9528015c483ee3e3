"""The recurrent text tower: every published form of it, the same text alone and in any batch, and what it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manymatch.data.text import Specials, Tokenizer, Vocabulary
from manymatch.embeddings import Encoded, Points
from manymatch.encoders import BiGRUTower, Head, Locals, MeanPool, PointHead, TextInput, read_at
from manymatch.errors import DataError, UnknownName

WORDS = Vocabulary(tuple("abcdefghij"))
FORMS: dict[str, dict[str, Any]] = {
    "ours": {},
    "vse_infty": {"pooling": MeanPool()},
    "dive": {"pooling": "final", "fragments": "words"},
    "pvse": {"pooling": "final", "fragments": "words", "merge": "concatenate"},
    "pcme": {"pooling": "last_step", "fragments": "words", "merge": "concatenate", "second_gru": True},
    "vsepp": {"pooling": "last_step", "directions": 1},
}


class Seen(Head):
    """Keeps what the tower gave it."""

    keyed = True

    def forward(self, local: Locals) -> Encoded:
        self.local = local
        return Encoded(Points(local.pooled))


def tower_of(head: Head | None = None, vocabulary: Vocabulary = WORDS, **settings: Any) -> BiGRUTower:
    torch.manual_seed(0)
    tower = BiGRUTower(TextInput("bigru", vocabulary), head or PointHead(), dim=8, word_dim=6, **settings)
    return tower.eval()


def seen(tower: BiGRUTower, texts: list[str]) -> Locals:
    tower(tower.tokens(texts))
    assert isinstance(tower.head, Seen)
    return tower.head.local


@pytest.mark.parametrize("form", FORMS)
def test_a_text_is_the_same_alone_and_in_any_batch(form: str) -> None:
    tower = tower_of(Seen(), **FORMS[form])
    texts = ["a b", "c d e f g h", "a", "nothing known here"]
    together = seen(tower, texts)
    assert together.key is not None and len(set(together.key.tolist())) == 4
    for n, text in enumerate(texts):
        alone = seen(tower, [text])
        torch.testing.assert_close(alone.pooled[0], together.pooled[n], rtol=0, atol=1e-5)
        length = int(alone.valid.sum())
        assert int(together.valid[n].sum()) == length
        torch.testing.assert_close(alone.vectors[0], together.vectors[n, :length], rtol=0, atol=1e-5)
        assert alone.key is not None and int(alone.key) == int(together.key[n])
        if alone.spread is not None and together.spread is not None:
            torch.testing.assert_close(alone.spread[0], together.spread[n], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_shapes_and_weights(form: str) -> None:
    tower = tower_of(Seen(), **FORMS[form])
    local = seen(tower, ["a b c", "d"])
    words = FORMS[form].get("fragments") == "words"
    assert local.vectors.shape == (2, 3, 6 if words else 8) and local.pooled.shape == (2, 8)
    assert (local.spread is not None) == (form == "pcme")
    grus = {name.split(".")[0] for name in tower.state_dict()} - {"words"}
    assert grus == ({"gru", "second_gru"} if form == "pcme" else {"gru"}), "word dropping has no weights"
    assert tower.gru.hidden_size == (4 if "merge" in FORMS[form] else 8)
    local.pooled.sum().backward()
    assert all(p.grad is not None for p in tower.gru.parameters())


def run(gru: nn.GRU, words: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (w, directions, width) and final states (directions, width) of one unpadded text."""
    outputs, final = gru(words[None])
    return outputs[0].view(len(words), len(final), -1), final[:, 0]


def test_what_the_global_vector_is() -> None:
    text = "a b c d"
    ids = torch.from_numpy(WORDS.encode([text]).ids[0])
    for form in ("dive", "pvse", "pcme", "vsepp"):
        tower = tower_of(Seen(), **FORMS[form])
        outputs, final = run(tower.gru, tower.words(ids))
        expected = {
            "dive": final.mean(0),
            "pvse": final.flatten(),
            "pcme": outputs[-1].flatten(),
            "vsepp": outputs[-1, 0],
        }[form]
        torch.testing.assert_close(seen(tower, [text]).pooled[0], expected)
    second = tower_of(Seen(), **FORMS["pcme"])
    assert second.second_gru is not None
    spread = seen(second, [text]).spread
    assert spread is not None
    torch.testing.assert_close(spread[0], run(second.second_gru, second.words(ids))[0][-1].flatten())


def test_the_key_is_for_heads_that_ask_and_not_for_training() -> None:
    tower = tower_of(Seen())
    tower.train()
    assert seen(tower, ["a"]).key is None
    head = Seen()
    head.keyed = False
    assert seen(tower_of(head), ["a"]).key is None


def test_training_drops_words_and_evaluation_does_not() -> None:
    tower = tower_of(Seen(), drop=0.9, dropout=0.0)
    text = ["a b c d e f g h"]
    assert seen(tower, text).valid.shape == (1, 8)
    tower.train()
    lengths = {seen(tower, text).valid.shape[1] for _ in range(20)}
    assert max(lengths) < 8 or len(lengths) > 1
    blanked = tower_of(Seen(), drop=0.5, drop_manner="unknown").train()
    assert seen(blanked, text).valid.shape == (1, 4), "exactly half of eight words are removed"


def test_a_pool_is_part_of_the_tower() -> None:
    class Weighted(MeanPool):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

    assert "pool.weight" in tower_of(pooling=Weighted()).state_dict()


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"fragments": "letters"}, UnknownName, "unknown text fragments 'letters'"),
        ({"pooling": "last"}, UnknownName, r"unknown text pooling 'last': did you mean 'last_step'"),
        ({"merge": "sum"}, UnknownName, "unknown merge of directions 'sum'"),
        ({"directions": 3}, DataError, "directions 3, expected 1 or 2"),
        ({"drop_manner": "delete"}, UnknownName, "unknown manner of dropping words"),
    ],
)
def test_settings_that_do_not_exist(settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        tower_of(**settings)


def test_two_concatenated_directions_share_the_width() -> None:
    with pytest.raises(DataError, match=r"dim 7: two concatenated directions .* expected an even number"):
        BiGRUTower(TextInput("bigru", WORDS), PointHead(), dim=7, merge="concatenate")


# ---- what it reads


def test_read_at_chooses_words() -> None:
    captions = ["A dog.", "A dog runs."]
    own = read_at(captions, None, least=2)
    assert own == read_at(captions, "bigru", least=2) and own.vocabulary == Vocabulary(("a", "dog"))
    assert read_at(captions, "bigru:vectors.txt", least=2) == own, "the file is read by begin"
    assert read_at(captions, None, least=2, longest=5).vocabulary.tokenizer == Tokenizer(5)
    released = read_at(captions, None, least=2, released=True).vocabulary
    assert released.tokenizer == Tokenizer(0, "nltk") and released.words == (".", "a", "dog")
    assert released.specials == Specials(pad=0, start=1, end=2, unknown=3, mask=7)
    assert read_at(captions, None, least=2, longest=9, released=True).vocabulary.tokenizer == Tokenizer(9, "nltk")
    for given in (own, read_at(captions, None, least=2, released=True)):
        assert TextInput.from_json(json.loads(json.dumps(given.to_json()))) == given
    with pytest.raises(UnknownName, match=r"unknown text tower 'bigrus': did you mean 'bigru'"):
        read_at(captions, "bigrus", least=1)


def test_begin_fills_the_word_table(tmp_path: Path) -> None:
    tower = tower_of()
    before = tower.words.weight.detach().clone()
    tower.begin(None)
    assert torch.equal(tower.words.weight, before)
    (tmp_path / "vectors.txt").write_text("b 1 2 3 4 5 6\nzzz 9 9 9 9 9 9\n")
    said = tower.begin(str(tmp_path / "vectors.txt"))
    assert (
        said == f"1 of {len(WORDS.words)} words begin from {tmp_path / 'vectors.txt'}, the others from random vectors"
    )
    number = WORDS.number("b")
    assert number is not None and tower.words.weight[number].tolist() == [1, 2, 3, 4, 5, 6]
    assert not torch.equal(tower.words.weight[3], before[3]) and tower.words.weight.requires_grad
    (tmp_path / "wide.txt").write_text("b 1 2 3\n")
    with pytest.raises(DataError, match=r"wide\.txt: vectors of width 3, but the word table's is 6; --set word_dim=3"):
        tower.begin(str(tmp_path / "wide.txt"))
