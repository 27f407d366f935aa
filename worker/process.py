"""Starting and ending a child interpreter."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from domain.control import Begin, Control, write_line
from worker.orphans import MARK

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""All that a child sees of its worker's environment: no URL, no token."""
TAIL_LINES = 200
ENTRY = ("-m", "worker.child")


@dataclass(frozen=True)
class Assignment:
    """What a child is to do, as its command line says it."""

    spec: Path
    work: Path
    data_root: Path
    device: str
    """`cpu`, or `cuda`: every rank takes its own of the visible ones."""
    threads: int
    lease: float
    """The first deadline, as in ``Renew``: an interpreter takes seconds to start."""
    ranks: int = 1
    """How many processes train together, one a slot."""
    resume: bool = False
    source: Path | None = None
    surrogates: Path | None = None

    def arguments(self) -> list[str]:
        """Return the command line, without the pipes."""
        told: dict[str, object] = {
            "--spec": self.spec,
            "--work": self.work,
            "--data-root": self.data_root,
            "--device": self.device,
            "--threads": self.threads,
            "--lease": self.lease,
            "--ranks": self.ranks,
        }
        flags = ["--resume"] if self.resume else []
        files = {"--source": self.source, "--surrogates": self.surrogates}
        told |= {name: file for name, file in files.items() if file is not None}
        return [*(str(part) for pair in told.items() for part in pair), *flags]


class Child:
    """A child interpreter in its own session, with its two pipes."""

    def __init__(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Start one in ``folder``. arguments: of python, without the pipes.

        On Linux it dies with the thread that calls this: one that lives as long as it must.
        """
        events_read, events_write = os.pipe()
        control_read, control_write = os.pipe()
        # A frozen child reads nothing: renewals must not wait for it.
        os.set_blocking(control_write, False)
        self.events: BinaryIO = os.fdopen(events_read, "rb")
        self._control = os.fdopen(control_write, "wb", buffering=0)
        pipes = ["--events", str(events_write), "--control", str(control_read)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, *arguments, *pipes],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(events_write, control_read),
                start_new_session=True,
            )
        except BaseException:
            self.events.close()
            self._control.close()
            raise
        finally:
            os.close(events_write)
            os.close(control_read)
        self.over = False
        """Whether it was seen to end; its process id may be another's by now."""
        self._control_lock = threading.Lock()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls,
        assignment: Assignment,
        *,
        folder: Path,
        visible_gpus: str,
        entry: tuple[str, ...] = ENTRY,
    ) -> Self:
        """Start one with what it is to do. visible_gpus: CUDA_VISIBLE_DEVICES."""
        arguments = [*entry, *assignment.arguments()]
        whole = common_environment(assignment.threads) | attempt_environment(
            assignment, visible_gpus
        )
        return cls(arguments, folder=folder, environment=whole)

    def begin(self, assignment: Assignment, *, visible_gpus: str) -> None:
        """Give one on standby its attempt."""
        own = attempt_environment(assignment, visible_gpus)
        self.tell(Begin(arguments=tuple(assignment.arguments()), environment=own))

    def _read_output(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self.tail.append(line.decode(errors="replace").rstrip())

    def tell(self, message: Control) -> None:
        """Send a control line; a child that is gone does not hear it."""
        with self._control_lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._control.write(write_line(message))

    def signal_alone(self, number: signal.Signals) -> None:
        """Signal the child and none of its group; nobody, once it is over."""
        if not self.over:
            self.process.send_signal(number)

    def signal(self, number: signal.Signals) -> None:
        """Signal the child's whole process group; nobody, once it is over."""
        if self.over:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def end(self, *, patience: float) -> int:
        """Wait for the child, then for the rest of its group; kill what is left after a while.

        Returns the exit status; negative is the number of the signal that ended it.
        """
        try:
            self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
        status = self.process.wait()
        self.signal(signal.SIGKILL)
        self.over = True
        self._reader.join(timeout=patience)
        with self._control_lock, contextlib.suppress(BrokenPipeError):
            self._control.close()
        self.events.close()
        return status


def common_environment(threads: int) -> dict[str, str]:
    """Return what the environment of any child with so many CPU threads has."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {
        **kept,
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        # nvidia-smi, which slots are numbered by, counts in this order; CUDA by speed.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def attempt_environment(assignment: Assignment, visible_gpus: str) -> dict[str, str]:
    """Return what it has of the attempt; CUDA reads it when the first device is touched."""
    return {MARK: str(assignment.work), "CUDA_VISIBLE_DEVICES": visible_gpus}
