import math
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from api import presentation
from domain.presets import expand
from tests.api.lab import LiveLab


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.9344, "93.4 %"), (1, "100.0 %"), (None, "–"), ("NaN", "–"), (math.inf, "–")],  # noqa: RUF001
)
def test_shares_are_written_as_percent(value, written):
    assert presentation.percent(value) == written


@pytest.mark.parametrize(("preset", "has_maps"), [("part++", True), ("mart", False)])
def test_a_picture_in_words_names_its_own_columns(preset, has_maps):
    spec = expand({"preset": preset, "data": {"dataset": "digits"}}).model_dump(mode="json")
    words = presentation.picture_in_words(a_run(spec))
    assert ("Grad-CAM++ (Eq. 5)" in words, "mask S" in words) == (has_maps, has_maps)
    assert "x + δ" in words


def test_a_picture_of_an_earlier_contract_has_words_too():
    assert presentation.picture_in_words(a_run({"kind": "dream"})) == "Picture of mine"


def a_run(spec):
    return SimpleNamespace(spec=spec, name="mine")


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),  # noqa: RUF001
        (math.nan, "–"),  # noqa: RUF001
        (-3, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (7500, "2 h 05 min"),
        (100_000, "1 d 03 h"),
    ],
)
def test_durations_have_two_units(seconds, written):
    assert presentation.duration(seconds) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (43_100_000, "43.1 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_are_short(count, written):
    assert presentation.size(count) == written


def test_the_time_left_follows_from_throughput_or_from_the_time_so_far(sqlite_lab: LiveLab):
    run = sqlite_lab.start()
    assert presentation.seconds_left(run, run.started_at) is None
    assert presentation.fraction(run) is None
    now = run.started_at + timedelta(seconds=30)
    steps = {"done": 10, "total": 40, "unit": "step"}
    assert presentation.seconds_left(replace(run, progress=steps), now) == 90
    by_rate = replace(run, progress={**steps, "images_per_second": 256.0})
    assert presentation.seconds_left(by_rate, now) == 15
    images = replace(run, progress={**steps, "unit": "image", "images_per_second": 10.0})
    assert presentation.seconds_left(images, now) == 3
    assert presentation.seconds_left(replace(run, progress=steps, attempt=2), now) is None
    assert presentation.fraction(replace(run, progress={"done": 9, "total": 3})) == 1


def test_a_run_is_called_by_its_name_or_by_what_it_does(sqlite_lab):
    run = sqlite_lab.submit()
    assert presentation.title(run) == "part++ on digits"
    assert presentation.title(replace(run, name="mine")) == "mine"
    assert presentation.title(replace(run, preset=None)) == "part on digits"
