"""Which files a folder of images holds, class by class, before any is opened."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_FILES = frozenset(
    {"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "@eaDir", "Icon\r", "lost+found"}
)
"""What operating systems leave in folders, beside hidden files."""
KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_ignored(name: str) -> bool:
    """Whether a name is hidden (``.DS_Store``, ``.ipynb_checkpoints``) or an operating system's."""
    return name.startswith(".") or name in SYSTEM_FILES


def shown(name: str) -> str:
    """Return a name off a disk, fit for a message: printable, and not too long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return text if len(text) <= 200 else f"{text[:90]}...{text[-100:]}"


@dataclass
class Listing:
    """The images of one part of a folder, in order of their names, and all that is in the way."""

    root: Path
    """The folder that `train` and `test` are in, without symbolic links."""
    part: str
    classes: tuple[str, ...] = ()
    files: list[tuple[str, int]] = field(default_factory=list)
    """Each file's path, as text (a Path each takes a second for 100,000), and its class's place."""
    counts: Counter[str] = field(default_factory=Counter)
    """`ignored` hidden and system entries, files `nested` below their class's folder."""
    problems: list[str] = field(default_factory=list)
    """A sentence for each entry that nobody can read, or that belongs nowhere."""

    def name_of(self, path: str) -> str:
        """Return what to call a path in a message: relative to the folder."""
        return shown(str(Path(path).relative_to(self.root)))

    def report(self, path: str, what: str) -> None:
        """Add a problem with one path."""
        self.problems.append(f"{self.name_of(path)} {what}")


def list_part(root: Path, part: str) -> Listing:
    """List ``root``/``part``, which is a folder."""
    listing = Listing(root, part)
    folders = []
    for entry in _entries(listing, str(root / part)):
        path = entry.path
        match _kind(listing, entry):
            case "folder" if not entry.name.isprintable():
                listing.report(
                    path, "is a class with unprintable characters in its name: rename it"
                )
            case "folder":
                folders.append(path)
            case "file":
                listing.report(path, "is in no class folder: move it into one, or remove it")
            case _:
                pass
    listing.classes = tuple(Path(folder).name for folder in folders)
    _check_spelling(listing)
    for label, folder in enumerate(folders):
        _list_class(listing, folder, label)
    return listing


def _check_spelling(listing: Listing) -> None:
    """Refuse classes that another file system, or a reader, would take for one."""
    spellings: dict[str, str] = {}
    for name in listing.classes:
        plain = unicodedata.normalize("NFC", name).casefold()
        other = spellings.setdefault(plain, name)
        if other != name:
            listing.problems.append(
                f"{listing.part}/ has the classes {shown(other)!r} and {shown(name)!r}, which "
                "differ in spelling only: rename or merge them"
            )


def _list_class(listing: Listing, folder: str, label: int) -> None:
    files: list[str] = []
    seen = {_identity(folder)}
    pending = [folder]
    while pending:
        current = pending.pop()
        for entry in _entries(listing, current):
            path = entry.path
            match _kind(listing, entry):
                case "file":
                    files.append(path)
                    listing.counts["nested"] += current != folder
                case "folder":
                    # Once each: links may lead round in circles, or double the way at every level.
                    identity = _identity(path)
                    if identity in seen:
                        listing.report(path, "leads to a folder that is read already: remove it")
                    else:
                        seen.add(identity)
                        pending.append(path)
                case _:
                    pass
    if not files:
        listing.report(folder, "is a class without an image: fill or remove it")
    listing.files += [(file, label) for file in sorted(files)]


def _entries(listing: Listing, folder: str) -> Iterable[os.DirEntry[str]]:
    """Return what a folder holds, in order of names; hidden entries are counted instead."""
    try:
        with os.scandir(folder) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        listing.report(folder, f"cannot be listed: {error.strerror}")
        return []
    wanted = [entry for entry in every if not is_ignored(entry.name)]
    listing.counts["ignored"] += len(every) - len(wanted)
    return wanted


def _kind(listing: Listing, entry: os.DirEntry[str]) -> str | None:
    """Return `file` or `folder`, None for what is neither or not to be followed (a problem)."""
    path = entry.path
    try:
        if entry.is_symlink() and not Path(path).resolve(strict=True).is_relative_to(listing.root):
            listing.report(path, "is a link that leaves the folder: put the file itself there")
            return None
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        mode = Path(path).stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, until Python 3.13
        reason = getattr(error, "strerror", None) or "a loop of links"
        listing.report(path, f"cannot be read: {reason}")
        return None
    what = next((words for test, words in KINDS if test(mode)), "a special file")
    listing.report(path, f"is {what}, not an image: remove it")
    return None


def _identity(folder: str) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino
