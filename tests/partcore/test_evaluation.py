"""Outcomes image by image, on a network whose robustness is known in closed form.

The class is whether the only pixel is brighter than one half, so an attack of radius r breaks an
image exactly when its pixel is within r of one half.
"""

import random
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from domain import spec as s
from domain.bitmap import Bitmap
from domain.events import Log, Progress
from partcore.data.images import Images, numbered
from partcore.environment import Environment
from partcore.evaluation import evaluate, pack, unpack, worst_case
from partcore.probes import mismatches
from partcore.standing import Outcome
from tests.examples import examples
from tests.partcore.exact import rounding
from tests.partcore.robust import digits, network

EPSILON = Fraction(51, 255)
# Its clock stands still, so that nothing is ever due to be saved.
ENVIRONMENT = Environment(work=Path(), data_root=Path(), clock=lambda: 0.0)


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


class Turned(nn.Module):
    """Says the other class."""

    def forward(self, x: Tensor) -> Tensor:
        return -x


def images() -> Images:
    """Every grey level once; the label is right but for the ten darkest."""
    x = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)
    y = (x.flatten() > 127).long()
    y[:10] = 1
    return numbered(x, y)


def judged(
    *attacks: dict, batch_size: int = 64, of: Images | None = None, **over
) -> dict[str, Outcome]:
    spec = s.EvaluationSpec(epsilon=EPSILON, attacks=attacks, batch_size=batch_size, **over)
    told = evaluate(Threshold(), of or images(), spec, seed=3, environment=ENVIRONMENT)
    while True:
        try:
            assert isinstance(next(told), Progress | Log)
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
    assert attacked.result.evidence.max_abs_delta == pytest.approx(0.2, abs=rounding(4, scale=2))
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
    only = {"a": outcomes["clean"], "b": outcomes["fgsm@8/255"]}
    assert worst_case(only, EPSILON).correct == 246 - 16


def test_what_ran_outside_the_threat_model_is_no_part_of_the_worst_case():
    outcomes = judged(
        {"kind": "fgsm"},
        {"kind": "pgd", "epsilon": "102/255"},
        {"kind": "pgd", "norm": "l2", "epsilon": "102/255"},
    )
    assert list(outcomes) == ["clean", "fgsm", "pgd-20@102/255", "pgd-20-l2@102/255"]
    assert outcomes["pgd-20@102/255"].correct.sum() < expected().sum()
    assert torch.equal(outcomes["pgd-20-l2@102/255"].correct, outcomes["pgd-20@102/255"].correct)
    assert torch.equal(unpack(worst_case(outcomes, EPSILON).outcomes, 256), expected())


# The threshold network tells two classes apart; these attacks want no more of it.
TWO_CLASS = (
    {"kind": "fgsm"},
    {"kind": "pgd", "steps": 8, "restarts": 2},
    {"kind": "cw", "steps": 8},
    {"kind": "apgd-ce", "steps": 10},
    {"kind": "mma", "targets": 1, "steps": 8},
    {"kind": "mm3"},
    {"kind": "multi-targeted", "steps": 8},
    {"kind": "square", "queries": 40},
    {"kind": "fab-t", "steps": 10},
)


@pytest.mark.parametrize("attack", TWO_CLASS, ids=lambda a: a["kind"])
def test_every_attack_breaks_what_can_be_broken_and_nothing_else(attack):
    clean, attacked = judged(attack).values()
    # FAB looks for the nearest boundary; two pixels exactly at the radius may stay just beyond it
    tolerated = 2 if attack["kind"] == "fab-t" else 0
    assert (attacked.correct != expected()).sum() <= tolerated
    evidence = attacked.result.evidence
    assert evidence.silent_successes == 0
    assert evidence.max_abs_delta <= 0.2 + rounding(4, scale=2)
    assert torch.isnan(attacked.margin[~clean.correct]).all(), "nothing there to attack"
    assert ((attacked.margin < 0) == ~attacked.correct)[clean.correct].all()


def test_noise_breaks_less_than_an_attack():
    outcomes = judged({"kind": "noise", "restarts": 3})
    correct = outcomes["noisex3"].correct
    assert (correct & expected()).sum() == expected().sum()
    assert expected().sum() < correct.sum() < 246


def test_a_cascade_attacks_survivors_alone_and_finds_the_same_worst_case():
    attacks = ({"kind": "noise"}, {"kind": "fgsm"}, {"kind": "square", "queries": 20})
    apart, cascade = judged(*attacks), judged(*attacks, cascade=True)
    one, other = (unpack(worst_case(o, EPSILON).outcomes, 256) for o in (apart, cascade))
    assert torch.equal(one, other)
    assert cascade["square-20"].result.cascaded
    assert cascade["square-20"].result.passes == expected().sum() * 21
    assert torch.equal(cascade["square-20"].correct, expected())


@pytest.mark.parametrize("over", [{}, {"cascade": True}, {"budget_passes": 400}])
def test_what_an_attack_never_saw_is_no_mismatch_and_other_weights_are_many(over):
    x = torch.arange(60, 124, dtype=torch.uint8).reshape(64, 1, 1, 1)
    of = numbered(x, torch.zeros(64, dtype=torch.long))
    attacks = ({"kind": "noise"}, {"kind": "fgsm"}, {"kind": "cw", "steps": 5})
    outcomes = judged(*attacks, of=of, **over)
    kept = {f"{label}/x_adv": o.kept for label, o in outcomes.items() if o.kept is not None}
    evidence = {"x": of.x / 255, "y": of.y, **kept}
    assert mismatches(outcomes, Threshold(), evidence) == 0
    assert mismatches(outcomes, nn.Sequential(Threshold(), Turned()), evidence) > 32


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(st.integers(1, 6000), min_size=2, max_size=4))
def test_more_budget_never_leaves_more_standing(budgets):
    """An anytime bound only falls."""
    attacks = ({"kind": "noise"}, {"kind": "fgsm"}, {"kind": "pgd", "steps": 5})
    bounds = []
    for budget in sorted(budgets):
        outcomes = judged(*attacks, budget_passes=budget)
        spent = sum(o.result.passes for o in outcomes.values()) - 256
        assert spent <= budget + 64 * 6, "one batch may go over it"
        bounds.append(worst_case(outcomes, EPSILON).correct)
        complete = all(o.result.complete for o in outcomes.values())
        assert complete == (worst_case(outcomes, EPSILON).complete)
        assert complete or spent >= budget
    assert bounds == sorted(bounds, reverse=True)


class Interrupted(Exception):
    """The process died here."""


class Clock:
    """A second a look, so that everything is saved at every batch it may be."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 40
        return self.now


def interrupted(work: Path, spec: s.EvaluationSpec, model, faces: Images, at: int):
    """Run an evaluation, dying at the ``at``-th event; return outcomes if it got to its end."""
    environment = Environment(work=work, data_root=work, resume=True, clock=Clock())
    told = evaluate(model, faces, spec, seed=3, environment=environment)
    for _ in range(at):
        try:
            next(told)
        except StopIteration as end:
            return end.value
    told.close()
    return None


def test_an_evaluation_killed_anywhere_goes_on_to_the_same_outcomes(tmp_path):
    attacks = ({"kind": "pgd", "steps": 4, "restarts": 2}, *TWO_CLASS[2:8])
    spec = s.EvaluationSpec(epsilon=EPSILON, attacks=attacks, batch_size=50)
    whole = judged(*attacks, batch_size=50)
    deaths = random.Random(7)
    resumed, tries = None, 0
    while resumed is None:
        resumed, tries = (
            interrupted(tmp_path, spec, Threshold(), images(), deaths.randint(3, 25)),
            tries + 1,
        )
        assert tries < 100, "it does not get any further"
    assert tries >= 5
    for label, outcome in whole.items():
        assert torch.equal(outcome.correct, resumed[label].correct), label
        if label != "clean":
            assert torch.equal(outcome.kept, resumed[label].kept), label
            assert outcome.result.passes == resumed[label].result.passes, label
            assert outcome.result.evidence == resumed[label].result.evidence, label


def test_a_partial_evaluation_of_another_spec_is_not_gone_on_with(tmp_path):
    fast = s.EvaluationSpec(epsilon=EPSILON, attacks=({"kind": "fgsm"},), batch_size=50)
    assert interrupted(tmp_path, fast, Threshold(), images(), 12) is None
    assert (tmp_path / "checkpoints/partial.safetensors").exists()
    other = fast.model_copy(update={"epsilon": Fraction(1, 255)})
    found = interrupted(tmp_path, other, Threshold(), images(), 1000)
    assert found["fgsm"].result.threat.epsilon == Fraction(1, 255)
    assert found["fgsm"].correct.sum() > expected().sum() + 50


def test_autoattack_killed_at_five_random_moments_gives_the_same_outcomes(tmp_path):
    model, faces = network(), digits(60)
    attack = {"kind": "autoattack", "steps": 10, "queries": 60}
    spec = s.EvaluationSpec(epsilon="32/255", attacks=(attack,), batch_size=16)
    whole = interrupted(tmp_path / "whole", spec, model, faces, 10_000)
    deaths, work = random.Random(1), tmp_path / "again"
    for _ in range(5):
        assert interrupted(work, spec, model, faces, deaths.randint(4, 12)) is None
    resumed = interrupted(work, spec, model, faces, 10_000)
    label = "autoattack-10-60"
    assert torch.equal(whole[label].correct, resumed[label].correct)
    assert torch.equal(whole[label].kept, resumed[label].kept)
    assert len(resumed[label].result.stages) == 20
    assert whole[label].result.stages == resumed[label].result.stages
    assert 0 < int(whole[label].correct.sum()) < 60


@pytest.mark.parametrize("count", [1, 7, 8, 9, 360])
def test_outcomes_survive_packing_and_are_the_domains_bitmaps(count):
    correct = torch.rand(count) > 0.5
    assert torch.equal(unpack(pack(correct), count), correct)
    assert Bitmap.of(correct.tolist()).encode() == pack(correct)
