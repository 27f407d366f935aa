from datetime import UTC, datetime, timedelta

import pytest

from domain.results import wilson_interval
from partlab import figures

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (figures.percent(0.87222), "87.2 %"),
        (figures.percent(float("nan")), "n/a"),
        (figures.interval(wilson_interval(9, 10)), "59.6 - 98.2 %"),
        (figures.number(1234567.0), "1.235e+06"),
        (figures.measured("val/fgsm", 0.625), "62.5 %"),
        (figures.measured("val/fgsm", float("inf")), "∞"),
        (figures.measured("cam/fidelity", 0.9712), "0.9712"),
        (figures.measured("epsilon/mean", 0.2), "51/255"),
        (figures.measured("train/loss", 2.25), "2.25"),
        (figures.number(float("nan")), "NaN"),
        (figures.number(float("inf")), "∞"),
        (figures.number(float("-inf")), "-∞"),
        (figures.duration(0.04), "0.0 s"),
        (figures.duration(9.94), "9.9 s"),
        (figures.duration(59.4), "59 s"),
        (figures.duration(59.6), "1 min 0 s"),
        (figures.duration(3599.7), "1 h 0 min"),
        (figures.duration(7500), "2 h 5 min"),
        (figures.size(1023), "1023 B"),
        (figures.size(1024), "1.0 KiB"),
        (figures.size(1536 * 1024), "1.5 MiB"),
        (figures.size(5 * 1024**5), "5120.0 TiB"),
        (figures.moment(None), "-"),
        (figures.age(None, NOW), "-"),
        (figures.age(NOW - timedelta(minutes=2), NOW), "2 min 0 s ago"),
        (figures.age(NOW + timedelta(minutes=2), NOW), "0.0 s ago"),
    ],
)
def test_numbers_for_people(shown, text):
    assert shown == text
