"""Runs that should take about as long: what the queue remembers durations by."""

from domain.attacks import Attack
from domain.scheduled import at
from domain.spec import EvaluateSpec, EvaluationSpec, Standard, TrainSpec, VisualiseSpec

IMAGES = {"digits": (1437, 360), "svhn": (73_257, 26_032)}
"""Training and test images. Others count as CIFAR's: only runs on the same data are compared."""
CIFAR_IMAGES = (50_000, 10_000)


def family(spec: TrainSpec | EvaluateSpec | VisualiseSpec) -> str:
    """Return a name shared by runs of the same kind, data, network, method, work and slots."""
    return f"{comparable(spec)[:180]}@{sum(works(spec)):.4g}"


def comparable(spec: TrainSpec | EvaluateSpec | VisualiseSpec) -> str:
    """Return what runs share whose durations are as their work."""
    words = [spec.kind, spec.data.dataset, spec.data.folder or "", spec.model.name]
    if isinstance(spec, TrainSpec):
        words.append(spec.method.kind)
        words += ["+".join(spec.method.cam.members)] if spec.method.kind == "part" else []
    if not isinstance(spec, VisualiseSpec):
        kinds = sorted({attack.kind for attack in spec.evaluation.attacks})
        words.append(spec.evaluation.suite or "+".join(kinds))
    words.append(f"{spec.resources.needs.slots} {spec.resources.needs.kind}")
    return "/".join(words)


def works(spec: TrainSpec | EvaluateSpec | VisualiseSpec) -> tuple[float, float]:
    """Return what training and what follows it cost, in passes of an image there and back."""
    train, test = IMAGES.get(spec.data.dataset, CIFAR_IMAGES)
    if isinstance(spec, VisualiseSpec):
        return 0.0, 1.0
    images = spec.evaluation.images or spec.data.test_limit or test
    after = images * _evaluation_passes(spec.evaluation)
    if not isinstance(spec, TrainSpec):
        return 0.0, after
    steps = 0.0 if isinstance(spec.method, Standard) else _mean_steps(spec)
    return (spec.data.train_limit or train) * spec.training.epochs * (steps + 1), after


def _mean_steps(spec: TrainSpec) -> float:
    assert not isinstance(spec.method, Standard)
    return sum(at(spec.method.attack.steps, tenth / 10) for tenth in range(11)) / 11


def _evaluation_passes(evaluation: EvaluationSpec) -> float:
    """Return passes an image; one more for clean accuracy, a third for a query without gradient."""
    return 1 + sum(_attack_passes(attack) for attack in evaluation.attacks)


def _attack_passes(attack: Attack) -> float:
    steps = getattr(attack, "steps", 1) * getattr(attack, "restarts", 1)
    return float(steps + getattr(attack, "queries", 0) / 3)
