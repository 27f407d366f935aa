import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import ID_PATTERN, new_id

times = st.datetimes(datetime(2020, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(times, times)
def test_ids_sort_by_time_to_the_millisecond(earlier, later):
    a, b = sorted((earlier, later))
    if (b - a).total_seconds() >= 0.002:
        assert new_id(a) < new_id(b)


@given(times)
def test_ids_have_one_form(now):
    assert re.fullmatch(ID_PATTERN, new_id(now))


def test_two_ids_of_one_moment_differ():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_id(now) for _ in range(100)}) == 100
