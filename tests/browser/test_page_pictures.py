"""Searching with a picture: dropped, chosen, pasted; what is no picture; and where it stays."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image
from playwright.sync_api import JSHandle, Page, expect
from visits import Visit

PAGE = 24


def encoded(colour: str, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (50, 40), colour).save(out, form)
    return out.getvalue()


def carried(page: Page, data: bytes, name: str, kind: str) -> JSHandle:
    """What a drag or the clipboard carries: a file."""
    return page.evaluate_handle(
        """([coded, name, type]) => {
          const transfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(coded), (letter) => letter.charCodeAt(0));
          transfer.items.add(new File([bytes], name, { type }));
          return transfer;
        }""",
        [base64.b64encode(data).decode(), name, kind],
    )


def drop(page: Page, data: bytes, name: str = "mine.png", kind: str = "image/png") -> None:
    """Drag a file over the page and let it go; the page says what will happen while it is there."""
    transfer = carried(page, data, name, kind)
    for event in ("dragenter", "dragover"):
        page.dispatch_event("main", event, {"dataTransfer": transfer, "bubbles": True, "cancelable": True})
    expect(page.get_by_text("Drop to search with this picture")).to_be_visible()
    page.dispatch_event("main", "drop", {"dataTransfer": transfer, "bubbles": True, "cancelable": True})


def expect_walls(visit: Visit, colour: str) -> None:
    """Ten walls of the colour first: a picture's nearest are those painted the same."""
    expect(visit.tiles).to_have_count(PAGE)
    expect(visit.tiles.first.locator(f"[data-id^={colour}]")).to_be_attached()
    assert {id.split("-")[0] for id in visit.shown()[:8]} == {colour}


def test_a_dropped_picture_finds_walls_of_its_colour(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_test_id("dropzone")).to_contain_text("picture")
    drop(page, encoded("red"))
    expect_walls(visit, "red")
    expect(page.get_by_text("Drop to search with this picture")).to_be_hidden()
    expect(page.get_by_test_id("search-box")).to_have_value("")


def test_a_picture_can_be_dropped_on_results(visit: Visit) -> None:
    page = visit.open("/?q=a+red+wall")
    expect_walls(visit, "red")
    drop(page, encoded("black", "JPEG"), "other.jpg", "image/jpeg")
    expect_walls(visit, "black")


def test_a_chosen_file_searches(visit: Visit) -> None:
    page = visit.open()
    page.get_by_test_id("upload-input").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": encoded("orange")}
    )
    expect_walls(visit, "orange")


def test_the_file_button_opens_the_chooser_from_the_keyboard(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_test_id("example").first).to_be_visible()
    chooser = page.get_by_test_id("upload-input")
    expect(chooser).to_have_accessible_name(re.compile("^Search with a picture"))
    page.wait_for_load_state("networkidle")
    with page.expect_file_chooser() as opened:
        chooser.press("Space")
    opened.value.set_files({"name": "mine.png", "mimeType": "image/png", "buffer": encoded("white")})
    expect_walls(visit, "white")


def test_a_pasted_picture_searches(visit: Visit) -> None:
    page = visit.open()
    transfer = carried(page, encoded("black"), "image.png", "image/png")
    page.evaluate(
        """(transfer) => document.body.dispatchEvent(
          new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }))""",
        transfer,
    )
    expect_walls(visit, "black")


def test_the_asked_picture_is_shown_and_can_be_taken_away(visit: Visit) -> None:
    page = visit.open()
    drop(page, encoded("red"))
    expect_walls(visit, "red")
    asked = page.locator("img[src^='blob:']").first
    expect(asked).to_be_visible()
    assert asked.evaluate("image => image.naturalWidth") == 50
    page.get_by_role("link", name="Clear").or_(page.get_by_role("button", name="Clear")).first.click()
    expect(visit.tiles).to_have_count(0)
    expect(page.get_by_test_id("example").first).to_be_visible()


def test_the_picture_stays_in_its_history_entry(visit: Visit) -> None:
    page = visit.open()
    drop(page, encoded("black"))
    expect_walls(visit, "black")
    visit.search("a red wall")
    expect_walls(visit, "red")
    page.go_back()
    expect_walls(visit, "black")
    page.reload()
    expect_walls(visit, "black")


def test_a_shared_address_without_its_picture_does_not_break(visiting, server: str) -> None:
    visit = visiting(server)
    page = visit.open("/?picture=1")
    expect(page.get_by_test_id("error")).to_contain_text("choose it again")
    expect(visit.tiles).to_have_count(0)
    visit.search("a red wall")
    expect_walls(visit, "red")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded("red")[:60], "image/png"),
        (b"", "image/png"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>window.__hurt=1</script></svg>", "image/svg+xml"),
        (b"<html><script>window.__hurt=1</script></html>", "image/jpeg"),
    ],
    ids=["cut short", "empty", "svg", "html"],
)
def test_what_is_no_picture_is_told_in_the_server_s_words(visit: Visit, data: bytes, kind: str) -> None:
    visit.expecting(r"status of 422")
    page = visit.open()
    drop(page, data, "odd.png", kind)
    problem = page.get_by_test_id("error")
    expect(problem).to_be_visible()
    expect(problem).to_contain_text("odd.png")
    expect(visit.tiles).to_have_count(0)
    visit.search("a red wall")
    expect(problem).to_be_hidden()


def test_a_text_file_is_refused_without_sending_it(visit: Visit) -> None:
    page = visit.open()
    drop(page, b"words", "notes.txt", "text/plain")
    expect(page.get_by_test_id("error")).to_contain_text("notes.txt")
    expect(visit.tiles).to_have_count(0)
    assert not [address for address in visit.asked if "/search/image" in address]


def test_a_picture_larger_than_allowed_is_refused_without_sending_it(visit: Visit) -> None:
    page = visit.open()
    expect(page.get_by_test_id("example").first).to_be_visible()
    most = visit.api("info")["limits"]["upload_bytes"]
    page.evaluate(
        """(size) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(size)], "large.png", { type: "image/png" }));
          const drop = { dataTransfer: transfer, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new DragEvent("drop", drop));
        }""",
        most + 1,
    )
    expect(page.get_by_test_id("error")).to_contain_text("large.png")
    assert not [address for address in visit.asked if "/search/image" in address]


def test_a_run_that_reads_features_offers_no_picture_search(visit: Visit) -> None:
    page = visit.page

    def features(route) -> None:
        told = route.fetch().json()
        route.fulfill(json=told | {"image_input": "features"})

    page.route("**/api/info", features)
    visit.open()
    expect(page.get_by_test_id("example").first).to_be_visible()
    expect(page.get_by_test_id("upload-input")).to_be_hidden()
    expect(page.get_by_test_id("dropzone")).to_be_hidden()
