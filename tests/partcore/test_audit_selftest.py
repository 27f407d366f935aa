"""Every planted defect is caught on real networks; `make audit-selftest` says it at length."""

import pytest
import torch

from domain.audit import REPRESENTATIVE
from partcore.audit_selftest import SHORT, cases, is_right


@pytest.fixture(scope="module", autouse=True)
def same_planted_noise():
    torch.manual_seed(0)


def test_planted_defects_are_caught_and_sound_networks_left_in_peace():
    wrong, planted = [], 0
    for case in cases(judged=REPRESENTATIVE, suite=SHORT):
        report = case.judge()
        planted += bool(case.caught_by)
        if not is_right(case, report):
            failed = [c.name for c in report.checks if c.outcome == "fails"]
            wrong.append((case.name, report.verdict, failed))
    assert wrong == []
    assert planted >= 10
