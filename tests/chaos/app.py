"""The worker's Celery application, with the chaos lab's child, clock and planted bugs.

``CHAOS_CLOCK`` names a file with the seconds by which this process's clock is wrong; ``CHAOS_BUG``
a defect to plant (see :mod:`tests.chaos.bugs`).
"""

import os
import time
from functools import partial
from pathlib import Path

import worker.app
from tests.chaos import bugs
from worker.dispatcher import Dispatcher

ROOT = Path(__file__).parents[2]
CHILD = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.chaos import child; child.main()"
)
right = time.time


def wrong() -> float:
    """The wall clock of this host, which may be stepped at any time."""
    try:
        return right() + float(Path(os.environ["CHAOS_CLOCK"]).read_text())
    except (OSError, ValueError):
        return right()


time.time = wrong
worker.app.Dispatcher = partial(Dispatcher, entry=("-c", CHILD))  # type: ignore[assignment, misc]
bugs.plant(os.environ.get("CHAOS_BUG", ""))
app = worker.app.app
