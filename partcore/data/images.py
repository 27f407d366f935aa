"""Images in memory, and how they are divided."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from domain.events import Log
from partcore.randomness import generator


@dataclass(frozen=True)
class Images:
    """Labelled images with stable ids."""

    x: Tensor
    """(N, C, H, W), uint8."""
    y: Tensor
    """(N,), int64."""
    ids: Tensor
    """(N,), int64: place in the whole dataset's train or test part."""

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Tensor) -> "Images":
        """Return the images at ``index``, (M,), in that order."""
        return Images(self.x[index], self.y[index], self.ids[index])

    def to(self, device: str) -> "Images":
        """Return the same images in a device's memory."""
        return Images(self.x.to(device), self.y.to(device), self.ids.to(device))


@dataclass(frozen=True)
class Parts:
    """A dataset as it is published: train, test, the names of its classes."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    log: tuple[Log, ...] = ()
    """What to say of how they were read."""


@dataclass(frozen=True)
class Split:
    """A dataset as one run sees it."""

    train: Images
    validation: Images
    """Held out of training; empty when the run asked for none."""
    test: Images
    classes: tuple[str, ...]
    log: tuple[Log, ...] = ()
    """What to say of the images before anything is done with them."""

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the training pixels in [0, 1], (C,) each."""
        x = self.train.x
        flat = x.transpose(0, 1).flatten(1).double() / 255
        return flat.mean(dim=1).float(), flat.std(dim=1, correction=0).clamp(min=1e-3).float()


def numbered(x: Tensor, y: Tensor) -> Images:
    """Number images by their place."""
    return Images(x.contiguous(), y.long(), torch.arange(x.shape[0]))


def balanced_order(y: Tensor, *, seed: int, purpose: str) -> Tensor:
    """Return a shuffled order of samples, (N,), in which any prefix is as balanced as can be.

    Samples are dealt class by class, each class shuffled by (seed, purpose, class).
    """
    rank = torch.empty(y.shape[0], dtype=torch.double)
    for label in sorted(set(y.tolist())):
        members = (y == label).nonzero()[:, 0]
        shuffled = torch.randperm(len(members), generator=generator(seed, purpose, label))
        rank[members[shuffled]] = (torch.arange(len(members)) + 0.5).double() / len(members)
    return torch.argsort(rank, stable=True)


def limited(images: Images, limit: int | None, *, seed: int, purpose: str) -> Images:
    """Return a class-balanced subset of ``limit`` images in order of id, or all of them."""
    if limit is None or limit >= len(images):
        return images
    return images.take(balanced_order(images.y, seed=seed, purpose=purpose)[:limit].sort().values)


def hold_out(images: Images, fraction: float, *, seed: int) -> tuple[Images, Images]:
    """Divide into (kept, held out): a class-balanced ``fraction`` is held out, by ``seed``."""
    count = round(len(images) * fraction)
    order = balanced_order(images.y, seed=seed, purpose="validation")
    return images.take(order[count:].sort().values), images.take(order[:count].sort().values)


def fingerprint(images: Images) -> str:
    """Return the sha256 over pixels, labels and ids."""
    digest = hashlib.sha256()
    for tensor in (images.x, images.y, images.ids):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
