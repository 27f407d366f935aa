"""The report's equations and algorithms, each written out by hand beside the lab's own."""

import copy
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from domain.presets import expand
from partcore.attacks import FriendlyPgd
from partcore.budgets import Geometric, Threshold
from partcore.cams import (
    ExactScores,
    GradCam,
    GradCamPlusPlus,
    Readout,
    ScoreCam,
    ScoreCamIncrease,
    ScoreCamSoftmax,
    heatmap,
    read,
)
from partcore.data import load, to_unit
from partcore.environment import Environment
from partcore.methods import Clean, Reweighted, Uniform, perturbation
from partcore.models import MODELS
from partcore.modes import evaluating, frozen
from partcore.objectives import Trades
from partcore.randomness import generator
from partcore.training import Trainer
from tests.partcore.exact import EQUAL, in_float64

COUNT, SIDE = 6, 16


@cache
def _case() -> Readout:
    draw = generator(11)
    model = MODELS["small-cnn"](
        channels=3,
        classes=5,
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        generator=draw,
    ).double()
    with torch.no_grad():
        for _ in range(20):
            coarse = torch.rand(16, 3, 4, 4, generator=draw, dtype=torch.float64)
            model(F.interpolate(coarse, size=SIDE))
        model.head.linear.weight.normal_(std=0.3, generator=draw)
    model.eval()
    coarse = torch.rand(COUNT, 3, 4, 4, generator=draw, dtype=torch.float64)
    x = F.interpolate(coarse, size=SIDE)
    return read(model, x, torch.arange(COUNT) % 5)


def case() -> Readout:
    return copy.deepcopy(_case())


def unit(m: Tensor, *, guard: float = 0.0) -> Tensor:
    """Min-max of one image's map; a constant one is 0. guard: what grad-cam adds to the range."""
    span = m.max() - m.min()
    return (m - m.min()) / (span + guard) if span > 0 else torch.zeros_like(m)


def by_hand(raw: Tensor) -> Tensor:
    """One raw map (h, w) to (H, W), as grad-cam normalises and enlarges."""
    large = F.interpolate(unit(raw, guard=1e-7)[None, None], size=(SIDE, SIDE), mode="bilinear")
    return unit(large[0, 0], guard=1e-7)


def features_and_gradients(readout: Readout, i: int) -> tuple[Tensor, Tensor]:
    """A_k and dy_c/dA_k of one image by autograd, (K, h, w) each."""
    features = readout.model.features(readout.x[i : i + 1]).detach().requires_grad_()
    logit = readout.model.head(features)[0, readout.y[i]]
    (gradient,) = torch.autograd.grad(logit, features)
    return features[0].detach(), gradient[0]


def assert_maps(readout: Readout, cam: Any, raw: list[Tensor]) -> None:
    ours = heatmap(cam(readout), (SIDE, SIDE))
    expected = torch.stack([by_hand(m) for m in raw])
    assert expected.amax() > 0
    torch.testing.assert_close(ours, expected, **EQUAL)


# -- maps ---------------------------------------------------------------------------------------


def test_eq_3_and_eq_4_grad_cam():
    """alpha_k = mean_ij dy_c/dA_k,ij and L = ReLU(sum_k alpha_k A_k)."""
    readout, raw = case(), []
    for i in range(COUNT):
        a, g = features_and_gradients(readout, i)
        alpha = g.mean(dim=(1, 2))
        raw.append((alpha[:, None, None] * a).sum(dim=0).relu())
    assert_maps(readout, GradCam(), raw)


def test_eq_5_grad_cam_plus_plus():
    """w_k = sum_ij a_ij ReLU(dy_c/dA_k,ij), a = g^2 / (2 g^2 + sum_ab A_k,ab g^3)."""
    readout, raw = case(), []
    for i in range(COUNT):
        a, g = features_and_gradients(readout, i)
        total = a.sum(dim=(1, 2), keepdim=True)
        weight = g**2 / (2 * g**2 + total * g**3 + 1e-6)  # grad-cam's guard
        w = (torch.where(g != 0, weight, 0.0) * g.relu()).sum(dim=(1, 2))
        raw.append((w[:, None, None] * a).sum(dim=0).relu())
    assert_maps(readout, GradCamPlusPlus(), raw)


def masked_images(readout: Readout, i: int) -> Tensor:
    """x o M_k of one image, (K, 3, H, W)."""
    a = readout.features[i]
    large = F.interpolate(a[:, None], size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    masks = torch.stack([unit(m[0], guard=1e-8) for m in large])
    return readout.x[i] * masks[:, None]


@torch.no_grad()
def test_eq_6_score_cam_as_the_report_writes_it():
    """w_k = softmax(f(x o M_k))_c - softmax(f(x_b))_c; no softmax over channels."""
    readout, raw = case(), []
    for i in range(COUNT):
        c = readout.y[i]
        black = readout.model(torch.zeros_like(readout.x[:1])).softmax(dim=1)[0, c]
        w = readout.model(masked_images(readout, i)).softmax(dim=1)[:, c] - black
        raw.append((w[:, None, None] * readout.features[i]).sum(dim=0).relu())
    assert_maps(readout, ScoreCamIncrease(ExactScores()), raw)


@torch.no_grad()
def test_a_baseline_cancels_under_a_softmax_over_channels_and_not_in_eq_6():
    readout = case()
    scores = ExactScores()(readout)

    def given(*_: Any) -> Tensor:
        return scores

    def shifted(*_: Any) -> Tensor:
        return scores + 0.7

    plain, moved = ScoreCam(given)(readout), ScoreCam(shifted)(readout)
    torch.testing.assert_close(plain, moved, **EQUAL)
    literal = [ScoreCamIncrease(s)(readout) for s in (given, shifted)]
    assert not torch.allclose(*literal, atol=1e-3)


@torch.no_grad()
def test_score_cams_own_algorithm_1_takes_probabilities_through_a_softmax_over_channels():
    readout, raw = case(), []
    for i in range(COUNT):
        likely = readout.model(masked_images(readout, i)).softmax(dim=1)[:, readout.y[i]]
        w = likely.softmax(dim=0)
        raw.append((w[:, None, None] * readout.features[i]).sum(dim=0).relu())
    assert_maps(readout, ScoreCamSoftmax(ExactScores()), raw)


# -- algorithms -----------------------------------------------------------------------------------


def trainer_of(tmp_path: Path, preset: str) -> Trainer:
    spec = expand(
        {
            "preset": preset,
            "data": {"dataset": "digits", "train_limit": 120, "test_limit": 20},
            "method": {
                "warmup_epochs": 0,
                "attack": {"steps": 3},
                "cam": {"scores": {"kind": "exact"}},
            },
            "training": {
                "epochs": 4,
                "batch_size": 40,
                "fold_batch_norm": False,
                "channels_last": False,
            },
        }
    )
    trainer = Trainer(spec, load(spec.data, tmp_path, seed=1), Environment(tmp_path, tmp_path))
    return in_float64(trainer)


@pytest.mark.parametrize(
    ("preset", "kinds"),
    [
        ("part", (GradCam(),)),
        ("part++", (GradCam(), GradCamPlusPlus(), ScoreCam(ExactScores()))),
    ],
    ids=["alg_1_part", "alg_2_part_plus_plus"],
)
def test_alg_1_and_alg_2_a_step_written_out(tmp_path, monkeypatch, preset, kinds):
    """CAM, mask, radii, random start, projected steps, cross-entropy, Nesterov's SGD."""
    ours, other = trainer_of(tmp_path, preset), trainer_of(tmp_path, preset)
    index = torch.arange(40)
    monkeypatch.setattr("partcore.training.to_unit", lambda x: to_unit(x).double())
    for trainer in (ours, other):
        trainer.update(index.flip(0))  # a network whose maps are alive
        trainer.step += 1
    batch, _ = ours.perturbed(index)
    model, method = other.model, other.spec.method

    images = other.train.x[index]
    x = to_unit(other.augmentation(images, generator=other.streams.augment)).double()
    y = other.train.y[index]
    model.eval()
    readout = read(model, x, y)
    maps = torch.stack([heatmap(kind(readout), (8, 8)) for kind in kinds]).mean(dim=0)
    scaled = torch.stack([unit(m) for m in maps])
    s = torch.sigmoid(10 * (scaled - 0.5))
    high, low = float(method.epsilon_high), float(method.epsilon_low)
    radius = (s * high + (1 - s) * low)[:, None]
    start = 2 * torch.rand(x.shape, generator=other.streams.attack, dtype=x.dtype) - 1
    x_adv = (x + start * radius).clamp(0, 1)
    for _ in range(3):
        leaf = x_adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), y), leaf)
        moved = x_adv + float(method.attack.step_size) * gradient.sign()
        x_adv = torch.min(torch.max(moved, x - radius), x + radius).clamp(0, 1)
    assert torch.equal(batch.x, x)
    torch.testing.assert_close(batch.x_adv, x_adv, **EQUAL)

    model.train()
    other.optimiser.zero_grad()
    F.cross_entropy(model(x_adv), y).backward()
    rate = 0.1 * (1 + math.cos(math.pi * other.step / other.total_steps)) / 2
    expected = {}
    for name, p in model.named_parameters():
        buffer = other.optimiser.state[p]["momentum_buffer"]
        gradient = p.grad + 5e-4 * p.detach()
        velocity = 0.9 * buffer + gradient
        expected[name] = p.detach() - rate * (gradient + 0.9 * velocity)
    for group in ours.optimiser.param_groups:
        group["lr"] = rate
    ours.step_down(batch)
    for name, p in ours.model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name], **EQUAL)


def method_of(preset: str, **method: Any) -> Any:
    body = {"preset": preset, "data": {"dataset": "cifar10"}, "training": {"epochs": 30}}
    return expand({**body, "method": method}).method


def test_alg_1_warm_up_is_plain_adversarial_training_or_clean():
    for warmup, kind in (("adversarial", Uniform), ("clean", Clean)):
        method = method_of("part", warmup=warmup)
        for epoch in range(5):
            warm = perturbation(method, epoch=epoch, progress=epoch / 30)
            assert isinstance(warm, kind)
            assert not isinstance(warm, Uniform) or warm.epsilon == pytest.approx(8 / 255)
        assert isinstance(perturbation(method, epoch=5, progress=5 / 30), Reweighted)


def test_the_curriculum_schedules_radii_gap_steepness_steps_and_step_size():
    """Section 1 of the report: each of them a schedule over the epochs; its PART-T."""
    ramp = {
        "epsilon_high": {"points": [[0, "4/255"], [1, "8/255"]]},
        "epsilon_gap": {"points": [[0, "0/255"], [1, "2/255"]]},
        "mask": {"kind": "centred-sigmoid", "tau": {"points": [[0, 2], [1, 10]]}},
        "attack": {
            "steps": {"points": [[0, 2], [1, 10]]},
            "step_size": {"points": [[0, "1/255"], [1, "2/255"]], "shape": "cosine"},
        },
        "warmup_epochs": 0,
    }
    for preset in ("part-schedule", "part++"):
        method = method_of(preset, **ramp)
        for progress in (0.0, 0.25, 0.5, 1.0):
            step = perturbation(method, epoch=9, progress=progress)
            assert isinstance(step, Reweighted)
            high = (4 + 4 * progress) / 255
            assert step.budget.epsilon_high == pytest.approx(high)
            assert step.budget.epsilon_low == pytest.approx(high - 2 * progress / 255)
            assert step.budget.mask.tau == pytest.approx(2 + 8 * progress)
            assert step.attack.num_steps == round(2 + 8 * progress)
            eased = (1 - math.cos(math.pi * progress)) / 2
            assert step.attack.step_size == pytest.approx((1 + eased) / 255)


def test_part_m_of_the_report_is_a_hard_threshold_or_a_fixed_region():
    step = perturbation(method_of("part-mask"), epoch=29, progress=0.9)
    assert step.budget.mask == Threshold(0.5)
    heat = torch.rand(2, SIDE, SIDE, generator=generator(1))
    radii, _ = step.budget.radii(heat, generator=generator(0))
    assert radii.unique().tolist() == pytest.approx([7 / 255, 8 / 255])
    for region in ("centre", "border", "top-left", "bottom-right"):
        fixed = method_of("part-mask", mask={"kind": "geometric", "region": region})
        mask = perturbation(fixed, epoch=29, progress=0.9).budget.mask
        assert mask == Geometric(region)
        assert torch.equal(mask(heat)[0], mask(1 - heat)[1]), "it looked at the map"


# -- defects --------------------------------------------------------------------------------------


def test_defect_1_maps_belong_to_the_images_and_not_to_places_in_the_batch():
    readout = case()
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    shuffled = read(readout.model, readout.x[order], readout.y[order])
    for cam in (GradCam(), GradCamPlusPlus(), ScoreCam(ExactScores())):
        torch.testing.assert_close(cam(shuffled), cam(readout)[order], **EQUAL)


class Counting:
    """Counts passes, and batches seen in training mode."""

    def __init__(self, model: Any) -> None:
        self.model, self.evaluated, self.trained = model, 0, 0
        model.register_forward_pre_hook(self)

    def __call__(self, module: Any, _inputs: Any) -> None:
        self.trained += module.training
        self.evaluated += not module.training


def test_defect_8_trades_reads_clean_images_once_and_counts_their_statistics_once():
    readout = case()
    model, x, y = readout.model, readout.x, readout.y
    passes = Counting(model)
    method = method_of("trades", attack={"steps": 4})
    with evaluating(model), frozen(model):
        x_adv = perturbation(method, epoch=0, progress=0.0)(model, x, y, generator=generator(1)).x
    # the clean prediction is read from the features, once, not at each of the four steps
    assert passes.evaluated == 4
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = int(norm.num_batches_tracked)
    model.train()
    Trades(6.0)(model, x, x_adv, y)
    assert int(norm.num_batches_tracked) == before + 2, "clean once, adversarial once"


def test_defect_11_every_option_of_the_inner_attack_is_obeyed():
    attack = {"steps": 7, "step_size": "3/255", "start": "zero", "extra_steps": 2}
    step = perturbation(method_of("pgd-at", attack=attack), epoch=0, progress=0.0)
    assert isinstance(step.attack, FriendlyPgd)
    assert (step.attack.num_steps, step.attack.extra_steps) == (7, 2)
    assert step.attack.step_size == pytest.approx(3 / 255)
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(step.attack.start(x, 0.1, generator(0)), x)
