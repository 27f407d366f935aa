"""What a training in a terminal prints last."""

from domain.bitmap import Bitmap
from domain.results import ThreatModel
from partcore.experiment import summary
from partcore.train import table
from tests.domain.test_audit import EPSILON, N, first, result
from tests.domain.test_compare import evaluation

NARROW = ThreatModel(epsilon=EPSILON / 2)


def test_each_line_has_n_interval_and_threat_model_and_columns_line_up():
    weaker = result("pgd-20x5@4/255", "pgd", first(250), threat=NARROW, complete=False)
    found = evaluation(first(200))
    lines = table(found.model_copy(update={"results": (*found.results, weaker)})).splitlines()
    assert lines[1].split() == ["clean", "82.50", "%", "78.47", "to", "85.91", "400", "none"]
    assert lines[3].endswith("≤ 62.50 %      57.66 to 67.10     400  linf 4/255")
    assert len({line.index("linf" if "linf" in line else "none") for line in lines[1:5]}) == 1
    assert "≤: an upper bound" in lines[5]


def test_without_an_attack_there_is_no_worst_case_neither_here_nor_in_the_summary():
    unattacked = evaluation(
        Bitmap.of(True for _ in range(N)), results=(result("clean", "clean", first(330)),)
    )
    assert "worst-case" not in table(unattacked)
    assert summary(unattacked, seconds=1)["worst_case_robust_accuracy"] is None
    assert summary(evaluation(first(200)), seconds=1)["worst_case_robust_accuracy"] == 0.5
