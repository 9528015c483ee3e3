"""A browser driven from a thread of its own, servers it visits, and visits that notice what no visitor should."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Playwright, Request, expect
from playwright.sync_api import sync_playwright as playwright

CHROMIUM = Path("/usr/bin/chromium")
_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
_PATIENCE = 5_000
"""Milliseconds that an expectation may take to come true: it is met at once, unless the machine is busy."""

T = TypeVar("T")


def css(text: str) -> str:
    """A string of a selector."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Driver:
    """The thread in which everything of playwright happens.

    Its synchronous interface keeps an event loop running in the thread that uses it, so that `asyncio.run` would fail
    there for every later test.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._playwright: Playwright | None = None
        self.browser: Browser | None = None

    def call(self, act: Callable[..., T], /, *arguments: Any, **named: Any) -> T:
        return self._thread.submit(act, *arguments, **named).result()

    def start(self) -> Driver:
        self.call(self._start)
        return self

    def _start(self) -> None:
        expect.set_options(timeout=_PATIENCE)
        self._playwright = playwright().start()
        self.browser = self._playwright.chromium.launch(executable_path=CHROMIUM, args=_SWITCHES)

    def stop(self) -> None:
        self.call(self._stop)
        self._thread.shutdown()

    def _stop(self) -> None:
        if self.browser is not None:
            self.browser.close()
        if self._playwright is not None:
            self._playwright.stop()


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The app behind uvicorn on a free port of this machine; its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=2, server_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="page-server")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


class Visit:
    """One visitor: a fresh browser profile with one page, and a list of what should not have happened.

    Attributes:
        page: the tab.
        at: the address of the server.
        asked: every address the browser asked for, in order.
        mishaps: console errors and warnings, exceptions, and requests to anywhere else.
    """

    def __init__(self, browser: Browser, at: str, **context: Any) -> None:
        chosen = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", "service_workers": "block"} | context
        self.context: BrowserContext = browser.new_context(base_url=at, **chosen)
        self.context.set_default_timeout(_PATIENCE)
        self.at, self.asked, self.mishaps = at, [], []
        self._expected: list[re.Pattern[str]] = []
        # Contexts tell of every page they open, also of one that a stranger's markup would open.
        self.context.on("console", self._console)
        self.context.on("weberror", lambda problem: self._mishap(f"exception: {problem.error}"))
        self.context.on("request", self._request)
        self.context.on("dialog", lambda dialog: (self._mishap(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page: Page = self.context.new_page()

    def _mishap(self, what: str) -> None:
        self.mishaps.append(what)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._mishap(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((f"{self.at}/", "data:", "blob:")):
            self._mishap(f"a request leaves the server: {request.url}")

    def expecting(self, pattern: str) -> None:
        """A console message that this test brings about, such as of an answer 503."""
        self._expected.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        hurt = [
            f"a stranger's script ran in {page.url}" for page in self.context.pages if page.evaluate("window.__hurt")
        ]
        return hurt + [m for m in self.mishaps if not any(pattern.search(m) for pattern in self._expected)]

    def close(self) -> list[str]:
        """What should not have happened."""
        found = self.unexpected()
        self.context.close()
        return found

    # ---- what tests of several files do

    def shown(self) -> list[str]:
        """The ids of the results on the page, in order."""
        return self.tiles.evaluate_all("tiles => tiles.map(t => t.querySelector('a').dataset.id)")

    def expect_results(self, ids: list[str]) -> None:
        """That these are the results, and no others."""
        expect(self.tiles).to_have_count(len(ids))
        assert self.shown() == ids

    def found(self, path: str) -> list[str]:
        """The ids that the API answers to a search."""
        return [hit["id"] for hit in self.api(f"search?{path}")["hits"]]

    def tile_of(self, id: str) -> Locator:
        return self.tiles.filter(has=self.page.locator(f"a[data-id={css(id)}]")).get_by_role("link")

    def open(self, path: str = "/") -> Page:
        self.page.goto(path)
        return self.page

    def search(self, words: str) -> Page:
        """Type the words on the page that is open and wait for what they find."""
        box = self.page.get_by_test_id("search-box")
        box.fill(words)
        box.press("Enter")
        expect(self.tiles.first).to_be_visible()
        return self.page

    @property
    def tiles(self) -> Locator:
        return self.page.get_by_test_id("tile").filter(visible=True)

    def api(self, path: str) -> Any:
        """What the API answers the visitor."""
        return self.context.request.get(f"/api/{path}").json()
