"""CIFAR and SVHN through torchvision, never downloaded behind anyone's back."""

from pathlib import Path

import torch

from domain.catalog import DATASETS
from domain.errors import DataMissing
from partcore.data.images import Images, Parts, numbered


def cifar(name: str, root: Path) -> Parts:
    """CIFAR-10 or CIFAR-100. Raises DataMissing.

    torchvision reads CIFAR's own pickles. It does so only after the md5 of every file equals the
    published one, which its constructor checks: the one place where this project lets a pickle be
    read, because its bytes are known.
    """
    from torchvision.datasets import CIFAR10, CIFAR100  # slow to import

    kind = CIFAR10 if name == "cifar10" else CIFAR100
    try:
        train, test = (kind(str(root), train=part, download=False) for part in (True, False))
    except RuntimeError as error:
        raise _missing(name, root) from error
    return Parts(
        _images(train.data, train.targets),
        _images(test.data, test.targets),
        tuple(train.classes),
    )


def svhn(root: Path) -> Parts:
    """SVHN, format 2. Raises DataMissing."""
    from torchvision.datasets import SVHN  # slow to import

    try:
        train, test = (SVHN(str(root), split=part, download=False) for part in ("train", "test"))
    except RuntimeError as error:
        raise _missing("svhn", root) from error
    parts = [
        numbered(torch.from_numpy(part.data), torch.from_numpy(part.labels))
        for part in (train, test)
    ]
    return Parts(parts[0], parts[1], tuple(str(d) for d in range(10)))


def _images(pixels: object, labels: list[int]) -> Images:
    x = torch.as_tensor(pixels).permute(0, 3, 1, 2)
    return numbered(x, torch.tensor(labels))


def _missing(name: str, root: Path) -> DataMissing:
    facts = DATASETS[name]  # type: ignore[index]
    return DataMissing(f"{facts.title} is not under {root}: {facts.how_to_get} (--root {root})")


def download(name: str, root: Path) -> None:
    """Fetch a dataset into ``root``. Raises KeyError on a name that cannot be fetched."""
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN  # slow to import

    root.mkdir(parents=True, exist_ok=True)
    if name == "svhn":
        for split in ("train", "test"):
            SVHN(str(root), split=split, download=True)
        return
    {"cifar10": CIFAR10, "cifar100": CIFAR100}[name](str(root), download=True)
