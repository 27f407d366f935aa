import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store import metrics
from store.engine import reading, writing
from store.metrics import CHUNK_POINTS, thin
from tests.examples import examples
from tests.store.making import running


@pytest.fixture
def run_id(engine):
    with writing(engine) as connection:
        return running(connection).run.id


def put(engine, run_id, steps, values, *, batch=1, name="x"):
    with writing(engine) as connection:
        return metrics.append(
            connection, run_id, 1, batch=batch, steps=steps, values={name: values}
        )


def got(engine, run_id, name="x", **options):
    with reading(engine) as connection:
        return metrics.history(connection, run_id, name, **options)


def test_points_come_back_over_chunk_borders(engine, run_id):
    steps = list(range(2 * CHUNK_POINTS + 10))
    values = [math.sin(s) for s in steps]
    put(engine, run_id, steps[:5000], values[:5000])
    put(engine, run_id, steps[5000:], values[5000:], batch=2)
    assert got(engine, run_id) == (steps, values)


def test_a_batch_sent_twice_is_kept_once(engine, run_id):
    assert put(engine, run_id, [0], [1.0]) is True
    assert put(engine, run_id, [0], [1.0]) is False
    assert got(engine, run_id) == ([0], [1.0])


def test_a_batch_is_kept_whole_or_not_at_all(engine, run_id):
    def bad() -> None:
        with writing(engine) as connection:
            columns = {"x": [1.0, 2.0], "y": [1.0]}
            metrics.append(connection, run_id, 1, batch=1, steps=[0, 1], values=columns)

    with pytest.raises(ValueError, match="y: 1 values for 2 steps"):
        bad()
    assert got(engine, run_id) == ([], [])
    assert put(engine, run_id, [0], [1.0]) is True


def test_nan_and_infinities_survive_and_aggregates_pass_over_nan(engine, run_id):
    values = [math.nan, 1.0, -math.inf, math.inf, math.nan]
    put(engine, run_id, list(range(5)), values)
    assert str(got(engine, run_id)[1]) == str(values)
    with reading(engine) as connection:
        (series,) = metrics.summary(connection, run_id)
    assert (series.minimum, series.minimum_step) == (-math.inf, 2)
    assert (series.maximum, series.maximum_step) == (math.inf, 3)
    assert math.isnan(series.last)
    assert (series.count, series.last_step) == (5, 4)


def test_only_nan_has_no_extremes(engine, run_id):
    put(engine, run_id, [0], [math.nan])
    with reading(engine) as connection:
        (series,) = metrics.summary(connection, run_id)
    assert math.isnan(series.minimum)
    assert series.minimum_step is None


def test_the_first_of_equal_extremes_is_the_one_remembered(engine, run_id):
    put(engine, run_id, [0, 1], [3.0, 3.0])
    put(engine, run_id, [2], [3.0], batch=2)
    with reading(engine) as connection:
        (series,) = metrics.summary(connection, run_id)
    assert (series.minimum_step, series.maximum_step) == (0, 0)


@pytest.mark.parametrize("cursor", [0, 3, 4500, 99_999])
def test_a_resumed_attempt_supersedes_what_it_computes_again(engine, run_id, cursor):
    steps = list(range(5000))
    values = [float(s % 100) for s in steps]
    put(engine, run_id, steps, values)
    with writing(engine) as connection:
        metrics.supersede(connection, run_id, 1, from_step=cursor)
        series = metrics.summary(connection, run_id)
    kept = steps[:cursor]
    assert got(engine, run_id) == (kept, values[:cursor])
    assert [s.count for s in series] == ([len(kept)] if kept else [])
    if kept:
        assert series[0].maximum == max(values[:cursor])
        assert series[0].last == values[: len(kept)][-1]


def test_an_overview_keeps_every_spike(engine, run_id):
    steps = list(range(9000))
    values = [0.0] * 9000
    values[1234], values[7777] = 50.0, -50.0
    put(engine, run_id, steps, values)
    thinned = got(engine, run_id, max_points=100)
    assert len(thinned[0]) <= 110
    assert (1234, 50.0) in zip(*thinned, strict=True)
    assert (7777, -50.0) in zip(*thinned, strict=True)
    assert thinned[0][0] == 0
    assert thinned[0][-1] == 8999


@settings(max_examples=examples(60))
@given(
    st.lists(st.floats(), min_size=1, max_size=400),
    st.integers(min_value=1, max_value=50),
)
def test_thinning_keeps_extremes_ends_order_and_a_sign_of_nan(values, max_points):
    kept = thin(values, max_points)
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} <= set(kept)
    assert len(kept) <= 2 + 3 * max(1, max_points // 2)
    numbers = [v for v in values if not math.isnan(v)]
    shown = [values[i] for i in kept]
    if numbers:
        assert min(numbers) in shown
        assert max(numbers) in shown
    assert any(map(math.isnan, values)) == any(map(math.isnan, shown))
