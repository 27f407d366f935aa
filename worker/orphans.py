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
                yield process, Path(told).name


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
