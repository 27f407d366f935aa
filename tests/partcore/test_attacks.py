from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from partcore.attacks import (
    Cw,
    Fgsm,
    InnerPgd,
    Mma,
    Pgd,
    at_image,
    project_linf,
    uniform_in_ball,
)
from partcore.budgets import CentredSigmoid, MinMax, SigmoidMean, SigmoidMinMax, pixel_budget
from partcore.modes import evaluating, frozen
from partcore.objectives import cross_entropy, margin
from partcore.randomness import generator
from tests.examples import examples
from tests.partcore.exact import EQUAL, rounding

EPSILON = 0.1
IN_THE_BALL = rounding(4, scale=2)
"""An edge of the ball, x + epsilon < 2, is rounded, and so is what is measured from it."""
ATTACKS = {
    "fgsm": Fgsm(),
    "pgd": Pgd(step_size=EPSILON / 4, num_steps=8),
    "cw": Cw(step_size=EPSILON / 4, num_steps=8),
    "mma": Mma(step_size=EPSILON / 4, num_steps=8),
}


def problem(seed: int = 0, count: int = 24) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A random convolutional network, images it labels itself, and unit noise."""
    draw = generator(seed, "problem")
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 5)
    )
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=draw)
        x = torch.rand(count, 2, 6, 6, generator=draw, dtype=torch.float64)
        y = model(x).argmax(dim=1)
    noise = 2 * torch.rand(x.shape, generator=draw, dtype=x.dtype) - 1
    return model, x, y, noise


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("radius", ["one", "a pixel"])
def test_an_attack_stays_in_its_ball_and_tells_the_truth(name, radius):
    model, x, y, noise = problem()
    epsilon: Tensor | float = EPSILON
    if radius == "a pixel":
        draw = generator(1, "radius")
        epsilon = EPSILON * torch.rand(len(x), 1, 6, 6, generator=draw, dtype=x.dtype)
    with frozen(model):
        attempt = ATTACKS[name](model, x, y, epsilon, noise)
    assert ((attempt.x_adv - x).abs() <= epsilon + IN_THE_BALL).all()
    assert attempt.x_adv.min() >= 0
    assert attempt.x_adv.max() <= 1
    assert torch.equal(model(attempt.x_adv).argmax(dim=1) != y, attempt.broken)
    assert attempt.broken.any()
    assert not attempt.zero_gradient.any()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_leaves_no_weight_gradient(name):
    model, x, y, noise = problem()
    with frozen(model):
        ATTACKS[name](model, x, y, EPSILON, noise)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_image_is_attacked_the_same_in_any_company(name):
    model, x, y, noise = problem()
    attack = ATTACKS[name]
    together = attack(model, x, y, EPSILON, noise)
    for part in (slice(0, 1), slice(5, 9)):
        apart = attack(model, x[part], y[part], EPSILON, noise[part])
        torch.testing.assert_close(apart.x_adv, together.x_adv[part], **EQUAL)


@pytest.mark.parametrize("name", ATTACKS)
def test_zero_radius_gives_the_image(name):
    model, x, y, noise = problem()
    attempt = ATTACKS[name](model, x, y, 0.0, noise)
    assert torch.equal(attempt.x_adv, x)
    assert not attempt.broken.any()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_network_without_gradient_is_noticed(name):
    def flat(x: Tensor) -> Tensor:
        return torch.eye(5, dtype=x.dtype)[0].repeat(len(x), 1) + 0 * x.sum(dim=(1, 2, 3))[:, None]

    _, x, _, noise = problem()
    attempt = ATTACKS[name](flat, x, torch.zeros(len(x), dtype=torch.long), EPSILON, noise)
    assert attempt.zero_gradient.all()
    assert not attempt.broken.any()


def test_defect_14_what_broke_an_image_is_kept():
    """A network that is wrong only in a thin shell the last iterate has left again."""

    def shell(x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        wrong = ((level > 0.52) & (level < 0.55)).float()
        return torch.stack([1 - 2 * wrong - level, level - 0.5], dim=1)

    x = torch.full((3, 1, 4, 4), 0.5)
    y = torch.zeros(3, dtype=torch.long)
    attack = Pgd(step_size=0.03, num_steps=5)
    attempt = attack(shell, x, y, 0.1, torch.zeros_like(x))
    last = InnerPgd(step_size=0.03, num_steps=5, start=at_image)(
        shell, x, y, 0.1, generator=generator(0)
    )
    assert (shell(last).argmax(dim=1) == y).all(), "the last iterate is judged right"
    assert attempt.broken.all()
    assert (shell(attempt.x_adv).argmax(dim=1) != y).all()


def test_only_survivors_are_attacked_further():
    model, x, y, noise = problem()
    sizes: list[int] = []

    def counting(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return model(batch)

    attempt = Pgd(step_size=EPSILON / 4, num_steps=12)(counting, x, y, EPSILON, noise)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    assert sizes[-1] >= int((~attempt.broken).sum())


def test_pgd_equals_a_naive_one_written_out():
    """An independent reading: every image to the end, backward through everything."""
    model, x, y, noise = problem(count=12)
    size, steps = EPSILON / 4, 6
    x_adv = (x + EPSILON * noise).clamp(0, 1)
    fell = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(steps):
        leaf = x_adv.clone().requires_grad_()
        logits = model(leaf)
        fell |= logits.argmax(dim=1) != y
        nn.functional.cross_entropy(logits, y, reduction="sum").backward()
        stepped = x_adv + size * leaf.grad.sign()
        x_adv = torch.max(torch.min(stepped, x + EPSILON), x - EPSILON).clamp(0, 1)
    fell |= model(x_adv).argmax(dim=1) != y
    attempt = Pgd(step_size=size, num_steps=steps)(model, x, y, EPSILON, noise)
    assert torch.equal(attempt.broken, fell)
    inner = InnerPgd(step_size=size, num_steps=steps)
    again = inner.climb(model, (x + EPSILON * noise).clamp(0, 1), x, y, EPSILON, y=y)
    torch.testing.assert_close(again, x_adv, **EQUAL)


def test_mma_climbs_to_the_likeliest_wrong_classes_in_turn():
    model, x, y, noise = problem()
    broken = [
        int(
            Mma(step_size=EPSILON / 4, num_steps=8, targets=k)(
                model, x, y, EPSILON, noise
            ).broken.sum()
        )
        for k in (1, 2, 4)
    ]
    assert broken == sorted(broken)
    with pytest.raises(ValueError, match="6 classes"):
        Mma(step_size=0.1, num_steps=1, targets=5)(model, x, y, EPSILON, noise)


def test_defect_12_mma_is_not_pgd_under_another_name():
    model, x, y, noise = problem()
    pgd, mma = (partial(ATTACKS[name], model, x, y, 0.02, noise)().x_adv for name in ("pgd", "mma"))
    assert not torch.equal(pgd, mma)


def test_defect_6_the_start_is_in_the_budget_in_the_pixels_and_from_the_generator():
    x = torch.rand(64, 1, 8, 8, generator=generator(3))
    epsilon = pixel_budget(
        torch.rand(64, 8, 8, generator=generator(4)), epsilon_high=0.3, epsilon_low=0.0
    )
    first, second = (uniform_in_ball(x, epsilon, generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert ((first - x).abs() <= epsilon + IN_THE_BALL).all()
    assert first.min() >= 0
    assert first.max() <= 1
    inside = (x > 0.3) & (x < 0.7)
    relative = ((first - x) / epsilon)[inside]
    assert relative.mean().abs() < 0.05
    assert relative.std() == pytest.approx(3**-0.5, abs=0.05)


def test_the_margin_is_positive_exactly_when_the_label_is_beaten():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    y = torch.tensor([0, 1])
    assert margin(logits, y).tolist() == [-1.0, 2.0]
    assert cross_entropy(logits, y).shape == (2,)


unit = st.floats(0, 1, width=32)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(unit, min_size=4, max_size=4), st.lists(unit, min_size=4, max_size=4), unit)
def test_projection_is_idempotent_and_inside(values, others, epsilon):
    x = torch.tensor(values).view(1, 1, 2, 2)
    far = 4 * torch.tensor(others).view(1, 1, 2, 2) - 2
    once = project_linf(far, x, epsilon)
    assert torch.equal(project_linf(once, x, epsilon), once)
    assert ((once - x).abs() <= epsilon + IN_THE_BALL).all()
    assert ((once >= 0) & (once <= 1)).all()


@settings(max_examples=examples(60), deadline=None)
@given(
    st.sampled_from([CentredSigmoid(), SigmoidMinMax(), SigmoidMean(), MinMax()]),
    st.lists(st.floats(0, 100, width=32), min_size=9, max_size=9),
    st.integers(0, 255),
    st.integers(0, 255),
)
def test_masks_and_radii_keep_their_ranges(mask, values, one, other):
    low, high = sorted((one / 255, other / 255))
    s = mask(torch.tensor(values).view(1, 3, 3))
    assert ((s >= 0) & (s <= 1)).all()
    epsilon = pixel_budget(s, epsilon_high=high, epsilon_low=low)
    assert epsilon.shape == (1, 1, 3, 3)
    assert ((epsilon >= low - IN_THE_BALL) & (epsilon <= high + IN_THE_BALL)).all()


def test_eq_7_as_the_report_writes_it():
    heat = torch.tensor([[[0.0, 1.0], [2.0, 5.0]]], dtype=torch.float64)
    unit_map = heat / 5
    torch.testing.assert_close(SigmoidMinMax(10)(heat), torch.sigmoid(10 * unit_map), **EQUAL)
    torch.testing.assert_close(SigmoidMean(10)(heat), torch.sigmoid(10 * heat / 2), **EQUAL)
    torch.testing.assert_close(
        CentredSigmoid(10)(heat), torch.sigmoid(10 * (unit_map - 0.5)), **EQUAL
    )


def test_defect_3_the_reports_masks_are_never_under_half_and_the_default_spreads():
    heat = torch.rand(16, 8, 8, generator=generator(0)) ** 2
    assert SigmoidMinMax()(heat).min() >= 0.5
    assert SigmoidMean()(heat).min() >= 0.5
    s = CentredSigmoid()(heat)
    assert s.min() < 0.02
    assert s.max() > 0.98


def test_eq_8_mixes_the_two_radii():
    mask = torch.tensor([[[0.0, 0.5, 1.0]]], dtype=torch.float64)
    epsilon = pixel_budget(mask, epsilon_high=8 / 255, epsilon_low=7 / 255)
    torch.testing.assert_close(
        255 * epsilon[0, 0, 0], torch.tensor([7.0, 7.5, 8.0]).double(), **EQUAL
    )


class TestModes:
    def model(self) -> nn.Module:
        model = nn.Sequential(nn.BatchNorm2d(1), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1)))
        model.train()
        model[1][1].eval()
        model[0].weight.requires_grad_(False)  # noqa: FBT003
        return model

    @pytest.mark.parametrize("mode", [evaluating, frozen])
    def test_defect_9_every_flag_comes_back_even_after_an_error(self, mode):
        model = self.model()
        modes = [module.training for module in model.modules()]
        gradients = [p.requires_grad for p in model.parameters()]

        def fail() -> None:
            with mode(model):
                assert mode is frozen or not any(m.training for m in model.modules())
                assert mode is evaluating or not any(p.requires_grad for p in model.parameters())
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert [module.training for module in model.modules()] == modes
        assert [p.requires_grad for p in model.parameters()] == gradients
