"""What a picture of a network shows, from the spec alone: its panels, their titles and notes.

A picture of a run shows what the run's method did. A method with one radius for every pixel has
neither maps nor a mask; a method with a mask has its own maps and its mask under the mask's own
formula. Maps that were asked for beside that are headed as such.
"""

# Formulas are written with the letters of formulas.
# ruff: noqa: RUF001

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, assert_never

from domain import spec as s
from domain.method_words import in_words
from domain.scheduled import Ramp, final
from domain.units import format_radius

Shows = Literal[
    "image",
    "map",
    "ensemble",
    "mask",
    "control",
    "matched",
    "radius",
    "perturbation",
    "adversarial",
]
STEPS = 20
"""Of the picture's own attack, each a quarter of the radius long."""


@dataclass(frozen=True)
class Budget:
    """From maps to the radius of every pixel, at the end of a run."""

    cam: s.CamSpec
    mask: s.MaskSpec
    low: Fraction
    high: Fraction
    control: s.ControlName = "none"
    mean_mask: float | None = None

    @property
    def reads_maps(self) -> bool:
        """Whether anything of a map reaches the mask."""
        return not isinstance(self.mask, s.GeometricMask)


@dataclass(frozen=True)
class FigureSpec:
    """What is drawn."""

    epsilon: Fraction
    """Radius of the attack; with a budget, where the mask is 1."""
    budget: Budget | None
    """None for one radius for every pixel."""
    training: s.Method | None
    """What trained the weights; None where that is not known."""
    asked: bool = False
    """Whether the budget was asked for, and is not the one of training."""


@dataclass(frozen=True)
class Panel:
    """A column of a picture."""

    shows: Shows
    title: str
    note: str


@dataclass(frozen=True)
class Heading:
    """A line over the columns from ``first`` to ``last``."""

    first: int
    last: int
    text: str


def trained_with(spec: s.TrainSpec) -> s.Method:
    """Return what a run's method did at the end: a warm-up without end never came to a mask."""
    method = spec.method
    if not isinstance(method, s.Part) or method.warmup_epochs < spec.training.epochs:
        return method
    if method.warmup == "clean":
        return s.Standard()
    shared = {"attack": method.attack, "objective": method.objective, "awp": method.awp}
    return s.Uniform(epsilon=method.epsilon_high, **shared)


def figure_of(spec: s.TrainSpec | s.VisualiseSpec) -> FigureSpec:
    """Return what a run draws."""
    if isinstance(spec, s.TrainSpec):
        method = trained_with(spec)
        budget = budget_of(method)
        epsilon = s.trained_radius(method) or spec.evaluation.epsilon
        return FigureSpec(epsilon, budget, method)
    own = None if spec.method is None else budget_of(spec.method)
    if spec.cam is None or spec.mask is None or spec.epsilon_low is None:
        return FigureSpec(spec.epsilon_high, own, spec.method)
    budget = Budget(spec.cam, spec.mask, spec.epsilon_low, spec.epsilon_high)
    return FigureSpec(spec.epsilon_high, budget, spec.method, asked=budget != own)


def budget_of(method: s.Method) -> Budget | None:
    """Return a method's budget at the end of a run; None for one radius for every pixel."""
    if not isinstance(method, s.Part):
        return None
    low, high = method.final_radii()
    return Budget(method.cam, method.mask, low, high, method.control, method.mean_mask)


def with_scores(figure: FigureSpec, scores: s.ScoringSpec) -> FigureSpec:
    """Return the figure with the scores that a run had moved to."""
    if figure.budget is None or figure.asked:
        return figure
    cam = figure.budget.cam.model_copy(update={"scores": scores})
    return replace(figure, budget=replace(figure.budget, cam=cam))


# -- panels -----------------------------------------------------------------------------------


def panels(figure: FigureSpec) -> tuple[Panel, ...]:
    """Return the columns from left to right."""
    return (
        Panel("image", "image", "x"),
        *(_budget_panels(figure.budget) if figure.budget else ()),
        Panel("perturbation", "perturbation", "δ"),
        Panel("adversarial", "adversarial", "x + δ"),
    )


def _budget_panels(budget: Budget) -> Iterator[Panel]:
    if budget.reads_maps:
        for name in budget.cam.members:
            yield Panel("map", *map_title(name, budget.cam.scores))
        if len(budget.cam.members) > 1:
            yield Panel("ensemble", "ensemble M", combined(budget.cam))
    yield Panel("mask", "mask S", mask_formula(budget.mask))
    if budget.control != "none":
        yield Panel("control", "control mask", _CONTROLS[budget.control])
    if budget.mean_mask is not None:
        yield Panel("matched", "mask used", f"brought to mean {budget.mean_mask:g}")
    low, high = (f"{float(255 * radius):.3g}" for radius in (budget.low, budget.high))
    yield Panel("radius", "radius ε$_w$", f"Eq. 8: {low} to {high} levels")


_CONTROLS: Mapping[s.ControlName, str] = {
    "none": "",
    "random": "S at random places",
    "inverted": "1 − S, at its mean",
    "blurred": "S blurred",
    "uniform": "the mean of S",
}
_MAPS: Mapping[str, tuple[str, str]] = {
    "cam": ("CAM", "Zhou et al., 2016"),
    "grad-cam": ("Grad-CAM", "Eq. 4"),
    "grad-cam++": ("Grad-CAM++", "Eq. 5"),
    "layer-cam": ("LayerCAM", "Jiang et al., 2021"),
    "xgrad-cam": ("XGrad-CAM", "Fu et al., 2020"),
    "eigen-cam": ("Eigen-CAM", "Muhammad et al., 2020"),
    "hires-cam": ("HiResCAM", "Draelos et al., 2020"),
    "score-cam": ("Score-CAM", "softmax"),
    "score-cam-increase": ("Score-CAM", "Eq. 6"),
    "score-cam-softmax": ("Score-CAM", "Alg. 1"),
}


def map_title(name: s.CamName, scores: s.ScoringSpec) -> tuple[str, str]:
    """Return a map's title and its source; for Score-CAM how its channels were scored, too."""
    if name not in _MAPS:
        return name.removeprefix("package:"), "grad-cam package"
    title, note = _MAPS[name]
    return title, f"{note}, {scores.kind}" if name.startswith("score-cam") else note


def combined(cam: s.CamSpec) -> str:
    """Say how members become M."""
    match cam.combine:
        case "mean":
            if cam.weights is None:
                return "Eq. 9"
            return "mean, " + " : ".join(f"{final(weight):g}" for weight in cam.weights)
        case "confidence" | "agreement":
            return f"weighted by {cam.combine}"
        case "select":
            return "the surest map"
        case "learned":
            return "learned weights"
        case "stacked":
            return "learned head"
        case _:
            assert_never(cam.combine)


def mask_formula(mask: s.MaskSpec) -> str:
    """Return how M becomes S, M̂ being M scaled to [0, 1]; Eq. 7 is said of its two forms alone."""
    match mask:
        case s.MinMaxMask():
            return "M̂"
        case s.QuantileMask():
            return "rank of M in the image"
        case s.ThresholdMask():
            return f"1 where M̂ ≥ {mask.threshold:g}"
        case s.ZScoreMask():
            return f"1 where z(M) > {mask.above:g}"
        case s.OfficialJetMask():
            return "z(jet(M²)) > 1, RGB mean"
        case s.GeometricMask():
            return f"fixed region: {mask.region}"
        case _:
            return _sigmoid(mask, f"{final(mask.tau):g}")


def _sigmoid(
    mask: s.CentredSigmoidMask | s.CentredMeanMask | s.SigmoidMinMaxMask | s.SigmoidMeanMask,
    tau: str,
) -> str:
    match mask:
        case s.CentredSigmoidMask():
            return f"σ({tau} (M̂ − ½))"
        case s.CentredMeanMask():
            return f"σ({tau} (M/mean − 1))"
        case s.SigmoidMinMaxMask():
            return f"Eq. 7: σ({tau} M̂)"
        case s.SigmoidMeanMask():
            return f"Eq. 7: σ({tau} M/mean)"
        case _:
            assert_never(mask)


# -- words ------------------------------------------------------------------------------------


def headings(figure: FigureSpec) -> tuple[Heading, ...]:
    """Return the lines over the columns."""
    shown = [panel.shows for panel in panels(figure)]
    last = len(shown) - 1
    attack = Heading(last - 1, last, _attack(figure))
    if figure.budget is None:
        return (attack,)
    if figure.asked:
        return (Heading(1, last - 2, _asked(figure.budget)), attack)
    maps = shown.count("map")
    over_maps = [Heading(1, maps, _over_maps(figure.budget.cam, maps))] if maps else []
    return (*over_maps, Heading(maps + 1, last - 2, _over_budget(figure)), attack)


def _attack(figure: FigureSpec) -> str:
    if figure.budget is not None:
        return f"PGD-{STEPS} inside these radii"
    return f"PGD-{STEPS}, ε = {format_radius(figure.epsilon)} everywhere"


def _asked(budget: Budget) -> str:
    name = "PART++" if len(budget.cam.members) > 1 and budget.reads_maps else "PART"
    return f"as {name} would budget it, unlike training"


def _over_maps(cam: s.CamSpec, count: int) -> str:
    whose = "the true label" if cam.target == "label" else "the prediction"
    if count == 1:
        return f"of {whose}"
    where = "" if cam.read_at == "image" else ", read at the attack's start"
    return f"class activation maps of {whose}{where}"


def _over_budget(figure: FigureSpec) -> str:
    return f"the radii{' at the end of training' if _is_scheduled(figure.training) else ''}"


def _is_scheduled(method: s.Method | None) -> bool:
    if not isinstance(method, s.Part):
        return False
    values = (
        method.epsilon_high,
        method.epsilon_low,
        method.epsilon_gap,
        *(method.cam.weights or ()),
    )
    return any(isinstance(value, Ramp) for value in (*values, getattr(method.mask, "tau", None)))


def caption(figure: FigureSpec) -> str:
    """Say what trained the weights, and what the picture's own attack is."""
    trained = (
        "How the weights were trained is not known."
        if figure.training is None
        else f"Training: {in_words(figure.training)}"
    )
    radius = format_radius(figure.epsilon)
    inside = f"ε = {radius} for every pixel" if figure.budget is None else "the pixels' radii"
    maps = "".join(f" {note}" for note in _map_notes(figure))
    return f"{trained}{maps} The picture's attack: PGD-{STEPS} inside {inside}."


def _map_notes(figure: FigureSpec) -> Iterator[str]:
    if figure.asked:
        yield "The maps, mask and radii were asked for; they are not training's."
    if figure.budget is None or not figure.budget.reads_maps:
        return
    if figure.budget.cam.read_at == "start":
        yield "Maps are read at the attack's start."
    if figure.budget.cam.refresh.kind != "every-step":
        yield "Training kept maps for a while; these are new."


def alt_text(figure: FigureSpec) -> str:
    """Return a picture in words, for who does not see it."""
    titles = (f"{panel.title} ({panel.note})" for panel in panels(figure))
    over = "; ".join(heading.text for heading in headings(figure))
    return f"Columns: {', '.join(titles).replace('$_w$', '_w')}. {over}. {caption(figure)}"
