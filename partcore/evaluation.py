"""Evaluation: clean accuracy, every attack, per-sample outcomes, evidence. Always in fp32.

The noise of an attack is drawn for all images at once, in order of id, from (seed, attack,
restart), so no outcome depends on the batch size.
"""

import base64
import hashlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from domain import spec as s
from domain.events import Event, Progress
from domain.results import AttackEvidence, AttackResult, ThreatModel, wilson_interval
from partcore import build
from partcore.attacks import EvaluationAttack
from partcore.data import Images, to_unit
from partcore.environment import Environment
from partcore.models import CamClassifier
from partcore.modes import evaluating, frozen
from partcore.progress import Throughput
from partcore.randomness import generator

EVIDENCE_IMAGES = 64
"""How many images' adversarial twins are kept for an independent check."""


@dataclass(frozen=True)
class Outcome:
    """One attack, image by image."""

    result: AttackResult
    correct: Tensor
    """(N,) bool, in order of id; wrong when clean is wrong here."""
    kept: Tensor | None = None
    """x_adv of the first images, (<= 64, C, H, W); None for clean."""


@dataclass
class Tally:
    """What is measured of an attack while its batches run."""

    broken: Tensor
    """(N,) bool."""
    kept: Tensor
    """(<= 64, C, H, W)."""
    largest: float = 0.0
    lowest: float = 1.0
    highest: float = 0.0
    finite: bool = True
    moved: int = 0
    zero_gradients: int = 0
    attacked: int = 0

    def note(self, index: Tensor, x: Tensor, x_adv: Tensor, *, first: bool) -> None:
        """Measure x_adv apart from the attack that made it."""
        delta = (x_adv - x).abs()
        self.finite &= bool(torch.isfinite(x_adv).all())
        self.largest = max(self.largest, delta.max().item())
        self.lowest = min(self.lowest, x_adv.min().item())
        self.highest = max(self.highest, x_adv.max().item())
        if first:
            self.moved += int((delta.flatten(1).amax(dim=1) > 0).sum())
            self.attacked += len(index)
        shown = index < len(self.kept)
        self.kept[index[shown].cpu()] = x_adv[shown].cpu()

    def evidence(self) -> AttackEvidence:
        """Return the measurements; zeros when there was nothing to attack."""
        count = max(1, self.attacked)
        return AttackEvidence(
            max_abs_delta=self.largest,
            moved_fraction=self.moved / count,
            lowest_pixel=self.lowest,
            highest_pixel=self.highest,
            finite=self.finite,
            zero_gradient_fraction=self.zero_gradients / count,
        )


def evaluate(
    model: CamClassifier,
    images: Images,
    spec: s.EvaluationSpec,
    *,
    seed: int,
    environment: Environment,
) -> Generator[Event, None, dict[str, Outcome]]:
    """Yield progress; return an Outcome for `clean` and each attack, by label, in order."""
    with evaluating(model), frozen(model):
        clean = yield from _clean(model, images, spec, environment)
        outcomes = {"clean": clean}
        for attack in spec.attacks:
            outcomes[attack.label] = yield from _attacked(
                model, images, clean.correct, spec, attack, seed, environment
            )
    return outcomes


def _clean(
    model: CamClassifier, images: Images, spec: s.EvaluationSpec, environment: Environment
) -> Generator[Event, None, Outcome]:
    started = environment.clock()
    correct = torch.zeros(len(images), dtype=torch.bool)
    for start in range(0, len(images), spec.batch_size):
        part = slice(start, start + spec.batch_size)
        correct[part] = (predict(model, to_unit(images.x[part])) == images.y[part]).cpu()
        done = min(start + spec.batch_size, len(images))
        yield _progress("clean", done, len(images), None)
    seconds = environment.clock() - started
    return Outcome(_result("clean", "clean", correct, seconds=seconds), correct)


@torch.no_grad()
def predict(model: CamClassifier, x: Tensor) -> Tensor:
    """Return classes, (N,)."""
    classes: Tensor = model(x).argmax(dim=1)
    return classes


def _attacked(
    model: CamClassifier,
    images: Images,
    clean: Tensor,
    spec: s.EvaluationSpec,
    attack: s.Attack,
    seed: int,
    environment: Environment,
) -> Generator[Event, None, Outcome]:
    started = environment.clock()
    epsilon = spec.epsilon_of(attack)
    built = build.evaluation_attack(attack, float(epsilon))
    restarts = attack.restarts if isinstance(attack, s.Pgd | s.Cw) else 1
    tally = Tally(~clean, to_unit(images.x[:EVIDENCE_IMAGES]).cpu())
    for restart in range(restarts):
        noise = generator(seed, "evaluation", attack.label, restart)
        unit = 2 * torch.rand(images.x.shape, generator=noise) - 1
        detail = attack.label + (f", restart {restart + 1}/{restarts}" if restarts > 1 else "")
        alive = (~tally.broken).nonzero()[:, 0]
        throughput = Throughput(environment.clock)
        for done, index in _batches(alive, spec.batch_size):
            _attack_batch(model, images, built, float(epsilon), unit, index, tally, restart == 0)
            rate = throughput.count(len(index))
            yield _progress(detail, done, len(alive), rate)
    correct = ~tally.broken
    result = _result(
        attack.label, attack.kind, correct, seconds=environment.clock() - started
    ).model_copy(
        update={
            "threat": ThreatModel(epsilon=epsilon),
            "evidence": tally.evidence(),
            "restarts": restarts,
            **_steps(attack, epsilon),
        }
    )
    return Outcome(result, correct, tally.kept)


def _batches(index: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    done = 0
    for part in torch.split(index, size):
        done += len(part)
        yield done, part


def _attack_batch(
    model: CamClassifier,
    images: Images,
    attack: EvaluationAttack,
    epsilon: float,
    unit: Tensor,
    index: Tensor,
    tally: Tally,
    first: bool,  # noqa: FBT001 - internal
) -> None:
    where = index.to(images.x.device)
    x, y = to_unit(images.x[where]), images.y[where]
    attempt = attack(model, x, y, epsilon, unit[index].to(x.device))
    tally.note(index, x, attempt.x_adv, first=first)
    tally.broken[index] = attempt.broken.cpu()
    if first:
        tally.zero_gradients += int(attempt.zero_gradient.sum())


def _steps(attack: s.Attack, epsilon: Fraction) -> dict[str, object]:
    if isinstance(attack, s.Fgsm):
        return {"steps": 1, "step_size": epsilon}
    size = epsilon / 4 if attack.step_size is None else attack.step_size
    return {"steps": attack.steps, "step_size": size}


def _progress(detail: str, done: int, total: int, rate: float | None) -> Progress:
    return Progress(
        phase="evaluate",
        done=done,
        total=max(total, 1),
        unit="image",
        images_per_second=rate,
        detail=detail,
    )


def _result(label: str, kind: str, correct: Tensor, *, seconds: float) -> AttackResult:
    hits, count = int(correct.sum()), len(correct)
    return AttackResult(
        label=label,
        kind=kind,
        threat=None,
        n=count,
        correct=hits,
        accuracy=hits / count,
        interval=wilson_interval(hits, count),
        seconds=seconds,
        outcomes=pack(correct),
    )


def pack(correct: Tensor) -> str:
    """Return base64 of big-endian packed bits. correct: (N,) bool."""
    return base64.b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode()


def unpack(outcomes: str, count: int) -> Tensor:
    """Return (count,) bool from :func:`pack`'s text."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(outcomes), np.uint8), count=count)
    return torch.from_numpy(bits.astype(bool))


def worst_case(outcomes: Mapping[str, Outcome], epsilon: Fraction) -> AttackResult:
    """Return the exact union: an image stands if every outcome stands."""
    correct = torch.stack([outcome.correct for outcome in outcomes.values()]).all(dim=0)
    seconds = sum(outcome.result.seconds for outcome in outcomes.values())
    result = _result("worst-case", "union", correct, seconds=seconds)
    return result.model_copy(update={"threat": ThreatModel(epsilon=epsilon)})


def ids_sha256(images: Images) -> str:
    """Return the hash of which images were judged."""
    return hashlib.sha256(images.ids.cpu().numpy().tobytes()).hexdigest()
