"""A method in a sentence, from its spec alone: a preset's text may not fit what was overridden."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import assert_never

from domain.scheduled import Ramp, final
from domain.spec import Awp, CamSpec, GeometricMask, Part, Standard, Uniform
from domain.units import format_radius

_OBJECTIVES: Mapping[str, str] = {
    "cross-entropy": "cross-entropy on the adversarial images",
    "trades": "the TRADES loss",
    "mart": "the MART loss",
    "alp": "adversarial logit pairing",
}
_COMBINED: Mapping[str, str] = {
    "mean": "the mean of",
    "confidence": "the mean, weighted by confidence, of",
    "agreement": "the mean, weighted by agreement, of",
    "select": "the best for each image of",
    "learned": "a learned mean of",
    "stacked": "a learned head over",
}
_CONTROLS: Mapping[str, str] = {
    "random": "its values at random places",
    "inverted": "it inverted",
    "blurred": "it blurred",
    "uniform": "its mean everywhere",
}


def in_words(method: Standard | Uniform | Part) -> str:
    """Return what a method does, in a sentence or two."""
    match method:
        case Standard():
            return "Plain training on clean images, without attacks."
        case Uniform():
            radius = _radius(method.epsilon)
            return f"Adversarial training at {radius} for every pixel: {_learning(method)}."
        case Part():
            return f"{_reweighted(method)}: {_learning(method)}.{_control(method)}"
        case _:
            assert_never(method)


def _reweighted(method: Part) -> str:
    low, high = (format_radius(radius) for radius in method.final_radii())
    scheduled = (method.epsilon_low, method.epsilon_gap, method.epsilon_high)
    ends = " in the end" if any(isinstance(radius, Ramp) for radius in scheduled) else ""
    decider = _region(method.mask) if isinstance(method.mask, GeometricMask) else _maps(method.cam)
    return (
        f"Pixel-reweighted adversarial training (PART): {decider} decides each pixel's radius, "
        f"from {low} to {high}{ends}"
    )


def _region(mask: GeometricMask) -> str:
    return f"a fixed region ({mask.region})"


def _maps(cam: CamSpec) -> str:
    if len(cam.members) == 1:
        return cam.members[0]
    return f"{_COMBINED[cam.combine]} {listed(cam.members)}"


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them."""
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def _learning(method: Uniform | Part) -> str:
    attack, scheduled = method.attack, isinstance(method.attack.steps, Ramp)
    steps = f"{final(attack.steps)} step{'' if final(attack.steps) == 1 else 's'}"
    ends = " in the end" if scheduled else ""
    return (
        f"{_OBJECTIVES[method.objective.kind]}{_perturbed(method.awp)}; PGD makes {steps}{ends} of "
        f"{_radius(attack.step_size)}"
    )


def _perturbed(awp: Awp | None) -> str:
    return "" if awp is None else ", with adversarial weight perturbation"


def _control(method: Part) -> str:
    told = _CONTROLS.get(method.control)
    return "" if told is None else f" A control: instead of the mask, {told}."


def _radius(value: Fraction | Ramp[Fraction]) -> str:
    ends = " in the end" if isinstance(value, Ramp) else ""
    return format_radius(final(value)) + ends
