"""Accuracy under common corruptions: every kind at every severity, image by image, in fp32.

Each image draws its noise from (seed, kind, severity, id), so no outcome depends on the batch size,
on which images are judged beside it, or on whether the evaluation was interrupted.
"""

from collections.abc import Generator
from itertools import product

import torch
from torch import Tensor

from domain.corruptions import corruption_label
from domain.events import Event, Progress
from domain.results import CorruptionResult, wilson_interval
from domain.spec import EvaluationSpec
from partcore.corruptions import Draws, corrupt
from partcore.data import Images, to_unit
from partcore.environment import Environment
from partcore.evaluation import pack, predict
from partcore.models import CamClassifier
from partcore.modes import evaluating
from partcore.progress import Throughput


def under_corruptions(
    model: CamClassifier,
    images: Images,
    spec: EvaluationSpec,
    *,
    seed: int,
    environment: Environment,
) -> Generator[Event, None, tuple[CorruptionResult, ...]]:
    """Yield progress; return a result for each kind and severity, none if the spec names none.

    images: in order of id; all of them are judged.
    """
    if spec.corruptions is None:
        return ()
    results = []
    with evaluating(model):
        for kind, severity in product(spec.corruptions.kinds, spec.corruptions.severities):
            label = corruption_label(kind, severity)
            correct = torch.zeros(len(images), dtype=torch.bool)
            throughput = Throughput(environment.clock)
            for start in range(0, len(images), spec.batch_size):
                part = slice(start, start + spec.batch_size)
                correct[part] = _right(model, images, part, kind, severity, seed)
                done = min(part.stop, len(images))
                yield _progress(label, done, len(images), throughput.count(done - start))
            results.append(_result(kind, severity, correct))
    return tuple(results)


def _right(
    model: CamClassifier, images: Images, part: slice, kind: str, severity: int, seed: int
) -> Tensor:
    """Return whether each image of a part is classified correctly once corrupted, (n,) bool."""
    label = corruption_label(kind, severity)
    draws = Draws.of(seed, "corruption", label, ids=images.ids[part].tolist())
    corrupted = corrupt(to_unit(images.x[part]), kind, severity, draws)
    return (predict(model, corrupted) == images.y[part]).cpu()


def _progress(label: str, done: int, total: int, rate: float | None) -> Progress:
    return Progress(
        phase="evaluate",
        done=done,
        total=total,
        unit="image",
        images_per_second=rate,
        detail=label,
    )


def _result(kind: str, severity: int, correct: Tensor) -> CorruptionResult:
    hits, count = int(correct.sum()), len(correct)
    return CorruptionResult(
        label=corruption_label(kind, severity),
        kind=kind,
        severity=severity,
        n=count,
        correct=hits,
        accuracy=hits / count,
        interval=wilson_interval(hits, count),
        outcomes=pack(correct),
    )
