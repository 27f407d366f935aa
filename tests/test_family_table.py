"""The table over seeds is the one place of a ±, and says what it is of."""

from benchmarks.family import ATTACKS, BASELINE, METHODS, caption, judged, table
from tests.domain.test_audit import first
from tests.domain.test_compare import evaluation


def test_the_table_says_that_its_spread_is_over_seeds_and_how_many():
    rows = {name: dict.fromkeys(ATTACKS, (37.0, 38.0, 40.0)) for name in METHODS}
    text = table(rows, [judged(evaluation(first(200)))] * 3)
    assert "| PGD-AT | 38.33 ± 3.79 |" in text
    assert f"minus {BASELINE}" in text
    last = text.splitlines()[-1]
    assert "± is half of the 95 % interval of that mean over the 3 seeds" in last
    assert last.endswith("Judged: 400 test images, linf 8/255, pgd-20.")


def test_other_images_among_the_seeds_are_named():
    few = judged(evaluation(first(200), n=100))
    assert "Judged: 400 test images" in caption(3, [judged(evaluation(first(200))), few])
    assert "; 100 test images" in caption(3, [judged(evaluation(first(200))), few])
