"""The job spec: the one contract between a researcher, the store and the core.

A spec names everything that decides a run's numbers. Presets are expanded before a spec is stored
(:mod:`domain.presets`), so a run never changes meaning when a preset does.
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from domain.base import SpecModel, misfit
from domain.catalog import DATASETS, MODELS, DatasetName, ModelName
from domain.ids import ID_PATTERN
from domain.units import Radius, format_radius

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+ -]{0,79}$")]
FolderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,39}$")]
CamName = Literal["grad-cam", "grad-cam++", "score-cam"]
Weights = Literal["best", "last"]


class DataSpec(SpecModel):
    """Which images, and how they are split and augmented."""

    dataset: DatasetName
    """`digits`, `cifar10`, `cifar100`, `svhn` or `image-folder`."""
    folder: FolderName | None = None
    """For `image-folder`: the name the operator gave the folder under the data root."""
    classes: int | None = Field(default=None, ge=2, le=10_000)
    """For `image-folder`: how many classes its folders hold."""
    size: int | None = Field(default=None, ge=8, le=512)
    """For `image-folder`: side in pixels every image is brought to (default 32)."""
    train_limit: int | None = Field(default=None, ge=1)
    """Use only so many training images, chosen class-balanced by the seed (default: all)."""
    test_limit: int | None = Field(default=None, ge=1)
    """Evaluate on so many test images, the same declared subset for every run (default: all)."""
    validation_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the training images held out to choose the best checkpoint; 0 for none."""
    pad: int | None = Field(default=None, ge=0, le=32)
    """Random crop after padding by this many pixels (default: the dataset's)."""
    flip: bool | None = None
    """Random horizontal flip (default: the dataset's)."""

    @model_validator(mode="after")
    def _folder_belongs_to_image_folder(self) -> Self:
        is_folder = self.dataset == "image-folder"
        if is_folder and (self.folder is None or self.classes is None):
            raise misfit("folder", "dataset 'image-folder' needs `folder` and `classes`")
        if not is_folder and (self.folder, self.classes, self.size) != (None, None, None):
            raise misfit("folder", "`folder`, `classes`, `size` belong to 'image-folder' only")
        return self

    @property
    def num_classes(self) -> int:
        """How many classes the model must tell apart."""
        return self.classes or DATASETS[self.dataset].classes or 0

    @property
    def image_size(self) -> int:
        """Side of the square images, pixels."""
        return self.size or DATASETS[self.dataset].size


class ModelSpec(SpecModel):
    """Which network."""

    name: ModelName
    """`small-cnn` or `resnet18`."""


class InnerAttack(SpecModel):
    """PGD as training uses it."""

    steps: int = Field(default=10, ge=1, le=1000)
    """Gradient steps (Alg. 1: 10)."""
    step_size: Radius
    """Length of a step, in pixels of [0, 1] (2/255 belongs to a radius of 8/255)."""
    start: Literal["uniform", "zero"] = "uniform"
    """`uniform` in the budget, or `zero`: at the image itself."""


class CamSpec(SpecModel):
    """Which class activation maps decide the mask, and how they are computed."""

    members: tuple[CamName, ...] = Field(default=("grad-cam",), min_length=1)
    """Maps that are averaged, each normalised per image first (Eq. 9): `grad-cam`, `grad-cam++`,
    `score-cam`."""
    scores: Literal["feature-space", "exact"] = "feature-space"
    """Score-CAM's channel scores: masked features through the head (`feature-space`, one forward
    pass), or `exact`: masked images through the network."""
    read_at: Literal["image", "start"] = "image"
    """Where the maps are read: at the `image`, or at the attack's random `start` (saves a pass)."""

    @model_validator(mode="after")
    def _members_differ(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise misfit("members", "a CAM is named twice")
        return self


class MaskSpec(SpecModel):
    """How a heatmap M becomes the mask S in [0, 1] (Eq. 7)."""

    kind: Literal["centred-sigmoid", "sigmoid-min-max", "sigmoid-mean", "min-max"] = (
        "centred-sigmoid"
    )
    """`centred-sigmoid`: sigma(tau (M^ - 1/2)); `sigmoid-min-max`: sigma(tau M^) and
    `sigmoid-mean`: sigma(tau M / mean M), the report's two forms, never under 1/2; `min-max`: M^
    itself. M^ is the map scaled to [0, 1] per image."""
    tau: float = Field(default=10.0, gt=0, le=1000)
    """Steepness of the sigmoid."""


class Standard(SpecModel):
    """Plain training on clean images."""

    kind: Literal["standard"] = "standard"


class PgdAt(SpecModel):
    """PGD adversarial training (Madry et al., 2018)."""

    kind: Literal["pgd-at"] = "pgd-at"
    epsilon: Radius
    """l-infinity radius."""
    attack: InnerAttack


class Part(SpecModel):
    """Pixel-reweighted adversarial training: PART with one map, PART++ with several."""

    kind: Literal["part"] = "part"
    epsilon_high: Radius
    """Radius where the mask is 1 (Eq. 8), and everywhere during warm-up."""
    epsilon_low: Radius
    """Radius where the mask is 0."""
    warmup_epochs: int = Field(default=5, ge=0)
    """First epochs with plain PGD adversarial training at `epsilon_high`."""
    attack: InnerAttack
    cam: CamSpec = CamSpec()
    mask: MaskSpec = MaskSpec()

    @model_validator(mode="after")
    def _low_is_not_above_high(self) -> Self:
        if self.epsilon_low > self.epsilon_high:
            raise misfit(
                "epsilon_low",
                f"{format_radius(self.epsilon_low)} is above "
                f"epsilon_high {format_radius(self.epsilon_high)}",
            )
        return self


Method = Annotated[Standard | PgdAt | Part, Field(discriminator="kind")]


class TrainingSpec(SpecModel):
    """The optimiser and its schedule."""

    epochs: int = Field(ge=1, le=10_000)
    """Passes over the training images."""
    batch_size: int = Field(default=128, ge=2, le=65_536)
    """Images a step."""
    learning_rate: float = Field(default=0.1, gt=0, le=100)
    """Peak rate of SGD."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` to 0 over the run, or `constant`."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum."""
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    """L2 penalty on every parameter."""
    ema_decay: float | None = Field(default=0.999, gt=0, lt=1)
    """Exponential moving average of weights, min(d, (1+t)/(10+t)) at step t; null for none."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations (robust accuracy on held-out images chooses the best weights)."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Epochs between checkpoints a run can resume from."""
    channels_last: bool = True
    """Memory format of images and weights; same result, faster convolutions."""


class Fgsm(SpecModel):
    """One signed-gradient step of length epsilon (Goodfellow et al., 2015)."""

    kind: Literal["fgsm"] = "fgsm"
    epsilon: Radius | None = None
    """Radius (default: the evaluation's)."""

    @property
    def label(self) -> str:
        """Name in metrics and tables."""
        return "fgsm"


class Pgd(SpecModel):
    """Projected gradient descent on cross-entropy; keeps the best iterate."""

    kind: Literal["pgd"] = "pgd"
    steps: int = Field(default=20, ge=1, le=10_000)
    """Gradient steps."""
    step_size: Radius | None = None
    """Length of a step (default: a quarter of the radius)."""
    restarts: int = Field(default=1, ge=1, le=100)
    """Random starts; an image is broken if any of them breaks it."""
    epsilon: Radius | None = None
    """Radius (default: the evaluation's)."""

    @property
    def label(self) -> str:
        """Name in metrics and tables."""
        return f"pgd-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")


class Cw(SpecModel):
    """PGD on the margin z_y - max z_other (Carlini & Wagner's loss under l-infinity)."""

    kind: Literal["cw"] = "cw"
    steps: int = Field(default=20, ge=1, le=10_000)
    """Gradient steps."""
    step_size: Radius | None = None
    """Length of a step (default: a quarter of the radius)."""
    restarts: int = Field(default=1, ge=1, le=100)
    """Random starts."""
    epsilon: Radius | None = None
    """Radius (default: the evaluation's)."""

    @property
    def label(self) -> str:
        """Name in metrics and tables."""
        return f"cw-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")


class Mma(SpecModel):
    """PART's minimum-margin attack: fixed-step PGD at each of the k likeliest wrong classes."""

    kind: Literal["mma"] = "mma"
    targets: int = Field(default=3, ge=1, le=999)
    """How many wrong classes are attacked in turn; needs one class more."""
    steps: int = Field(default=20, ge=1, le=10_000)
    """Gradient steps for each target."""
    step_size: Radius | None = None
    """Length of a step (default: a quarter of the radius)."""
    epsilon: Radius | None = None
    """Radius (default: the evaluation's)."""

    @property
    def label(self) -> str:
        """Name in metrics and tables."""
        return "mma"


Attack = Annotated[Fgsm | Pgd | Cw | Mma, Field(discriminator="kind")]


class EvaluationSpec(SpecModel):
    """How the result is attacked. Clean accuracy is always measured."""

    epsilon: Radius
    """l-infinity radius of the threat model."""
    attacks: tuple[Attack, ...] = (Fgsm(), Pgd(steps=10), Pgd(steps=20), Cw(steps=20))
    """Attacks in the order they run."""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Images an attack pass; the outcome does not depend on it."""
    weights: Weights = "best"
    """Which checkpoint is attacked: `best` by validation, or the `last`."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [attack.label for attack in self.attacks]
        if len(set(labels)) != len(labels):
            raise misfit("attacks", "two have one name; give them other steps or restarts")
        return self

    def epsilon_of(self, attack: Fgsm | Pgd | Cw | Mma) -> Fraction:
        """The radius one attack runs at."""
        return self.epsilon if attack.epsilon is None else attack.epsilon


class Resources(SpecModel):
    """What the run needs of a host."""

    gpus: int = Field(default=0, ge=0, le=1)
    """GPUs bound to the run; 0 runs on a CPU slot."""


class _Common(SpecModel):
    """What every kind of run says."""

    schema_version: Literal[1] = 1
    """Version of this contract."""
    name: Name | None = None
    """A label for people."""
    experiment: Name = "default"
    """The experiment the run belongs to."""
    tags: tuple[Tag, ...] = ()
    """Words to find the run by."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher starts earlier."""
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """The one seed every generator of the run is derived from."""
    resources: Resources = Resources()
    preset: str | None = Field(default=None, max_length=40)
    """Which preset was expanded into this spec; a label, read by nobody."""
    data: DataSpec
    model: ModelSpec

    @model_validator(mode="after")
    def _cam_grid_is_large_enough(self) -> Self:
        size, stride = self.data.image_size, MODELS[self.model.name].stride
        if size // stride < 2:
            raise misfit(
                "model/name",
                f"{self.model.name} leaves a {size // stride}x{size // stride} CAM grid of "
                f"{size}x{size} images; at least 2x2 is needed, try 'small-cnn'",
            )
        return self


def _require_classes(data: DataSpec, evaluation: EvaluationSpec) -> None:
    for index, attack in enumerate(evaluation.attacks):
        if isinstance(attack, Mma) and attack.targets >= data.num_classes:
            raise misfit(
                f"evaluation/attacks/{index}/targets",
                f"mma with {attack.targets} targets needs {attack.targets + 1} classes; "
                f"the data has {data.num_classes}",
            )


class TrainSpec(_Common):
    """Train a network, then attack it."""

    kind: Literal["train"] = "train"
    method: Method
    training: TrainingSpec
    evaluation: EvaluationSpec

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if isinstance(self.method, Part) and self.method.warmup_epochs > self.training.epochs:
            raise misfit(
                "method/warmup_epochs",
                f"{self.method.warmup_epochs} exceeds training.epochs {self.training.epochs}",
            )
        _require_classes(self.data, self.evaluation)
        return self


class Source(SpecModel):
    """A checkpoint of a finished run."""

    run: Annotated[str, StringConstraints(pattern=ID_PATTERN)]
    """Id of the run that trained it."""
    weights: Weights = "best"
    """`best` or `last`."""


class EvaluateSpec(_Common):
    """Attack a checkpoint of a finished run. `data` and `model` are filled in from that run."""

    kind: Literal["evaluate"] = "evaluate"
    source: Source
    evaluation: EvaluationSpec

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        _require_classes(self.data, self.evaluation)
        return self


class VisualiseSpec(_Common):
    """Draw the maps, masks and budgets of a finished run's checkpoint."""

    kind: Literal["visualise"] = "visualise"
    source: Source
    cam: CamSpec
    mask: MaskSpec
    epsilon_high: Radius
    """Radius where the mask is 1."""
    epsilon_low: Radius
    """Radius where the mask is 0."""
    images: int = Field(default=6, ge=1, le=64)
    """How many test images are drawn."""


RunSpec = Annotated[TrainSpec | EvaluateSpec | VisualiseSpec, Field(discriminator="kind")]
