"""What is shown is in the address: back, forward, reload, and a link that is shared."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect
from visits import Visit
from walls import RED, WARM

PAGE = 24


def test_back_and_forward_go_through_searches(visit: Visit) -> None:
    page = visit.open()
    first, second = visit.found(f"q={RED}&k={PAGE}"), visit.found(f"q={WARM}&k={PAGE}")
    visit.search(RED)
    visit.expect_results(first)
    visit.search(WARM)
    expect(page).to_have_url(f"{visit.at}/?q=a+wall+of+warm+colour")
    expect(visit.tiles.first.locator(f"[data-id='{second[0]}']")).to_be_attached()
    page.go_back()
    expect(page.get_by_test_id("search-box")).to_have_value(RED)
    expect(visit.tiles.nth(PAGE - 1).locator(f"[data-id='{first[PAGE - 1]}']")).to_be_attached()
    visit.expect_results(first)
    page.go_forward()
    expect(page.get_by_test_id("search-box")).to_have_value(WARM)
    expect(visit.tiles.nth(PAGE - 1).locator(f"[data-id='{second[PAGE - 1]}']")).to_be_attached()
    visit.expect_results(second)


def test_back_to_the_start_page(visit: Visit) -> None:
    page = visit.open()
    visit.search(RED)
    page.go_back()
    expect(page.get_by_test_id("example").first).to_be_visible()
    expect(visit.tiles).to_have_count(0)
    expect(page.get_by_test_id("search-box")).to_have_value("")


def test_the_brand_leads_to_the_start_page_without_loading_it_again(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}")
    expect(visit.tiles).to_have_count(PAGE)
    page.evaluate("window.__kept = true")
    page.get_by_role("banner").get_by_role("link").first.click()
    expect(page.get_by_test_id("example").first).to_be_visible()
    assert page.evaluate("window.__kept") is True and page.url == f"{visit.at}/"


def test_the_same_search_again_adds_no_step(visit: Visit) -> None:
    page = visit.open()
    visit.search(RED)
    before = page.evaluate("history.length")
    visit.search(RED)
    visit.search(RED)
    assert page.evaluate("history.length") <= before + 1


def test_back_closes_the_panel_and_forward_opens_it(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}")
    visit.tiles.nth(2).get_by_role("link").click()
    expect(page.get_by_test_id("panel")).to_be_visible()
    page.go_back()
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect(visit.tiles).to_have_count(PAGE)
    page.go_forward()
    expect(page.get_by_test_id("panel")).to_be_visible()


def test_closing_goes_back_below_every_photo_that_was_looked_at(visit: Visit) -> None:
    page = visit.open()
    visit.search(RED)
    visit.tiles.first.get_by_role("link").click()
    panel = page.get_by_test_id("panel")
    expect(panel).to_be_visible()
    visit.tiles.nth(1).get_by_role("link").click()
    expect(panel).to_contain_text(visit.shown()[1])
    page.get_by_test_id("panel-close").click()
    expect(panel).to_be_hidden()
    page.go_back()
    expect(page.get_by_test_id("example").first).to_be_visible()


def test_a_reload_shows_the_same(visit: Visit) -> None:
    page = visit.open()
    visit.search(WARM)
    shown = visit.shown()
    visit.tiles.nth(3).get_by_role("link").click()
    expect(page.get_by_test_id("panel")).to_contain_text(shown[3])
    page.reload()
    expect(page.get_by_test_id("panel")).to_contain_text(shown[3])
    visit.expect_results(shown)


def test_a_shared_link_shows_the_same_to_another_visitor(
    visiting: Callable[..., Visit], visit: Visit, server: str
) -> None:
    page = visit.open()
    visit.search(WARM)
    visit.tiles.nth(5).get_by_role("link").click()
    expect(page.get_by_test_id("panel")).to_be_visible()
    other = visiting(server)
    other.open(page.url.removeprefix(server))
    other.expect_results(visit.shown())
    expect(other.page.get_by_test_id("panel")).to_contain_text(visit.shown()[5])


def test_a_tile_opened_in_a_new_tab_shows_its_panel(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}")
    with visit.context.expect_page() as opened:
        visit.tiles.nth(1).get_by_role("link").click(modifiers=["Control"])
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect(opened.value.get_by_test_id("panel")).to_contain_text(visit.shown()[1])


def test_odd_addresses_break_nothing(visit: Visit) -> None:
    for odd in (
        "?q=",
        "?q=%20",
        "?like=",
        "?item=",
        "?where=%3D%3D&q=red",
        "?q=a&where=%7B%22",
        "?view=compare",
        "?x=%FF",
    ):
        visit.expecting(r"status of 4\d\d")
        page = visit.open(f"/{odd}")
        expect(page.get_by_test_id("search-box")).to_be_visible()
        page.wait_for_load_state("networkidle")
