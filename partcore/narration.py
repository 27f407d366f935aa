"""What an experiment says of itself in its log: its subject, epochs, attacks, files, verdict.

How many lines there are is bounded by the spec: one an epoch, one an attack, one a file.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from domain import spec as s
from domain.events import ArtifactSaved, Log
from domain.percent import percent as written
from domain.results import AttackResult, AuditReport, CorruptionResult, Interval
from domain.spans import span
from domain.units import format_radius
from partcore.data import Split
from partcore.validation import STEPS, Best, Robustness

MANY_CONSTANT = 0.5
"""Share of maps without any structure above which budgets are hardly PART's."""


def percent(share: float) -> str:
    """``0.431`` is ``43.1 %``."""
    return f"{written(share)} %"


def interval(bounds: Interval) -> str:
    """Return a 95 % interval in percent."""
    return f"[{written(bounds.low)}, {written(bounds.high)}]"


# -- what begins --------------------------------------------------------------------------------


def begins(
    spec: s.TrainSpec | s.EvaluateSpec | s.VisualiseSpec,
    split: Split,
    facts: Mapping[str, str | int | float | bool | None],
) -> Iterator[Log]:
    """Say what runs on which data and device; facts: those of the run."""
    yield Log(message=f"{_subject(spec)}; {_images(spec, split)}")
    ranks = f", {facts['ranks']} ranks" if facts["ranks"] != 1 else ""
    threads = "1 CPU thread" if facts["threads"] == 1 else f"{facts['threads']} CPU threads"
    yield Log(
        message=f"seed {spec.seed}, on {facts['device']} ({facts['device_name']}), "
        f"{threads}{ranks}, PyTorch {facts['torch']}"
    )
    yield from split.log


def _subject(spec: s.TrainSpec | s.EvaluateSpec | s.VisualiseSpec) -> str:
    match spec:
        case s.TrainSpec():
            preset = f"{spec.preset} ({spec.method.kind})" if spec.preset else spec.method.kind
            return f"training {spec.model.name} with {preset} for {spec.training.epochs} epochs"
        case s.EvaluateSpec():
            count, radius = len(spec.evaluation.attacks), format_radius(spec.evaluation.epsilon)
            return f"attacking {spec.model.name} of {spec.source.title}: {count} attacks, {radius}"
        case s.VisualiseSpec():
            return f"drawing {spec.images} images as {spec.model.name} of {spec.source.title} sees"


def _images(spec: s.TrainSpec | s.EvaluateSpec | s.VisualiseSpec, split: Split) -> str:
    data = spec.data.folder or spec.data.dataset
    if not isinstance(spec, s.TrainSpec):
        return f"{data}: {len(split.test)} test images of {len(split.classes)} classes"
    return (
        f"{data}: {len(split.train)} images to train on, {len(split.validation)} held out, "
        f"{len(split.test)} to test on, {len(split.classes)} classes"
    )


def resumed(step: int, steps: int, epoch: int, epochs: int) -> Log:
    """Say where training goes on. epoch: of the next step, from 1."""
    return Log(message=f"resumed at step {step} of {steps}, in epoch {min(epoch, epochs)}/{epochs}")


# -- an epoch -----------------------------------------------------------------------------------


@dataclass
class Diary:
    """What is known of the present epoch: its losses, and how long an epoch takes."""

    clock: Callable[[], float]
    losses: float = 0.0
    """Sum over the epoch's steps."""
    steps: int = 0
    validated: tuple[tuple[bool, Robustness], ...] = ()
    """The last validation: of raw and of averaged weights."""
    constant: float = 0.0
    """Sum of the shares of constant maps."""
    _begun: float = field(init=False)
    _first: tuple[float, int] | None = None
    _has_warned: bool = False

    def __post_init__(self) -> None:
        self._begun = self.clock()

    def note(self, record: Mapping[str, float], step: int) -> None:
        """Count one step in. step: how many came before it in the whole run."""
        if self._first is None:
            self._first = (self._begun, step)
        self.losses += record["train/loss"]
        self.constant += record.get("cam/constant_fraction", 0.0)
        self.steps += 1

    @property
    def loss(self) -> float | None:
        """The mean of the epoch so far."""
        return self.losses / self.steps if self.steps else None

    def close(self, *, epoch: int, epochs: int, step: int, steps: int, best: Best | None) -> Log:
        """Return the epoch's line and begin the next. epoch: from 1; step: of ``steps`` done."""
        now = self.clock()
        parts = [f"loss {self.loss:.4g}" if self.loss is not None else ""]
        parts += [_validated(averaged, told) for averaged, told in self.validated]
        parts += [_best(best, epoch) if self.validated and best is not None else ""]
        parts += [span(now - self._begun), self._left(now, step, steps)]
        line = f"epoch {epoch}/{epochs}: {', '.join(part for part in parts if part)}"
        self.losses, self.steps, self.validated, self._begun = 0.0, 0, (), now
        return Log(message=line)

    def _left(self, now: float, step: int, steps: int) -> str:
        if self._first is None or step <= self._first[1] or step >= steps:
            return ""
        since, before = self._first
        return f"about {span((steps - step) * (now - since) / (step - before))} of training left"

    def state(self) -> list[float]:
        """Return what a checkpoint keeps, so that a resumed epoch has the same mean."""
        return [self.losses, self.constant, self.steps]

    def restore(self, state: Sequence[float] | None) -> None:
        """Take up what a checkpoint kept, if it did."""
        if state is not None:
            self.losses, self.constant = state[0], state[1]
            self.steps = int(state[2])

    def warnings(self, epoch: int) -> Iterator[Log]:
        """Say once, at the end of an epoch, that most of its maps were constant."""
        share = self.constant / self.steps if self.steps else 0.0
        self.constant = 0.0
        if share > MANY_CONSTANT and not self._has_warned:
            self._has_warned = True
            yield Log(
                level="warning",
                message=f"epoch {epoch}: {percent(share)} of the maps were constant, so that "
                "those images have one radius everywhere; try another method.cam or a longer "
                "method.warmup_epochs",
            )


def _validated(averaged: bool, told: Robustness) -> str:  # noqa: FBT001 - whose weights
    whose = "averaged weights" if averaged else "validation"
    return f"{whose} clean {percent(told.clean)}, PGD-{STEPS} {percent(told.pgd)}"


def _best(best: Best, epoch: int) -> str:
    return "best so far" if best.epoch == epoch else f"best so far epoch {best.epoch}"


def training_ended(best: Best, epoch: int) -> Log:
    """Say which weights are kept and under which names. epoch: the last one, from 1."""
    which = ", averaged" if best.averaged else ""
    measured = (
        ""
        if math.isnan(best.robust_accuracy)
        else f", validation PGD-{STEPS} {percent(best.robust_accuracy)}"
    )
    return Log(
        message=f"training ended with epoch {epoch}: checkpoints/best.safetensors is of epoch "
        f"{best.epoch}{which}{measured}; checkpoints/last.safetensors of epoch {epoch}"
    )


def saved(file: ArtifactSaved) -> Log:
    """Say under which name a file is kept."""
    return Log(message=f"saved {file.name}, {max(1, round(file.size / 1000)):,} kB")


# -- an evaluation ------------------------------------------------------------------------------


def attacked(result: AttackResult) -> Log:
    """Say what one attack left standing."""
    bound = "" if result.complete else "≤ "
    line = (
        f"{result.label}: {bound}{percent(result.accuracy)} {interval(result.interval)} of "
        f"{result.n} images, {span(result.seconds)}"
    )
    if not result.complete:
        return Log(level="warning", message=f"{line}; stopped by the evaluation's budget")
    return Log(message=line)


def corrupted(results: Sequence[CorruptionResult]) -> Iterator[Log]:
    """Say the mean over all corruptions, if any were asked for."""
    if results:
        mean = math.fsum(result.accuracy for result in results) / len(results)
        yield Log(message=f"corruptions: {percent(mean)} on average over {len(results)}")


def judged(worst: AttackResult, report: AuditReport, missing: Iterable[str]) -> Iterator[Log]:
    """Say the worst case, the audit's verdict, and every rule that fails."""
    yield Log(message=f"worst case: {percent(worst.accuracy)} {interval(worst.interval)}")
    failing = [check for check in report.checks if check.outcome == "fails"]
    held = sum(check.outcome == "holds" for check in report.checks)
    sound = report.verdict == "sound"
    yield Log(
        level="info" if sound else "warning",
        message=f"audit: {report.verdict}; {held} of {held + len(failing)} checks hold",
    )
    if report.verdict == "incomplete":
        names = ", ".join(missing)
        yield Log(level="warning", message=f"the verdict is incomplete for want of {names}")
    for check in failing:
        yield Log(
            level="warning",
            message=f"audit: {check.name} fails ({check.severity}): {check.detail}; {check.advice}",
        )
