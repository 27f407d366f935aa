"""Interpreters that have imported what attempts need before there is one: seconds off each start.

Each takes one attempt, never a second; what it cannot take (another number of threads, none
ready) starts from nothing, with the same bits. They touch no device, and are gone when memory is
short.
"""

import logging
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.orphans import MARK, STANDBY
from worker.process import ENTRY, Assignment, Child, common_environment
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0
CALM_SECONDS = 10.0
"""After an attempt began, in which nothing is started beside it: it has its own set-up to do."""
ROOM, NEED = 2 << 30, 1 << 30
"""Bytes of memory that must be available to start one, and to keep any: one holds 0.4 GiB."""
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class _Ready:
    child: Child
    mark: Path


class Standby(threading.Thread):
    """Keeps interpreters ready for the slots that are free, from a thread of its own.

    On Linux a child dies with the thread that started it: this one ends with the worker.
    """

    def __init__(self, settings: WorkerSettings, *, entry: tuple[str, ...] = ENTRY) -> None:
        super().__init__(name="standby", daemon=True)
        self._settings = settings
        self._entry = entry
        self._threads = settings.threads_per_run
        self._over = threading.Event()
        # Shared with the threads that run attempts.
        self._lock = threading.Lock()
        self._ready: list[_Ready] = []
        self._wanted = 0
        self._calm_at = 0.0

    def want(self, free: int) -> None:
        """Keep one ready for each free slot, and one for the next that will be.

        The settings may allow fewer.
        """
        most, wanted = self._settings.standby, max(free, 1)
        with self._lock:
            self._wanted = wanted if most is None else min(wanted, most)

    def take(self, assignment: Assignment, *, visible_gpus: str) -> Child | None:
        """Give an interpreter an attempt and return it; None if none is ready for it."""
        with self._lock:
            self._calm_at = time.monotonic() + CALM_SECONDS
            ready = self._pop() if assignment.threads == self._threads else None
        if ready is None:
            return None
        try:
            # Before it can fork: whoever looks for what it left finds the attempt by this link.
            ready.mark.symlink_to(assignment.work)
        except OSError as error:
            log.warning("an attempt starts without standby: %s", error)
            _end(ready)
            return None
        ready.child.begin(assignment, visible_gpus=visible_gpus)
        return ready.child

    def _pop(self) -> _Ready | None:
        while self._ready:
            ready = self._ready.pop(0)
            if ready.child.process.poll() is None:
                return ready
            _end(ready)
        return None

    def memory(self) -> int:
        """Return the bytes that those ready hold."""
        with self._lock:
            pids = [ready.child.process.pid for ready in self._ready]
        return sum(map(_resident, pids))

    def run(self) -> None:
        """Start and end interpreters until :meth:`stop`; a failure is told and tried again."""
        while not self._over.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("an interpreter could not be kept ready; trying again")
                self._over.wait(30 * LOOK_SECONDS)
        self._shrink(0)
        # Its attempts are over by now: the worker stops this last.

    def stop(self) -> None:
        """End those that wait; the attempts of others must be over."""
        self._over.set()
        if self.is_alive():
            self.join(timeout=30)

    def _look(self) -> None:
        with self._lock:
            wanted, count = self._wanted, len(self._ready)
            is_calm = time.monotonic() >= self._calm_at
        memory = available_memory()
        if memory < NEED:
            wanted = 0
        if count > wanted:
            self._shrink(wanted)
        elif count < wanted and is_calm and memory >= ROOM:
            self._start_one()

    def _shrink(self, wanted: int) -> None:
        with self._lock:
            gone, self._ready = self._ready[wanted:], self._ready[:wanted]
        for ready in gone:
            _end(ready)

    def _start_one(self) -> None:
        work = self._settings.work_folder
        work.mkdir(parents=True, exist_ok=True)
        mark = work / f"{STANDBY}{secrets.token_hex(8)}"
        environment = common_environment(self._threads) | {
            MARK: str(mark),
            "CUDA_VISIBLE_DEVICES": "",
        }
        child = Child(
            [*self._entry, "--standby"],
            folder=self._settings.state_folder,
            environment=environment,
        )
        with self._lock:
            self._ready.append(_Ready(child, mark))


def _end(ready: _Ready) -> None:
    ready.child.process.kill()
    ready.child.end(patience=1.0)


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def available_memory(cgroup: Path = CGROUP) -> int:
    """Return the bytes that this host, or the container it is in, has left."""
    left = int(psutil.virtual_memory().available)
    try:
        most = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return left
    return left if most == "max" else min(left, int(most) - used)
