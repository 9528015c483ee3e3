"""The page of an index of photos that nobody has written a word about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import expect
from visits import Driver, Visit
from walls import walls

from manymatch.data.pairs import Pairs
from manymatch.index import Index


@pytest.fixture
def uncaptioned(
    served: Callable[..., str], visiting: Callable[..., Visit], driver: Driver, index: Index, tmp_path: Path
) -> Visit:
    """A visitor of ten walls without captions."""
    pairs = walls(tmp_path).take(range(10))
    bare = Pairs([replace(item, captions=()) for item in pairs], pictures=pairs.pictures)
    return driver.call(visiting, served(Index.build(index.model, bare, tmp_path / "x")))


def test_some_of_the_photos_are_there_to_begin_with(uncaptioned: Visit) -> None:
    page = uncaptioned.open()
    expect(page.get_by_test_id("example")).to_have_count(10)
    expect(page.locator("#tries")).to_be_hidden()
    expect(page.locator("#footer-facts")).not_to_contain_text("caption")
    page.get_by_test_id("example").first.click()
    expect(uncaptioned.tiles).to_have_count(9)


def test_words_find_photos_and_their_panel_says_no_captions(uncaptioned: Visit) -> None:
    page = uncaptioned.open()
    page.get_by_test_id("search-box").fill("a red wall")
    page.keyboard.press("Enter")
    expect(uncaptioned.tiles).to_have_count(10)
    uncaptioned.tiles.first.get_by_role("link").click()
    expect(page.get_by_test_id("more-like-this")).to_be_visible()
    expect(page.get_by_test_id("panel")).not_to_contain_text("aption")
