"""What the audit measures of a network by itself, without any attack."""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from partcore.data import Images, to_unit
from partcore.models import CamClassifier
from partcore.modes import evaluating
from partcore.standing import Outcome

PROBED, PASSES = 32, 5
"""Images looked at, and how often."""


@torch.no_grad()
def logit_difference(model: CamClassifier, images: Images) -> float:
    """Return the largest relative difference of logits over five passes and single images."""
    x = to_unit(images.x[:PROBED])
    with evaluating(model):
        together: Tensor = model(x)
        others = [model(x) for _ in range(PASSES - 1)]
        others.append(torch.cat([model(image[None]) for image in x]))
    scale = together.abs().amax().clamp(min=1e-12)
    return max(float(((together - other).abs().amax() / scale).item()) for other in others)


@torch.no_grad()
def gives_probabilities(model: CamClassifier, images: Images) -> bool:
    """Return whether every output lies in [0, 1] and those of each image sum to 1."""
    with evaluating(model):
        outputs: Tensor = model(to_unit(images.x[:PROBED]))
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return inside and bool(((outputs.sum(dim=1) - 1).abs() < 1e-4).all())


@torch.no_grad()
def mismatches(
    outcomes: Mapping[str, Outcome], fresh: CamClassifier, evidence: Mapping[str, Tensor]
) -> int | None:
    """Return how many kept images a network built anew classifies otherwise than recorded.

    What a cascade found broken before an attack began is not that attack's: it kept no image of it.

    evidence: `x`, `y` and `{label}/x_adv` of the first images. None if no attack kept any.
    """
    kept = [label for label in outcomes if f"{label}/x_adv" in evidence]
    if not kept:
        return None
    wrong = 0
    with evaluating(fresh):
        clean = fresh(evidence["x"]).argmax(dim=1) == evidence["y"]
        for label in kept:
            again = fresh(evidence[f"{label}/x_adv"]).argmax(dim=1) == evidence["y"]
            recorded = outcomes[label].correct[: len(again)]
            own = ~_broken_before(outcomes[label])[: len(again)]
            wrong += int((((again & clean) != recorded) & own).sum())
    return wrong


def _broken_before(outcome: Outcome) -> Tensor:
    """(N,) bool: recorded as broken, and never attacked, because of a cascade."""
    if not outcome.result.cascaded or outcome.margin is None:
        return torch.zeros_like(outcome.correct)
    return outcome.margin.isnan() & ~outcome.correct


def seen_in_training(judged: Images, *training: Images) -> int:
    """Return how many judged images are, byte for byte, among the training images."""
    known = {digest for images in training for digest in _digests(images)}
    return sum(digest in known for digest in _digests(judged))


def _digests(images: Images) -> Iterator[bytes]:
    for image in images.x.cpu():
        yield hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()
