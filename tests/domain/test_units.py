from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.units import format_radius, parse_radius


@pytest.mark.parametrize(
    ("written", "radius"),
    [
        ("8/255", Fraction(8, 255)),
        ("0", Fraction(0)),
        (0.031, Fraction(31, 1000)),
        ("0.5", Fraction(1, 2)),
        (1, Fraction(1)),
        (Fraction(2, 255), Fraction(2, 255)),
    ],
)
def test_a_radius_is_read_exactly(written, radius):
    assert parse_radius(written) == radius


def test_a_rounded_radius_is_not_the_fraction_it_resembles():
    assert parse_radius(0.031) != parse_radius("8/255")


@pytest.mark.parametrize(
    "written",
    ["8", "1/0", -0.1, "-1/255", "x", "", None, True, float("nan"), "1e999999999", "9" * 5000],
)
def test_anything_else_says_what_to_write(written):
    with pytest.raises(ValueError, match=r'such as "8/255"'):
        parse_radius(written)


@given(st.fractions(min_value=0, max_value=1, max_denominator=10**39))
def test_writing_and_reading_a_radius_loses_nothing(radius):
    assert parse_radius(format_radius(radius)) == radius


@pytest.mark.parametrize("written", [1e-320, 5e-324, "1e-300", Fraction(1, 10**40)])
def test_what_could_not_be_read_again_is_refused(written):
    with pytest.raises(ValueError, match=r"finer than any pixel|not a pixel radius"):
        parse_radius(written)
