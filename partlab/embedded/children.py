"""Processes that belong to `part up`: each in its own group, with a log, restarted if it dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

BOUND = Path(__file__).with_name("bound.py")
KEPT_LOGS = 3
LONGEST_LOG = 32 * 1024 * 1024
"""Bytes; a longer log is cut while the lab runs."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
CALM = 60.0
"""Seconds alive after which a child's earlier deaths are forgotten."""


@dataclass(frozen=True)
class Program:
    """What to run."""

    name: str
    command: Sequence[str]
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """What it gets when `part up` itself is killed."""
    descriptors: tuple[int, ...] = ()
    """Open files it inherits."""

    @property
    def title(self) -> str:
        """What people call it."""
        return "API" if self.name == "api" else self.name


@dataclass
class Child:
    """A program that should be running."""

    program: Program
    folder: Path
    """Where it runs."""
    environment: Mapping[str, str]
    logs: Path
    """Where its log lies."""
    clock: Callable[[], float] = time.monotonic
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    """In a row, without a calm minute between."""
    started: float = field(default=0.0)
    not_before: float = field(default=0.0)

    @property
    def log(self) -> Path:
        """Its log."""
        return self.logs / f"{self.program.name}.log"

    def start(self) -> None:
        """Start it in a session of its own.

        The main thread must call: on Linux the end of the starting thread ends the child.
        """
        bound = [sys.executable, "-I", "-S", str(BOUND), str(int(self.program.orphan_signal))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*bound, str(os.getpid()), *self.program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=dict(self.environment),
                pass_fds=self.program.descriptors,
                start_new_session=True,
            )
        self.started = self.clock()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def look_after(self) -> str | None:
        """Restart it if it is dead and its pause is over; return what there is to tell, if any."""
        now = self.clock()
        if self.is_alive:
            return None
        if self.process is not None:
            return self._mourn(self.process, now)
        if now < self.not_before:
            return None
        self.start()
        return f"the {self.program.title} was started again"

    def _mourn(self, process: subprocess.Popen[bytes], now: float) -> str:
        # What it left behind in its group must not live beside its successor.
        signal_group(process, signal.SIGKILL)
        self.deaths = 1 if now - self.started > CALM else self.deaths + 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.deaths - 1))
        self.not_before, self.process = now + pause, None
        how = describe_exit(process.returncode)
        return f"the {self.program.title} {how}; it starts again in {pause:g} s (see {self.log})"

    def how_it_ended(self) -> str:
        """Say how it ended, for people."""
        status = self.process.poll() if self.process is not None else None
        return "is running" if status is None else describe_exit(status)

    def stop(self, *, at_once: Callable[[], bool]) -> None:
        """End its whole group: SIGTERM, then SIGKILL after its grace or when ``at_once``."""
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            signal_group(process, signal.SIGTERM)
            deadline = self.clock() + self.program.grace
            while process.poll() is None and self.clock() < deadline and not at_once():
                time.sleep(0.05)
        signal_group(process, signal.SIGKILL)
        process.wait(timeout=10)
        self.process = None


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a child's whole group, if any of it is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def describe_exit(status: int) -> str:
    """Say how a process ended."""
    if status < 0:
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def rotate(log: Path) -> None:
    """Make room for a new log; the last few are kept as ``.1``, ``.2`` …"""
    for number in reversed(range(1, KEPT_LOGS)):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def cut(log: Path, *, longest: int = LONGEST_LOG) -> None:
    """Empty a log that is too long, keeping its last half; its writer appends and goes on."""
    if not log.exists() or log.stat().st_size <= longest:
        return
    with log.open("rb+") as file:
        file.seek(-longest // 2, os.SEEK_END)
        rest = file.read()
        file.seek(0)
        file.write(rest)
        file.truncate()


def tail(log: Path, lines: int = 15) -> str:
    """Return a log's last lines."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
