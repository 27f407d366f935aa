import math

from hypothesis import given
from hypothesis import strategies as st

from partlab.sparkline import ASCII_BARS, BARS, sparkline

FLOATS = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=80)


def test_a_rising_series_rises():
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == BARS
    assert sparkline(list(range(8)), bars=ASCII_BARS) == ASCII_BARS


def test_a_flat_series_is_a_line_in_the_middle():
    assert set(sparkline([3.0] * 10)) == {"▄"}


def test_nan_and_infinities_are_gaps_and_do_not_flatten_the_rest():
    assert sparkline([0.0, math.nan, math.inf, 1.0]) == "▁··█"
    assert sparkline([math.nan], bars=ASCII_BARS) == "?"
    assert sparkline([]) == ""


@given(FLOATS, st.integers(min_value=1, max_value=30))
def test_any_series_fits_the_width(values, width):
    line = sparkline(values, width=width)
    assert len(line) == min(width, len(values))
    assert set(line) <= {*BARS, "·"}
