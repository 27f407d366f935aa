"""What PART++ costs beside plain adversarial training, and what its approximation keeps.

Paired medians: in each round every variant takes one step on the same batch, so that a slow moment
of the machine hits all of them.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from partcore.attacks import InnerPgd
from partcore.budgets import CentredSigmoid, pixel_budget
from partcore.cams import (
    Ensemble,
    ExactScores,
    FeatureSpaceScores,
    GradCam,
    GradCamPlusPlus,
    ScoreCam,
    read,
)
from partcore.methods import Budget, Perturbation, Reweighted, ReweightedAtStart, Uniform
from partcore.models import MODELS, CamClassifier
from partcore.modes import evaluating, frozen
from partcore.objectives import cross_entropy
from partcore.randomness import generator

ROUNDS, BATCH, EPSILON = 5, 32, 8 / 255


def network() -> CamClassifier:
    """Return a ResNet-18 for 32x32 images whose batch statistics are those of its inputs."""
    model = MODELS["resnet18"](
        channels=3,
        classes=10,
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.25),
        generator=generator(0, "bench"),
    )
    with torch.no_grad():
        for _ in range(5):
            model(images(BATCH))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def images(count: int) -> Tensor:
    """Return smooth random images, (count, 3, 32, 32)."""
    coarse = torch.rand(count, 3, 8, 8, generator=generator(1, "images"))
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")


def maps(*, exact: bool) -> Ensemble:
    """Return the PART++ ensemble."""
    scores = ExactScores() if exact else FeatureSpaceScores()
    return Ensemble((GradCam(), GradCamPlusPlus(), ScoreCam(scores)))


def step(model: CamClassifier, method: Perturbation, x: Tensor, y: Tensor) -> None:
    """Attack, then one update's gradients."""
    with evaluating(model), frozen(model):
        perturbed = method(model, x, y, generator=generator(2))
    model.train()
    model.zero_grad(set_to_none=True)
    cross_entropy(model(perturbed.x), y).mean().backward()  # type: ignore[no-untyped-call]


def naive_step(model: CamClassifier, x: Tensor, y: Tensor) -> None:
    """The same PGD-10 step as it is usually written: weights keep gradients, NCHW."""
    model.eval()
    noise = 2 * torch.rand(x.shape, generator=generator(2)) - 1
    x_adv = (x + EPSILON * noise).clamp(0, 1)
    for _ in range(10):
        leaf = x_adv.detach().requires_grad_()
        torch.nn.functional.cross_entropy(model(leaf), y).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        stepped = x_adv + EPSILON / 4 * leaf.grad.sign()
        x_adv = torch.min(torch.max(stepped, x - EPSILON), x + EPSILON).clamp(0, 1)
    model.train()
    model.zero_grad()
    torch.nn.functional.cross_entropy(model(x_adv), y).backward()  # type: ignore[no-untyped-call]


def medians(variants: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return each variant's median seconds over paired rounds, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(ROUNDS + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if round_:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    """Print the table."""
    attack = InnerPgd(step_size=EPSILON / 4, num_steps=10)
    x = images(BATCH).contiguous(memory_format=torch.channels_last)
    model, plain = network(), network().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    y = torch.arange(BATCH) % 10
    budget = Budget(maps(exact=False), CentredSigmoid(), EPSILON, epsilon_low=7 / 255)
    methods: dict[str, Perturbation] = {
        "pgd-at": Uniform(attack, EPSILON),
        "part++, maps at the image": Reweighted(attack, budget),
        "part++, maps at the attack's start": ReweightedAtStart(attack, budget),
    }
    variants: dict[str, Callable[[], None]] = {
        name: (lambda m=method: step(model, m, x, y)) for name, method in methods.items()
    }
    variants["pgd-at, written naively"] = lambda: naive_step(plain, x.contiguous(), y)
    took = medians(variants)
    base = took["pgd-at"]
    print(
        f"\nResNet-18, batch {BATCH} of 32x32, PGD-10 + update, fp32, "
        f"{torch.get_num_threads()} threads"
    )
    for name, seconds in took.items():
        print(
            f"  {name:36s}{1000 * seconds / BATCH:8.1f} ms an image{seconds / base:8.2f} of pgd-at"
        )
    fidelity(model, x[:8], y[:8])


def fidelity(model: CamClassifier, x: Tensor, y: Tensor) -> None:
    """Print how near feature-space scores come to exact ones, on an untrained network."""
    with evaluating(model):
        readout = read(model, x, y)
        both = [
            pixel_budget(CentredSigmoid()(maps(exact=e)(readout)), epsilon_high=8, epsilon_low=7)
            for e in (False, True)
        ]
    flat = torch.stack([b.flatten(1) for b in both])
    centred = flat - flat.mean(dim=2, keepdim=True)
    pearson = (centred[0] * centred[1]).sum(1) / centred.norm(dim=2).prod(dim=0).clamp(min=1e-12)
    print(
        f"  radii from feature-space scores against exact Score-CAM: Pearson {pearson.mean():.3f}"
    )


if __name__ == "__main__":
    main()
