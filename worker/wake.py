"""What wakes a dispatcher, and which runs it should look at when it does."""

import threading
from collections.abc import Iterable


class Wake:
    """Calls from any thread; those that come while nobody waits are one call."""

    def __init__(self) -> None:
        self._called = threading.Event()
        self._lock = threading.Lock()
        self._runs: set[str] = set()

    def call(self, runs: Iterable[str] = ()) -> None:
        """Wake the dispatcher. runs: those that were asked to stop, pause or give way."""
        with self._lock:
            self._runs.update(runs)
        self._called.set()

    def wait(self, seconds: float) -> frozenset[str]:
        """Wait for a call, at most so long; return the runs to look at."""
        self._called.wait(seconds)
        with self._lock:
            # Cleared under the lock: a call between the two would wake nobody, and keep its runs.
            self._called.clear()
            runs, self._runs = frozenset(self._runs), set()
        return runs
