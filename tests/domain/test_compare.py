"""Two evaluations are paired by sample, or not at all."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from domain.bitmap import Bitmap
from domain.compare import compare, mcnemar, paired_bootstrap
from domain.errors import Incomparable
from domain.results import AuditReport, Evaluation, ThreatModel
from tests.domain.test_audit import EPSILON, N, first, result

OTHER = Bitmap.of(i < 150 or i >= 380 for i in range(N))


def evaluation(standing: Bitmap, **over: Any) -> Evaluation:
    threat = over.pop("threat", ThreatModel(epsilon=EPSILON))
    attacked = result("pgd-20", "pgd", standing, threat=threat)
    values: dict[str, Any] = {
        "weights": "best",
        "averaged": False,
        "model_sha256": "m",
        "data_sha256": "d",
        "sample_ids_sha256": "s",
        "n": N,
        "results": (result("clean", "clean", first(330)), attacked),
        "worst_case": result("worst-case", "union", standing, threat=threat),
        "audit": AuditReport(verdict="sound", checks=()),
    }
    return Evaluation(**{**values, **over})


def test_a_difference_is_paired_and_has_its_interval():
    found = compare(evaluation(first(200)), evaluation(OTHER))
    assert [d.label for d in found.differences] == ["clean", "pgd-20", "worst-case"]
    same, pgd, _ = found.differences
    assert (same.difference, same.only_here, same.only_there, same.p_value) == (0, 0, 0, 1)
    assert (same.interval.low, same.interval.high) == (0, 0)
    assert (pgd.only_here, pgd.only_there) == (50, 20)
    assert pgd.difference == pytest.approx(30 / N)
    assert pgd.interval.low < 30 / N < pgd.interval.high
    assert pgd.p_value == pytest.approx(binomtest(20, 70).pvalue)


def test_another_radius_is_not_compared_unless_forced_and_then_marked():
    near = ThreatModel(epsilon=Fraction(31, 1000))
    one, other = evaluation(first(200)), evaluation(OTHER, threat=near)
    with pytest.raises(Incomparable, match=r"linf 8/255 and linf 31/1000"):
        compare(one, other)
    forced = compare(one, other, force=True)
    assert len(forced.warnings) == 2
    assert forced.differences[1].difference == pytest.approx(30 / N)


def test_a_worst_case_over_other_attacks_is_not_compared_unless_forced():
    """One more attack makes any worst case smaller: that is no difference of the networks."""
    one = evaluation(first(200))
    more = (*one.results, result("fgsm", "fgsm", first(210)))
    other = evaluation(first(200), results=more)
    with pytest.raises(Incomparable, match="attacks differ, pgd-20 and fgsm, pgd-20"):
        compare(one, other)
    assert len(compare(one, other, force=True).warnings) == 1


def test_a_larger_radius_beside_it_changes_no_worst_case():
    one = evaluation(first(200))
    sweep = result("pgd-20@16/255", "pgd", first(9), threat=ThreatModel(epsilon=2 * EPSILON))
    assert not compare(one, evaluation(OTHER, results=(*one.results, sweep))).warnings


@pytest.mark.parametrize("over", [{"data_sha256": "x"}, {"sample_ids_sha256": "x"}])
def test_other_images_are_never_compared(over):
    with pytest.raises(Incomparable, match="other images"):
        compare(evaluation(first(200)), evaluation(OTHER, **over), force=True)


def test_an_unfinished_attack_is_no_match_for_a_whole_one():
    half = result("pgd-20", "pgd", OTHER, threat=ThreatModel(epsilon=EPSILON), complete=False)
    other = evaluation(OTHER).model_copy(update={"results": (half,)})
    with pytest.raises(Incomparable, match="one is complete"):
        compare(evaluation(first(200)), other)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(here, there):
    expected = binomtest(here, here + there).pvalue if here + there else 1
    assert mcnemar(here, there) == pytest.approx(expected)
    assert mcnemar(here, there) == mcnemar(there, here)


def test_many_discordant_images_follow_the_normal_law():
    exact = binomtest(700, 1500).pvalue
    assert mcnemar(700, 800) == pytest.approx(exact, rel=0.02)
    assert mcnemar(750, 751) == pytest.approx(1, abs=0.02)


def test_the_bootstrap_is_numpys_over_images():
    n, here, there = 500, 60, 30
    outcomes = np.repeat([1, -1, 0], [here, there, n - here - there])
    draws = np.random.default_rng(0).choice(outcomes, (4000, n)).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    found = paired_bootstrap(here, there, n)
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)
    assert paired_bootstrap(n, 0, n).low == 1
    assert found == paired_bootstrap(here, there, n), "the same every time"
