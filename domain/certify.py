"""Does an evaluation that was run again say the same?

Only two evaluations of one question are compared: the same weights and the same images. Then each
attack either leaves the very same images, or as many as its first interval allows, or it does not
reproduce.
"""

from collections.abc import Iterator
from typing import Any, Literal

from domain.base import Model
from domain.bitmap import Bitmap
from domain.report import provenance
from domain.results import AttackResult, Evaluation, Interval
from domain.spec import EvaluateSpec, Source, TrainSpec

Reproduction = Literal[
    "same image by image", "within its interval", "does not reproduce", "not the same question"
]
REPRODUCES: frozenset[Reproduction] = frozenset({"same image by image", "within its interval"})


class Repeated(Model):
    """One attack, the first time and again."""

    label: str
    n: int
    """Images judged the first time."""
    accuracy: float
    interval: Interval
    """95 % Wilson interval of ``accuracy``: where the second accuracy must lie."""
    again: float | None = None
    """Accuracy the second time; None where that is no answer to the same question."""
    changed: int | None = None
    """Images whose outcome is another one; None as above."""
    outcome: Reproduction
    why: str = ""
    """What differs, where it is not the same question."""


class Certificate(Model):
    """Whether an evaluation reproduces, attack by attack."""

    reproduces: bool
    """Whether it is the same question and every row reproduces."""
    differences: tuple[str, ...] = ()
    """What makes it another question; no row is compared then."""
    rows: tuple[Repeated, ...] = ()
    """Clean, the attacks in their order, and the worst case."""
    provenance: str
    """sha256 of the first evaluation's weights, images and outcomes."""
    provenance_again: str


def submission(
    run: str, spec: TrainSpec | EvaluateSpec, *, seed: int | None = None
) -> dict[str, Any]:
    """Return the submission that asks a run's evaluation again.

    seed: another seed for the attacks' noise (default: the run's). The judged images stay the same:
    test subsets are declared, and no choice of a run's.
    """
    source = Source(run=run, weights=spec.evaluation.weights)
    data: dict[str, Any] = {"test_limit": spec.data.test_limit}
    if isinstance(spec, EvaluateSpec):
        source = spec.source
        if source.checkpoint is not None:
            # Nothing but the spec itself says which images an uploaded network was judged on.
            data = spec.data.model_dump(mode="json")
    # What a suite's name means today may differ; its attacks are written out in the spec.
    evaluation = spec.evaluation.model_copy(update={"suite": None})
    return {
        "kind": "evaluate",
        "name": f"certify {run}",
        "experiment": spec.experiment,
        "seed": spec.seed if seed is None else seed,
        "source": source.model_dump(mode="json"),
        "data": data,
        "resources": spec.resources.of_one_process.model_dump(mode="json"),
        "evaluation": evaluation.model_dump(mode="json"),
    }


def certify(first: Evaluation, again: Evaluation) -> Certificate:
    """Hold a repeated evaluation against the first one."""
    differences = tuple(_differences(first, again))
    rows = () if differences else tuple(_rows(first, again))
    return Certificate(
        reproduces=not differences and all(row.outcome in REPRODUCES for row in rows),
        differences=differences,
        rows=rows,
        provenance=provenance(first),
        provenance_again=provenance(again),
    )


def _differences(first: Evaluation, again: Evaluation) -> Iterator[str]:
    names = {
        "model_sha256": "the weights are others",
        "data_sha256": "the test images are others",
        "sample_ids_sha256": "other images of the test set were judged",
    }
    for name, told in names.items():
        one, other = getattr(first, name), getattr(again, name)
        if one != other:
            yield f"{told}: {name} {one[:12]} and {other[:12]}"


def _rows(first: Evaluation, again: Evaluation) -> Iterator[Repeated]:
    second = {result.label: result for result in (*again.results, again.worst_case)}
    for result in (*first.results, first.worst_case):
        yield _repeated(result, second.get(result.label))


def _repeated(first: AttackResult, again: AttackResult | None) -> Repeated:
    shared = {name: getattr(first, name) for name in ("label", "n", "accuracy", "interval")}
    if again is None:
        why = "the attack was not repeated"
        return Repeated(**shared, outcome="not the same question", why=why)
    if why := _another_question(first, again):
        return Repeated(**shared, outcome="not the same question", why=why)
    changed = _changed(first, again)
    outcome = _outcome(first, again, changed)
    return Repeated(**shared, again=again.accuracy, changed=changed, outcome=outcome)


def _another_question(first: AttackResult, again: AttackResult) -> str:
    """Say what differs in the question two results of one label answer; empty for nothing."""
    aspects = {
        "n": "another number of images",
        "threat": "another threat model",
        "surrogate": "its images were made on another network",
        "complete": "one ran to its end, the other did not",
        "cascaded": "one attacked every image, the other only survivors",
        **dict.fromkeys(("steps", "step_size", "restarts"), "another strength of the attack"),
    }
    differing = [told for name, told in aspects.items() if _differ(first, again, name)]
    return "; ".join(dict.fromkeys(differing))


def _differ(first: AttackResult, again: AttackResult, name: str) -> bool:
    return bool(getattr(first, name) != getattr(again, name))


def _changed(first: AttackResult, again: AttackResult) -> int:
    a, b = (Bitmap.decode(result.outcomes, result.n) for result in (first, again))
    return (a & ~b).count() + (b & ~a).count()


def _outcome(first: AttackResult, again: AttackResult, changed: int) -> Reproduction:
    if not changed:
        return "same image by image"
    inside = first.interval.low <= again.accuracy <= first.interval.high
    return "within its interval" if inside else "does not reproduce"
