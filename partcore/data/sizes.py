"""What of a split is too small to mean what it is for."""

from collections.abc import Iterator

from domain.audit import REPRESENTATIVE
from domain.errors import SpecUnsatisfiable
from domain.events import Log
from domain.spec import DataSpec, TrainSpec
from partcore.data.images import Images, Split


def require_enough(spec: TrainSpec, split: Split, ranks: int) -> None:
    """Raise SpecUnsatisfiable where images are too few to train on as a spec says."""
    count, batch = len(split.train), spec.training.batch_size
    if min(count, batch) < 2 * ranks:  # batch norm needs two
        raise SpecUnsatisfiable(
            f"{count} training images in batches of {batch} leave less than two for each of "
            f"{ranks} ranks; raise data.train_limit or training.batch_size, or ask for fewer slots"
        )
    if spec.training.early_stop is not None and not len(split.validation):
        raise SpecUnsatisfiable(
            f"training.early_stop needs held-out images; data.validation_fraction "
            f"{spec.data.validation_fraction:g} of {count} training images holds out none"
        )


def too_small(split: Split, spec: DataSpec) -> Iterator[Log]:
    """Yield a warning for each part of a split that is too small."""
    for sentence in (*_without_a_class(split), *_few_held_out(split, spec)):
        yield Log(level="warning", message=sentence)


def _without_a_class(split: Split) -> Iterator[str]:
    parts = {"training": (split.train, "train"), "test": (split.test, "test")}
    for what, (images, field) in parts.items():
        if missing := len(split.classes) - classes_in(images):
            yield (
                f"{missing} of {len(split.classes)} classes have no {what} image among "
                f"{len(images)}; raise data.{field}_limit"
            )


def classes_in(images: Images) -> int:
    """Return how many classes some images are of."""
    return len(set(images.y.tolist()))


def _few_held_out(split: Split, spec: DataSpec) -> Iterator[str]:
    held_out, fraction = len(split.validation), spec.validation_fraction
    if fraction and not held_out:
        yield (
            f"data.validation_fraction {fraction:g} of {len(split.train)} training images holds "
            "out none: the last weights will be `best`"
        )
    elif 0 < held_out < REPRESENTATIVE:
        yield (
            f"`best` weights are chosen on {held_out} held-out images, mostly by chance under "
            f"{REPRESENTATIVE}; raise data.train_limit or data.validation_fraction"
        )
