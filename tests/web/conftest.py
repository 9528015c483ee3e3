"""What most tests of the API ask: a small index that is made up, and a client of it."""

import pytest
from web_fakes import Client, FakeIndex, small_index

from manymatch.web.app import create_app


@pytest.fixture(scope="module")
def index() -> FakeIndex:
    return small_index()


@pytest.fixture(scope="module")
def client(index: FakeIndex) -> Client:
    return Client(create_app(index))
