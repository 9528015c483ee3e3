"""How many captions are not read is said of a sample, however many there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from manymatch.training import start


class Texts:
    """Knows no caption with a "?", and reads two letters."""

    longest = 2

    def __init__(self) -> None:
        self.asked = 0

    def knows(self, text: str) -> bool:
        self.asked += 1
        return "?" not in text

    def cuts(self, text: str) -> bool:
        return len(text) > self.longest


@pytest.mark.parametrize(("captions", "asked"), [(0, 0), (10, 10), (11, 6), (95, 10)])
def test_a_sample_of_the_captions_is_looked_at(captions: int, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_LOOKED_AT", 10)
    said: list[str] = []
    texts = Texts()
    model: Any = SimpleNamespace(texts=texts, name="some")
    pairs: Any = SimpleNamespace(captions=["long?"] * captions)
    start._warn_of_words(model, pairs, said.append)
    assert texts.asked == asked
    assert [line.partition("%")[0] for line in said] == (["100", "100"] if captions else [])
