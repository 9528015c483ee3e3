"""Browser tests: a real Chromium, a real server, a real small index; a fresh profile for each test.

Every test ends with a look at what the browser complained of: console errors, exceptions, requests to elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from visits import CHROMIUM, Driver, Visit, listening
from walls import MARKUP, built, emptied

from manymatch.index import Index
from manymatch.web.app import create_app
from manymatch.web.settings import Settings

_HERE = Path(__file__).parent
_driver = pytest.StashKey[Driver]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Tests of this folder run in the browser's thread."""
    named = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.config.stash[_driver].call(pyfuncitem.obj, **named)
    return True


@pytest.fixture(scope="session", autouse=True)
def driver(pytestconfig: pytest.Config) -> Iterator[Driver]:
    if not CHROMIUM.exists():
        told = f"{CHROMIUM} is not there; with Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    started = Driver().start()
    pytestconfig.stash[_driver] = started
    yield started
    started.stop()


@pytest.fixture(scope="session")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Index, Index]]:
    pair = built(tmp_path_factory.mktemp("walls"))
    yield pair
    for index in pair:
        index.close()


@pytest.fixture(scope="session")
def index(indexes: tuple[Index, Index]) -> Index:
    return indexes[0]


Served = Callable[..., str]


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """An index (and one to compare it with) behind a server; its address."""
    with ExitStack() as stack:
        yield lambda *indexes, **settings: stack.enter_context(
            listening(create_app(*indexes, settings=replace(Settings(), **settings)))
        )


@pytest.fixture(scope="session")
def server(served: Served, index: Index) -> str:
    """The address of the walls, under a title that a stranger wrote."""
    return served(index, title=f"Walls {MARKUP}")


@pytest.fixture(scope="session")
def comparing(served: Served, indexes: tuple[Index, Index]) -> str:
    """The address of the walls beside a run that knows nothing."""
    return served(*indexes)


@pytest.fixture(scope="session")
def empty(served: Served, index: Index, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with emptied(tmp_path_factory.mktemp("empty"), index.model) as nothing:
        yield served(nothing)


@pytest.fixture
def visiting(driver: Driver) -> Iterator[Callable[..., Visit]]:
    """Visits as `Visit` takes them, looked after at the end."""
    made: list[Visit] = []

    def visit(at: str, **context: Any) -> Visit:
        made.append(Visit(driver.browser, at, **context))
        return made[-1]

    yield visit
    found = [mishap for one in made for mishap in driver.call(one.close)]
    assert not found, "\n".join(found)


@pytest.fixture
def visit(visiting: Callable[..., Visit], server: str, driver: Driver) -> Visit:
    """A visitor of the walls at a desk, who has opened nothing yet."""
    return driver.call(visiting, server)
