"""A server with a key file: the page asks for a key, keeps it out of reach of scripts, and forgets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from visits import Visit
from walls import RED

from manymatch.web.keys import new_key

PAGE = 24


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A key file, a read key and a write key."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, new_key(path, "read", "a reader")[1], new_key(path, "write", "a writer")[1]


@pytest.fixture(scope="module")
def locked(served, index, keys) -> str:
    return served(index, keys=keys[0])


@pytest.fixture
def visit(visiting: Callable[..., Visit], locked: str, driver) -> Visit:
    made = driver.call(visiting, locked)
    made.expecting("status of 401")
    return made


def enter(page: Page, key: str) -> None:
    form = page.get_by_test_id("key-form")
    form.get_by_role("textbox").or_(form.locator("input")).first.fill(key)
    form.get_by_role("button").first.click()


def test_the_page_asks_for_a_key_and_shows_nothing_before(visit: Visit) -> None:
    page = visit.open(f"/?q={RED}")
    form = page.get_by_test_id("key-form")
    expect(form).to_be_visible()
    expect(visit.tiles).to_have_count(0)
    expect(form.locator("input").first).to_have_accessible_name(re.compile("key", re.IGNORECASE))
    assert form.locator("input").first.get_attribute("type") == "password"


@pytest.mark.parametrize("which", [1, 2], ids=["read", "write"])
def test_a_key_lets_in_and_the_search_goes_on(visit: Visit, keys, which: int) -> None:
    page = visit.open(f"/?q={RED}")
    enter(page, keys[which])
    expect(page.get_by_test_id("key-form")).to_be_hidden()
    expect(visit.tiles).to_have_count(PAGE)
    expect(visit.tiles.first.get_by_role("img")).to_have_js_property("complete", True)
    assert visit.tiles.first.get_by_role("img").evaluate("image => image.naturalWidth") > 0
    page.reload()
    expect(visit.tiles).to_have_count(PAGE)
    expect(page.get_by_test_id("key-form")).to_be_hidden()


def test_the_key_is_out_of_reach_of_scripts(visit: Visit, keys) -> None:
    page = visit.open("/")
    enter(page, keys[2])
    expect(page.get_by_test_id("key-form")).to_be_hidden()
    kept = page.evaluate(
        "[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]"
    )
    secret = keys[2].rpartition("_")[2]
    assert not any(secret in place for place in kept) and kept[0] == ""
    cookies = visit.context.cookies()
    assert cookies and all(c["httpOnly"] and c["sameSite"] == "Strict" and secret not in c["value"] for c in cookies)
    assert secret not in page.content()


def test_a_wrong_key_is_told_and_can_be_mended(visit: Visit, keys) -> None:
    page = visit.open("/")
    for wrong in ("nonsense", f"{keys[1][:-3]}xyz", f" {keys[0]}"):
        enter(page, wrong)
        expect(page.get_by_test_id("key-form").get_by_role("alert")).to_be_visible()
    enter(page, f"  {keys[1]} ")
    expect(page.get_by_test_id("key-form")).to_be_hidden()
    expect(page.get_by_test_id("example").first).to_be_visible()


def test_a_session_that_ends_asks_again(visit: Visit, keys) -> None:
    page = visit.open("/")
    enter(page, keys[1])
    expect(page.get_by_test_id("example").first).to_be_visible()
    visit.context.clear_cookies()
    page.get_by_test_id("search-box").fill(RED)
    page.get_by_test_id("search-box").press("Enter")
    expect(page.get_by_test_id("key-form")).to_be_visible()
    enter(page, keys[1])
    expect(visit.tiles).to_have_count(PAGE)


def test_the_cookie_does_not_write(visit: Visit, keys) -> None:
    page = visit.open("/")
    enter(page, keys[2])
    expect(page.get_by_test_id("example").first).to_be_visible()
    visit.expecting("status of 40[13]")
    status = page.evaluate("fetch('api/items/red-0.png', {method: 'DELETE'}).then((answer) => answer.status)")
    assert status in (401, 403)


def test_a_public_server_asks_for_no_key(visiting: Callable[..., Visit], served, index, keys) -> None:
    public = visiting(served(index, keys=keys[0], public=True))
    page = public.open(f"/?q={RED}")
    expect(public.tiles).to_have_count(PAGE)
    expect(page.get_by_test_id("key-form")).to_be_hidden()
