"""Outcomes image by image, on a network whose robustness is known in closed form.

The class is whether the only pixel is brighter than one half, so an attack of radius r breaks an
image exactly when its pixel is within r of one half.
"""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from domain import spec as s
from domain.events import Progress
from partcore.data.images import Images, numbered
from partcore.environment import Environment
from partcore.evaluation import Outcome, evaluate, unpack, worst_case

EPSILON = Fraction(51, 255)
ENVIRONMENT = Environment(work=Path(), data_root=Path())


class Threshold(nn.Module):
    """Logits (-g, g), g = 10 (pixel - 1/2); counts what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter()

    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32
        assert not self.training, "the network is judged in eval mode"
        self.seen.update(["images"] * len(x))
        g = 10 * (x.flatten(1).sum(dim=1) - 0.5)
        return torch.stack([-g, g], dim=1)


def images() -> Images:
    """Every grey level once; the label is right but for the ten darkest."""
    x = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    y = (x.flatten() > 127).long()
    y[:10] = 1
    return numbered(x, y)


def judged(*attacks: dict, batch_size: int = 64) -> dict[str, Outcome]:
    spec = s.EvaluationSpec(epsilon=EPSILON, attacks=attacks, batch_size=batch_size)
    told = evaluate(Threshold(), images(), spec, seed=3, environment=ENVIRONMENT)
    while True:
        try:
            assert isinstance(next(told), Progress)
        except StopIteration as end:
            return end.value


def expected() -> Tensor:
    level = torch.arange(256)
    return (level >= 10) & ((level < 127 - 50) | (level > 128 + 50))


@pytest.mark.parametrize(
    "attack",
    [{"kind": "fgsm"}, {"kind": "pgd", "steps": 20}, {"kind": "cw", "steps": 20}],
    ids=lambda a: a["kind"],
)
def test_an_attack_breaks_what_can_be_broken_and_nothing_else(attack):
    clean, attacked = judged(attack).values()
    assert clean.result.correct == 246
    assert clean.result.threat is None
    assert torch.equal(attacked.correct, expected())
    assert torch.equal(unpack(attacked.result.outcomes, 256), expected())
    assert attacked.result.evidence.max_abs_delta == pytest.approx(0.2, abs=1e-6)
    assert attacked.result.evidence.moved_fraction == 1
    assert attacked.result.threat.epsilon == EPSILON


def test_no_outcome_depends_on_the_batch():
    attacks = ({"kind": "pgd", "steps": 3}, {"kind": "cw", "steps": 3, "restarts": 2})
    one, other = judged(*attacks, batch_size=256), judged(*attacks, batch_size=7)
    for label in one:
        assert torch.equal(one[label].correct, other[label].correct)
        assert label == "clean" or torch.equal(one[label].kept, other[label].kept)


def test_the_worst_case_is_the_union_of_what_broke():
    outcomes = judged({"kind": "fgsm", "epsilon": "8/255"}, {"kind": "pgd", "steps": 20})
    union = worst_case(outcomes, EPSILON)
    assert torch.equal(unpack(union.outcomes, 256), expected())
    only = {"a": outcomes["clean"], "b": outcomes["fgsm"]}
    assert worst_case(only, EPSILON).correct == 246 - 16
