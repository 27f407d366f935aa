import pytest

from partcore.validation import Robustness


@pytest.mark.parametrize(
    ("fgsm", "pgd", "collapsed"),
    [
        (0.60, 0.02, True),  # as in Wong et al. (2020), after the collapse
        (0.45, 0.22, False),  # digits at 51/255, early in a sound training
        (0.12, 0.01, False),  # hardly anything has been learned yet
        (0.55, 0.50, False),
    ],
)
def test_catastrophic_overfitting_is_a_gap_and_next_to_nothing_left_under_pgd(fgsm, pgd, collapsed):
    assert Robustness(clean=0.8, fgsm=fgsm, pgd=pgd).has_collapsed is collapsed
