"""Words: whatever is typed is a query, and the best texts come first as BM25 has it."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_fakes import caption, empty_store, image

from manymatch.index.store.store import Store
from manymatch.index.store.words import every_word, fold, split_words


def _texts(folder: Path, texts: Sequence[str | None]) -> Store:
    store = empty_store(folder)
    with store.writing() as change:
        change.put("caption", [caption(str(n), text) for n, text in enumerate(texts, 1)])
    return store


def _bm25(texts: list[str], words: list[str]) -> list[tuple[int, float]]:
    """Row and score of each text with one of the words, best first (Robertson and Zaragoza 2009)."""
    told = [text.split() for text in texts]
    average = sum(map(len, told)) / len(told)
    scores: dict[int, float] = {}
    for word in words:
        having = sum(word in text for text in told)
        idf = max(1e-6, math.log((len(told) - having + 0.5) / (having + 0.5)))
        for row, text in enumerate(told, 1):
            n = text.count(word)
            if n:
                norm = 1.2 * (0.25 + 0.75 * len(text) / average)
                scores[row] = scores.get(row, 0.0) + idf * n * 2.2 / (n + norm)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def test_order_is_that_of_bm25(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vocabulary = [f"w{n}" for n in range(30)]
    weights = 1 / np.arange(1, 31)
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 12), p=weights / weights.sum())) for _ in range(200)]
    store = _texts(tmp_path, texts)
    with store.reading() as snapshot:
        for words in (["w4"], ["w9", "w1"], ["w29", "w0", "w7"]):
            expected = [row for row, _ in _bm25(texts, words)]
            assert len(expected) > 5
            assert snapshot.words("caption", " ".join(words), 1000) == expected
            assert snapshot.words("caption", " ".join(words), 4) == expected[:4]
            rows = np.arange(2, 201, 3)
            chosen = [row for row in expected if row in rows]
            assert snapshot.words("caption", " ".join(words), 3, rows) == chosen[:3]
            assert snapshot.words("caption", " ".join(words), 1000, rows) == chosen


def test_an_image_is_as_good_as_its_best_text(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put(
            "image", [image("a"), image("b", {"title": "snow"}), image("c", labels=["dog"]), image("d", {"n": 1})]
        )
        owned = [("a#0", "a dog in the deep white snow", "a"), ("a#1", "cat", "a"), ("b#0", "cat cat", "b")]
        change.put("caption", [caption(*words) for words in owned])
        change.put("caption", [caption("alone", "snow", None)])
    with store.reading() as snapshot:

        def found(text: str, modality: str = "image", rows: list[int] | None = None) -> list[str]:
            among = None if rows is None else np.array(rows, np.int64)
            return [item.id for item in snapshot.items(snapshot.words(modality, text, 10, among))]  # type: ignore[arg-type]

        assert found("snow") == ["b", "a"], "the shorter text is the better one, and a lone caption is no image"
        assert found("cat") == ["b", "a"]
        assert found("dog") == ["c", "a"]
        assert found("snow", "caption") == ["alone", "a#0"]
        assert found("snow cat dog", rows=[1, 3]) == ["a", "c"]
        assert found("snow", rows=[]) == [] and found("wolf") == [] and found("1") == []
        assert snapshot.words("image", "snow", 0) == []


@pytest.mark.parametrize(
    ("typed", "rows"),
    [
        ('"red', [1]),
        ("red AND", [1]),
        ("OR", [2]),
        ("near NEAR(2", [2]),
        ("text:red*", [1]),
        ("-red ^red +red", [1]),
        ("CAFÉ", [3]),
        ("u\u0308ber", [3]),
        ("犬", [4]),
        ("हिन्दी", [5]),
        ("दीन्हि", []),
        ("x\0y", [6]),
        ("\ud800 red", [1]),
        ("🎉", []),
        ("'\"();%_\\", []),
        ("", []),
        ("red " * 5000, [1]),
    ],
)
def test_whatever_is_typed(tmp_path: Path, typed: str, rows: list[int]) -> None:
    texts = ["a red ball", "this or that is near", "cafe Über 🎉", "雪の日 犬", "हिन्दी", "x y", None]
    with _texts(tmp_path, texts).reading() as snapshot:
        assert snapshot.words("caption", typed, 10) == rows


@given(st.text(max_size=30))
def test_no_text_is_an_error(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("CREATE TABLE captions (row INTEGER PRIMARY KEY, image INTEGER)")
    connection.execute("INSERT INTO words (rowid, text) VALUES (1, 'one two')")
    from manymatch.index.store.words import best_rows

    found = best_rows(connection, "image", text, 5)
    connection.close()
    assert found == ([1] if {"one", "two"} & set(map(fold, every_word(text))) else [])


def test_words_that_differ_in_case_or_accents_count_once() -> None:
    assert split_words("Snow, snow-SNOW Schnée schnee") == ["Snow", "Schnée"]
    assert every_word("a-b-a") == ["a", "b", "a"]


def test_words_follow_updates_and_deletes(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put("image", [image("a", {"title": "red"}), image("b", {"title": "red"}), image("c")])
        change.put("caption", [caption("a#0", "red hat", "a"), caption("c#0", "red", "c")])
    with store.writing() as change:
        change.put("image", [image("a", {"title": "blue"})])
        change.delete(["b"])
    with store.reading() as snapshot:
        assert {item.id for item in snapshot.items(snapshot.words("image", "red hat blue", 10))} == {"a", "c"}
    store.close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    for table in ("words", "fact_words"):
        connection.execute(f"INSERT INTO {table} ({table}, rank) VALUES ('integrity-check', 1)")
    connection.close()


CHINESE = ["红色的小狗在雪地里", "一只black dog和猫", "小女孩 dog", "สุนัขสีแดง", "走る犬"]


@pytest.mark.parametrize(
    ("typed", "rows"),
    [
        ("雪地", [1]),
        ("猫", [2]),
        ("女孩", [3]),
        ("dog", [3, 2]),
        ("black", [2]),
        ("ｄｏｇ", [3, 2]),
        ("สีแดง", [4]),
        ("犬", [5]),
        ("狼", []),
    ],
)
def test_characters_are_found_inside_a_run(tmp_path: Path, typed: str, rows: list[int]) -> None:
    with _texts(tmp_path, CHINESE).reading() as snapshot:
        assert snapshot.words("caption", typed, 10) == rows


def test_texts_stored_whole_are_found_by_their_runs(tmp_path: Path) -> None:
    """An index whose full-text table was written before characters were parted."""
    connection = sqlite3.connect(tmp_path / "old.sqlite")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("CREATE TABLE captions (row INTEGER PRIMARY KEY, image INTEGER)")
    connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", [(1, "红色 的 狗"), (2, "红色的狗")])
    from manymatch.index.store.words import best_rows

    assert best_rows(connection, "image", "红色", 5) == [1]
    assert set(best_rows(connection, "image", "红色的狗", 5)) == {1, 2}
    connection.close()


def test_filters_find_characters_inside_a_value(tmp_path: Path) -> None:
    from manymatch.index.filters import parse_where

    store = empty_store(tmp_path)
    with store.writing() as change:
        titles = ["红色的小狗", "红猫 and DOG", "dog", "狗 red"]
        change.put("image", [image(str(n), {"title": title}) for n, title in enumerate(titles, 1)])
    with store.reading() as snapshot:
        for form, rows in (("title~小狗", [1]), ("title~红", [1, 2]), ("title~猫dog", [2]), ("title~dog", [2, 3])):
            assert snapshot.passing("image", parse_where([form])).tolist() == rows, form
