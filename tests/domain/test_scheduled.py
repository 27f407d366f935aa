from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from domain.presets import expand
from domain.scheduled import Ramp, ScheduledRadius, at, final
from domain.spec import Part, TrainSpec

RADIUS: TypeAdapter = TypeAdapter(ScheduledRadius)


def test_a_constant_is_itself_at_any_progress():
    radius = RADIUS.validate_python("8/255")
    assert radius == Fraction(8, 255)
    assert at(radius, 0.3) == 8 / 255
    assert final(radius) == Fraction(8, 255)


@pytest.mark.parametrize(
    ("shape", "middle", "early"),
    [("linear", 4 / 255, 2 / 255), ("cosine", 4 / 255, 1.1716 / 255), ("step", 0, 0)],
)
def test_a_ramp_goes_from_point_to_point_in_its_shape(shape, middle, early):
    ramp = RADIUS.validate_python({"points": [[0.2, "0"], [0.6, "8/255"]], "shape": shape})
    assert [at(ramp, p) for p in (0, 0.2)] == [0, 0]
    assert [at(ramp, p) for p in (0.6, 1)] == [8 / 255, 8 / 255]
    assert at(ramp, 0.4) == pytest.approx(middle)
    assert at(ramp, 0.3) == pytest.approx(early, abs=1e-6)
    assert final(ramp) == Fraction(8, 255)


@given(
    values=st.lists(st.fractions(0, 1), min_size=1, max_size=5),
    progress=st.floats(0, 1),
    shape=st.sampled_from(["linear", "cosine", "step"]),
)
def test_a_ramp_stays_between_its_values_and_survives_json(values, progress, shape):
    points = [(i / 8, value) for i, value in enumerate(values)]
    ramp = Ramp[Fraction](points=points, shape=shape)
    assert min(values) - 1e-12 <= ramp.at(progress) <= max(values) + 1e-12
    written = RADIUS.validate_python({"points": points, "shape": shape})
    assert RADIUS.validate_json(RADIUS.dump_json(written)) == written


@pytest.mark.parametrize("points", [[], [[0.5, "0"], [0.2, "0"]], [[2, "0"]], [[0, "8"]]])
def test_points_that_make_no_schedule_are_refused(points):
    with pytest.raises(ValidationError):
        RADIUS.validate_python({"points": points})


def test_a_gap_decides_the_low_radius_all_along():
    spec = expand({"preset": "part-schedule", "data": {"dataset": "cifar10"}})
    assert isinstance(spec, TrainSpec)
    assert isinstance(spec.method, Part)
    assert spec.method.low_at(0) == pytest.approx(8 / 255)
    assert spec.method.low_at(0.5) == pytest.approx(7 / 255)
    assert spec.method.final_radii() == (Fraction(6, 255), Fraction(8, 255))
    given_gap = expand(
        {"preset": "part++", "data": {"dataset": "cifar10"}, "method": {"epsilon_gap": "2/255"}}
    )
    assert given_gap.method.final_radii()[0] == Fraction(6, 255)
