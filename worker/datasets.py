"""Which datasets a host has under its data root, by the names of their files: nothing is read."""

import logging
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from domain.stored_data import FOLDERS

log = logging.getLogger(__name__)
FILES: Mapping[str, tuple[str, ...]] = {
    "cifar10": tuple(
        f"cifar-10-batches-py/{name}"
        for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6)))
    ),
    "cifar100": tuple(f"cifar-100-python/{name}" for name in ("meta", "train", "test")),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
}
"""torchvision's own, by dataset; a test compares them."""
MOST_FOLDERS = 1000
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def datasets(root: Path) -> tuple[str, ...] | None:
    """Return what is there, by the names of ``domain.stored_data``; None if that cannot be told."""
    try:
        if not root.is_dir():
            return ()
        files = [name for name, parts in FILES.items() if all((root / p).is_file() for p in parts)]
        folders = list(islice(_folders(root), MOST_FOLDERS + 1))
    except OSError as error:
        log.warning("which datasets are under the data root cannot be seen: %s", error)
        return None
    # A list cut off would say of the rest that they are not there.
    return None if len(folders) > MOST_FOLDERS else (*files, *sorted(folders))


def _folders(root: Path) -> Iterator[str]:
    for entry in root.iterdir():
        if _FOLDER.fullmatch(entry.name) and all((entry / p).is_dir() for p in ("train", "test")):
            yield FOLDERS + entry.name
