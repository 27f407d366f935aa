"""Durations name their source, scale with the work, and ranges of waits hold what they promise."""

import pytest

from benchmarks.forecast import coverage, described, simulated
from domain.family import family, works
from domain.forecast import Durations, Ended, main_source, phase_left, ranged, reported_left
from domain.presets import expand


def spec(epochs: int):
    return expand(
        {"preset": "pgd-at", "data": {"dataset": "digits"}, "training": {"epochs": epochs}}
    )


def test_runs_of_other_lengths_are_compared_by_their_work():
    short, long = spec(2), spec(20)
    estimate = Durations([Ended(family(short), 100.0, 3)]).of(family(long))
    assert estimate.source == "same-spec"
    assert estimate.seconds == pytest.approx(100 * sum(works(long)) / sum(works(short)), rel=1e-3)


def test_other_runs_are_a_history_and_no_run_is_none():
    assert Durations([Ended("other@5", 100.0, 3)]).of(family(spec(2))).source == "history"
    assert Durations([]).of(family(spec(2))).source == "none"


def test_the_name_of_an_older_version_is_still_its_own_family():
    estimate = Durations([Ended("train/digits", 100.0, 3)]).of("train/digits")
    assert (estimate.seconds, estimate.source) == (100.0, "same-spec")


def test_only_training_says_how_far_a_run_is():
    progress = {"phase": "train", "done": 10, "total": 40, "unit": "step"}
    assert reported_left(progress, batch_size=8, elapsed=10, after=0.5) == 30 + 0.5 * 40
    for phase in ("prepare", "validate", "evaluate", "draw"):
        other = progress | {"phase": phase}
        assert reported_left(other, batch_size=8, elapsed=10, after=0.5) is None
    assert phase_left(progress, batch_size=8, elapsed=None) is None


def test_a_forecast_rests_on_what_most_of_it_rests_on():
    assert main_source(["reported", "same-spec", "same-spec"]) == "same-spec"
    assert main_source(["reported", "history"]) == "history"
    assert ranged(60, ["none"]) is None


def test_the_range_holds_about_eight_simulated_waits_in_ten():
    """Five standard errors of 384 independent waits: those of one week are not independent."""
    waits = simulated([1, 2, 3], count=150)
    assert 0.7 <= coverage(waits) <= 0.9
    assert f"{coverage(waits):.1%}" in described("all", waits)
