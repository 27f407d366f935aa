"""From a spec to plain objects: the one place where the core reads the domain's language.

Radii turn from exact fractions into floats here, once.
"""

from typing import assert_never

from torch import Tensor

from domain import spec as s
from domain.errors import CheckpointInvalid
from partcore import attacks, budgets, cams, schedules
from partcore.budgets import Mask
from partcore.data import Augmentation, Split
from partcore.models import MODELS, CamClassifier
from partcore.randomness import generator


def model(spec: s.ModelSpec, split: Split, *, seed: int) -> CamClassifier:
    """Return the network with weights drawn by the seed and the training images' statistics."""
    mean, std = split.statistics()
    return MODELS[spec.name](
        channels=split.train.x.shape[1],
        classes=len(split.classes),
        mean=mean,
        std=std,
        generator=generator(seed, "init"),
    )


def load_weights(network: CamClassifier, state: dict[str, Tensor], *, source: str) -> None:
    """Put a state into a network. Raises CheckpointInvalid when it belongs to another."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointInvalid(f"{source} holds another network: {error}") from error


def augmentation(spec: s.DataSpec) -> Augmentation:
    """Return the random crop and flip. A None of the spec means none here."""
    return Augmentation(pad=spec.pad or 0, flip=bool(spec.flip))


def cam(name: s.CamName, scores: str) -> cams.Cam:
    """Return one class activation map."""
    match name:
        case "grad-cam":
            return cams.GradCam()
        case "grad-cam++":
            return cams.GradCamPlusPlus()
        case "score-cam":
            exact = scores == "exact"
            return cams.ScoreCam(cams.ExactScores() if exact else cams.FeatureSpaceScores())
        case _:
            assert_never(name)


def ensemble(spec: s.CamSpec) -> cams.Ensemble:
    """Return the maps whose mean decides the mask (Eq. 9)."""
    return cams.Ensemble(tuple(cam(name, spec.scores) for name in spec.members))


def mask(spec: s.MaskSpec) -> Mask:
    """Return the map-to-mask function (Eq. 7)."""
    match spec.kind:
        case "centred-sigmoid":
            return budgets.CentredSigmoid(spec.tau)
        case "sigmoid-min-max":
            return budgets.SigmoidMinMax(spec.tau)
        case "sigmoid-mean":
            return budgets.SigmoidMean(spec.tau)
        case "min-max":
            return budgets.MinMax()
        case _:
            assert_never(spec.kind)


def inner_attack(spec: s.InnerAttack) -> attacks.InnerPgd:
    """Return training's PGD."""
    start = attacks.uniform_in_ball if spec.start == "uniform" else attacks.at_image
    return attacks.InnerPgd(step_size=float(spec.step_size), num_steps=spec.steps, start=start)


def learning_rate(spec: s.TrainingSpec) -> schedules.Schedule:
    """Return the learning rate as a function of progress."""
    match spec.schedule:
        case "cosine":
            return schedules.cosine(spec.learning_rate)
        case "constant":
            return schedules.constant(spec.learning_rate)
        case _:
            assert_never(spec.schedule)


def step_size(spec: s.Attack, epsilon: float) -> float:
    """Return an evaluation attack's step: a quarter of the radius unless it names one."""
    if isinstance(spec, s.Fgsm):
        return epsilon
    return epsilon / 4 if spec.step_size is None else float(spec.step_size)


def evaluation_attack(spec: s.Attack, epsilon: float) -> attacks.EvaluationAttack:
    """Return an attack for evaluation."""
    match spec:
        case s.Fgsm():
            return attacks.Fgsm()
        case s.Pgd():
            return attacks.Pgd(step_size=step_size(spec, epsilon), num_steps=spec.steps)
        case s.Cw():
            return attacks.Cw(step_size=step_size(spec, epsilon), num_steps=spec.steps)
        case s.Mma():
            return attacks.Mma(
                step_size=step_size(spec, epsilon), num_steps=spec.steps, targets=spec.targets
            )
        case _:
            assert_never(spec)
