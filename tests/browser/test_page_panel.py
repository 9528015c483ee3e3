"""The panel of a photo: opening and closing it, its neighbours, its captions, its elements and more like it."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from visits import Visit
from walls import COLD, RED, WARM

PAGE = 24


def opened(visit: Visit, place: int = 0, words: str = WARM) -> Page:
    page = visit.open(f"/?q={words}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.nth(place).get_by_role("link").click()
    expect(page.get_by_test_id("panel")).to_contain_text(visit.shown()[place])
    return page


def current(visit: Visit) -> list[str]:
    return visit.page.locator("[data-testid=tile] a[aria-current=true]").evaluate_all(
        "links => links.map(a => a.dataset.id)"
    )


def test_a_click_opens_the_panel_and_escape_closes_it(visit: Visit) -> None:
    page = opened(visit, 3)
    panel = page.get_by_role("dialog")
    expect(panel).to_have_attribute("data-testid", "panel")
    expect(panel).to_have_accessible_name(visit.shown()[3])
    assert current(visit) == [visit.shown()[3]]
    expect(page.get_by_test_id("panel-close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(visit.tiles.nth(3).get_by_role("link")).to_be_focused()
    assert current(visit) == [] and "item" not in page.url


def test_enter_opens_the_panel_and_its_button_closes_it(visit: Visit) -> None:
    page = visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.nth(1).get_by_role("link").press("Enter")
    expect(page.get_by_test_id("panel")).to_contain_text(visit.shown()[1])
    page.get_by_test_id("panel-close").press("Enter")
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect(visit.tiles.nth(1).get_by_role("link")).to_be_focused()


def test_arrow_keys_go_from_result_to_result(visit: Visit) -> None:
    page = opened(visit, 1)
    panel, shown = page.get_by_test_id("panel"), visit.shown()
    for key, place in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowLeft", 0)):
        page.keyboard.press(key)
        expect(panel.get_by_role("heading", name=shown[place], exact=True)).to_be_visible()
    expect(panel.get_by_role("button", name="Previous result")).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    expect(panel.get_by_role("heading", name=shown[0], exact=True)).to_be_visible()
    panel.get_by_role("button", name="Next result").click()
    expect(panel.get_by_role("heading", name=shown[1], exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(visit.tiles.nth(1).get_by_role("link")).to_be_focused()


def test_arrow_keys_in_the_search_box_move_its_cursor(visit: Visit) -> None:
    page = opened(visit, 1)
    box = page.get_by_test_id("search-box")
    box.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("panel")).to_contain_text(visit.shown()[1])
    expect(box).to_be_focused()


def test_it_tells_captions_probability_and_details(visit: Visit) -> None:
    page = opened(visit)
    panel, first = page.get_by_test_id("panel"), visit.shown()[0]
    item = visit.api(f"items/{first}")["item"]
    for caption in item["captions"]:
        expect(panel.get_by_text(caption, exact=True).first).to_be_visible()
    for field, value in item["metadata"].items():
        expect(panel.get_by_role("term").filter(has_text=re.compile(f"^{field}$"))).to_be_visible()
        if not isinstance(value, bool):
            expect(panel.get_by_role("definition").filter(has_text=str(value)).first).to_be_visible()
    hit = visit.api(f"search?q={WARM}&k=1")["hits"][0]
    expect(panel).to_contain_text(re.compile(rf"{round(100 * hit['probability'])}\W*% chance"))
    picture = panel.get_by_role("img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0


def test_the_captions_it_matches_are_listed_best_first(visit: Visit) -> None:
    page = opened(visit)
    told = visit.api(f"items/{visit.shown()[0]}")["captions"]["hits"]
    rows = page.get_by_test_id("panel").locator(".matched li")
    expect(rows).to_have_count(len(told))
    for row, hit in zip(rows.all_text_contents(), told, strict=True):
        assert hit["caption"] in row and ("own" in row) == hit["own"]


def test_each_element_paints_where_it_looks(visit: Visit) -> None:
    page = opened(visit)
    told = visit.api(f"items/{visit.shown()[0]}/elements")
    assert told["kind"] == "grid"
    elements, heatmap = page.get_by_test_id("element"), page.get_by_test_id("heatmap")
    expect(elements).to_have_count(told["elements"])
    pictures = set()
    for n in range(told["elements"]):
        elements.nth(n).click()
        expect(elements.nth(n)).to_have_attribute("aria-pressed", "true")
        expect(heatmap).to_be_visible()
        expect(heatmap).to_have_attribute("data-element", str(n))
        pictures.add(heatmap.evaluate("canvas => canvas.toDataURL()"))
    assert len(pictures) == told["elements"]
    photo = page.get_by_test_id("panel").get_by_role("img").first.bounding_box()
    over = heatmap.bounding_box()
    for side in ("x", "y", "width", "height"):
        assert over[side] == pytest.approx(photo[side], abs=2)


def test_the_heatmap_glows_where_the_shares_are_highest(visit: Visit) -> None:
    page = opened(visit)
    told = visit.api(f"items/{visit.shown()[0]}/elements")
    page.get_by_test_id("element").first.click()
    expect(page.get_by_test_id("heatmap")).to_be_visible()
    glow = page.get_by_test_id("heatmap").evaluate(
        """(canvas, [rows, columns]) => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const at = (n, of, size) => Math.floor((n + 0.5) * size / of);
          return Array.from({ length: rows * columns }, (_, n) => {
            const [y, x] = [at(Math.floor(n / columns), rows, canvas.height), at(n % columns, columns, canvas.width)];
            const pixel = 4 * (y * canvas.width + x);
            return data[pixel + 3] * (data[pixel] + data[pixel + 1] + data[pixel + 2]);
          });
        }""",
        [told["rows"], told["columns"]],
    )
    shares = told["shares"][0]
    best, worst = shares.index(max(shares)), shares.index(min(shares))
    assert glow[best] > glow[worst]
    assert glow.index(max(glow)) == best


def test_an_element_is_let_go_by_a_second_click(visit: Visit) -> None:
    page = opened(visit)
    element = page.get_by_test_id("element").first
    element.click()
    expect(element).to_have_attribute("aria-pressed", "true")
    element.click()
    expect(element).to_have_attribute("aria-pressed", "false")


def test_more_like_this_leads_to_another_photo_and_to_a_search(visit: Visit) -> None:
    page = opened(visit)
    first = visit.shown()[0]
    like = visit.api(f"items/{first}")["like"]["hits"]
    more = page.get_by_test_id("more-like-this")
    expect(more.get_by_role("img")).to_have_count(len(like))
    more.get_by_role("img").first.click()
    expect(page.get_by_test_id("panel")).to_contain_text(like[0]["id"])
    page.go_back()
    expect(page.get_by_test_id("panel").get_by_role("heading", name=first, exact=True)).to_be_visible()
    more.get_by_role("link", name="See all").click()
    expect(page).to_have_url(re.compile(rf"\?like={first}$"))
    expect(page.get_by_test_id("panel")).to_be_hidden()
    expect(visit.tiles.first.locator(f"[data-id='{like[0]['id']}']")).to_be_attached()
    visit.expect_results(visit.found(f"like={first}&among=images&k={PAGE}"))


def test_less_like_this_moves_it_down(visit: Visit) -> None:
    page = opened(visit, 0, RED)
    first = visit.shown()[0]
    page.get_by_test_id("panel").get_by_role("link", name="Less like this").click()
    expect(page).to_have_url(re.compile("unlike_item="))
    expected = visit.found(f"q={RED}&unlike_item={first}&k={PAGE}")
    expect(visit.tiles.first.locator(f"[data-id='{expected[0]}']")).to_be_attached()
    visit.expect_results(expected)
    assert first not in expected[:1]


def test_how_it_answers_the_query_is_told_element_by_element(visit: Visit) -> None:
    page = opened(visit)
    why = visit.api(f"search?q={WARM}&k=1&explain=true")["hits"][0]["why"]
    rows = page.get_by_test_id("panel").locator(".matches li")
    expect(rows).to_have_count(len(why))
    for row, match in zip(rows.all_inner_texts(), why, strict=True):
        assert str(match["item_element"] + 1) in row


def test_an_item_whose_picture_is_lost_has_a_panel_of_words(visit: Visit) -> None:
    page = visit.open(f"/?q={COLD}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tile_of("lost").click()
    panel = page.get_by_test_id("panel")
    expect(panel).to_contain_text("lost in the fire")
    expect(panel.get_by_test_id("error")).to_have_count(0)


def test_a_link_to_an_item_alone_shows_its_panel(visit: Visit) -> None:
    page = visit.open("/?item=red-0.png")
    panel = page.get_by_test_id("panel")
    expect(panel).to_contain_text("a red wall")
    expect(page.get_by_test_id("more-like-this")).to_be_visible()
    page.get_by_test_id("panel-close").click()
    expect(panel).to_be_hidden()
    expect(page.get_by_test_id("example").first).to_be_visible()


def test_a_link_into_the_results_knows_its_place(visit: Visit) -> None:
    visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    shown = visit.shown()
    page = visit.open(f"/?q={WARM}&item={shown[1]}")
    panel = page.get_by_test_id("panel")
    expect(panel).to_contain_text("chance to fit")
    expect(panel.get_by_role("button", name="Next result")).to_be_enabled()
    page.keyboard.press("ArrowLeft")
    expect(panel.get_by_role("heading", name=shown[0], exact=True)).to_be_visible()


def test_a_link_to_an_item_whose_picture_is_lost(visit: Visit) -> None:
    page = visit.open("/?item=lost")
    expect(page.get_by_test_id("panel")).to_contain_text("lost in the fire")
    page.wait_for_load_state("networkidle")


def test_a_link_to_an_item_that_is_gone_says_so(visit: Visit) -> None:
    visit.expecting("status of 404")
    page = visit.open("/?item=nobody.png")
    expect(page.get_by_test_id("panel").get_by_role("alert")).to_contain_text("nobody.png")
    page.get_by_test_id("panel-close").click()
    expect(page.get_by_test_id("panel")).to_be_hidden()


def test_a_detail_filters_by_its_value(visit: Visit) -> None:
    page = opened(visit)
    place = visit.api(f"items/{visit.shown()[0]}")["item"]["metadata"]["place"]
    page.get_by_test_id("panel").get_by_role("definition").get_by_role("link", name=place, exact=True).click()
    expect(page.get_by_test_id("filter-chip")).to_contain_text(place)
    wanted = visit.found(f"q={WARM}&k=200&where=place%3D{quote(place)}")
    expect(visit.tiles).to_have_count(min(PAGE, len(wanted)))
    assert visit.shown() == wanted[:PAGE]
