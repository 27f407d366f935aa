"""A folder of images: <root>/<folder>/{train,test}/<class>/**."""

import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from domain.catalog import DATASETS
from domain.errors import DataMissing, DataUnreadable, SpecUnsatisfiable
from domain.events import Log, Progress
from domain.spec import DataSpec
from partcore.data.decode import Undecodable, decode, read_bytes
from partcore.data.images import Images, Parts, balanced_order
from partcore.data.listing import Listing, is_ignored, list_part, shown

PARTS = ("train", "test")
PROGRESS_EVERY = 500
"""Images between two signs of life while they are read."""
WORDS: Mapping[str, str] = {
    "ignored": "{} hidden or system files and folders were ignored",
    "nested": "{} lie in folders below their class's",
    "frames": "of {} with several frames or pages the first was read",
    "transparent": "{} are transparent: laid on white",
    "deep": "{} have grey pixels of more than 8 bits: scaled to 8",
    "turned": "{} were turned upright, as their EXIF says",
    "unclear-exif": "{} have unreadable EXIF: not turned",
    "profile": "{} have a colour profile, which was ignored",
    "not-square": "{} are not square: squeezed",
}
"""What the log says of each count; `{}` is the number."""


@dataclass(frozen=True)
class Reading:
    """What became of one part's files."""

    images: Images
    counts: Counter[str]


def image_folder(
    spec: DataSpec, root: Path, *, seed: int, declared: int
) -> Generator[Progress, None, Parts]:
    """Read the folder's images, only those a limit asks for, in order of their names.

    Raises DataMissing; SpecUnsatisfiable when the classes are not as many as the spec says; and
    DataUnreadable, naming the file, where anything in the folder is not as it should be.
    """
    folder = locate(root, str(spec.folder))
    listings = [list_part(folder, part) for part in PARTS]
    classes = _classes(listings, spec)
    train = yield from _read(listings[0], spec, spec.train_limit, seed)
    test = yield from _read(listings[1], spec, spec.test_limit, declared)
    counts = train.counts + test.counts
    told = _described(str(spec.folder), spec.image_size, listings, counts, unread(folder))
    return Parts(train.images, test.images, classes, (Log(message=told),))


def locate(root: Path, name: str) -> Path:
    """Return the folder an operator calls ``name``, which may itself be a link.

    Links inside it may not lead out: such trees come out of strangers' archives.

    Raises DataMissing, DataUnreadable.
    """
    how = DATASETS["image-folder"].how_to_get
    try:
        folder = (root / name).resolve()
        if not folder.is_dir():
            raise DataMissing(f"there is no folder '{name}' under the data root: {how}")
        parts = [(folder / part).resolve() for part in PARTS]
        for part, path in zip(PARTS, parts, strict=True):
            if not path.is_dir():
                raise DataMissing(f"there is no {part}/ folder in '{name}': {how}")
            if not path.is_relative_to(folder):
                raise DataUnreadable(f"{part} of '{name}' is a link that leaves the folder")
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, until Python 3.13
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise DataUnreadable(f"'{name}' cannot be read: {reason}") from error
    return folder


def unread(folder: Path) -> list[str]:
    """Return what lies beside train/ and test/, which nobody reads."""
    names = [path.name for path in folder.iterdir()] if os.access(folder, os.R_OK) else []
    return sorted(shown(name) for name in names if name not in PARTS and not is_ignored(name))


def problems(listings: list[Listing]) -> Iterator[str]:
    """Yield what is wrong with a folder's entries, then with its classes, a sentence each."""
    for listing in listings:
        yield from listing.problems
    train, test = (set(listing.classes) for listing in listings)
    for one, other, names in (("train", "test", train - test), ("test", "train", test - train)):
        if names:
            some = ", ".join(map(shown, sorted(names)[:5]))
            yield f"{one}/ has different classes from {other}/; only there: {some}"


def _classes(listings: list[Listing], spec: DataSpec) -> tuple[str, ...]:
    """Return the classes. Raises DataUnreadable, SpecUnsatisfiable."""
    name, classes = str(spec.folder), listings[0].classes
    wrong = list(problems(listings))
    if len(classes) != spec.classes and not listings[0].problems:
        raise SpecUnsatisfiable(
            f"data.classes is {spec.classes}; train/ of '{name}' has {len(classes)}"
        )
    if wrong:
        more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DataUnreadable(f"in '{name}': {wrong[0]}{more}; {_hint(name)}")
    return classes


def _hint(name: str) -> str:
    return f"`python -m partcore.data check {name}` lists all that is wrong"


def _read(
    listing: Listing, spec: DataSpec, limit: int | None, seed: int
) -> Generator[Progress, None, Reading]:
    y = torch.tensor([label for _, label in listing.files], dtype=torch.long)
    ids = torch.arange(len(y))
    if limit is not None and limit < len(y):
        order = balanced_order(y, seed=seed, purpose=f"{listing.part}-subset")
        ids = order[:limit].sort().values
    size, counts = spec.image_size, Counter(listing.counts)
    x = torch.empty(len(ids), 3, size, size, dtype=torch.uint8)
    for place, index in enumerate(ids.tolist()):
        if place % PROGRESS_EVERY == 0:
            yield _progress(listing, place, len(ids))
        file = listing.files[index][0]
        try:
            decoded = decode(read_bytes(file), size)
        except Undecodable as error:
            where = f"in '{spec.folder}': {listing.name_of(file)}"
            raise DataUnreadable(f"{where} {error}; {_hint(str(spec.folder))}") from error
        x[place] = torch.from_numpy(decoded.pixels).permute(2, 0, 1)
        counts.update(decoded.notes)
    return Reading(Images(x, y[ids], ids), counts)


def _progress(listing: Listing, done: int, total: int) -> Progress:
    detail = f"reading the images of {listing.part}/"
    return Progress(phase="prepare", done=done, total=total, unit="image", detail=detail)


def _described(
    name: str, size: int, listings: list[Listing], counts: Counter[str], beside: list[str]
) -> str:
    """Say what a folder holds, and what of it was not read as it lies there."""
    train, test = (len(listing.files) for listing in listings)
    return "; ".join(
        [
            f"'{name}' holds {train:,} training and {test:,} test images of "
            f"{len(listings[0].classes)} classes, brought to {size}x{size}",
            *(words.format(f"{counts[key]:,}") for key, words in WORDS.items() if counts[key]),
            *([f"beside train/ and test/, not read: {', '.join(beside[:5])}"] if beside else []),
        ]
    )


@dataclass(frozen=True)
class Checked:
    """What a run on a folder would say of it."""

    summary: str
    problems: tuple[str, ...]
    """All that it would refuse, a sentence each."""


def check(root: Path, name: str, size: int) -> Checked:
    """Read every file of a folder. Raises DataMissing, DataUnreadable where none can be read."""
    folder = locate(root, name)
    listings = [list_part(folder, part) for part in PARTS]
    wrong = list(problems(listings))
    counts: Counter[str] = Counter()
    for listing in listings:
        counts.update(listing.counts)
        for file, _ in listing.files:
            try:
                counts.update(decode(read_bytes(file), size).notes)
            except Undecodable as error:
                wrong.append(f"{listing.name_of(file)} {error}")
    return Checked(_described(name, size, listings, counts, unread(folder)), tuple(wrong))
