"""What strangers wrote into captions, ids, metadata and titles is shown as text and does nothing.

These visits switch the content security policy off: what keeps markup from being markup must be the page itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import expect
from visits import Visit
from walls import MARKUP, PURPLE, STRANGE

PAGE = 24


@pytest.fixture(params=[True, False], ids=["without policy", "with policy"])
def visit(visiting: Callable[..., Visit], server: str, driver, request: pytest.FixtureRequest) -> Visit:
    return driver.call(visiting, server, bypass_csp=request.param)


def planted(visit: Visit) -> int:
    """How many elements of the page came from a stranger's words."""
    return visit.page.locator("img[src='x'], b, script").evaluate_all(
        """nodes => nodes.filter((node) => node.matches("img[src='x'], [onerror], [onclick], script:not([src])") ||
             (node.tagName === "B" && node.textContent === "bold")).length"""
    )


def test_captions_ids_and_titles_on_the_page(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_test_id("example").first).to_be_visible()
    expect(page).to_have_title(re.compile(re.escape(MARKUP)))
    visit.search(PURPLE)
    expect(visit.tiles).to_have_count(PAGE)
    assert {item.id for item in STRANGE} <= set(visit.shown())
    page.wait_for_load_state("networkidle")
    assert planted(visit) == 0


@pytest.mark.parametrize("item", STRANGE, ids=["markup", "path", "marks", "unicode"])
def test_the_panel_of_a_stranger(visit: Visit, item) -> None:
    page = visit.open(f"/?q={PURPLE}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.nth(visit.shown().index(item.id)).get_by_role("link").click()
    panel = page.get_by_test_id("panel")
    for caption in item.captions:
        expect(panel.get_by_text(caption, exact=True).first).to_be_visible()
    for name, value in item.metadata.items():
        expect(panel).to_contain_text(name)
        expect(panel).to_contain_text(str(value))
    expect(panel.get_by_role("heading", name=item.id, exact=True)).to_be_visible()
    picture = panel.get_by_role("img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 0
    page.wait_for_load_state("networkidle")
    assert planted(visit) == 0
    page.reload()
    expect(panel.get_by_role("heading", name=item.id, exact=True)).to_be_visible()
    page.get_by_test_id("more-like-this").get_by_role("link", name="See all").click()
    expect(panel).to_be_hidden()
    expect(visit.tiles).to_have_count(PAGE)
    assert item.id not in visit.shown() and planted(visit) == 0


@pytest.mark.parametrize("name", ["__proto__", "constructor"])
def test_names_that_every_object_has(visit: Visit, name: str) -> None:
    """The value has a sign that the short form of a condition has no room for, so it is asked for as JSON."""
    page = visit.open()
    sent = json.dumps({"field": name, "in": ["a|b", name]})
    with page.expect_request("**/api/search") as asked:
        page.goto(f"{visit.at}/?q={PURPLE}&exact={name}&where={quote(sent)}")
    body = json.loads(asked.value.post_data or "")
    assert body["where"] == {name: {"in": ["a|b", name]}} and "exact" not in body
    assert page.evaluate("Object.keys(Object.prototype)") == []
    expect(visit.tiles).to_have_count(0)
    expect(page.get_by_test_id("empty")).to_be_visible()


def test_words_in_the_address_and_in_the_answers(visit: Visit) -> None:
    visit.expecting(r"status of 4\d\d")
    page = visit.open()
    visit.search(MARKUP)
    expect(page.get_by_test_id("search-box")).to_have_value(MARKUP)
    page.reload()
    expect(page.get_by_test_id("search-box")).to_have_value(MARKUP)
    for address in ("like", "item", "unlike", "where", "group_by", "view"):
        visit.open(f"/?q=red&{address}={MARKUP}".replace("#", "%23"))
        page.wait_for_load_state("networkidle")
        assert planted(visit) == 0, address


def test_the_server_s_messages(visit: Visit) -> None:
    visit.expecting("status of 422")
    page = visit.open()
    page.wait_for_load_state("networkidle")
    page.route(
        re.compile("/api/search"),
        lambda route: route.fulfill(status=422, json={"error": {"type": MARKUP, "message": f"bad {MARKUP}"}}),
    )
    page.get_by_test_id("search-box").fill("red")
    page.get_by_test_id("search-box").press("Enter")
    expect(page.get_by_test_id("error")).to_contain_text(f"bad {MARKUP}")
    assert planted(visit) == 0


def test_the_names_of_files(visit: Visit) -> None:
    visit.expecting("status of 422")
    page = visit.open()
    page.get_by_test_id("upload-input").set_input_files(
        {"name": f"{MARKUP}.png".replace("/", "_"), "mimeType": "image/png", "buffer": b"x"}
    )
    expect(page.get_by_test_id("error")).to_contain_text("<img src=x")
    assert planted(visit) == 0
