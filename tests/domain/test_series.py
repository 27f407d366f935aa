import pytest

from domain.series import CHARTS, MEMBERS, OTHER, SERIES, measure

SHARES = {
    *("train/accuracy", "train/adversarial_accuracy", "mask/saturated_high", "mask/saturated_low"),
    *(f"val/{ema}{what}" for ema in ("", "ema/") for what in ("accuracy", "fgsm")),
    *("val/robust_accuracy", "val/ema/robust_accuracy", "cam/constant_fraction", "cam/recomputed"),
}


@pytest.mark.parametrize("name", SERIES)
def test_only_shares_are_percentages(name):
    chart = measure(name).chart
    assert (chart.unit.name == "share") == (name in SHARES)
    assert chart.title.endswith(", %") == (name in SHARES)


def test_every_series_has_its_own_line_in_a_chart_that_is_shown():
    lines = [(measure(name).chart.name, measure(name).label) for name in SERIES]
    assert len(set(lines)) == len(lines)
    assert {chart for chart, _ in lines} <= {chart.name for chart in CHARTS}


def test_a_members_weight_is_a_share_under_the_members_name():
    weight = measure(MEMBERS + "grad-cam++")
    assert (weight.chart.unit.name, weight.label) == ("share", "grad-cam++")


def test_an_unknown_series_is_a_plain_number():
    assert measure("later/accuracy").chart is OTHER
    assert measure("later/accuracy").label == "later/accuracy"
