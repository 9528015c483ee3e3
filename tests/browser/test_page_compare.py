"""Two runs side by side on the same query."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from visits import Visit
from walls import RED, WARM

PAGE = 24


@pytest.fixture
def visit(visiting: Callable[..., Visit], comparing: str, driver) -> Visit:
    return driver.call(visiting, comparing)


def columns(page: Page) -> list[list[str]]:
    """The ids of the results in each column."""
    return page.get_by_test_id("compare-column").evaluate_all(
        "columns => columns.map(c => [...c.querySelectorAll('[data-testid=tile] a[data-id]')].map(a => a.dataset.id))"
    )


def expect_both(visit: Visit, words: str) -> None:
    first = visit.found(f"q={words}&k={PAGE}")
    second = [hit["id"] for hit in visit.api(f"compare/search?q={words}&k={PAGE}")["hits"]]
    assert first != second
    both = visit.page.get_by_test_id("compare-column")
    expect(both).to_have_count(2)
    for n, ids in enumerate((first, second)):
        expect(both.nth(n).get_by_test_id("tile").first.locator(f"[data-id='{ids[0]}']")).to_be_attached()
    shown = columns(visit.page)
    assert shown[0] == first[: len(shown[0])] and shown[1] == second[: len(shown[1])]
    assert min(map(len, shown)) >= 10


def test_both_runs_answer_the_same_query(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}")
    expect(visit.tiles).to_have_count(PAGE)
    page.get_by_test_id("compare-toggle").click()
    expect_both(visit, RED)
    info = visit.api("info")
    for n, told in enumerate((info, info["compare"])):
        expect(page.get_by_test_id("compare-column").nth(n)).to_contain_text(told["method"])


def test_the_columns_lie_side_by_side_on_a_desk_and_do_not_overlap(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}&view=compare")
    expect_both(visit, RED)
    left, right = (page.get_by_test_id("compare-column").nth(n).bounding_box() for n in (0, 1))
    assert left["x"] + left["width"] <= right["x"] + 1 and abs(left["y"] - right["y"]) < 40


def test_the_next_search_is_compared_too_and_back_works(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}&view=compare")
    expect_both(visit, RED)
    visit.search(WARM)
    expect_both(visit, WARM)
    page.go_back()
    expect_both(visit, RED)
    page.reload()
    expect_both(visit, RED)


def test_comparing_ends(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}&view=compare")
    expect_both(visit, RED)
    page.get_by_test_id("compare-toggle").click()
    expect(page.get_by_test_id("compare-column").filter(visible=True)).to_have_count(0)
    visit.expect_results(visit.found(f"q={RED}&k={PAGE}"))


def test_a_photo_of_the_other_run_opens_that_run_s_panel(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}&view=compare")
    expect_both(visit, RED)
    other = columns(page)[1][3]
    visit.asked.clear()
    page.get_by_test_id("compare-column").nth(1).get_by_test_id("tile").nth(3).get_by_role("link").click()
    expect(page.get_by_test_id("panel")).to_contain_text(other)
    page.wait_for_load_state("networkidle")
    assert any(f"/api/compare/items/{other}" in address for address in visit.asked)
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect_both(visit, RED)


def test_a_server_of_one_index_offers_no_comparison(visiting: Callable[..., Visit], server: str) -> None:
    alone = visiting(server)
    page = alone.open(f"/?q={RED}")
    expect(alone.tiles).to_have_count(PAGE)
    expect(page.get_by_test_id("compare-toggle")).to_be_hidden()
    alone.open(f"/?q={RED}&view=compare")
    alone.expect_results(alone.found(f"q={RED}&k={PAGE}"))


def test_a_filter_holds_for_both(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}&view=compare&where=place%3DBergen")
    expect(page.get_by_test_id("compare-column").nth(1).get_by_test_id("tile").first).to_be_visible()
    where = f"q={RED}&k={PAGE}&where=place%3DBergen"
    shown = columns(page)
    assert shown[0] == visit.found(where)[: len(shown[0])]
    assert shown[1] == [hit["id"] for hit in visit.api(f"compare/search?{where}")["hits"]][: len(shown[1])]
