"""A folder of images: <root>/<folder>/{train,test}/<class>/*."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from domain.catalog import DATASETS
from domain.errors import DataMissing, SpecUnsatisfiable
from domain.spec import DataSpec
from partcore.data.images import Images, balanced_order

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})


def image_folder(
    spec: DataSpec, root: Path, *, seed: int, declared: int
) -> tuple[Images, Images, tuple[str, ...]]:
    """Read the folder's images, only those a limit asks for, in order of their names.

    Raises DataMissing, and SpecUnsatisfiable when the classes are not as many as declared, differ
    between train and test, or a file is no image.
    """
    folder = root / str(spec.folder)
    classes = _classes(folder / "train", spec)
    if _classes(folder / "test", spec) != classes:
        raise SpecUnsatisfiable(f"train/ and test/ of '{spec.folder}' have different classes")
    train = _read(folder / "train", classes, spec, spec.train_limit, seed, "train-subset")
    test = _read(folder / "test", classes, spec, spec.test_limit, declared, "test-subset")
    return train, test, classes


def _classes(part: Path, spec: DataSpec) -> tuple[str, ...]:
    if not part.is_dir():
        how = DATASETS["image-folder"].how_to_get
        raise DataMissing(f"there is no {part.name}/ folder in '{spec.folder}': {how}")
    found = tuple(sorted(entry.name for entry in part.iterdir() if entry.is_dir()))
    if len(found) != spec.classes:
        raise SpecUnsatisfiable(
            f"data.classes is {spec.classes}; {part.name}/ of '{spec.folder}' has {len(found)}"
        )
    return found


def _read(
    part: Path,
    classes: tuple[str, ...],
    spec: DataSpec,
    limit: int | None,
    seed: int,
    purpose: str,
) -> Images:
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((part / name).iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    y = torch.tensor([label for _, label in files], dtype=torch.long)
    if len(set(y.tolist())) != len(classes):
        raise SpecUnsatisfiable(f"a class of {part.name}/ in '{spec.folder}' has no image")
    ids = torch.arange(len(files))
    if limit is not None and limit < len(files):
        ids = balanced_order(y, seed=seed, purpose=purpose)[:limit].sort().values
    x = torch.stack([_decode(files[i][0], spec.image_size) for i in ids.tolist()])
    return Images(x, y[ids], ids)


def _decode(file: Path, size: int) -> torch.Tensor:
    """Return one image as uint8 (3, size, size). Raises SpecUnsatisfiable if it is none."""
    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise SpecUnsatisfiable(f"{file.parent.name}/{file.name} is no readable image") from error
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(rgb).copy()).permute(2, 0, 1)
