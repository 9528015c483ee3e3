"""Words are encoded once while they are remembered, and answers are those of a run that is asked every time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from index_fakes import FakeModel, some_pairs

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.index import Index
from manymatch.index.answers.encodings import Encodings


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.build(FakeModel(), some_pairs(40), tmp_path / "x.index")
    encoded(index).clear()
    return index


def encoded(index: Index) -> list[Any]:
    """What its run was asked to encode."""
    return index.model.encoded  # type: ignore[no-any-return, attr-defined]


def numbers(texts: Sequence[str]) -> Points:
    return Points(torch.tensor([[float(text), 1.0] for text in texts]))


class Counting:
    """An encoder that says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Embedding:
        self.asked.append(texts)
        return numbers(texts)


def test_the_same_words_are_encoded_once(index: Index) -> None:
    found = [index.search("red cat", **options) for options in ({}, {"offset": 10}, {"where": {"year": 2003}}, {})]
    assert encoded(index) == [["red cat"]]
    assert found[0].to_json() == found[-1].to_json()
    index.search("red  cat")
    assert encoded(index)[1:] == [["red  cat"]], "other words, which another tokeniser may tell apart"


def test_of_many_only_what_is_missing_is_encoded_and_together(index: Index) -> None:
    index.search("red")
    index.search_many(["blue", "red", "green", "blue"])
    assert encoded(index) == [["red"], ["blue", "green"]]
    index.search("cat", unlike="green")
    assert encoded(index)[2:] == [["cat"]]


@pytest.mark.parametrize("kind", ["sets", "points"])
def test_answers_are_those_of_a_run_that_is_asked_every_time(kind: str, tmp_path: Path) -> None:
    index = Index.build(FakeModel(kind), some_pairs(60), tmp_path / "x.index")
    texts = ["red cat", "blue", "red cat", "a hat"]
    told = [index.search(text, 20, unlike="dog").to_json() for text in texts * 2]
    many = [found.to_json() for found in index.search_many(texts, 20)]
    index._encodings = Encodings(bytes=0)
    assert [index.search(text, 20, unlike="dog").to_json() for text in texts * 2] == told
    assert [found.to_json() for found in index.search_many(texts, 20)] == many


KINDS: list[Embedding] = [
    Points(torch.rand(3, 3)),
    Sets(torch.rand(3, 4, 3)),
    GaussianSets(torch.rand(3, 4, 3), torch.rand(3, 4)),
    Samples(torch.rand(3, 5, 3)),
    Gaussians(torch.rand(3, 3), torch.rand(3, 3)),
    Boxes(torch.rand(3, 3), torch.rand(3, 3)),
    Fragments(torch.rand(3, 2, 3), torch.tensor([[True, True], [True, False], [True, True]]), torch.rand(3, 3)),
]


@pytest.mark.parametrize("embedding", KINDS, ids=lambda embedding: embedding.kind)
def test_every_kind_is_kept_whole_and_by_itself(embedding: Any) -> None:
    encodings = Encodings()
    before = [tensor.clone() for tensor in embedding.tensors().values()]
    encodings.get(["a", "b", "c"], lambda texts: embedding)
    for tensor in embedding.tensors().values():
        # What is kept is no view of the batch, which would stay in memory as a whole.
        tensor.zero_()
    kept = encodings.get(["c", "a", "b"], lambda texts: pytest.fail("all of them are known"))
    assert [asked.text for asked in kept] == ["c", "a", "b"] and {asked.modality for asked in kept} == {"caption"}
    for place, row in enumerate((2, 0, 1)):
        assert type(kept[place].embedding) is type(embedding) and len(kept[place].embedding) == 1
        for tensor, whole in zip(kept[place].embedding.tensors().values(), before, strict=True):
            assert torch.equal(tensor, whole[row : row + 1])


def test_memory_is_bounded_and_the_latest_stay() -> None:
    encodings, encode = Encodings(bytes=10_000), Counting()
    for number in range(100):
        encodings.get([str(number), "0"], encode)
    assert encodings._taken <= 10_000 and 2 <= len(encodings._kept) < 10
    assert sum(texts.count("0") for texts in encode.asked) == 1, "what is asked for stays"
    encodings.get(["99"], encode)
    assert encode.asked[-1] == ["99"] and len(encode.asked) == 100
    encodings.get(["1"], encode)
    assert encode.asked[-1] == ["1"] and len(encode.asked) == 101, "what is not is forgotten"
    assert encodings._taken == sum(size for _, size in encodings._kept.values())


def test_texts_longer_than_all_that_is_kept_are_answered() -> None:
    encodings, encode = Encodings(bytes=3000), Counting()
    huge = "1" * 5000
    for _ in range(2):
        assert encodings.get([huge], lambda texts: numbers(["1"]))[0].text == huge
    encodings.get(["2"], encode)
    assert list(encodings._kept) == ["2"]


def test_many_threads_get_their_own_words() -> None:
    encodings, wrong = Encodings(bytes=30_000), []

    def ask(start: int) -> None:
        for number in range(300):
            texts = [str((start + number) % 40), str(number % 7)]
            for text, asked in zip(texts, encodings.get(texts, numbers), strict=True):
                if asked.embedding.vectors[0, 0] != float(text):  # type: ignore[attr-defined]
                    wrong.append(text)

    threads = [threading.Thread(target=ask, args=(11 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and encodings._taken == sum(size for _, size in encodings._kept.values()) <= 30_000


def test_where_company_changes_a_text_many_are_encoded_anew(index: Index) -> None:
    """As with the authors' released code: what was encoded among others is no answer to the text alone."""
    index.model.method = SimpleNamespace(mode="released")  # type: ignore[assignment]
    index.search_many(["red", "blue"])
    index.search_many(["red", "blue"])
    index.search("red")
    index.search("red")
    assert encoded(index) == [["red", "blue"], ["red", "blue"], ["red"]]
