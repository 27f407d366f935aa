from collections.abc import Iterator

import pytest

from tests.api.gallery import Gallery, gallery
from tests.api.lab import LiveLab, live_lab
from tests.store.databases import KINDS


@pytest.fixture(scope="module", params=KINDS)
def lab(request, tmp_path_factory) -> Iterator[LiveLab]:
    """A running API, on each kind of database in turn."""
    with live_lab(request.param, tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="module")
def sqlite_lab(tmp_path_factory) -> Iterator[LiveLab]:
    """The same on SQLite alone, where the database's kind does not matter."""
    with live_lab("sqlite", tmp_path_factory.mktemp("lab")) as made:
        yield made


@pytest.fixture(scope="session")
def shown(tmp_path_factory) -> Iterator[Gallery]:
    """A lab with one run of every kind in every state: made once, by those of one group."""
    with gallery(tmp_path_factory.mktemp("gallery")) as made:
        yield made
