"""Processes that ended attempts left behind.

A child dies with its worker, but what it forked does not: nothing tells it. The next worker of that
name ends it before it gives the slots to anyone, and every worker looks for more now and then.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

log = logging.getLogger(__name__)
KILL_SECONDS = 1.0
"""How long a killed process may take to be gone."""
STANDBY = "standby-"
"""How the marks of interpreters on standby begin."""
MARK = "ATTEMPT_WORK"
"""Environment variable of a child and all it starts: the attempt's work folder."""


def find(work: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Yield every process of an attempt below ``work``, with the attempt's folder's name.

    What this process may not look into is another user's, and no child of this worker.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told = process.environ().get(MARK)
            if told and Path(told).parent == work and process.status() != psutil.STATUS_ZOMBIE:
                yield process, _attempt_of(Path(told))


def _attempt_of(mark: Path) -> str:
    """Return the attempt that a mark stands for: itself, or what its interpreter was given.

    The kernel shows the environment that a process began with, and an interpreter on standby begins
    before it has an attempt: its mark is a link to the attempt's folder from then on.
    """
    try:
        return mark.readlink().name
    except OSError:
        return mark.name


def forget(work: Path) -> None:
    """Remove the marks of interpreters that are gone."""
    links = {link.name: link for link in work.glob(f"{STANDBY}*") if link.is_symlink()}
    if links:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                links.pop(Path(process.environ().get(MARK, "")).name, None)
    for link in links.values():
        link.unlink(missing_ok=True)


def end(work: Path, attempts: set[str]) -> int:
    """Kill what is left of these attempts, named ``<run>-<attempt>``.

    Returns how many live on: they hang in the kernel, or in a driver.
    """
    left = [(process, attempt) for process, attempt in find(work) if attempt in attempts]
    for process, attempt in left:
        log.warning("process %d of attempt %s was left behind: killed", process.pid, attempt)
        with suppress(psutil.Error):
            process.kill()
    _, alive = psutil.wait_procs([process for process, _ in left], timeout=KILL_SECONDS)
    return len(alive)
