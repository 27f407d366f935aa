"""Datasets by name."""

from collections.abc import Generator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from domain.catalog import DATASETS, DatasetName
from domain.errors import DataMissing, SpecUnsatisfiable
from domain.events import Progress
from domain.spec import DataSpec
from partcore.data.image_folder import image_folder
from partcore.data.images import Images, Parts, Split, balanced_order, hold_out, limited, numbered
from partcore.data.sizes import too_small
from partcore.data.torchvision_sets import cifar, svhn

DECLARED = 0
"""Seed of every choice that must be the same for all runs: test subsets and digits' split."""


def load(spec: DataSpec, root: Path, *, seed: int) -> Split:
    """Return the images a spec names: :func:`loading` without its signs of life."""
    steps = loading(spec, root, seed=seed)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            split: Split = stop.value
            return split


def loading(spec: DataSpec, root: Path, *, seed: int) -> Generator[Progress, None, Split]:
    """Yield how far reading is; return the images a spec names, from the data root.

    The test subset is the same for every run; the training subset and the validation split follow
    the run's seed.

    Raises DataMissing with how to get them, DataUnreadable naming the file in the way,
    SpecUnsatisfiable if they do not fit the spec.
    """
    parts = yield from _parts(spec, root, seed)
    train = limited(parts.train, spec.train_limit, seed=seed, purpose="train-subset")
    test = limited(parts.test, spec.test_limit, seed=DECLARED, purpose="test-subset")
    train, validation = hold_out(train, spec.validation_fraction, seed=seed)
    if len(train) < 2:
        raise SpecUnsatisfiable(
            f"{len(train)} of {len(train) + len(validation)} training images are left to train on, "
            "at least two are needed; raise data.train_limit or lower data.validation_fraction"
        )
    split = Split(train, validation, test, parts.classes, parts.log)
    return replace(split, log=(*parts.log, *too_small(split, spec)))


def _parts(spec: DataSpec, root: Path, seed: int) -> Generator[Progress, None, Parts]:
    name: DatasetName = spec.dataset
    match name:
        case "digits":
            return digits()
        case "cifar10" | "cifar100":
            return cifar(name, root)
        case "svhn":
            return svhn(root)
        case "image-folder":
            return (yield from image_folder(spec, root, seed=seed, declared=DECLARED))
        case _:
            assert_never(name)


def digits() -> Parts:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8, divided 1,437 to 360, balanced."""
    table = torch.from_numpy(np.loadtxt(_digits_file(), delimiter=","))
    x = (table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().to(torch.uint8)[:, None]
    y = table[:, -1].long()
    test_count = DATASETS["digits"].test or 0
    order = balanced_order(y, seed=DECLARED, purpose="digits-test")
    test, train = order[:test_count].sort().values, order[test_count:].sort().values
    return Parts(_chosen(x, y, train), _chosen(x, y, test), tuple(str(d) for d in range(10)))


def _digits_file() -> Path:
    """Return scikit-learn's table, found without its import, which takes 1.2 s."""
    found = find_spec("sklearn")
    folders = [] if found is None else found.submodule_search_locations or []
    for folder in folders:
        if (file := Path(folder, "datasets", "data", "digits.csv.gz")).is_file():
            return file
    raise DataMissing("digits come with scikit-learn: pip install scikit-learn")


def _chosen(x: Tensor, y: Tensor, index: Tensor) -> Images:
    return numbered(x[index], y[index])
