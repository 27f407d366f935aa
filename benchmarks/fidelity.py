"""How near each cheap way to Score-CAM's channel scores comes to the exact one.

Judged where it counts, by the mask that decides the radii of the pixels, on test images.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.estimators import DEFINITIONS, ESTIMATORS, ensemble
from benchmarks.progress import runnable, say
from benchmarks.step import INCREASE
from benchmarks.subject import FRESH, KEPT, Subject
from benchmarks.table import Target, at_least, heading, line
from partcore import checkpoint
from partcore.budgets import CentredSigmoid
from partcore.cams import ExactScores, Readout, Scores, read
from partcore.cams.fidelity import fidelity
from partcore.cams.scores import Quantity, is_alive, target_log_odds, target_logit
from partcore.modes import evaluating, frozen

TARGETS: Mapping[tuple[str, str], Target] = {
    ("score-cam", "mean of the two"): at_least(0.97),
    ("score-cam", "mean, in bf16"): at_least(0.97),
    ("score-cam", "8 centroids"): at_least(0.97),
    ("score-cam", "8 centroids, in bf16"): at_least(0.97),
    ("score-cam-increase", INCREASE): at_least(0.95),
}


@dataclass(frozen=True)
class Known:
    """Exact scores that were computed before, of the one readout they belong to."""

    logit: Tensor
    log_odds: Tensor

    def __call__(self, readout: Readout, quantity: Quantity = target_logit) -> Tensor:  # noqa: ARG002
        """Return (N, K)."""
        return self.logit if quantity is target_logit else self.log_odds


def exact(readout: Readout) -> Known:
    """Return the exact scores: both quantities from the same passes, one a channel and image."""
    log_odds: list[Tensor] = []

    def both(logits: Tensor, y: Tensor) -> Tensor:
        log_odds.append(target_log_odds(logits, y))
        return target_logit(logits, y)

    logit = ExactScores()(readout, both)
    other = torch.full_like(logit, -torch.inf)
    other[is_alive(readout.features)] = torch.cat(log_odds)
    return Known(logit, other)


def kept_exact(readout: Readout) -> Known:
    """Return the same from ``.bench/`` where the network and the images are those kept there."""
    file = KEPT / f"exact-{_digest(readout)}.safetensors"
    if file.exists():
        return Known(**checkpoint.load(file)[0])
    passes = int(is_alive(readout.features).sum())
    print(f"exact Score-CAM of {len(readout.y)} images, {passes:,} passes, once", flush=True)
    found = exact(readout)
    checkpoint.save(file, {"logit": found.logit, "log_odds": found.log_odds}, {})
    return found


def _digest(readout: Readout) -> str:
    """Return a name that changes with the weights and with the images."""
    weights = checkpoint.weights_sha256(readout.model.state_dict())
    pixels = readout.x.contiguous().numpy().tobytes()
    return hashlib.sha256(weights.encode() + pixels).hexdigest()[:12]


def correlations(readout: Readout, known: Known, scores: Scores, definition: str) -> Tensor:
    """Return the Pearson correlation of every image's radii with the exact ones, (N,)."""
    estimate, reference = ensemble(definition, scores), ensemble(definition, known)
    return fidelity(readout, estimate, reference, CentredSigmoid())


def report(subject: Subject) -> None:
    """Print mean and tenth percentile for every estimator and definition."""
    x, y = subject.fresh(FRESH)
    with evaluating(subject.model), frozen(subject.model):
        readout = read(subject.model, x, y)
        known = kept_exact(readout)
        names = runnable(ESTIMATORS)
        for definition in DEFINITIONS:
            title = f"radii against exact {definition}, {len(y)} test images"
            heading(title, columns="      mean      p10      least   target")
            for name in names:
                say(f"{definition}, {name}")
                found = correlations(readout, known, ESTIMATORS[name], definition)
                _row(name, found, TARGETS.get((definition, name)))


def _row(name: str, found: Tensor, target: Target | None) -> None:
    figures = (found.mean(), found.quantile(0.1), found.min())
    text = "".join(f"{figure.item():10.3f}" for figure in figures)
    line(name, f"{text:36s}", found.mean().item(), target)
