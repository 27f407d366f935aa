"""Our attacks beside code that nobody here wrote, on the same network and images."""

import copy
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torchattacks
from pyautoattack import AutoAttack
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack
from torch import Tensor

from domain import spec as s
from domain.attacks import Targeted
from partcore import attacks
from partcore.attack_stages import Setting, stages
from partcore.attacks.aim import dlr, dlr_towards
from partcore.attacks.project import L2_BALL
from partcore.environment import Environment
from partcore.evaluation import evaluate
from partcore.models import CamClassifier
from partcore.modes import frozen
from tests.partcore.exact import EQUAL
from tests.partcore.robust import EPSILON, digits, judged_right, network

pytestmark = pytest.mark.xdist_group("robust-network")  # trained once
COUNT = 160


@pytest.fixture(autouse=True)
def _coverage_goes_on() -> Iterator[None]:
    """Keep the tracer, which AutoAttack's look for dynamic networks takes away."""
    tracer = sys.gettrace()
    yield
    sys.settrace(tracer)


def noise(x: Tensor, seed: int = 5) -> Tensor:
    torch.manual_seed(seed)
    return 2 * torch.rand(x.shape) - 1


def stands(model, x_adv: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x_adv).argmax(dim=1) == y


def ours(attack: attacks.EvaluationAttack, start: Tensor | None = None) -> Tensor:
    """Which images stand under one of our attacks."""
    model, x, y = judged_right(COUNT)
    with frozen(model):
        attempt = attack(model, x, y, EPSILON, noise(x) if start is None else start)
    assert torch.equal(stands(model, attempt.x_adv, y), ~attempt.broken)
    assert (attempt.x_adv - x).abs().max() <= EPSILON + EQUAL["atol"]
    return ~attempt.broken


def in_stages(spec: s.Attack, model: CamClassifier, x: Tensor, y: Tensor) -> Tensor:
    """Which images stand under an attack of several stages, each with noise of its own."""
    standing = torch.ones(len(x), dtype=torch.bool)
    setting = Setting(model, Fraction(32, 255), 10, seed=1)
    with frozen(model):
        for i, stage in enumerate(stages(spec, setting)):
            left = standing.nonzero()[:, 0]
            start = noise(x, i)[left]
            standing[left] = ~stage.attack(model, x[left], y[left], EPSILON, start).broken
    return standing


def within_two_paired_errors(mine: Tensor, theirs: Tensor) -> None:
    assert 0.2 < theirs.double().mean() < 0.9, "the comparison would say nothing"
    difference = mine.double() - theirs.double()
    error = difference.std().item() / math.sqrt(len(difference))
    assert abs(difference.mean().item()) <= max(2 * error, 1 / len(difference)), (
        f"{mine.double().mean():.3f} against {theirs.double().mean():.3f}"
    )


def agreement(mine: Tensor, theirs: Tensor) -> float:
    return (mine == theirs).double().mean().item()


def test_fgsm_is_that_of_torchattacks():
    model, x, y = judged_right(COUNT)
    theirs = stands(model, torchattacks.FGSM(model, eps=EPSILON)(x, y), y)
    assert agreement(ours(attacks.Fgsm()), theirs) == 1


def test_pgd_is_that_of_torchattacks():
    model, x, y = judged_right(COUNT)
    rival = torchattacks.PGD(model, eps=EPSILON, alpha=EPSILON / 4, steps=20, random_start=False)
    mine = ours(attacks.Pgd(step_size=EPSILON / 4, num_steps=20), torch.zeros_like(x))
    theirs = stands(model, rival(x, y), y)
    within_two_paired_errors(mine, theirs)
    assert agreement(mine, theirs) > 0.98


def test_pgd_in_l2_is_that_of_torchattacks():
    model, x, y = judged_right(COUNT)
    rival = torchattacks.PGDL2(model, eps=0.6, alpha=0.15, steps=20, random_start=False)
    pgd = attacks.Pgd(step_size=0.15, num_steps=20, ball=L2_BALL)
    with frozen(model):
        attempt = pgd(model, x, y, 0.6, torch.zeros_like(x))
    assert (attempt.x_adv - x).flatten(1).norm(dim=1).max() <= 0.6 + EQUAL["atol"]
    theirs = stands(model, rival(x, y), y)
    within_two_paired_errors(~attempt.broken, theirs)
    assert agreement(~attempt.broken, theirs) > 0.98


def test_square_is_that_of_torchattacks():
    model, x, y = judged_right(COUNT)
    rival = torchattacks.Square(model, eps=EPSILON, n_queries=600, seed=3)
    mine = ours(attacks.Square(seed=3, queries=600, rescale=True))
    within_two_paired_errors(mine, stands(model, rival(x, y), y))


@pytest.mark.parametrize(("name", "loss"), [("ce", None), ("dlr", dlr)])
@pytest.mark.parametrize("steps", [20, 100])
def test_apgd_is_its_authors_image_by_image(name, loss, steps):
    model, x, y = judged_right(COUNT)
    own = {} if loss is None else {"loss": loss}
    mine = ours(attacks.Apgd(num_steps=steps, **own), noise(x, seed=5))
    rival = APGDAttack(model, n_iter=steps, eps=EPSILON, seed=5, loss=name, device="cpu")
    theirs = stands(model, rival.perturb(x, y), y)
    within_two_paired_errors(mine, theirs)
    assert agreement(mine, theirs) >= 0.98


@pytest.mark.parametrize("rank", [0, 3, 8])
def test_apgd_towards_a_class_is_its_authors_image_by_image(rank):
    model, x, y = judged_right(COUNT)
    mine = ours(attacks.Apgd(num_steps=30, targeted=dlr_towards, rank=rank), noise(x, seed=5))
    rival = APGDAttack_targeted(model, n_iter=30, eps=EPSILON, device="cpu")
    rival.init_hyperparam(x)
    with torch.no_grad():
        rival.y_target = model(x).sort(dim=1)[1][:, -(rank + 2)]
    torch.manual_seed(5)
    _, standing, _, _ = rival.attack_single_run(x, y)
    assert agreement(mine, standing.bool()) >= 0.98


@pytest.mark.parametrize("kind", ["apgd-t", "fab-t"])
def test_targeted_attacks_break_what_their_authors_break(kind):
    model, x, y = judged_right(COUNT)
    if kind == "fab-t":  # pyautoattack's FAB computes in fp32, whatever it is given
        model, x = model.float(), x.float()
    mine = in_stages(Targeted(kind=kind, steps=20), model, x, y)
    if kind == "apgd-t":
        rival = APGDAttack_targeted(model, n_iter=20, eps=EPSILON, seed=0, device="cpu")
    else:
        rival = FABAttack_PT(model, n_iter=20, eps=EPSILON, seed=0, targeted=True, device="cpu")
    within_two_paired_errors(mine, stands(model, rival.perturb(x, y), y))


def test_a_transfer_is_the_pgd_of_torchattacks_on_the_other_network():
    model, x, y = judged_right(COUNT)
    surrogate = copy.deepcopy(model)
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in surrogate.parameters():
            weight += 0.1 * weight.std(correction=0) * torch.randn(weight.shape, generator=draws)
    assert agreement(stands(surrogate, x, y), torch.ones(len(x), dtype=torch.bool)) > 0.8
    with frozen(surrogate):
        mine = ours(attacks.Transfer(surrogate=surrogate, step_size=EPSILON / 4, num_steps=20))
    rival = torchattacks.PGD(surrogate, eps=EPSILON, alpha=EPSILON / 4, steps=20)
    theirs = stands(model, rival(x, y), y)
    within_two_paired_errors(mine, theirs)
    assert agreement(mine, theirs) >= 0.9


def test_autoattack_over_survivors_is_the_authors_run_their_own_way():
    model, images = network(), digits(COUNT)
    x, y = images.x.float() / 255, images.y
    rival = AutoAttack(
        model, attacks=["apgd-ce", "apgd-t", "fab-t", "square"], eps=EPSILON, version="custom"
    )
    rival.seed = 0
    shared = {"eps": EPSILON, "device": "cpu"}
    rival.apgd = APGDAttack(model, n_iter=20, **shared)
    rival.apgd_targeted = APGDAttack_targeted(model, n_iter=20, **shared)
    rival.fab = FABAttack_PT(model, n_iter=20, **shared)
    rival.square = SquareAttack(model, n_queries=200, resc_schedule=False, **shared)
    _, predicted = rival.run_standard_evaluation(x, y, batch_size=100)
    attack = {"kind": "autoattack", "steps": 20, "queries": 200}
    spec = s.EvaluationSpec(epsilon="32/255", attacks=(attack,), batch_size=100)
    environment = Environment(Path(), Path())
    found = end_of(evaluate(model, images, spec, seed=1, environment=environment))
    outcome = found["autoattack-20-200"]
    assert [stage.name for stage in outcome.result.stages][:2] == ["apgd-ce", "apgd-t, target 1/9"]
    within_two_paired_errors(outcome.correct, predicted == y)


def end_of(generator):
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
