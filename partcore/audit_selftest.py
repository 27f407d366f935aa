"""``python -m partcore.audit_selftest``: planted defects, on real networks, for the audit to catch.

Trains small networks on the digits that come with scikit-learn, judges them as they are, and again
with one thing broken at a time: in the network, in an attack, or in the bookkeeping. Prints which
rules spoke. Exit 1 if a defect goes unseen or a sound network is accused.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from domain import spec as s
from domain.audit import Record, audit
from domain.presets import expand
from domain.results import AttackResult, AuditFacts, AuditReport
from partcore import evaluation, probes
from partcore.attack_stages import Setting, Stage, stages
from partcore.attacks import Attempt, EvaluationAttack
from partcore.attacks.project import LogitsOf
from partcore.data import Images, Split, load, to_unit
from partcore.environment import Environment
from partcore.evaluation import StagesOf, evaluate
from partcore.models import CamClassifier
from partcore.standing import Outcome
from partcore.training import Trainer

JUDGED = 200
SUITE: tuple[dict[str, Any], ...] = (
    {"kind": "noise"},
    {"kind": "fgsm"},
    {"kind": "pgd", "steps": 10},
    {"kind": "pgd", "steps": 20},
    {"kind": "pgd", "steps": 100},
    {"kind": "cw", "steps": 20},
    {"kind": "pgd", "epsilon": "25/255"},
    {"kind": "pgd", "epsilon": "102/255"},
    {"kind": "pgd", "epsilon": "255/255"},
    {"kind": "autoattack", "steps": 15, "queries": 150},
)
"""The `standard` suite, with a shorter AutoAttack."""
SHORT: tuple[dict[str, Any], ...] = (*SUITE[:-1], {"kind": "square", "queries": 60})
"""The same with Square alone, for tests."""


# -- what is judged ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One evaluation: of what, how, and what is kept of it."""

    name: str
    model: nn.Module
    split: Split
    suite: tuple[dict[str, Any], ...]
    trained_at: Fraction | None = None
    stages_of: StagesOf = stages
    stored: nn.Module | None = None
    """The network that is found on disk; None for the one judged."""
    tamper: Callable[[dict[str, Outcome]], dict[str, Outcome]] = lambda outcomes: outcomes
    worst: Callable[[AttackResult, dict[str, Outcome]], AttackResult] = lambda worst, _: worst
    caught_by: frozenset[str] = frozenset()
    """Rules of which at least one must fail; none for a sound case."""

    def judge(self) -> AuditReport:
        """Evaluate and audit."""
        spec = s.EvaluationSpec.model_validate({"epsilon": "51/255", "attacks": self.suite})
        environment = Environment(Path(), Path())
        images = self.split.test
        model: Any = self.model
        told = evaluate(
            model, images, spec, seed=1, environment=environment, stages_of=self.stages_of
        )
        outcomes = self.tamper(_end(told))
        stored: Any = self.stored or self.model
        facts = AuditFacts(
            dataset="digits",
            model="small-cnn",
            trained_at=self.trained_at,
            mismatches=probes.mismatches(outcomes, stored, _evidence(outcomes, images)),
            logit_difference=probes.logit_difference(model, images),
            gives_probabilities=probes.gives_probabilities(model, images),
            seen_in_training=probes.seen_in_training(images, self.split.train),
        )
        worst = evaluation.worst_case(outcomes, spec.epsilon)
        results = {label: outcome.result for label, outcome in outcomes.items()}
        return audit(Record(results, spec.epsilon, self.worst(worst, outcomes), facts))


def _end(told: Any) -> dict[str, Outcome]:  # noqa: ANN401 - a generator's return value
    while True:
        try:
            next(told)
        except StopIteration as end:
            found: dict[str, Outcome] = end.value
            return found


def _evidence(outcomes: dict[str, Outcome], images: Images) -> dict[str, Tensor]:
    count = evaluation.EVIDENCE_IMAGES
    kept = {f"{label}/x_adv": o.kept for label, o in outcomes.items() if o.kept is not None}
    return {"x": to_unit(images.x[:count]), "y": images.y[:count], **kept}


def trained(preset: str, judged: int, *, epochs: int = 8) -> tuple[CamClassifier, Split]:
    """Train on digits for a few seconds."""
    spec = expand(
        {
            "preset": preset,
            "data": {"dataset": "digits", "train_limit": 1000, "test_limit": judged},
            "training": {"epochs": epochs, "batch_size": 100},
        }
    )
    assert isinstance(spec, s.TrainSpec)
    with TemporaryDirectory() as work:
        split = load(spec.data, Path(work), seed=spec.seed)
        trainer = Trainer(spec, split, Environment(Path(work), Path(work)))
        for _ in trainer.run():
            pass
    return trainer.model.eval(), split


# -- planted in the network -------------------------------------------------------------------


class Wrapped(nn.Module):
    """A network with something wrong before or after it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner


class Softmax(Wrapped):
    """Gives probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        return torch.softmax(self.inner(x), dim=1)


class Training(Wrapped):
    """Normalises by the batch, whatever mode it is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        for module in self.inner.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
                module.momentum = 0.0
        logits: Tensor = self.inner(x)
        return logits


class Randomised(Wrapped):
    """Adds noise to what it sees."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        logits: Tensor = self.inner(x + 0.1 * torch.randn_like(x))
        return logits


class Quantised(Wrapped):
    """Rounds pixels, which has no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        logits: Tensor = self.inner(torch.round(x * 4) / 4)
        return logits


class Saturated(Wrapped):
    """Logits so large that the softmax has no gradient left."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        logits: Tensor = 1e4 * self.inner(x)
        return logits


class Leaking(Wrapped):
    """Looks the nearest test image up and trusts its label."""

    def __init__(self, inner: nn.Module, images: Images) -> None:
        super().__init__(inner)
        self.known, self.labels = to_unit(images.x).flatten(1), images.y

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, classes)."""
        logits: Tensor = self.inner(x)
        nearest = torch.cdist(x.flatten(1), self.known).argmin(dim=1)
        return logits + 100 * nn.functional.one_hot(self.labels[nearest], logits.shape[1])


# -- planted in attacks -----------------------------------------------------------------------


@dataclass(frozen=True)
class Placeholder:
    """Returns the image; the published 72.73 % was this."""

    inner: EvaluationAttack

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        del logits_of, y, epsilon, start
        none = torch.zeros(len(x), dtype=torch.bool)
        return Attempt(x.clone(), none, none)


@dataclass(frozen=True)
class Scaled:
    """Takes the radius for one in another unit."""

    inner: EvaluationAttack
    factor: float

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        inner = self.inner
        if hasattr(inner, "step_size"):
            inner = replace(inner, step_size=inner.step_size * self.factor)  # type: ignore[type-var]
        return inner(logits_of, x, y, epsilon * self.factor, start)


@dataclass(frozen=True)
class Forgetful:
    """Breaks images and hands back the originals: no best iterate is kept."""

    inner: EvaluationAttack

    def __call__(
        self, logits_of: LogitsOf, x: Tensor, y: Tensor, epsilon: Tensor | float, start: Tensor
    ) -> Attempt:
        """See EvaluationAttack."""
        attempt = self.inner(logits_of, x, y, epsilon, start)
        weaker = x + 0.95 * (attempt.x_adv - x) * (torch.rand_like(x) > 0.5)
        return replace(attempt, x_adv=weaker)


def planted_in(kinds: frozenset[str], plant: Callable[[EvaluationAttack], Any]) -> StagesOf:
    """Return stages whose attack is replaced, for some kinds of attack (none named: all)."""

    def made(spec: s.Attack, setting: Setting) -> list[Stage]:
        parts = stages(spec, setting)
        if kinds and spec.kind not in kinds:
            return parts
        return [Stage(part.name, plant(part.attack)) for part in parts]

    return made


# -- planted in the bookkeeping ---------------------------------------------------------------


def swapped(outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """Count attacks on other images than the clean ones."""

    def roll(outcome: Outcome) -> Outcome:
        moved = outcome.correct.roll(len(outcome.correct) // 2)
        packed = outcome.result.model_copy(update={"outcomes": evaluation.pack(moved)})
        return replace(outcome, correct=moved, result=packed)

    return {k: o if k == "clean" else roll(o) for k, o in outcomes.items()}


def weakest_alone(worst: AttackResult, outcomes: dict[str, Outcome]) -> AttackResult:
    """Report one attack as if it were the worst case."""
    fgsm = outcomes["fgsm"].result
    return worst.model_copy(update={"outcomes": fgsm.outcomes, "correct": fgsm.correct})


def cases(*, judged: int = JUDGED, suite: tuple[dict[str, Any], ...] = SUITE) -> Iterator[Case]:
    """Yield the sound networks, then every planted defect."""
    at = Fraction(51, 255)
    standard, split = trained("standard", judged)
    yield Case("standard training", standard, split, suite)
    for preset in ("fgsm-rs", "part++"):
        yield Case(preset, *trained(preset, judged), suite, trained_at=at)
    model, split = trained("pgd-at", judged)
    sound = Case("pgd-at", model, split, suite, trained_at=at)
    yield sound

    def planted(name: str, *caught_by: str, **over: Any) -> Case:  # noqa: ANN401
        return replace(sound, name=name, caught_by=frozenset(caught_by), **over)

    yield planted("softmax outputs", "logits", model=Softmax(model))
    in_training = Training(copy.deepcopy(model))
    yield planted("batch norm in training mode", "deterministic", model=in_training)
    yield planted("randomised network", "deterministic", model=Randomised(model))
    yield planted(
        "rounding without a gradient", "zero-gradients", "black-box", model=Quantised(model)
    )
    yield planted("saturated logits", "zero-gradients", model=Saturated(model))
    leaking = Leaking(model, split.test)
    yield planted("label leak", "epsilon-sweep", "zero-gradients", model=leaking)
    every: frozenset[str] = frozenset()
    still = planted_in(every, Placeholder)
    yield planted("attacks that never attack", "ran", stages_of=still)
    one_still = planted_in(frozenset({"pgd"}), Placeholder)
    yield planted("PGD that never attacks", "ran", stages_of=one_still)
    small = planted_in(every, lambda attack: Scaled(attack, 1 / 255))
    yield planted("radius divided by 255 twice", "uses-its-radius", stages_of=small)
    large = planted_in(frozenset({"pgd", "cw"}), lambda attack: Scaled(attack, 2))
    yield planted("radius too large", "valid", stages_of=large)
    forgetful = planted_in(frozenset({"pgd", "cw"}), Forgetful)
    yield planted("the best iterate is not kept", "silent-success", stages_of=forgetful)
    yield planted("attacked other images", "robust-at-most-clean", tamper=swapped)
    yield planted("one attack as the worst case", "union-exact", worst=weakest_alone)
    yield planted("other weights on disk", "reproduced", stored=standard)
    leaked = replace(split, train=replace(split.train, x=_with(split), y=split.train.y))
    yield planted("test images in training", "held-out", split=leaked)


def _with(split: Split) -> Tensor:
    """Return training images of which some are half of the test images."""
    x, count = split.train.x.clone(), len(split.test) // 2
    x[:count] = split.test.x[:count]
    return x


# -- the table --------------------------------------------------------------------------------


def main() -> int:
    """Print the table; return the exit status."""
    torch.manual_seed(0)  # the planted randomness alone
    torch.set_num_threads(1)  # networks this small lose by more
    wrong = 0
    line = "{:34s}{:12s}{:10s}{}\n"
    sys.stdout.write(line.format("case", "verdict", "as meant", "rules that failed"))
    sys.stdout.flush()
    _say("training the networks that are judged")
    for case in cases():
        _say(f"judging: {case.name}")
        report = case.judge()
        failed = {check.name for check in report.checks if check.outcome == "fails"}
        good = is_right(case, report)
        wrong += not good
        told = ", ".join(sorted(failed)) or "none"
        sys.stdout.write(line.format(case.name, report.verdict, "yes" if good else "NO", told))
        sys.stdout.flush()
    sys.stdout.write(f"{wrong} cases are not as meant\n")
    return 1 if wrong else 0


def _say(text: str) -> None:
    """Tell who waits what is being done, beside the table."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


def is_right(case: Case, report: AuditReport) -> bool:
    """Whether a defect was caught by a rule that is about it, or a sound case found sound."""
    failed = {check.name for check in report.checks if check.outcome == "fails"}
    if case.caught_by:
        return bool(failed & case.caught_by)
    return report.verdict == "sound"


if __name__ == "__main__":
    sys.exit(main())
