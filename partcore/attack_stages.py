"""From an attack's spec to what runs: stages, each over the survivors of those before.

A restart is a stage, a target is a stage, each member of AutoAttack is one or several; so restarts,
targeted attacks and ensembles resume, drop broken images and tell their progress the same way.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import assert_never

from torch import Tensor

from domain import attacks as a
from domain.spec import CamName, CamSpec, CentredSigmoidMask
from partcore import attacks, build
from partcore.attacks import EvaluationAttack
from partcore.attacks.aim import TargetedLoss, dlr, dlr_towards, lead
from partcore.attacks.project import L2_BALL, LINF, Loss
from partcore.cams import read
from partcore.models import CamClassifier
from partcore.objectives import cross_entropy
from partcore.randomness import derive

MEMBERS: tuple[CamName, ...] = ("grad-cam", "grad-cam++", "score-cam")
"""Maps that the adaptive attacks place their radii by: PART++'s."""


@dataclass(frozen=True)
class Stage:
    """One pass over survivors."""

    name: str
    attack: EvaluationAttack


@dataclass(frozen=True)
class Setting:
    """What stages are made for."""

    model: CamClassifier
    epsilon: Fraction
    classes: int
    seed: int
    surrogates: Mapping[str, CamClassifier] = field(default_factory=dict)
    """Networks that transfer attacks make their images on, by ``Source.key``; in evaluation mode,
    without gradients of their weights."""


def stages(spec: a.Attack, setting: Setting) -> list[Stage]:
    """Return an attack's stages, in order."""
    return list(_stages(spec, setting))


def _stages(spec: a.Attack, setting: Setting) -> Iterator[Stage]:  # noqa: C901 - an arm a kind
    match spec:
        case a.Fgsm():
            yield Stage("fgsm", attacks.Fgsm())
        case a.Noise():
            yield from _restarts("noise", attacks.Noise(), spec.restarts)
        case a.Pgd():
            ball = LINF if spec.norm == "linf" else L2_BALL
            size = float(spec.step_at(setting.epsilon))
            pgd = attacks.Pgd(step_size=size, num_steps=spec.steps, ball=ball)
            yield from _restarts("pgd", pgd, spec.restarts)
        case a.Cw():
            size = float(spec.step_at(setting.epsilon))
            cw = attacks.Cw(step_size=size, num_steps=spec.steps)
            yield from _restarts("cw", cw, spec.restarts)
        case a.Mma():
            size = float(spec.step_at(setting.epsilon))
            mma = attacks.Mma(step_size=size, num_steps=spec.steps, targets=spec.targets)
            yield Stage("mma", mma)
        case a.MultiTargeted():
            yield from _multi_targeted(spec, setting)
        case a.MinimumMargin():
            yield from _targeted(spec.kind, lead, spec.steps, spec.targets, setting)
        case a.Apgd():
            yield from _apgd(spec.kind, spec.steps, spec.restarts)
        case a.Targeted():
            yield from _of_kind(spec.kind, spec.steps, spec.targets, setting)
        case a.Square():
            yield _square(spec.queries, setting)
        case a.AutoAttack():
            yield from _autoattack(spec, setting)
        case a.Adaptive():
            yield _adaptive(spec, setting)
        case a.Transfer():
            size = float(spec.step_at(setting.epsilon))
            surrogate = setting.surrogates[spec.source.key]
            transfer = attacks.Transfer(surrogate=surrogate, step_size=size, num_steps=spec.steps)
            yield from _restarts("transfer", transfer, spec.restarts)
        case _:
            assert_never(spec)


def _restarts(name: str, attack: EvaluationAttack, count: int) -> Iterator[Stage]:
    for i in range(count):
        yield Stage(name if count == 1 else f"{name}, restart {i + 1}/{count}", attack)


def _multi_targeted(spec: a.MultiTargeted, setting: Setting) -> Iterator[Stage]:
    size = float(spec.step_at(setting.epsilon))
    count = setting.classes - 1
    for rank in range(count):
        pgd = attacks.Pgd(step_size=size, num_steps=spec.steps, targeted=lead, rank=rank)
        yield Stage(f"target {rank + 1}/{count}", pgd)


def _targeted(
    name: str, loss: TargetedLoss, steps: int, targets: int, setting: Setting
) -> Iterator[Stage]:
    count = min(targets, setting.classes - 1)
    for rank in range(count):
        apgd = attacks.Apgd(num_steps=steps, targeted=loss, rank=rank)
        yield Stage(f"{name}, target {rank + 1}/{count}", apgd)


def _of_kind(kind: str, steps: int, targets: int, setting: Setting) -> Iterator[Stage]:
    if kind == "apgd-t":
        yield from _targeted(kind, dlr_towards, steps, targets, setting)
        return
    count = min(targets, setting.classes - 1)
    for rank in range(count):
        seed = derive(setting.seed, "fab", rank)
        fab = attacks.Fab(seed=seed, num_steps=steps, rank=rank)
        yield Stage(f"{kind}, target {rank + 1}/{count}", fab)


def _apgd(kind: str, steps: int, restarts: int, *, draws: int = 1) -> Iterator[Stage]:
    loss: Loss = cross_entropy if kind == "apgd-ce" else dlr
    yield from _restarts(kind, attacks.Apgd(num_steps=steps, loss=loss, draws=draws), restarts)


def _square(queries: int, setting: Setting) -> Stage:
    seed = derive(setting.seed, "square")
    return Stage("square", attacks.Square(seed=seed, queries=queries))


def _autoattack(spec: a.AutoAttack, setting: Setting) -> Iterator[Stage]:
    """The versions of the authors' code; the cheap and strong first, as there."""
    if spec.version == "rand":
        yield from _apgd("apgd-ce", spec.steps, 1, draws=20)
        yield from _apgd("apgd-dlr", spec.steps, 1, draws=20)
        return
    plus = spec.version == "plus"
    yield from _apgd("apgd-ce", spec.steps, 5 if plus else 1)
    if plus:
        yield from _apgd("apgd-dlr", spec.steps, 5)
        for i in range(5):
            seed = derive(setting.seed, "fab", "untargeted", i)
            fab = attacks.Fab(seed=seed, num_steps=spec.steps, from_noise=i > 0)
            yield Stage(f"fab, restart {i + 1}/5", fab)
        yield _square(spec.queries, setting)
    yield from _of_kind("apgd-t", spec.steps, 9, setting)
    yield from _of_kind("fab-t", spec.steps, 9, setting)
    if not plus:
        yield _square(spec.queries, setting)


def _adaptive(spec: a.Adaptive, setting: Setting) -> Stage:
    size = float(spec.step_at(setting.epsilon))
    pgd = attacks.Pgd(step_size=size, num_steps=spec.steps)
    radii = _cam_weighted if spec.kind == "cam-weighted" else _low_budget
    mask_of = _mask_of(setting.model)
    placed = attacks.WithinRadii(
        attack=pgd, radii=lambda x, y, epsilon: radii(mask_of(x, y), epsilon)
    )
    return Stage(spec.kind, placed)


def _mask_of(model: CamClassifier) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what gives S of images and labels, (N, 1, H, W)."""
    cam = CamSpec(members=MEMBERS)
    ensemble = build.ensemble(cam, 1.0, None)
    mask = build.mask(CentredSigmoidMask(), progress=1.0)
    return lambda x, y: mask(ensemble(read(model, x, y)))[:, None]


def _cam_weighted(mask: Tensor, epsilon: Tensor | float) -> Tensor:
    """Eq. 8 at test time, with the report's ratio of radii: 7/8 epsilon where S is 0."""
    return epsilon * (7 + mask) / 8


def _low_budget(mask: Tensor, epsilon: Tensor | float) -> Tensor:
    """All of epsilon where training allowed less than the middle, nothing elsewhere."""
    return epsilon * (mask < 0.5).to(mask.dtype)
