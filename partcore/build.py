"""From a spec to plain objects: the one place where the core reads the domain's language.

Radii turn from exact fractions into floats here, once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import assert_never

from torch import Tensor

from domain import spec as s
from domain.errors import CheckpointInvalid
from domain.scheduled import at
from partcore import attacks, budgets, cams, schedules
from partcore.budgets import Mask
from partcore.cams.first_channels_scores import FirstChannelsScores
from partcore.data import Augmentation, Split
from partcore.map_cache import Refresh
from partcore.models import CamClassifier, builder
from partcore.objectives import (
    CrossEntropy,
    LogitPairing,
    Mart,
    Objective,
    Trades,
    cross_entropy,
    kl_divergence,
)
from partcore.randomness import generator


def model(spec: s.ModelSpec, split: Split, *, seed: int) -> CamClassifier:
    """Return the network with weights drawn by the seed and the training images' statistics."""
    mean, std = split.statistics()
    return builder(spec.name)(
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


def scores(spec: s.ScoringSpec) -> cams.Scores:
    """Return how Score-CAM's channels are scored."""
    match spec:
        case s.ExactScoring():
            return cams.ExactScores()
        case s.FeatureSpaceScoring():
            return cams.FeatureSpaceScores()
        case s.MaskGradientScoring():
            return _passing(spec, cams.MaskGradientScores())
        case s.MeanScoring():
            return _passing(spec, MEAN_SCORES)
        case s.ClusteredScoring():
            refine = MEAN_SCORES if spec.refine else None
            return _passing(spec, cams.ClusteredScores(spec.centroids, refine=refine))
        case s.FirstChannelsScoring():
            return FirstChannelsScores(spec.channels)
        case _:
            assert_never(spec)


MEAN_SCORES = cams.MeanScores((cams.MaskGradientScores(), cams.FeatureSpaceScores()))


def _passing(
    spec: s.MaskGradientScoring | s.MeanScoring | s.ClusteredScoring, scores: cams.Scores
) -> cams.Scores:
    return cams.NarrowScores(scores) if spec.precision == "bf16" else scores


_PLAIN: Mapping[str, type[cams.Cam]] = {
    "cam": cams.ClassActivation,
    "grad-cam": cams.GradCam,
    "grad-cam++": cams.GradCamPlusPlus,
    "layer-cam": cams.LayerCam,
    "xgrad-cam": cams.XGradCam,
    "eigen-cam": cams.EigenCam,
    "hires-cam": cams.HiResCam,
}
_SCORED: Mapping[str, Callable[[cams.Scores], cams.Cam]] = {
    "score-cam": cams.ScoreCam,
    "score-cam-increase": cams.ScoreCamIncrease,
    "score-cam-softmax": cams.ScoreCamSoftmax,
}


PACKAGE = "package:"


def cam(name: s.CamName, scoring: s.ScoringSpec) -> cams.Cam:
    """Return one class activation map."""
    if name.startswith(PACKAGE):
        return cams.PackageCam(name.removeprefix(PACKAGE))  # type: ignore[arg-type]
    return _SCORED[name](scores(scoring)) if name in _SCORED else _PLAIN[name]()


def combiner(spec: s.CamSpec) -> cams.Combiner | None:
    """Return what an ensemble learns, in its state before learning; None if nothing."""
    match spec.combine:
        case "learned":
            return cams.LearnedWeights(len(spec.members))
        case "stacked":
            return cams.StackingHead(len(spec.members))
        case _:
            return None


def ensemble(spec: s.CamSpec, progress: float, learned: cams.Combiner | None = None) -> cams.Maps:
    """Return the maps that decide the mask, combined, at a progress in [0, 1].

    learned: what was learned; without it a learned ensemble weighs its members alike.
    """
    members = tuple(cam(name, spec.scores) for name in spec.members)
    match spec.combine:
        case "mean":
            weights = spec.weights
            return cams.Ensemble(
                members, None if weights is None else tuple(at(w, progress) for w in weights)
            )
        case "learned" | "stacked":
            found = learned or combiner(spec)
            assert found is not None
            return cams.Learned(members, found)
        case "select":
            return cams.ConfidenceWeighted(members, most_alone=True)
        case "confidence":
            return cams.ConfidenceWeighted(members)
        case "agreement":
            return cams.AgreementWeighted(members)
        case _:
            assert_never(spec.combine)


def refresh(spec: s.RefreshSpec, adapted: int) -> Refresh:
    """Return when kept maps are due; ``adapted``: epochs, where the run chooses them itself."""
    match spec:
        case s.EveryFewSteps():
            return Refresh(steps=spec.steps)
        case s.EveryFewEpochs():
            return Refresh(epochs=spec.epochs)
        case s.AdaptiveRefresh():
            return Refresh(epochs=adapted)
        case s.EveryStep():
            return Refresh(steps=1)
        case _:
            assert_never(spec)


_STEEP: Mapping[str, Callable[[float], Mask]] = {
    "centred-sigmoid": budgets.CentredSigmoid,
    "centred-mean": budgets.CentredMean,
    "sigmoid-min-max": budgets.SigmoidMinMax,
    "sigmoid-mean": budgets.SigmoidMean,
}


def mask(spec: s.MaskSpec, progress: float) -> Mask:
    """Return the map-to-mask function (Eq. 7) at a progress in [0, 1]."""
    match spec:
        case s.MinMaxMask():
            return budgets.MinMax()
        case s.QuantileMask():
            return budgets.Quantile()
        case s.ThresholdMask():
            return budgets.Threshold(spec.threshold)
        case s.ZScoreMask():
            return budgets.ZScore(spec.above)
        case s.OfficialJetMask():
            return budgets.OfficialJet()
        case s.GeometricMask():
            return budgets.Geometric(spec.region)
        case _:
            return _STEEP[spec.kind](at(spec.tau, progress))


_CONTROLS: Mapping[str, Callable[[], budgets.Control]] = {
    "random": budgets.Shuffled,
    "inverted": budgets.Inverted,
    "blurred": budgets.Blurred,
    "uniform": budgets.Flat,
}


def control(name: str) -> budgets.Control | None:
    """Return what a mask is replaced by, if it is."""
    return None if name == "none" else _CONTROLS[name]()


_STARTS = {
    "uniform": attacks.uniform_in_ball,
    "gaussian": attacks.gaussian,
    "zero": attacks.at_image,
}


def inner_attack(spec: s.InnerAttack, progress: float) -> attacks.InnerPgd:
    """Return training's PGD at a progress in [0, 1]."""
    plain = attacks.InnerPgd(
        step_size=at(spec.step_size, progress),
        num_steps=round(at(spec.steps, progress)),
        start=_STARTS[spec.start],
        loss=cross_entropy if spec.loss == "cross-entropy" else kl_divergence,
    )
    if spec.extra_steps is None:
        return plain
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return attacks.FriendlyPgd(**fields, extra_steps=spec.extra_steps)


def objective(method: s.Method) -> Objective:
    """Return what an update descends."""
    spec = s.CrossEntropyObjective() if isinstance(method, s.Standard) else method.objective
    match spec:
        case s.CrossEntropyObjective():
            return CrossEntropy()
        case s.TradesObjective():
            return Trades(spec.beta)
        case s.MartObjective():
            return Mart(spec.beta)
        case s.AlpObjective():
            return LogitPairing(spec.weight)
        case _:
            assert_never(spec)


def learning_rate(spec: s.TrainingSpec) -> schedules.Schedule:
    """Return the learning rate as a function of progress."""
    match spec.schedule:
        case "cosine":
            return schedules.cosine(spec.learning_rate)
        case "constant":
            return schedules.constant(spec.learning_rate)
        case "multistep":
            return schedules.multistep(spec.learning_rate, spec.milestones)
        case _:
            assert_never(spec.schedule)
