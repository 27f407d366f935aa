"""Refuse to run where another package stands before one of the lab's own.

The lab installs eight top-level packages, and names such as ``api`` or ``web`` are other people's
too. Whoever comes first on Python's path is imported, so each process of the lab first checks that
it would import the packages it was installed with: the first lines of ``api``, ``migrations``,
``partcore``, ``store`` and ``worker`` ask, and so does `part`. This module needs none of them:
``partlab`` is the one name that nobody else has.

``python .../partlab/installation.py`` judges the interpreter that runs it, and also asks which
other distributions have installed files into our folders.
"""

import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "partlab"
PACKAGES = ("api", "domain", "migrations", "partcore", "partlab", "store", "web", "worker")
ROOT = Path(__file__).resolve().parent.parent
"""Where the lab is installed: `site-packages`, or the checkout of an editable install."""
ADVICE = (
    "Run PART Lab from another folder, install it into an environment of its own, or take the "
    "other package's folder out of PYTHONPATH."
)


def refuse_shadowed_packages(names: Iterable[str] = PACKAGES) -> None:
    """Raise SystemExit, naming each, if a package would be imported from somebody else."""
    _refuse(shadowed_packages(names))


def shadowed_packages(names: Iterable[str] = PACKAGES) -> Iterator[str]:
    """Yield a sentence for each package of the lab that Python would import from elsewhere."""
    for name in names:
        location = _location(name)
        if location != ROOT / name:
            where = "cannot be imported" if location is None else f"is shadowed by {location}"
            yield f"PART Lab's package `{name}` in {ROOT} {where}."


def shared_packages() -> Iterator[str]:
    """Yield a sentence for each package into which another distribution installs files too."""
    distributions = packages_distributions()
    for name in PACKAGES:
        for other in sorted({*distributions.get(name, ())} - {DISTRIBUTION}):
            yield f"The distribution `{other}` also installs a package `{name}`."


def _refuse(problems: Iterable[str]) -> None:
    if sentences := [*problems]:
        raise SystemExit("\n".join([*sentences, ADVICE]))


def _location(name: str) -> Path | None:
    """Return the folder (or the file) that ``import name`` would take; None if there is none."""
    spec = find_spec(name)
    if spec is None:
        return None
    folders = [*(spec.submodule_search_locations or ())]
    return Path(folders[0] if folders else str(spec.origin)).resolve()


if __name__ == "__main__":
    # Python puts the folder of a file it runs first on the path; nobody imports from there.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT / DISTRIBUTION]
    _refuse([*shadowed_packages(), *shared_packages()])
