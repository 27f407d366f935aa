"""What PART++ costs beside plain adversarial training: one attack and one update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.estimators import ESTIMATORS, ensemble
from benchmarks.paired import measure, median, ratio
from benchmarks.progress import runnable
from benchmarks.setting import ATTACK, EPSILON, EPSILON_LOW
from benchmarks.table import Target, at_most, heading, ratio_line
from partcore.budgets import CentredSigmoid
from partcore.folding import Twin
from partcore.methods import Budget, Perturbation, Reweighted, ReweightedAtStart, Uniform
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.objectives import CrossEntropy
from partcore.randomness import generator
from partcore.update import Batch, Update

PGD_AT = "pgd-at"
INCREASE = "8 centroids + mean, in bf16"
"""The estimator that Eq. 6 taken literally is timed with: see the fidelity it reaches."""


class Workbench:
    """A network with what training has around it, and the batch every step is taken on.

    The step is training's own: a folded twin is attacked, and an Update goes down. The learning
    rate is 0: a step costs what it costs, and every round meets the same weights.
    """

    def __init__(
        self, model: CamClassifier, x: Tensor, y: Tensor, dtype: torch.dtype = torch.float32
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.optimiser = torch.optim.SGD(
            model.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        self.twin = Twin(model, dtype)
        self.update = Update(model, self.optimiser, CrossEntropy(), dtype=dtype)

    def step(self, method: Perturbation) -> None:
        """Attack the batch as a method does, then update on what it returns."""
        self.twin.refresh()
        network = self.twin.network
        with evaluating(network), frozen(network):
            perturbed = method(network, self.x, self.y, generator=generator(2))
        self.update(Batch(self.x, perturbed.x, self.y, len(self.y)))


def plain() -> Perturbation:
    """Return PGD-AT's perturbation."""
    return Uniform(ATTACK, EPSILON)


def reweighted(definition: str, estimator: str, *, at: type[Reweighted]) -> Perturbation:
    """Return PART++'s perturbation with one way to score Score-CAM's channels."""
    maps = ensemble(definition, ESTIMATORS[estimator])
    return at(ATTACK, Budget(maps, CentredSigmoid(), EPSILON, EPSILON_LOW))


@dataclass(frozen=True)
class Case:
    """A way PART++ is run, and what it may cost."""

    definition: str
    estimator: str
    target: Target

    def variants(self) -> dict[str, Perturbation]:
        """Return it with the maps read at the image and at the attack's start."""
        kinds = {"image": Reweighted, "start": ReweightedAtStart}
        return {
            f"{self.name}, at {place}": reweighted(self.definition, self.estimator, at=kind)
            for place, kind in kinds.items()
        }

    @property
    def name(self) -> str:
        """Its name in the table."""
        return f"{self.definition}, {self.estimator}"

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("score-cam", "feature space", at_most(1.10)),
    Case("score-cam", "mean of the two", at_most(1.12)),
    Case("score-cam", "mean, in bf16", at_most(1.12)),
    Case("score-cam", "8 centroids", at_most(1.25)),
    Case("score-cam", "8 centroids, in bf16", at_most(1.25)),
    Case("score-cam-increase", INCREASE, at_most(1.30)),
)


def report(bench: Workbench, *, rounds: int) -> None:
    """Time PART++ in every case beside PGD-AT and print the ratios."""
    cases = runnable(CASES)
    methods = {name: method for case in cases for name, method in case.variants().items()}
    times = measure(_timed(bench, {PGD_AT: plain(), **methods}), rounds=rounds)
    targets = {name: case.target for case in cases for name in case.variants()}
    heading("part++ / pgd-at, one step", columns="  an image   ratio (range)             target")
    for name in times:
        seconds = median(times, name) / len(bench.x)
        ratio_line(name, seconds, ratio(times, name, PGD_AT), targets.get(name))


def _timed(bench: Workbench, methods: Mapping[str, Perturbation]) -> dict[str, Callable[[], None]]:
    return {name: partial(bench.step, method) for name, method in methods.items()}
