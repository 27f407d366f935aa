import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from domain.results import wilson_interval


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipys(counts):
    successes, trials = counts
    ours = wilson_interval(successes, trials)
    theirs = binomtest(successes, trials).proportion_ci(method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)


@pytest.mark.parametrize("counts", [(0, 0), (5, 4), (-1, 4)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(*counts)
