"""For everybody: axe's findings, the keyboard alone, a phone, dark and light, little motion, large letters."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect
from visits import Visit
from walls import RED, WARM

from manymatch.web.keys import new_key

PAGE = 24
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
SIZES = {"desk": {}, "phone": PHONE}


def findings(page: Page) -> list[str]:
    """What axe calls serious or critical, with the elements it is about."""
    # Colours in the middle of a fade are nobody's choice.
    page.evaluate(
        """Promise.all(document.getAnimations().filter((one) => one.effect.getComputedTiming().endTime < 1e9)
          .map((one) => one.finished.catch(() => 0)))"""
    )
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']} {one['id']}: {[(n['html'][:160], n.get('failureSummary')) for n in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def scene_start(visit: Visit) -> None:
    visit.open()
    expect(visit.page.get_by_test_id("example").first).to_be_visible()


def scene_results(visit: Visit) -> None:
    visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.page.get_by_test_id("meaning-toggle").first.click()


def scene_panel(visit: Visit) -> None:
    visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.first.get_by_role("link").click()
    visit.page.get_by_test_id("element").first.click()
    expect(visit.page.get_by_test_id("more-like-this")).to_be_visible()


def scene_filters(visit: Visit) -> None:
    visit.open(f"/?q={WARM}&where=place%3DOslo%7CBergen&where=year%3E%3D1995")
    expect(visit.page.get_by_test_id("filter-chip").first).to_be_visible()
    visit.page.get_by_test_id("filter-open").click()
    expect(visit.page.get_by_test_id("filter-value").first).to_be_visible()


def scene_compare(visit: Visit) -> None:
    visit.open(f"/?q={RED}&view=compare")
    expect(visit.page.get_by_test_id("compare-column").nth(1).get_by_test_id("tile").first).to_be_visible()


def scene_nothing(visit: Visit) -> None:
    visit.open(f"/?q={WARM}&where=place%3DAtlantis")
    expect(visit.page.get_by_test_id("empty")).to_be_visible()


def scene_docs(visit: Visit) -> None:
    visit.open("/docs")
    expect(visit.page.get_by_role("main")).to_contain_text("/api/search")


SCENES = [scene_start, scene_results, scene_panel, scene_filters, scene_compare, scene_nothing, scene_docs]


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("desk", "dark"), ("phone", "light")])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.removeprefix("scene_"))
def test_axe_finds_nothing_serious(
    visiting: Callable[..., Visit], comparing: str, scene: Callable[[Visit], None], size: str, scheme: str
) -> None:
    visit = visiting(comparing, color_scheme=scheme, reduced_motion="reduce", **SIZES[size])
    scene(visit)
    found = findings(visit.page)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_a_key_is_asked_for(
    visiting: Callable[..., Visit], served, index, tmp_path, scheme: str
) -> None:
    new_key(tmp_path / "keys.json")
    visit = visiting(served(index, keys=tmp_path / "keys.json"), color_scheme=scheme, reduced_motion="reduce")
    visit.expecting("status of 401")
    visit.open()
    expect(visit.page.get_by_test_id("key-form")).to_be_visible()
    assert not findings(visit.page)


# ---- the keyboard alone


def tab_to(page: Page, wanted: str, most: int = 60, back: bool = False) -> None:
    """Press Tab until what has the focus matches; each stop must be visible and have a name."""
    for _ in range(most):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        told = page.evaluate(
            """(wanted) => {
              const node = document.activeElement;
              const box = node.getBoundingClientRect();
              const style = getComputedStyle(node);
              const label = node.labels?.[0]?.getBoundingClientRect();
              const shown = [box, label].some((b) => b && b.width > 1 && b.height > 1);
              const name = [node.getAttribute("aria-label"), node.innerText, node.labels?.[0]?.innerText, node.title,
                ...[...node.querySelectorAll("img")].map((image) => image.alt), node.getAttribute("aria-labelledby")];
              return {
                there: Boolean(node.closest(wanted)), shown, name: name.join("").trim(),
                html: node.outerHTML.slice(0, 120), body: node === document.body, hidden: style.visibility === "hidden",
              };
            }""",
            wanted,
        )
        if told["there"]:
            assert told["shown"] and not told["hidden"], told["html"]
            return
        assert told["body"] or (told["name"] and not told["hidden"]), f"a stop without a name: {told['html']}"
    raise AssertionError(f"{most} times Tab never came to {wanted}")


def test_a_journey_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.open()
    keys = page.keyboard
    expect(page.get_by_test_id("example").first).to_be_visible()
    keys.type(WARM)
    keys.press("Enter")
    expect(visit.tiles).to_have_count(PAGE)
    tab_to(page, "[data-testid=meaning-toggle]")
    keys.press("Space")
    expect(page.get_by_test_id("meaning-toggle").first).to_have_attribute("aria-expanded", "true")
    keys.press("Space")
    tab_to(page, "[data-testid=tile]")
    keys.press("Enter")
    panel = page.get_by_test_id("panel")
    expect(page.get_by_test_id("element").first).to_be_visible()
    tab_to(page, "[data-testid=element]")
    expect(page.get_by_test_id("heatmap")).to_be_visible()
    keys.press("Enter")
    expect(page.get_by_test_id("element").first).to_have_attribute("aria-pressed", "true")
    tab_to(page, "[data-testid=more-like-this]")
    keys.press("Escape")
    expect(panel).to_be_hidden()
    expect(visit.tiles.first.get_by_role("link")).to_be_focused()
    tab_to(page, "[data-testid=filter-open]", back=True)
    keys.press("Enter")
    expect(page.get_by_test_id("filter-value").first).to_be_visible()
    tab_to(page, "[data-testid=filter-value][data-field=place]")
    keys.press("Space")
    expect(page.get_by_test_id("filter-chip")).to_have_count(1)
    keys.press("Escape")
    expect(page.get_by_test_id("filter-value").first).to_be_hidden()
    expect(page.get_by_test_id("filter-open")).to_be_focused()
    tab_to(page, "[data-testid=filter-chip]")
    keys.press("Enter")
    expect(page.get_by_test_id("filter-chip")).to_have_count(0)


def test_the_first_stop_skips_to_the_results(visit: Visit) -> None:
    page = visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name=re.compile("skip", re.IGNORECASE))
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_has_the_focus_can_be_seen(visiting: Callable[..., Visit], server: str, scheme: str) -> None:
    visit = visiting(server, color_scheme=scheme, reduced_motion="reduce")
    page = visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    tab_to(page, "[data-testid=tile]")
    seen = """(link) => [link, ...link.querySelectorAll("*")].map((one) => {
      const style = getComputedStyle(one);
      return style.outlineStyle + style.outlineWidth + style.boxShadow + style.borderColor;
    }).join()"""
    tile = visit.tiles.first.get_by_role("link")
    expect(tile).to_be_focused()
    focused = tile.evaluate(seen)
    tile.evaluate("link => link.blur()")
    assert focused != tile.evaluate(seen)


def test_headings_have_an_order_and_the_page_its_landmarks(visit: Visit) -> None:
    for scene in (scene_start, scene_results, scene_panel):
        scene(visit)
        levels = visit.page.locator("h1, h2, h3, h4").evaluate_all(
            "nodes => nodes.filter((n) => n.checkVisibility()).map((n) => Number(n.tagName[1]))"
        )
        assert levels.count(1) == 1, levels
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels)), levels
        for landmark in ("banner", "main", "search", "contentinfo"):
            expect(visit.page.get_by_role(landmark)).to_have_count(1)


# ---- phones and large letters


def wider_than_the_screen(page: Page) -> list[str]:
    """Elements that reach beyond the right edge and cannot be scrolled to within a box of their own."""
    return page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          const boxed = (node) => node !== document.body
            && (getComputedStyle(node).overflowX !== "visible" || boxed(node.parentElement));
          return [...document.body.querySelectorAll("*")].filter((node) => {
            const { right, width: own } = node.getBoundingClientRect();
            return right > width + 1 && own > 1 && node.checkVisibility({ visibilityProperty: true })
              && !boxed(node.parentElement);
          }).map((node) => node.outerHTML.slice(0, 120));
        }"""
    )


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.removeprefix("scene_"))
def test_nothing_is_wider_than_a_phone(
    visiting: Callable[..., Visit], comparing: str, scene: Callable[[Visit], None]
) -> None:
    # The narrowest that WCAG asks for (1.4.10).
    visit = visiting(comparing, **PHONE | {"viewport": {"width": 320, "height": 700}})
    scene(visit)
    assert visit.page.evaluate("document.scrollingElement.scrollWidth") <= 320
    assert not wider_than_the_screen(visit.page)


def test_the_panel_covers_a_phone_and_keeps_the_focus(visiting: Callable[..., Visit], server: str) -> None:
    visit = visiting(server, **PHONE)
    page = visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.nth(1).get_by_role("link").tap()
    panel = page.get_by_test_id("panel")
    expect(page.get_by_test_id("more-like-this")).to_be_attached()
    assert panel.evaluate("dialog => dialog.matches(':modal')")
    assert panel.bounding_box()["width"] == pytest.approx(390, abs=1)
    for _ in range(40):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || Boolean(document.activeElement.closest('dialog'))"
        )
    page.get_by_test_id("panel-close").tap()
    expect(panel).to_be_hidden()


SMALL = """nodes => {
  const seen = nodes.filter((node) => node.checkVisibility({ visibilityProperty: true })).map((node) => {
    const boxes = [node, ...(node.labels ?? [])].map((one) => one.getBoundingClientRect());
    const largest = boxes.reduce((a, b) => (a.width * a.height > b.width * b.height ? a : b));
    return { node, box: largest, middle: [largest.x + largest.width / 2, largest.y + largest.height / 2] };
  }).filter(({ box }) => box.width > 1 && box.height > 1);
  const near = (one, other) => other !== one && Math.hypot(
    Math.max(other.box.left - one.middle[0], 0, one.middle[0] - other.box.right),
    Math.max(other.box.top - one.middle[1], 0, one.middle[1] - other.box.bottom)) < 12;
  return seen.filter((one) => (one.box.width < 24 || one.box.height < 24) && seen.some((other) => near(one, other)))
    .map(({ node, box }) => `${box.width} x ${box.height}: ${node.outerHTML.slice(0, 100)}`);
}"""
"""Targets below 24 pixels with another one so near that a finger cannot tell them apart (WCAG 2.2, 2.5.8)."""


def test_what_is_tapped_is_large_enough_or_stands_alone(visiting: Callable[..., Visit], comparing: str) -> None:
    visit = visiting(comparing, **PHONE)
    for scene in (scene_start, scene_results, scene_panel, scene_filters):
        scene(visit)
        small = visit.page.locator("button, a[href], input, select, summary").evaluate_all(SMALL)
        assert not small, f"{scene.__name__}: {small}"


def test_letters_twice_as_large_still_fit(visiting: Callable[..., Visit], comparing: str) -> None:
    # A desk of 1280 pixels at 200 % has room for 640.
    visit = visiting(comparing, viewport={"width": 640, "height": 450}, device_scale_factor=2)
    for scene in SCENES:
        scene(visit)
        assert visit.page.evaluate("document.scrollingElement.scrollWidth") <= 640, scene.__name__


# ---- light, dark, still


GROUND = """[document.body, document.documentElement].map((node) => getComputedStyle(node).backgroundColor)
  .find((colour) => !/, 0[)]$/.test(colour))"""


def luminance(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_scheme_of_the_system_is_followed(
    visiting: Callable[..., Visit], server: str, scheme: str, dark: bool
) -> None:
    visit = visiting(server, color_scheme=scheme)
    page = visit.open()
    ground, ink = page.evaluate(GROUND), page.evaluate("getComputedStyle(document.body).color")
    assert (luminance(ground) < 0.25) is dark and (luminance(ink) > 0.7) is dark
    page.emulate_media(color_scheme="light" if dark else "dark")
    assert (luminance(page.evaluate(GROUND)) < 0.25) is not dark


MOVING = """() => document.getAnimations().filter((animation) => {
  const timing = animation.effect.getComputedTiming();
  return animation.playState === "running" && timing.duration > 10;
}).map(({ animationName, transitionProperty, effect }) =>
  `${animationName ?? transitionProperty} of ${effect.target?.className}`)"""


def test_nothing_moves_where_little_motion_is_wished(visiting: Callable[..., Visit], server: str) -> None:
    visit = visiting(server, reduced_motion="reduce")
    page = visit.open()
    held: list[Any] = []
    page.wait_for_load_state("networkidle")
    page.route(re.compile(r"/api/search(\?|$)"), lambda route: held.append(route), times=1)
    page.get_by_test_id("search-box").fill(WARM)
    page.get_by_test_id("search-box").press("Enter")
    page.wait_for_timeout(250)
    assert page.evaluate(MOVING) == []
    for route in held:
        route.continue_()
    expect(visit.tiles).to_have_count(PAGE)
    visit.tiles.first.get_by_role("link").click()
    assert page.evaluate(MOVING) == []
    page.keyboard.press("Escape")
    assert page.evaluate(MOVING) == []


def test_forced_colours_keep_what_is_needed(visiting: Callable[..., Visit], server: str) -> None:
    visit = visiting(server, forced_colors="active")
    page = visit.open(f"/?q={WARM}")
    expect(visit.tiles).to_have_count(PAGE)
    expect(page.get_by_test_id("cutoff")).to_be_visible()
    expect(page.get_by_role("search").get_by_role("button", name="Search", exact=True)).to_be_visible()
