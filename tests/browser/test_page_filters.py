"""Filters from metadata: choosing values, bounds and words, chips, combining, clearing, and the address."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from urllib.parse import parse_qs, quote, urlsplit

from PIL import Image
from playwright.sync_api import Locator, Page, Route, expect
from visits import Visit
from walls import MARKUP, RED, WARM

PAGE = 24


def opened(visit: Visit, words: str = WARM) -> Page:
    page = visit.open(f"/?q={words}")
    expect(visit.tiles).to_have_count(PAGE)
    page.get_by_test_id("filter-open").click()
    expect(page.get_by_test_id("filter-value").first).to_be_visible()
    return page


def value(page: Page, field: str, name: str) -> Locator:
    return page.locator(f"[data-testid=filter-value][data-field='{field}'][data-value='{name}']")


def bound(page: Page, field: str, side: str) -> Locator:
    return page.get_by_label(f"{field} {side}", exact=True)


def conditions(page: Page) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get("where", [])


def settled(visit: Visit, ids: list[str]) -> None:
    expect(visit.page.get_by_test_id("filter-chip").first).to_be_visible()
    expect(visit.tiles).to_have_count(min(len(ids), PAGE))
    assert visit.shown() == ids[:PAGE]


def test_a_value_is_chosen_and_let_go(visit: Visit) -> None:
    page = opened(visit)
    value(page, "place", "Bergen").check()
    settled(visit, visit.found(f"q={WARM}&k=200&where=place%3DBergen"))
    assert conditions(page) == ["place=Bergen"]
    chip = page.get_by_test_id("filter-chip")
    expect(chip).to_have_count(1)
    expect(chip).to_contain_text("Bergen")
    expect(page.get_by_test_id("cutoff").or_(page.get_by_test_id("status")).first).to_be_visible()
    chip.click()
    expect(chip).to_have_count(0)
    expect(value(page, "place", "Bergen")).not_to_be_checked()
    visit.expect_results(visit.found(f"q={WARM}&k={PAGE}"))
    assert conditions(page) == []


def test_two_values_of_a_field_are_either_and_two_fields_are_both(visit: Visit) -> None:
    page = opened(visit)
    value(page, "place", "Bergen").check()
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    value(page, "place", "Oslo").check()
    settled(visit, visit.found(f"q={WARM}&k=200&where=place%3DBergen%7COslo"))
    expect(page.get_by_test_id("filter-chip")).to_have_count(2)
    bound(page, "year", "from").fill("2000")
    bound(page, "year", "from").press("Tab")
    expect(page.get_by_test_id("filter-chip")).to_have_count(3)
    settled(visit, visit.found(f"q={WARM}&k=200&where=place%3DBergen%7COslo&where=year%3E%3D2000"))
    bound(page, "year", "to").fill("2004")
    bound(page, "year", "to").press("Enter")
    both = "where=place%3DBergen%7COslo&where=year%3E%3D2000&where=year%3C%3D2004"
    expect(page.get_by_test_id("filter-chip").filter(has_text="2004")).to_be_visible()
    settled(visit, visit.found(f"q={WARM}&k=200&{both}"))
    assert 0 < visit.tiles.count() < PAGE


def test_all_filters_are_cleared_at_once(visit: Visit) -> None:
    page = visit.open(f"/?q={WARM}&where=place%3DBergen&where=year%3E%3D2000")
    expect(page.get_by_test_id("filter-chip")).to_have_count(2)
    page.get_by_role("link", name="Clear all").or_(page.get_by_role("button", name="Clear all")).click()
    expect(page.get_by_test_id("filter-chip")).to_have_count(0)
    visit.expect_results(visit.found(f"q={WARM}&k={PAGE}"))
    expect(page.get_by_test_id("search-box")).to_have_value(WARM)


def test_a_truth_is_filtered_by_yes_and_no(visit: Visit) -> None:
    page = opened(visit)
    fieldset = page.get_by_role("group", name="listed", exact=True)
    fieldset.get_by_label("yes").check()
    settled(visit, visit.found(f"q={WARM}&k=200&where=listed%3Dtrue"))
    expect(page.get_by_test_id("filter-chip")).to_contain_text("yes")


def test_counts_are_of_what_was_found(visit: Visit) -> None:
    page = opened(visit)
    told = visit.api(f"search?q={WARM}&facets=place")["facets"]["place"]
    bergen = next(entry["count"] for entry in told if entry["value"] == "Bergen")
    expect(page.get_by_role("listitem").filter(has=value(page, "place", "Bergen"))).to_contain_text(str(bergen))


def test_words_of_a_text_field(visit: Visit) -> None:
    page = opened(visit, "wall")
    words = page.get_by_label("note has the words")
    words.fill("fire")
    words.press("Enter")
    settled(visit, ["lost"])


def test_a_filter_that_nothing_passes_is_told_and_can_be_taken_back(visit: Visit) -> None:
    page = visit.open(f"/?q={WARM}&where=place%3DAtlantis")
    expect(page.get_by_test_id("empty")).to_be_visible()
    expect(visit.tiles).to_have_count(0)
    page.get_by_test_id("filter-chip").click()
    expect(visit.tiles).to_have_count(PAGE)


def test_a_filter_holds_for_the_next_search_and_after_a_reload(visit: Visit) -> None:
    page = opened(visit)
    value(page, "place", "Bergen").check()
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    visit.search(RED)
    expected = visit.found(f"q={RED}&k={PAGE}&where=place%3DBergen")
    expect(visit.tiles.first.locator(f"[data-id='{expected[0]}']")).to_be_attached()
    settled(visit, expected)
    page.reload()
    settled(visit, expected)


def test_back_takes_a_filter_off_again(visit: Visit) -> None:
    page = opened(visit)
    value(page, "place", "Bergen").check()
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    page.go_back()
    expect(page.get_by_test_id("filter-chip")).to_have_count(0)
    visit.expect_results(visit.found(f"q={WARM}&k={PAGE}"))
    page.go_forward()
    settled(visit, visit.found(f"q={WARM}&k=200&where=place%3DBergen"))


def test_a_filtered_address_is_shared(visiting: Callable[..., Visit], visit: Visit, server: str) -> None:
    page = opened(visit)
    value(page, "place", "Ås & Ski").check()
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    bound(page, "year", "to").fill("2000")
    bound(page, "year", "to").press("Enter")
    expect(page.get_by_test_id("filter-chip")).to_have_count(2)
    wanted = visit.found(f"q={WARM}&k=200&where=place%3D%C3%85s%20%26%20Ski&where=year%3C%3D2000")
    settled(visit, wanted)
    other = visiting(server)
    other.open(page.url.removeprefix(server))
    settled(other, wanted)


def test_what_is_being_typed_outlives_an_answer_that_comes_meanwhile(visit: Visit) -> None:
    page = opened(visit)
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    page.route(re.compile(r"/api/search(\?|$)"), lambda route: held.append(route), times=1)
    value(page, "place", "Bergen").check()
    bound(page, "year", "to").press_sequentially("2000")
    for route in held:
        route.continue_()
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    expect(bound(page, "year", "to")).to_have_value("2000")
    bound(page, "year", "to").press("Enter")
    expect(page.get_by_test_id("filter-chip")).to_have_count(2)


def test_values_and_names_that_strangers_wrote_filter_as_text(visit: Visit) -> None:
    page = opened(visit, "a purple wall")
    page.locator("[data-testid=filter-value][data-field=place]").evaluate_all(
        "(boxes, wanted) => boxes.find((box) => box.dataset.value === wanted).click()", MARKUP
    )
    expect(page.get_by_test_id("filter-chip")).to_contain_text(MARKUP)
    expect(visit.tiles).to_have_count(1)
    expect(visit.tiles).to_contain_text("a purple wall")


def test_filters_hold_for_a_picture_too(visit: Visit) -> None:
    page = visit.open("/?q=a+red+wall&where=place%3DBergen")
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    picture = io.BytesIO()
    Image.new("RGB", (50, 40), "black").save(picture, "PNG")
    page.get_by_test_id("upload-input").set_input_files(
        {"name": "black.png", "mimeType": "image/png", "buffer": picture.getvalue()}
    )
    expect(visit.tiles.first.locator("[data-id^=black]")).to_be_attached()
    towns = {visit.api(f"items/{quote(id, safe='')}")["item"]["metadata"]["place"] for id in visit.shown()}
    assert towns == {"Bergen"}


def test_escape_closes_the_filters_and_gives_the_focus_back(visit: Visit) -> None:
    page = opened(visit)
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("filter-value").first).to_be_hidden()
    expect(page.get_by_test_id("filter-open")).to_be_focused()
