"""The attacks an evaluation may name, each with the label it has in tables.

A label says all that decides how strong the attack is: steps, restarts, norm, and its own radius
where that is not the evaluation's. Two attacks of one label are therefore the same attack.
"""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from domain.base import SpecModel
from domain.units import Radius, format_radius
from domain.weights import ModelSpec, Source

Norm = Literal["linf", "l2"]
Steps = Annotated[int, Field(ge=1, le=10_000)]
Restarts = Annotated[int, Field(ge=1, le=100)]


class _Attack(SpecModel):
    """What every attack has."""

    epsilon: Radius | None = None
    """Radius (default: the evaluation's)."""

    @property
    def name(self) -> str:
        """Label without the radius."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Name in metrics and tables."""
        return self.name if self.epsilon is None else f"{self.name}@{format_radius(self.epsilon)}"

    @property
    def classes_needed(self) -> int:
        """Fewest classes the attack is defined for."""
        return 2

    @property
    def threat_norm(self) -> Norm:
        """Norm of the ball the attack stays in."""
        return "linf"


class _Stepwise(_Attack):
    """An attack of fixed steps."""

    steps: Steps = 20
    """Gradient steps."""
    step_size: Radius | None = None
    """Length of a step (default: a quarter of the radius)."""

    def step_at(self, epsilon: Fraction) -> Fraction:
        """Length of a step at a radius."""
        return epsilon / 4 if self.step_size is None else self.step_size


def _times(restarts: int) -> str:
    return f"x{restarts}" if restarts > 1 else ""


class Fgsm(_Attack):
    """One signed-gradient step of length epsilon (Goodfellow et al., 2015)."""

    kind: Literal["fgsm"] = "fgsm"

    @property
    def name(self) -> str:
        """See _Attack."""
        return "fgsm"


class Pgd(_Stepwise):
    """Projected gradient descent on cross-entropy; keeps the best iterate."""

    kind: Literal["pgd"] = "pgd"
    restarts: Restarts = 1
    """Random starts; an image is broken if any of them breaks it."""
    norm: Norm = "linf"
    """Norm of the ball; the radius is in this norm."""

    @property
    def name(self) -> str:
        """See _Attack."""
        norm = "" if self.norm == "linf" else f"-{self.norm}"
        return f"pgd-{self.steps}{norm}{_times(self.restarts)}"

    @property
    def threat_norm(self) -> Norm:
        """See _Attack."""
        return self.norm


class Cw(_Stepwise):
    """PGD on the margin z_y - max z_other (Carlini & Wagner's loss under l-infinity)."""

    kind: Literal["cw"] = "cw"
    restarts: Restarts = 1
    """Random starts."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"cw-{self.steps}{_times(self.restarts)}"


class Mma(_Stepwise):
    """PART's minimum-margin attack: fixed-step PGD at each of the k likeliest wrong classes."""

    kind: Literal["mma"] = "mma"
    targets: int = Field(default=3, ge=1, le=999)
    """How many wrong classes are attacked in turn; needs one class more."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return "mma"

    @property
    def classes_needed(self) -> int:
        """See _Attack."""
        return self.targets + 1


class MinimumMargin(_Attack):
    """Minimum-margin attack (Gao et al., ICML 2022): APGD on z_t - z_y, k likeliest t in turn."""

    kind: Literal["mm3", "mm5", "mm9", "mm+"]

    @property
    def name(self) -> str:
        """See _Attack."""
        return self.kind

    @property
    def targets(self) -> int:
        """How many wrong classes are attacked in turn, where there are so many."""
        return {"mm3": 3, "mm5": 5, "mm9": 9, "mm+": 9}[self.kind]

    @property
    def steps(self) -> int:
        """APGD steps for each target."""
        return 100 if self.kind == "mm+" else 20


class MultiTargeted(_Stepwise):
    """PGD on z_t - z_y for every wrong class t in turn (Gowal et al., 2019)."""

    kind: Literal["multi-targeted"] = "multi-targeted"

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"multi-targeted-{self.steps}"


class Apgd(_Attack):
    """AutoPGD (Croce & Hein, 2020), untargeted: on cross-entropy or the DLR loss."""

    kind: Literal["apgd-ce", "apgd-dlr"]
    steps: Steps = 100
    """Gradient steps."""
    restarts: Restarts = 1
    """Random starts."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"{self.kind}{_unless(self.steps, 100)}{_times(self.restarts)}"

    @property
    def classes_needed(self) -> int:
        """See _Attack."""
        return 3 if self.kind == "apgd-dlr" else 2


class Targeted(_Attack):
    """APGD-T on the targeted DLR loss, or FAB-T: the likeliest wrong classes in turn."""

    kind: Literal["apgd-t", "fab-t"]
    steps: Steps = 100
    """Steps for each target."""
    targets: int = Field(default=9, ge=1, le=999)
    """How many wrong classes, where there are so many."""

    @property
    def name(self) -> str:
        """See _Attack."""
        of = "" if self.targets == 9 else f"-of-{self.targets}"
        return f"{self.kind}{_unless(self.steps, 100)}{of}"

    @property
    def classes_needed(self) -> int:
        """See _Attack."""
        return 4 if self.kind == "apgd-t" else 2


class Square(_Attack):
    """Square Attack (Andriushchenko et al., 2020): random search, no gradients."""

    kind: Literal["square"] = "square"
    queries: int = Field(default=5000, ge=1, le=100_000)
    """Forward passes an image."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"square{_unless(self.queries, 5000)}"


class AutoAttack(_Attack):
    """AutoAttack: four attacks (`plus`: six; `rand`: two, averaging gradients), on survivors."""

    kind: Literal["autoattack"] = "autoattack"
    version: Literal["standard", "plus", "rand"] = "standard"
    """Which attacks: see docs/evaluation.md."""
    steps: Steps = 100
    """Gradient steps of APGD and FAB; fewer than 100 is another, weaker attack, and named so."""
    queries: int = Field(default=5000, ge=1, le=100_000)
    """Queries of Square; fewer than 5000 is another, weaker attack, and named so."""

    @property
    def is_whole(self) -> bool:
        """Whether this is AutoAttack as published."""
        return self.steps == 100 and self.queries == 5000

    @property
    def name(self) -> str:
        """See _Attack."""
        version = "" if self.version == "standard" else f"-{self.version}"
        return f"autoattack{version}" + ("" if self.is_whole else f"-{self.steps}-{self.queries}")

    @property
    def classes_needed(self) -> int:
        """See _Attack."""
        return 3 if self.version == "rand" else 4


class Noise(_Attack):
    """Uniform noise in the ball: what no attack should lose to."""

    kind: Literal["noise"] = "noise"
    restarts: Restarts = 1
    """Draws; an image is broken if any of them breaks it."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"noise{_times(self.restarts)}"


class Adaptive(_Stepwise):
    """PGD against PART: inside the network's own pixel radii, or on its low-budget pixels alone."""

    kind: Literal["cam-weighted", "low-budget"]

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"{self.kind}-{self.steps}"


class Transfer(_Stepwise):
    """PGD on the cross-entropy of another network, whose images are then shown to this one."""

    kind: Literal["transfer"] = "transfer"
    source: Source
    """Weights of that network, trained for as many channels and classes."""
    model: ModelSpec
    """That network; filled in from the source."""
    restarts: Restarts = 1
    """Random starts; an image is broken if any of them breaks it."""

    @property
    def name(self) -> str:
        """See _Attack."""
        return f"transfer-{self.source.short}-{self.steps}{_times(self.restarts)}"


def _unless(value: int, usual: int) -> str:
    return "" if value == usual else f"-{value}"


Attack = Annotated[
    Fgsm
    | Pgd
    | Cw
    | Mma
    | MinimumMargin
    | MultiTargeted
    | Apgd
    | Targeted
    | Square
    | AutoAttack
    | Noise
    | Adaptive
    | Transfer,
    Field(discriminator="kind"),
]

GRADIENT_KINDS = frozenset(
    {
        *("fgsm", "pgd", "cw", "mma", "mm3", "mm5", "mm9", "mm+", "multi-targeted"),
        *("apgd-ce", "apgd-dlr", "apgd-t", "autoattack", "cam-weighted", "low-budget"),
    }
)
"""Kinds that follow the network's gradients and move every image they try."""
MOVING_KINDS = GRADIENT_KINDS | {"transfer"}
"""Kinds that follow some network's gradients and move every image they try."""
MARGIN_KINDS = frozenset(
    {
        *("cw", "mma", "mm3", "mm5", "mm9", "mm+", "multi-targeted"),
        *("apgd-dlr", "apgd-t", "autoattack"),
    }
)
"""Kinds whose loss is a margin between logits, which does not fade when the softmax saturates."""
BLACK_BOX_KINDS = frozenset({"square", "transfer"})
"""Kinds that see the network's logits alone, and no gradient of it."""


def suite(name: str, epsilon: Fraction, classes: int) -> tuple[Attack, ...]:
    """Return the attacks of a suite, cheap to strong. Raises KeyError for an unknown name.

    `quick` is what every training ends with; `report` is the report's Table 1; `standard` adds what
    the audit asks for; `paper` adds every other strong attack.
    """
    basic: tuple[Attack, ...] = (Fgsm(), Pgd(steps=10), Pgd(steps=20), Cw(steps=20))
    whole: tuple[Attack, ...] = (AutoAttack(),) if classes >= 4 else (Square(),)
    targets = min(3, classes - 1)
    if name == "quick":
        return basic
    if name == "report":
        return (*basic, Mma(targets=targets), *whole)
    if name == "standard":
        return (Noise(), *basic, Pgd(steps=100), *sweep(epsilon), *whole)
    if name == "paper":
        return (
            *(Noise(restarts=10), *basic, Pgd(steps=20, restarts=5), Pgd(steps=100)),
            *(Mma(targets=targets), MinimumMargin(kind="mm3"), MultiTargeted()),
            *(Adaptive(kind="cam-weighted"), Adaptive(kind="low-budget")),
            *(*sweep(epsilon), *whole, MinimumMargin(kind="mm+")),
        )
    raise KeyError(name)


SUITES = ("quick", "report", "standard", "paper")


def sweep(epsilon: Fraction) -> tuple[Pgd, ...]:
    """Return PGD-20 at 1/2, 2, 4 and 8 times a radius, as far as pixels reach."""
    radii = (epsilon * factor for factor in (Fraction(1, 2), 2, 4, 8))
    return tuple(Pgd(epsilon=min(radius, Fraction(1))) for radius in dict.fromkeys(radii))
