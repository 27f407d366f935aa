"""Every page with every kind of run in every state, over HTTP."""

import itertools
import logging
import re
from collections.abc import Iterator
from typing import get_args

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from api import pages
from domain.run_state import RunState
from store import tables
from store.engine import writing
from tests.api.gallery import HTML
from tests.api.lab import ROLES
from tests.api.test_auth_api import log_in

pytestmark = pytest.mark.xdist_group("gallery")  # made once
PARTS = get_args(pages.Part)
OF_A_RUN = ("/runs/{run_id}", *(f"/runs/{{run_id}}/parts/{part}" for part in PARTS))
PAGES = {
    "/": ("/",),
    "/health": ("/health",),
    "/docs": ("/docs",),
    "/login": ("/login", "/login?next=/health"),
    "/runs/{run_id}": OF_A_RUN[:1],
    "/runs/{run_id}/parts/{part}": OF_A_RUN[1:],
}
"""Addresses of every page there is; :func:`test_every_page_is_known_here` sees that none lacks."""
UNSHOWN = "cannot be shown"


class Errors(logging.Handler):
    """Keeps what the application logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def taken(self) -> list[str]:
        """Return the messages so far, and forget them."""
        told = [f"{r.getMessage()}\n{r.exc_text or r.exc_info}" for r in self.records]
        self.records.clear()
        return told


@pytest.fixture
def errors() -> Iterator[Errors]:
    handler = Errors()
    logging.getLogger("api").addHandler(handler)
    yield handler
    logging.getLogger("api").removeHandler(handler)


def test_every_page_is_known_here():
    walked = {r.path for r in pages.router.routes if isinstance(r, APIRoute) and "GET" in r.methods}
    assert walked == set(PAGES)


@pytest.mark.parametrize("user", [*ROLES, None])
def test_every_page_answers_everybody(shown, errors, user):
    browser = log_in(shown.lab, user) if user else shown.lab.client(None)
    browser.headers["Accept"] = "text/html"
    runs = [shown.runs[what].id for what in ("train running", "train queued", "train evaluated")]
    addresses = {a.format(run_id=r) for page in PAGES.values() for a in page for r in runs}
    for address in sorted(addresses):
        answer = browser.get(address)
        if user is None and not address.startswith("/login"):
            assert answer.status_code == 303, address
            assert answer.headers["location"].startswith("/login?next=")
        else:
            assert answer.status_code == 200, address
            assert UNSHOWN not in answer.text
    assert errors.taken() == []


def test_every_run_has_every_page(shown, errors):
    browser = log_in(shown.lab)
    for what, run in shown.runs.items():
        whole, *parts = (browser.get(a.format(run_id=run.id)) for a in OF_A_RUN)
        assert {answer.status_code for answer in (whole, *parts)} == {200}, what
        assert not [p.url for p in (whole, *parts) if UNSHOWN in p.text], what
        assert "<script>alert(1)" not in whole.text, what
        assert errors.taken() == [], what


FILTERS = {
    "state": ["", *pages.STATE_FILTERS, "nonsense"],
    "experiment": ["", "default", "none such"],
    "q": ["", "part", "%_\\", HTML[:80]],
}


@pytest.mark.parametrize("user", ROLES)
def test_the_front_page_shows_every_run_under_every_filter(shown, errors, user):
    browser = log_in(shown.lab, user)
    seen: set[str] = set()
    filters = FILTERS if user == "ada" else {"state": FILTERS["state"]}
    for values in itertools.product(*filters.values()):
        answer = browser.get("/", params=dict(zip(filters, values, strict=True)))
        assert answer.status_code == 200, values
        assert UNSHOWN not in answer.text, values
        assert "<script>alert(1)" not in answer.text, values
        seen |= set(re.findall(r'id="run-(\w+)"', answer.text))
    address = "/"
    while address:
        answer = browser.get(address)
        assert UNSHOWN not in answer.text
        seen |= set(re.findall(r'id="run-(\w+)"', answer.text))
        older = re.search(r'href="([^"]*)" rel="next"', answer.text)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen >= {run.id for run in shown.runs.values()}
    assert errors.taken() == []


def test_every_state_can_be_filtered_by(shown):
    browser = log_in(shown.lab)
    for state in RunState:
        rows = browser.get("/", params={"state": state}).text
        assert set(re.findall(r'<span class="state (\w+)">', rows)) == {state.value}


@pytest.mark.parametrize(
    ("what", "word", "told"),
    [
        ("train paused", "paused", "part resume"),
        ("train pausing", "pausing", "Training"),
        ("train waiting", "waits for", "Waits for run"),
        ("train lost", "backs off", "backoff after a lost attempt"),
        ("train cancelling", "cancelling", "Training"),
        ("train starting", "running", "the worker sets the experiment up"),
    ],
)
def test_a_runs_state_is_said_in_a_word_and_why(shown, what, word, told):
    run, browser = shown.runs[what], log_in(shown.lab)
    page, row = browser.get(f"/runs/{run.id}").text, browser.get(f"/?q={run.id}").text
    stays = shown.runs["stays"].id
    for text in (page, row):
        assert f"</i>{word}{f' {stays}' if word == 'waits for' else ''}</span>" in text
    assert told in page


def test_a_run_that_cannot_be_shown_hides_no_other(shown, errors):
    run = shown.runs["named long"]
    of_it = tables.runs.c.id == run.id
    with writing(shown.lab.engine) as c:
        c.execute(update(tables.runs).where(of_it).values(spec={"data": {}, "seed": 1}))
    browser = log_in(shown.lab)
    page = browser.get("/", params={"q": "default", "state": "succeeded"}).text
    assert page.count(UNSHOWN) == 1
    assert f'href="/runs/{run.id}"' in page
    assert f'href="/runs/{shown.runs["named html"].id}"' in page
    (told,) = errors.taken()
    assert f"runs/row.html of run {run.id} cannot be rendered" in told
    assert browser.get(f"/runs/{run.id}/parts/history").status_code == 200
    with writing(shown.lab.engine) as c:
        c.execute(update(tables.runs).where(of_it).values(spec=run.spec))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("summary without pgd20_robust_accuracy", ["Clean accuracy", "Worst case"]),
        ("summary of nothing", []),
        ("train evaluated", ["95 % interval", "L\N{INFINITY} 51/255"]),
        ("visualise succeeded", ["Images drawn"]),
        (
            "judged by everything",
            [
                *(
                    "\N{LESS-THAN OR EQUAL TO} 61.1 %",
                    "L2 1/2",
                    "images made on resnet18",
                    "suite report",
                ),
                *("broken by an earlier one", "cut short", "mean over corruptions"),
            ],
        ),
    ],
)
def test_a_figure_stands_with_what_must_be_known_to_read_it(shown, what, said):
    page = log_in(shown.lab).get(f"/runs/{shown.runs[what].id}").text
    for text in said:
        assert text in page
    assert ("None" in page) is False
    assert ('class="tiles"' in page) is bool(said)
