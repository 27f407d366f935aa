"""The job spec: the one contract between a researcher, the store and the core.

A spec names everything that decides a run's numbers. Presets are expanded before a spec is stored
(:mod:`domain.presets`), so a run never changes meaning when a preset does.
"""

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from domain import forms
from domain.attacks import Attack as Attack
from domain.attacks import Cw, Fgsm, Mma, Pgd, Transfer
from domain.base import SpecModel, misfit
from domain.catalog import DATASETS, MODELS, DatasetName
from domain.corruptions import CorruptionSpec
from domain.ids import ID_PATTERN
from domain.schedule import Needs
from domain.scheduled import (
    Progress,
    ScheduledRadius,
    ScheduledSteps,
    ScheduledTau,
    ScheduledWeight,
    at,
    final,
    moments,
)
from domain.units import Radius, format_radius
from domain.weights import ModelSpec as ModelSpec
from domain.weights import Source as Source
from domain.weights import Weights as Weights

Name = Annotated[str, StringConstraints(pattern=forms.NAME)]
FolderName = Annotated[str, StringConstraints(pattern=forms.FOLDER)]
Tag = Annotated[str, StringConstraints(pattern=forms.TAG)]
CamName = Literal[
    "cam",
    "grad-cam",
    "grad-cam++",
    "layer-cam",
    "xgrad-cam",
    "eigen-cam",
    "hires-cam",
    "score-cam",
    "score-cam-increase",
    "score-cam-softmax",
    "package:AblationCAM",
    "package:EigenGradCAM",
    "package:FEM",
    "package:FullGrad",
    "package:GradCAMElementWise",
    "package:KPCA_CAM",
    "package:SegEigenCAM",
    "package:ShapleyCAM",
]
Precision = Literal["fp32", "bf16", "fp16"]


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


class InnerAttack(SpecModel):
    """PGD as training uses it."""

    steps: ScheduledSteps = 10
    """Gradient steps (Alg. 1: 10), or a schedule of them."""
    step_size: ScheduledRadius
    """Length of a step, in pixels of [0, 1] (2/255 belongs to a radius of 8/255), or a schedule."""
    start: Literal["uniform", "gaussian", "zero"] = "uniform"
    """`uniform` in the budget, `gaussian`: 0.001 of normal noise (TRADES, MART), or `zero`: at the
    image itself."""
    loss: Literal["cross-entropy", "kl"] = "cross-entropy"
    """What the attack climbs: `cross-entropy`, or `kl`: the divergence from the clean prediction
    (TRADES)."""
    extra_steps: int | None = Field(default=None, ge=0, le=100)
    """Friendly adversarial training (Zhang et al., 2020): an image stops so many steps after it is
    misclassified (FAT's tau); null for no early stop."""


class ExactScoring(SpecModel):
    """Every channel's mask on the image, through the network: the definition."""

    kind: Literal["exact"] = "exact"


class FeatureSpaceScoring(SpecModel):
    """Masked features through the head: no pass."""

    kind: Literal["feature-space"] = "feature-space"


class _Passes(SpecModel):
    """Scores that take passes of masked images."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Number type of those passes; the maps themselves stay fp32."""


class MaskGradientScoring(_Passes):
    """Linear in the mask around one half: one forward and backward pass."""

    kind: Literal["mask-gradient"] = "mask-gradient"


class MeanScoring(_Passes):
    """The mean of mask gradient and feature space."""

    kind: Literal["mean"] = "mean"


class ClusteredScoring(_Passes):
    """Exact at the centroids of the masks: as many passes as centroids."""

    kind: Literal["clusters"] = "clusters"
    centroids: int = Field(default=8, ge=1, le=4096)
    """Clusters of masks an image (k-means)."""
    refine: bool = False
    """Let `mean` scores tell channels of one cluster apart."""


class FirstChannelsScoring(SpecModel):
    """The first channels alone, as the report's code does (a defect, for reproduction)."""

    kind: Literal["first-channels"] = "first-channels"
    channels: int = Field(default=32, ge=1)
    """How many."""


ScoringSpec = Annotated[
    ExactScoring
    | FeatureSpaceScoring
    | MaskGradientScoring
    | MeanScoring
    | ClusteredScoring
    | FirstChannelsScoring,
    Field(discriminator="kind"),
]


class EveryStep(SpecModel):
    """Computed for the very tensor that is attacked."""

    kind: Literal["every-step"] = "every-step"


class EveryFewSteps(SpecModel):
    """Kept by sample, and computed again once they are so many steps old."""

    kind: Literal["steps"] = "steps"
    steps: int = Field(ge=1)
    """Age in steps."""


class EveryFewEpochs(SpecModel):
    """Kept by sample, and computed again every so many epochs."""

    kind: Literal["epochs"] = "epochs"
    epochs: int = Field(default=1, ge=1)
    """Age in epochs."""


class AdaptiveRefresh(SpecModel):
    """Kept by sample; the epochs between two computations double while maps stay alike, and halve
    when they do not."""

    kind: Literal["adaptive"] = "adaptive"
    overlap: float = Field(default=0.8, gt=0, le=1)
    """Mean IoU of the pixels of high budget, old and new, from which maps count as alike."""


RefreshSpec = Annotated[
    EveryStep | EveryFewSteps | EveryFewEpochs | AdaptiveRefresh, Field(discriminator="kind")
]


class CamSpec(SpecModel):
    """Which class activation maps decide the mask, and how they are computed."""

    members: tuple[CamName, ...] = Field(default=("grad-cam",), min_length=1, max_length=32)
    """Maps that are combined, each normalised per image first (Eq. 9): `cam`, `grad-cam`,
    `grad-cam++`, `layer-cam`, `xgrad-cam`, `eigen-cam`, `hires-cam`, `score-cam` (grad-cam's
    definition), `score-cam-increase` (Eq. 6 literally), `score-cam-softmax` (Algorithm 1 of the
    Score-CAM paper), or `package:` and another class of the grad-cam package (SLOW: it copies the
    network at every step)."""
    combine: Literal["mean", "confidence", "agreement", "select", "learned", "stacked"] = "mean"
    """`mean` (Eq. 9), or weighted for each image by the `confidence` that survives when only the
    map's pixels are kept, or by the map's `agreement` with the others; `select` takes the one map
    that keeps most; `learned` weights, and a `stacked` linear head that weighs each image by its
    maps, learn to keep the class while the network trains."""
    weights: Annotated[tuple[ScheduledWeight, ...], Field(max_length=32)] | None = None
    """For `mean`: how much each member counts, such as [2, 1, 1], or schedules of it, so that the
    stage of training selects (default: alike)."""
    scores: ScoringSpec = FeatureSpaceScoring()
    """How Score-CAM's channel scores are computed: `feature-space`, `exact`, `mask-gradient`,
    `mean`, `clusters` or `first-channels`."""
    target: Literal["label", "prediction"] = "label"
    """The class the maps explain: the true `label`, or the `prediction` of the moment."""
    read_at: Literal["image", "start"] = "image"
    """Where the maps are read: at the `image`, or at the attack's random `start` (saves a pass)."""
    fidelity_floor: float | None = Field(default=0.95, ge=0, le=1)
    """After each epoch the budgets of a few images are compared with those of exact Score-CAM
    (Pearson); under this floor the run moves to the next better `scores`. null to stay."""
    refresh: RefreshSpec = EveryStep()
    """When maps are computed: `every-step`, or kept and renewed after `steps`, `epochs`, or as
    `adaptive`."""

    @model_validator(mode="after")
    def _refresh_fits(self) -> Self:
        if self.refresh.kind != "every-step" and self.read_at == "start":
            raise misfit("read_at", "kept maps are read at the `image`")
        return self

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        if len(set(self.members)) != len(self.members):
            raise misfit("members", "a CAM is named twice")
        if self.weights is None:
            return self
        if self.combine != "mean":
            raise misfit("weights", f"`weights` belong to combine 'mean', not {self.combine!r}")
        if len(self.weights) != len(self.members):
            raise misfit("weights", f"give {len(self.members)} weights, one a member")
        for moment in moments(*self.weights):
            if not any(at(weight, moment) > 0 for weight in self.weights):
                raise misfit("weights", f"are all 0 at {100 * moment:.0f} % of the run")
        return self


class CentredSigmoidMask(SpecModel):
    """sigma(tau (M^ - 1/2)), M^ the map scaled to [0, 1] per image: spreads over the range."""

    kind: Literal["centred-sigmoid"] = "centred-sigmoid"
    tau: ScheduledTau = 10.0
    """Steepness, or a schedule of it."""


class CentredMeanMask(SpecModel):
    """sigma(tau (M / mean M - 1))."""

    kind: Literal["centred-mean"] = "centred-mean"
    tau: ScheduledTau = 10.0
    """Steepness, or a schedule of it."""


class SigmoidMinMaxMask(SpecModel):
    """sigma(tau M^): Eq. 7, first form; never under 1/2."""

    kind: Literal["sigmoid-min-max"] = "sigmoid-min-max"
    tau: ScheduledTau = 10.0
    """Steepness, or a schedule of it."""


class SigmoidMeanMask(SpecModel):
    """sigma(tau M / mean M): Eq. 7, second form; never under 1/2."""

    kind: Literal["sigmoid-mean"] = "sigmoid-mean"
    tau: ScheduledTau = 10.0
    """Steepness, or a schedule of it."""


class MinMaxMask(SpecModel):
    """M^ itself: linear."""

    kind: Literal["min-max"] = "min-max"


class QuantileMask(SpecModel):
    """The rank of a pixel among those of its image, from 0 to 1."""

    kind: Literal["quantile"] = "quantile"


class ThresholdMask(SpecModel):
    """1 where M^ reaches a threshold, else 0 (the report's PART-M)."""

    kind: Literal["threshold"] = "threshold"
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Of M^, in (0, 1]."""


class ZScoreMask(SpecModel):
    """1 where the map is more than `above` deviations over its mean (the PART paper)."""

    kind: Literal["z-score"] = "z-score"
    above: float = Field(default=1.0, ge=-10, le=10)
    """Standard deviations."""


class OfficialJetMask(SpecModel):
    """PART's published code: z-score of the jet-coloured, squared map, per colour channel.

    A defect (the hottest pixels often get the low radius), for reproduction alone.
    """

    kind: Literal["official-jet"] = "official-jet"


class GeometricMask(SpecModel):
    """A fixed region, whatever the image shows (the report's PART-M)."""

    kind: Literal["geometric"] = "geometric"
    region: Literal[
        "centre", "border", "top-left", "top-right", "bottom-left", "bottom-right", "everywhere"
    ] = "centre"
    """Where the mask is 1: the middle half of each side, what surrounds it, a quadrant, or
    `everywhere`."""


MaskSpec = Annotated[
    CentredSigmoidMask
    | CentredMeanMask
    | SigmoidMinMaxMask
    | SigmoidMeanMask
    | MinMaxMask
    | QuantileMask
    | ThresholdMask
    | ZScoreMask
    | OfficialJetMask
    | GeometricMask,
    Field(discriminator="kind"),
]
"""How a heatmap M becomes the mask S in [0, 1] (Eq. 7)."""


ControlName = Literal["none", "random", "inverted", "blurred", "uniform"]


class CrossEntropyObjective(SpecModel):
    """Cross-entropy on the adversarial images (Madry et al., 2018)."""

    kind: Literal["cross-entropy"] = "cross-entropy"


class TradesObjective(SpecModel):
    """Cross-entropy on clean images + beta KL(clean || adversarial) (Zhang et al., 2019)."""

    kind: Literal["trades"] = "trades"
    beta: float = Field(default=6.0, ge=0, le=1000)
    """Weight of the divergence (1 / lambda of the paper)."""


class MartObjective(SpecModel):
    """Boosted cross-entropy + beta KL weighted by how unsure the network is (Wang et al., 2020)."""

    kind: Literal["mart"] = "mart"
    beta: float = Field(default=6.0, ge=0, le=1000)
    """Weight of the divergence (lambda of the paper)."""


class AlpObjective(SpecModel):
    """Adversarial logit pairing (Kannan et al., 2018)."""

    kind: Literal["alp"] = "alp"
    weight: float = Field(default=0.5, ge=0, le=1000)
    """Weight of the squared distance between clean and adversarial logits."""


ObjectiveSpec = Annotated[
    CrossEntropyObjective | TradesObjective | MartObjective | AlpObjective,
    Field(discriminator="kind"),
]


class Awp(SpecModel):
    """Adversarial weight perturbation (Wu et al., 2020)."""

    gamma: float = Field(default=0.005, gt=0, le=1)
    """Size of the perturbation, relative to each layer's weights."""
    warmup_epochs: int = Field(default=0, ge=0)
    """First epochs without it."""


class Standard(SpecModel):
    """Plain training on clean images."""

    kind: Literal["standard"] = "standard"


class Uniform(SpecModel):
    """Adversarial training at one radius for every pixel."""

    kind: Literal["uniform"] = "uniform"
    epsilon: ScheduledRadius
    """l-infinity radius, or a schedule of it."""
    attack: InnerAttack
    objective: ObjectiveSpec = CrossEntropyObjective()
    awp: Awp | None = None
    """Adversarial weight perturbation; null for none."""


class Part(SpecModel):
    """Pixel-reweighted adversarial training: PART with one map, PART++ with several."""

    kind: Literal["part"] = "part"
    epsilon_high: ScheduledRadius
    """Radius where the mask is 1 (Eq. 8), and everywhere during warm-up; or a schedule of it."""
    epsilon_low: ScheduledRadius | None = None
    """Radius where the mask is 0, or a schedule of it."""
    epsilon_gap: ScheduledRadius | None = None
    """Instead of `epsilon_low`: how far it is below `epsilon_high`, or a schedule of that."""
    warmup_epochs: int = Field(default=5, ge=0)
    """First epochs without a mask."""
    warmup: Literal["adversarial", "clean"] = "adversarial"
    """During warm-up: PGD adversarial training at `epsilon_high`, or `clean` images (the report's
    code)."""
    attack: InnerAttack
    objective: ObjectiveSpec = CrossEntropyObjective()
    cam: CamSpec = CamSpec()
    mask: MaskSpec = CentredSigmoidMask()
    control: ControlName = "none"
    """Another mask of the same mean, to see what the maps are worth: the pixels' values at `random`
    places, `inverted`, `blurred`, or one `uniform` value."""
    mean_mask: float | None = Field(default=None, ge=0, le=1)
    """Bring every image's mask to this mean, so that two masks spend the same mean radius; null to
    leave it."""
    awp: Awp | None = None
    """Adversarial weight perturbation; null for none."""

    def low_at(self, progress: float) -> float:
        """The radius where the mask is 0, at a progress in [0, 1]."""
        if self.epsilon_low is None:
            return at(self.epsilon_high, progress) - at(self.epsilon_gap, progress)
        return at(self.epsilon_low, progress)

    def final_radii(self) -> tuple[Fraction, Fraction]:
        """The radii (low, high) at the end of the run, exact."""
        high = final(self.epsilon_high)
        low = (
            high - final(self.epsilon_gap) if self.epsilon_low is None else final(self.epsilon_low)
        )
        return low, high

    @model_validator(mode="after")
    def _radii_fit(self) -> Self:
        if (self.epsilon_low is None) == (self.epsilon_gap is None):
            raise misfit("epsilon_low", "give one of `epsilon_low` and `epsilon_gap`")
        for moment in moments(self.epsilon_low, self.epsilon_gap, self.epsilon_high):
            low, high = self.low_at(moment), at(self.epsilon_high, moment)
            if not 0 <= low <= high:
                wrong = "below 0" if low < 0 else f"above epsilon_high {255 * high:.4g}/255"
                raise misfit(
                    "epsilon_low" if self.epsilon_gap is None else "epsilon_gap",
                    f"makes the low radius {255 * low:.4g}/255, {wrong}, at {100 * moment:.0f} % "
                    "of the run",
                )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        reads_start = self.cam.read_at == "start"
        plain = self.attack.loss == "cross-entropy" and self.attack.start == "uniform"
        if reads_start and not (plain and self.attack.extra_steps is None):
            raise misfit(
                "cam/read_at",
                "maps read at the start need a uniform start, cross-entropy and no extra_steps",
            )
        return self


Method = Annotated[Standard | Uniform | Part, Field(discriminator="kind")]


def trained_radius(method: Standard | Uniform | Part) -> Fraction | None:
    """The greatest radius the last step of a run trains at; None for `standard`."""
    match method:
        case Standard():
            return None
        case Uniform():
            radius: Fraction = final(method.epsilon)
            return radius
        case Part():
            return method.final_radii()[1]


class TrainingSpec(SpecModel):
    """The optimiser and its schedule."""

    epochs: int = Field(ge=1, le=10_000)
    """Passes over the training images."""
    batch_size: int = Field(default=128, ge=2, le=65_536)
    """Images a step."""
    learning_rate: float = Field(default=0.1, gt=0, le=100)
    """Peak rate of SGD."""
    schedule: Literal["cosine", "constant", "multistep"] = "cosine"
    """`cosine` to 0 over the run, `constant`, or `multistep`: a tenth after each milestone."""
    milestones: tuple[Progress, ...] = Field(default=(0.5, 0.75), max_length=100)
    """For `multistep`: shares of the run after which the rate falls to a tenth."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov's form of it; needs a momentum above 0."""
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    """L2 penalty on every parameter."""
    ema_decay: float | None = Field(default=0.999, gt=0, lt=1)
    """Exponential moving average of weights, min(d, (1+t)/(10+t)) at step t; null for none."""
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations (robust accuracy on held-out images chooses the best weights)."""
    checkpoint_every: int = Field(default=1, ge=1)
    """Epochs between checkpoints a run can resume from."""
    checkpoint_minutes: float | None = Field(default=30, gt=0, le=525_600)
    """Minutes after which a checkpoint is due within an epoch too; null for none."""
    keep_every: int | None = Field(default=None, ge=1)
    """Epochs between checkpoints that are kept for good, beside the best and the last; null for
    none."""
    channels_last: bool = True
    """Memory format of images and weights; same result, faster convolutions."""
    attack_precision: Precision = "fp32"
    """Number type of training's attack and maps: `fp32`, `bf16` or `fp16`. Evaluation is always
    fp32."""
    update_precision: Precision = "fp32"
    """Number type of the update's passes (mixed precision); weights stay fp32."""
    fold_batch_norm: bool = True
    """Attack a twin of the network whose batch norm is folded into convolutions; faster, the same
    up to rounding."""
    compile: Literal["off", "default", "cuda-graphs"] = "off"
    """Compile the attacked network; falls back with a reason in the log."""
    accumulation: int = Field(default=1, ge=1)
    """Micro-batches a batch is divided into, to save memory; batch norm sees each alone."""
    halve_on_out_of_memory: bool = False
    """When memory runs out in training, go on from the last checkpoint with twice the micro-batches
    instead of failing; how many it came to is among the run's facts."""
    early_stop: int | None = Field(default=None, ge=1)
    """End training when the best weights are so many epochs old; null to train to the end."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if 2 * self.accumulation > self.batch_size:
            raise misfit(
                "accumulation", f"leaves less than two of {self.batch_size} images a micro-batch"
            )
        return self


class EvaluationSpec(SpecModel):
    """How the result is attacked. Clean accuracy is always measured."""

    epsilon: Radius
    """Radius of the threat model, l-infinity unless an attack names another norm."""
    suite: str | None = Field(default=None, max_length=40)
    """Which suite of attacks was written out below: `quick`, `report`, `standard` or `paper`."""
    attacks: tuple[Attack, ...] = Field(
        default=(Fgsm(), Pgd(steps=10), Pgd(steps=20), Cw(steps=20)), max_length=100
    )
    """Attacks in the order they run."""
    cascade: bool = False
    """Attack only what stands under every attack before: cheaper, the same worst case, and figures
    of single attacks that mean the union so far."""
    images: int | None = Field(default=None, ge=1)
    """How many of the test images are attacked, from the first (default: all)."""
    budget_passes: int | None = Field(default=None, ge=1)
    """Forward passes of an image after which attacking ends; what is left counts as standing."""
    budget_seconds: float | None = Field(default=None, gt=0, le=31_536_000)
    """Seconds after which attacking ends."""
    batch_size: int = Field(default=256, ge=1, le=65_536)
    """Images an attack pass; the outcome does not depend on it."""
    weights: Weights = "best"
    """Which checkpoint is attacked: `best` by validation, or the `last`."""
    corruptions: CorruptionSpec | None = None
    """Common corruptions (CIFAR-10-C's) the images are shown under besides; `{}` for all of them,
    null for none. They are no attacks: neither the worst case nor the verdict knows them."""

    @field_validator("attacks", mode="after")
    @classmethod
    def _own_radius_only_if_other(
        cls, attacks: tuple[Attack, ...], info: ValidationInfo
    ) -> tuple[Attack, ...]:
        """One attack has one label: the evaluation's own radius is not named again."""
        whole = info.data.get("epsilon")
        return tuple(
            attack.model_copy(update={"epsilon": None}) if attack.epsilon == whole else attack
            for attack in attacks
        )

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [attack.label for attack in self.attacks]
        if len(set(labels)) != len(labels):
            raise misfit("attacks", "two have one name; give them other steps, restarts or radii")
        return self

    def epsilon_of(self, attack: Attack) -> Fraction:
        """The radius one attack runs at."""
        return self.epsilon if attack.epsilon is None else attack.epsilon


QueueName = Annotated[str, StringConstraints(pattern=forms.QUEUE)]
GpuModel = Annotated[str, StringConstraints(pattern=forms.GPU_MODEL)]


class Resources(SpecModel):
    """What the run needs of one host, and what the queue should know of it."""

    queue: QueueName | None = None
    """Which queue it waits in (default: `gpu` with GPUs, `cpu` without); workers name theirs."""
    gpus: int = Field(default=0, ge=0, le=16)
    """GPUs bound to the run, one process each; 0 runs on the CPU."""
    cpu_slots: int = Field(default=1, ge=1, le=16)
    """Without GPUs: CPU slots bound to the run, one process each."""
    gpu_memory: int = Field(default=0, ge=0, le=4096)
    """GiB that every GPU must have at least."""
    gpu_model: GpuModel = ""
    """Part of every GPU's name, whatever its case: `H200`; empty for any."""
    cores: int = Field(default=0, ge=0, le=1024)
    """CPU cores of the host that no other run may count on; 0 counts none."""
    minutes: float | None = Field(default=None, gt=0, le=525_600)
    """How long it is expected to take: for backfill and forecasts, it ends nothing (default: what
    such runs took before)."""
    emulate_precision: bool = False
    """Run `bf16` and `fp16` even on a CPU that only emulates them, where a step takes 6 to 180
    times what it takes in `fp32`; refused otherwise."""
    preemptible: bool = True
    """Whether it may be asked to take a checkpoint and give way to a run of higher priority."""

    @model_validator(mode="after")
    def _asks_of_gpus_it_has(self) -> Self:
        if self.gpus == 0 and (self.gpu_memory or self.gpu_model):
            raise misfit("gpus", "`gpu_memory` and `gpu_model` are about GPUs; ask for one or more")
        if self.gpus and self.cpu_slots != 1:
            raise misfit(
                "cpu_slots", "a run with GPUs has one process a GPU; leave `cpu_slots` out"
            )
        return self

    @property
    def of_one_process(self) -> "Resources":
        """The same on a single slot: what judging a network asks that was trained on several."""
        return self.model_copy(update={"gpus": min(1, self.gpus), "cpu_slots": 1, "minutes": None})

    @property
    def needs(self) -> Needs:
        """What it asks of a host, as the queue reads it."""
        kind: Literal["cpu", "gpu"] = "gpu" if self.gpus else "cpu"
        return Needs(
            queue=self.queue or kind,
            kind=kind,
            slots=self.gpus or self.cpu_slots,
            memory=self.gpu_memory << 30,
            model=self.gpu_model.casefold(),
            cores=self.cores,
        )


class _Common(SpecModel):
    """What every kind of run says."""

    schema_version: int = Field(default=1, ge=1, le=1)
    """Version of this contract."""
    name: Name | None = None
    """A label for people."""
    experiment: Name = "default"
    """The experiment the run belongs to."""
    tags: tuple[Tag, ...] = Field(default=(), max_length=32)
    """Words to find the run by."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher starts earlier."""
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """The one seed every generator of the run is derived from."""
    resources: Resources = Resources()
    after: tuple[Annotated[str, StringConstraints(pattern=ID_PATTERN)], ...] = Field(
        default=(), max_length=32
    )
    """Ids of runs that must have succeeded before this one starts; if one fails, so does this."""
    preset: str | None = Field(default=None, max_length=40)
    """Which preset was expanded into this spec; a label, read by nobody."""
    data: DataSpec
    model: ModelSpec

    @model_validator(mode="after")
    def _cam_grid_is_large_enough(self) -> Self:
        size, facts = self.data.image_size, MODELS[self.model.name]
        cells = facts.grid(size)
        if cells < 2:
            smallest = facts.smallest_cam_size
            remedy = (
                f"set `data.size` to {smallest} or more"
                if self.data.dataset == "image-folder"
                else "choose a smaller model, such as 'small-cnn'"
            )
            leaves = f"leaves a {cells}x{cells} CAM grid of" if cells else "cannot take"
            raise misfit(
                "model/name",
                f"{self.model.name} {leaves} {size}x{size} images; at least 2x2 is needed, which "
                f"begins at {smallest}x{smallest}: {remedy}",
            )
        return self


def _require_classes(data: DataSpec, evaluation: EvaluationSpec) -> None:
    for index, attack in enumerate(evaluation.attacks):
        if attack.classes_needed <= data.num_classes:
            continue
        field, what = "kind", str(attack.kind)
        if isinstance(attack, Mma):
            field, what = "targets", f"mma with {attack.targets} targets"
        raise misfit(
            f"evaluation/attacks/{index}/{field}",
            f"{what} needs {attack.classes_needed} classes; the data has {data.num_classes}",
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
        if self.training.early_stop is not None and self.data.validation_fraction == 0:
            raise misfit(
                "training/early_stop", "needs held-out images; raise data.validation_fraction"
            )
        self._batch_is_enough_for_every_rank()
        _require_classes(self.data, self.evaluation)
        if isinstance(self.method, Part):
            _require_colour(self.data, self.method.mask, "method/mask/kind")
        return self

    def _batch_is_enough_for_every_rank(self) -> None:
        slots, parts = self.resources.needs.slots, self.training.accumulation
        if 2 * slots * parts > self.training.batch_size:
            raise misfit(
                "training/batch_size",
                f"{self.training.batch_size} leaves less than two images a micro-batch of "
                f"{slots} slots x {parts}; raise it, or ask for fewer",
            )


def _require_colour(data: DataSpec, mask: MaskSpec | None, field: str) -> None:
    if isinstance(mask, OfficialJetMask) and DATASETS[data.dataset].channels != 3:
        raise misfit(field, f"'official-jet' is a mask for colour images; {data.dataset} are grey")


def _require_one_process(resources: Resources) -> None:
    if resources.needs.slots > 1:
        raise misfit("resources", "several slots are for training; ask for one GPU or CPU slot")


class EvaluateSpec(_Common):
    """Attack weights. `data` and `model` are filled in from the run that trained them; with an
    uploaded checkpoint, name the `data`."""

    kind: Literal["evaluate"] = "evaluate"
    source: Source
    evaluation: EvaluationSpec

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        _require_classes(self.data, self.evaluation)
        _require_one_process(self.resources)
        return self


class VisualiseSpec(_Common):
    """Draw what a method does with weights: by default what the run that trained them did."""

    kind: Literal["visualise"] = "visualise"
    source: Source
    method: Method | None = None
    """What trained the weights, filled in from the run; null for uploaded ones."""
    cam: CamSpec | None = None
    """Maps to draw instead of the method's own; null for those, if it has any."""
    mask: MaskSpec | None = None
    """Mask to draw instead of the method's own, filled in where `cam` is given."""
    epsilon_high: Radius
    """Radius of the attack; with maps, where the mask is 1."""
    epsilon_low: Radius | None = None
    """Radius where the mask is 0, filled in where `cam` or `mask` is given."""
    images: int = Field(default=6, ge=1, le=64)
    """How many test images are drawn."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        _require_one_process(self.resources)
        asked = (self.cam, self.mask, self.epsilon_low)
        if any(part is None for part in asked) and any(part is not None for part in asked):
            raise misfit("cam", "give all of `cam`, `mask` and `epsilon_low`, or none of them")
        own = self.method.final_radii()[1] if isinstance(self.method, Part) else None
        if self.cam is None and own not in (None, self.epsilon_high):
            raise misfit("epsilon_high", "another one than the method's needs `cam` and `mask`")
        if self.epsilon_low is not None and self.epsilon_low > self.epsilon_high:
            raise misfit("epsilon_low", f"exceeds epsilon_high {format_radius(self.epsilon_high)}")
        _require_colour(self.data, self.mask, "mask/kind")
        return self


RunSpec = Annotated[TrainSpec | EvaluateSpec | VisualiseSpec, Field(discriminator="kind")]


def surrogates(spec: TrainSpec | EvaluateSpec | VisualiseSpec) -> dict[str, Source]:
    """Return the weights that a run's transfer attacks are made on, by :attr:`Source.key`."""
    if isinstance(spec, VisualiseSpec):
        return {}
    found = [attack.source for attack in spec.evaluation.attacks if isinstance(attack, Transfer)]
    return {source.key: source for source in found}
