"""Runs that should take about as long: what the queue remembers durations by."""

from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec


def family(spec: TrainSpec | EvaluateSpec | VisualiseSpec) -> str:
    """Return a name shared by runs of the same kind, data, network, method, length and slots."""
    words = [spec.kind, spec.data.dataset, str(spec.data.train_limit or "all"), spec.model.name]
    if isinstance(spec, TrainSpec):
        words += [spec.method.kind, str(spec.training.epochs)]
    if not isinstance(spec, VisualiseSpec):
        words.append(spec.evaluation.suite or f"{len(spec.evaluation.attacks)} attacks")
        words.append(str(spec.evaluation.images or spec.data.test_limit or "all"))
    words.append(f"{spec.resources.needs.slots} {spec.resources.needs.kind}")
    return "/".join(words)[:200]
