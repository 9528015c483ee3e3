"""When the server refuses, is busy, fails or is gone: said in words, nothing breaks, and trying again works."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.sync_api import Route, expect
from visits import Visit
from walls import RED, WARM

PAGE = 24
SEARCH = re.compile(r"/api/search(\?|$)")


def refusal(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message}}


@pytest.mark.parametrize(("status", "kind"), [(503, "Overloaded"), (429, "TooManyRequests")])
def test_a_busy_server_is_asked_again_after_the_time_it_names(visit: Visit, status: int, kind: str) -> None:
    visit.expecting(f"status of {status}")
    page = visit.open()
    expect(page.get_by_test_id("example").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    asked: list[float] = []

    def busy_twice(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) <= 2:
            route.fulfill(status=status, headers={"Retry-After": "1"}, json=refusal(kind, "too many searches at once"))
        else:
            route.continue_()

    page.route(SEARCH, busy_twice)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text(re.compile("busy|again", re.IGNORECASE))
    expect(visit.tiles).to_have_count(PAGE)
    assert asked[1] - asked[0] >= 1.0 and asked[2] - asked[1] >= 1.0
    expect(page.get_by_test_id("error")).to_be_hidden()


def test_a_search_given_up_while_waiting_is_not_asked_again(visit: Visit) -> None:
    visit.expecting("status of 503")
    page = visit.open()
    page.wait_for_load_state("networkidle")
    asked: list[str] = []

    def busy_for_red(route: Route) -> None:
        told = f"{route.request.url} {route.request.post_data or ''}"
        if "a+red" in told or RED in told:
            asked.append(told)
            return route.fulfill(status=503, headers={"Retry-After": "1"}, json=refusal("Overloaded", "busy"))
        route.continue_()

    page.route(SEARCH, busy_for_red)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text(re.compile("busy|again", re.IGNORECASE))
    visit.search(WARM)
    before = len(asked)
    page.wait_for_timeout(1800)
    assert len(asked) == before
    visit.expect_results(visit.found(f"q={WARM}&k={PAGE}"))


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (500, "InternalError", "a fault of manymatch itself"),
        (422, "DataError", "search: the words are too long"),
        (408, "Timeout", "the body came too slowly"),
    ],
)
def test_a_refusal_is_told_in_the_server_s_words_and_tried_again(
    visit: Visit, status: int, kind: str, message: str
) -> None:
    visit.expecting(f"status of {status}")
    page = visit.open()
    page.wait_for_load_state("networkidle")
    page.route(SEARCH, lambda route: route.fulfill(status=status, json=refusal(kind, message)), times=1)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    problem = page.get_by_test_id("error")
    expect(problem).to_contain_text(message)
    assert problem.evaluate("node => Boolean(node.closest('[role=alert], [aria-live]'))")
    expect(visit.tiles).to_have_count(0)
    again = problem.get_by_role("button")
    if again.count():
        again.first.click()
    else:
        page.get_by_test_id("search-box").press("Enter")
    expect(visit.tiles).to_have_count(PAGE)
    expect(problem).to_be_hidden()


def test_an_answer_that_is_no_json_is_told(visit: Visit) -> None:
    visit.expecting("status of 502")
    page = visit.open()
    page.wait_for_load_state("networkidle")
    page.route(SEARCH, lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"), times=1)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    expect(page.get_by_test_id("error")).to_contain_text("502")
    expect(page.get_by_test_id("error")).not_to_contain_text("<h1>")


def test_an_unreachable_server_is_told_and_tried_again(visit: Visit) -> None:
    visit.expecting("ERR_INTERNET_DISCONNECTED|ERR_FAILED")
    page = visit.open()
    page.wait_for_load_state("networkidle")
    visit.context.set_offline(True)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    problem = page.get_by_test_id("error")
    expect(problem).to_contain_text("does not answer")
    visit.context.set_offline(False)
    problem.get_by_role("button").first.click()
    expect(visit.tiles).to_have_count(PAGE)
    expect(problem).to_be_hidden()


def test_a_failed_next_page_keeps_what_is_there(visit: Visit) -> None:
    visit.expecting("status of 500")
    page = visit.page
    failed: list[str] = []

    def later_pages_fail(route: Route) -> None:
        told = f"{route.request.url} {route.request.post_data or ''}"
        if not failed and re.search(r'offset(=|":)24', told):
            failed.append(told)
            return route.fulfill(status=500, json=refusal("InternalError", "broken"))
        route.continue_()

    page.route(SEARCH, later_pages_fail)
    visit.open(f"/?q={RED}")
    expect(visit.tiles).to_have_count(PAGE)
    page.mouse.wheel(0, 6000)
    page.wait_for_timeout(300)
    assert failed and visit.tiles.count() >= PAGE
    expect(page.get_by_text("broken")).to_be_visible()
    again = page.get_by_role("button", name=re.compile("again|more", re.IGNORECASE)).first
    again.click()
    expect(visit.tiles).not_to_have_count(PAGE)
    assert visit.shown()[:48] == visit.found(f"q={RED}&k=48")[: len(visit.shown())]


def test_an_unknown_item_to_start_from_is_told(visit: Visit) -> None:
    visit.expecting("status of 404")
    page = visit.open("/?like=nobody.png")
    expect(page.get_by_test_id("error")).to_contain_text("nobody.png")


def test_a_field_that_does_not_exist_is_told_and_can_be_taken_away(visit: Visit) -> None:
    visit.expecting("status of 4(04|22)")
    page = visit.open(f"/?q={RED}&where=yeer%3E%3D2000")
    expect(page.get_by_test_id("error").or_(page.get_by_test_id("empty"))).to_be_visible()
    page.get_by_test_id("filter-chip").click()
    expect(visit.tiles).to_have_count(PAGE)


def test_a_slow_answer_shows_that_it_is_on_its_way(visit: Visit) -> None:
    page = visit.open()
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    page.route(SEARCH, lambda route: held.append(route), times=1)
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    expect(page.locator("[aria-busy=true]")).to_be_attached()
    expect(page.get_by_test_id("status")).to_contain_text(re.compile("search", re.IGNORECASE))
    for route in held:
        route.continue_()
    expect(visit.tiles).to_have_count(PAGE)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)


def test_too_many_words_cannot_be_typed(visit: Visit) -> None:
    page = visit.open()
    box = page.get_by_test_id("search-box")
    box.press_sequentially("red ")
    most = visit.api("info")["limits"]["query_length"]
    assert int(box.get_attribute("maxlength")) == most


def test_a_start_page_without_info_says_so(visit: Visit) -> None:
    visit.expecting("status of 500")
    page = visit.page
    page.route("**/api/info", lambda route: route.fulfill(status=500, json=refusal("InternalError", "broken")), times=1)
    visit.open()
    expect(page.get_by_test_id("error")).to_contain_text("broken")
    page.get_by_test_id("error").get_by_role("button").first.click()
    expect(page.get_by_test_id("example").first).to_be_visible()
