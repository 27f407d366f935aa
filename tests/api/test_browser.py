"""Every page in a real browser: no error, no sideways scrolling, nothing that axe objects to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest

from domain.series import CHARTS, FIDELITY, LOSS, OTHER
from tests.api.browser import Visit, chromium
from tests.api.gallery import STATES, Gallery, kinds
from tests.api.test_every_page import PAGES

pytestmark = pytest.mark.xdist_group("gallery")
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()
RULES: dict[str, Any] = {"resultTypes": ["violations"]}
CONTRAST: dict[str, Any] = {**RULES, "runOnly": ["color-contrast"]}
NARROW, WIDE = 400, 1280
CLOSELY = {"judged by everything", "judged broken", "series of every name", "named html", "files"}
"""Of what is odd, the pages that are made of something else than the others: for axe."""


@pytest.fixture(scope="module")
def visit(shown) -> Iterator[Visit]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": NARROW, "height": 800})
        visit = Visit(context, shown.lab)
        visit.log_in()
        yield visit


def plain(shown: Gallery) -> dict[str, str]:
    """Every page there is, each state of a training run, and each kind of run in some state."""
    found = {a: a for page in PAGES.values() for a in page if "{" not in a}
    found |= {a: a for a in ("/?state=failed", "/?q=nothing-like-it", "/runs/nonsense")}
    states = [state.__name__ for state in STATES]
    some = [f"{kind} {states[i % len(states)]}" for i, kind in enumerate(kinds(shown), start=6)]
    chosen = [*(f"train {state}" for state in states), *some]
    return found | {what: f"/runs/{shown.runs[what].id}" for what in chosen}


def odd(shown: Gallery) -> dict[str, str]:
    """Whatever else there is to see; of much that is alike, one."""
    alike = ("summary without", "failed of", "at ", "lost of", *kinds(shown))
    chosen = [what for what in shown.runs if not what.startswith(alike)]
    chosen += ["failed of code", "at evaluate", "summary without verdict"]
    return {what: f"/runs/{shown.runs[what].id}" for what in chosen}


def objections(visit: Visit, rules: dict[str, Any]) -> list[str]:
    """What axe finds wrong with the page as it is shown."""
    if not visit.page.evaluate("typeof axe === 'object'"):
        visit.page.evaluate(AXE)
    found = visit.page.evaluate("(rules) => axe.run(document, rules)", rules)["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found]


@pytest.fixture(scope="module")
def wrong(shown, visit) -> dict[str, dict[str, list[str]]]:
    """What is wrong with each page, by what is looked for: all looked at in one round."""
    found: dict[str, dict[str, list[str]]] = {k: {} for k in ("broken", "wide", "axe", "dark")}
    everyday = plain(shown)
    for what, address in {**everyday, **odd(shown)}.items():
        visit.open(address)
        for width in (WIDE, NARROW):
            visit.page.set_viewport_size({"width": width, "height": 800})
            over = visit.overflow()
            found["wide"].setdefault(what, []).extend([f"{over} at {width}"] if over > 0 else [])
        found["broken"][what] = visit.taken()
        if what not in everyday and what not in CLOSELY:
            continue
        found["axe"][what] = objections(visit, RULES)
        visit.page.emulate_media(color_scheme="dark")
        found["dark"][what] = objections(visit, CONTRAST)
        visit.page.emulate_media(color_scheme="light")
    return {kind: {k: v for k, v in pages.items() if v} for kind, pages in found.items()}


def test_no_page_has_an_error_a_warning_or_a_failed_request(wrong):
    missing = wrong["broken"].pop("/runs/nonsense")
    assert all("404" in told for told in missing)
    assert wrong["broken"] == {}


def test_no_page_scrolls_sideways(wrong):
    assert wrong["wide"] == {}


def test_axe_objects_to_no_page_light_or_dark(wrong):
    assert wrong["axe"] == {}
    assert wrong["dark"] == {}


def test_every_series_is_drawn_in_its_own_chart(shown, visit):
    visit.open(f"/runs/{shown.runs['series of every name'].id}")
    titles = visit.page.locator("#charts h3").all_inner_texts()
    assert titles == [chart.title for chart in CHARTS if chart is not OTHER]
    for chart in CHARTS[:-1]:
        shares = chart.unit.name == "share"
        (legend,) = visit.page.locator(f"[data-chart={chart.name}] .u-legend").all_inner_texts()
        assert ("%" in chart.title) == shares
        assert ("40" in legend) == shares, legend
        assert ("0.4" in legend) == (chart.unit.factor == 1), legend


def test_what_is_no_number_is_not_drawn_as_one(shown, visit):
    visit.open(f"/runs/{shown.runs['series of no number'].id}")
    legend = visit.page.locator("[data-chart=loss] .u-legend").inner_text()
    assert "not a finite number" in legend


def test_an_open_page_draws_what_comes_while_it_is_looked_at(shown, visit):
    run = shown.train("looked at")
    visit.open(f"/runs/{run.id}")
    shown.measure(run, range(2), **{"cam/fidelity": [0.9, 0.91]})
    visit.page.wait_for_selector("[data-chart=fidelity] canvas")
    shown.measure(run, range(2, 5), **{"cam/fidelity": [0.92, 0.93, 0.94], "train/loss": [3, 2, 1]})
    visit.page.wait_for_selector("[data-chart=loss] canvas")
    assert visit.page.locator("#charts h3").all_inner_texts() == [LOSS.title, FIDELITY.title]
    assert "0.94" in visit.page.inner_text("[data-chart=fidelity] .u-legend")
    visit.page.click("[data-chart=loss] button")
    assert visit.page.get_attribute("[data-chart=loss] button", "aria-pressed") == "true"
    shown.lab.log(run, "seen at once")
    visit.page.get_by_text("seen at once").wait_for()
    shown.lab.finish(run)
    visit.page.wait_for_selector("h1 + .meta .state.succeeded")
    assert visit.taken() == []


def test_a_paused_run_goes_on_at_the_press_of_a_button(shown, visit):
    visit.open(f"/runs/{shown.runs['ranks paused'].id}")
    visit.page.click("#resume")
    visit.page.wait_for_selector("#pause")
    assert visit.page.locator("h1 + .meta .state.queued").inner_text() != "paused"
    assert visit.taken() == []
