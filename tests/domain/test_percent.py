"""A percentage never says more than was measured."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import presentation
from domain.percent import percent
from domain.results import wilson_interval
from partlab import figures


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.87222, 1, "87.2"),
        (1, 1, "100.0"),
        (0, 1, "0.0"),
        (0.9997, 1, "99.97"),
        (0.99996, 2, "99.996"),
        (0.0004, 1, "0.04"),
        (-0.0, 1, "0.0"),
        (1e-17, 1, "0.0"),
        (math.nan, 1, "n/a"),
    ],
)
def test_only_all_is_a_hundred_and_only_nothing_is_zero(share, digits, text):
    assert percent(share, digits) == text


@given(n=st.integers(1, 100_000), data=st.data())
def test_the_words_order_and_stay_in_range(n, data):
    hits = data.draw(st.integers(0, n))
    bounds = wilson_interval(hits, n)
    low, middle, high = (float(percent(s, 2)) for s in (bounds.low, hits / n, bounds.high))
    assert 0 <= low <= middle <= high <= 100
    assert (middle == 100) == (hits == n)
    assert (middle == 0) == (hits == 0)
    assert (low == 0) == (hits == 0)
    assert (high == 100) == (hits == n)


@pytest.mark.parametrize("write", [figures.percent, presentation.percent])
def test_the_terminal_and_the_pages_write_it_alike(write: Callable[[float], str]):
    assert [write(s) for s in (0.9997, 1.0, 0.0001)] == ["99.97 %", "100.0 %", "0.01 %"]
