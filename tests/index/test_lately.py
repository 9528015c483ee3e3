"""What was asked lately is not looked for again; little is kept."""

from __future__ import annotations

import numpy as np

from manymatch.index.local.lately import Lately


class Source:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, name: str, size: int = 1) -> np.ndarray:
        self.asked.append(name)
        return np.full(size, len(name), np.int8)


def test_an_answer_is_found_once() -> None:
    lately, source = Lately(), Source()
    first = lately.get(("rows", "dog"), lambda: source.find("dog"))
    assert lately.get(("rows", "dog"), lambda: source.find("dog")) is first and source.asked == ["dog"]
    assert lately.get(("facet", "dog"), lambda: source.find("facet"))[0] == 5


def test_the_oldest_are_forgotten() -> None:
    lately, source = Lately(answers=2), Source()
    for name in ("a", "b", "a", "c", "a", "b"):
        lately.get(name, lambda name=name: source.find(name))
    assert source.asked == ["a", "b", "c", "b"]


def test_arrays_take_bounded_memory() -> None:
    lately, source = Lately(bytes=100), Source()
    for name, size in (("a", 60), ("b", 60), ("a", 60), ("huge", 101), ("huge", 101)):
        lately.get(name, lambda name=name, size=size: source.find(name, size))
    assert source.asked == ["a", "b", "a", "huge", "huge"]
