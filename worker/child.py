"""The child's entry: one experiment, its events on a pipe, its life on a leash.

``python -m worker.child --spec FILE --work DIR ... --events FD --control FD``

It knows no database and holds no credential. It ends itself when its supervisor dies (the control
pipe closes) and when its lease was not renewed in time, on its own monotonic clock.
"""

import argparse
import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from domain.control import Renew, Stop, TakeCheckpoint, read_line
from domain.errors import ExperimentError
from domain.events import Event, Failed, Progress, write_frame
from domain.presets import RUN_SPEC
from worker.outbox import Outbox

EXIT_STOPPED, EXIT_FAILED, EXIT_ORPHANED, EXIT_EXPIRED = 3, 4, 5, 6
PROGRESS_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


class Leash:
    """What the supervisor says, and the death that follows when it falls silent."""

    def __init__(self, control: BinaryIO, seconds: float) -> None:
        self._control = control
        self._deadline = time.monotonic() + seconds
        self._checkpoint = threading.Event()
        self.stopped = threading.Event()

    def attach(self) -> None:
        """Start listening and watching."""
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def checkpoint_requested(self) -> bool:
        """Whether a checkpoint was asked for since the last question."""
        if self._checkpoint.is_set():
            self._checkpoint.clear()
            return True
        return False

    def _listen(self) -> None:
        for line in self._control:
            match read_line(line):
                case Renew(seconds=seconds):
                    self._deadline = time.monotonic() + seconds
                case TakeCheckpoint():
                    self._checkpoint.set()
                case Stop():
                    self.stopped.set()
        os._exit(EXIT_ORPHANED)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        os._exit(EXIT_EXPIRED)


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    spec: Path
    work: Path
    data_root: Path
    device: str
    threads: int
    resume: bool
    source: Path | None
    surrogates: Path | None
    events: int
    control: int
    lease: float


def parse(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m worker.child")
    for name in ("spec", "work", "data-root"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", required=True)
    for name in ("source", "surrogates"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--resume", action="store_true")
    for name in ("threads", "events", "control"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    return Options(**vars(parser.parse_args(arguments)))


def die_with_parent() -> None:
    """Ask Linux for a SIGKILL when the supervisor dies, even if this process is frozen then."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def events(options: Options, leash: Leash) -> Generator[Event, None, None]:
    """Yield what the experiment says, and how it failed if it does."""
    import torch

    from partcore.environment import Environment, configure
    from partcore.experiment import run_experiment

    environment = Environment(
        work=options.work,
        data_root=options.data_root,
        device=options.device,
        threads=options.threads,
        resume=options.resume,
        source_checkpoint=options.source,
        surrogates=options.surrogates,
        checkpoint_requested=leash.checkpoint_requested,
    )
    try:
        configure(environment)
        spec = RUN_SPEC.validate_json(options.spec.read_bytes())
        outbox = Outbox(options.work)
        for event in run_experiment(spec, environment):
            yield outbox.hand_over(event)
    except ExperimentError as error:
        yield Failed(failure_class=error.failure_class, code=error.code, message=str(error))
    except (MemoryError, torch.OutOfMemoryError) as error:
        yield out_of_memory(error)
    except Exception as error:  # noqa: BLE001 - the edge: whatever it was is recorded, then it ends
        yield unexpected(error)


def out_of_memory(error: BaseException) -> Failed:
    """Name the want of memory and what to change."""
    return Failed(
        failure_class="out-of-memory",
        code="out-of-memory",
        message=f"The device has too little memory: lower training.batch_size. ({error})",
    )


def unexpected(error: Exception) -> Failed:
    """Keep the traceback of anything that is no error on purpose."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Failed(failure_class="disk-full", code="disk-full", message=str(error))
    if "can't allocate memory" in str(error):  # PyTorch's RuntimeError on a CPU
        return out_of_memory(error)
    return Failed(
        failure_class="code",
        code="unexpected",
        message=f"{type(error).__name__}: {error}",
        traceback="".join(traceback.format_exception(error)),
    )


class Throttle:
    """Lets through a Progress now and then, and every change of phase."""

    def __init__(self) -> None:
        self._last = -PROGRESS_SECONDS
        self._phase: tuple[str, str | None] | None = None

    def passes(self, event: Event) -> bool:
        """Whether the supervisor should hear this one."""
        if not isinstance(event, Progress):
            return True
        now, phase = time.monotonic(), (event.phase, event.detail)
        if phase == self._phase and now - self._last < PROGRESS_SECONDS:
            return False
        self._last, self._phase = now, phase
        return True


def main(arguments: list[str]) -> int:
    """Run the experiment; return the exit status."""
    die_with_parent()
    options = parse(arguments)
    leash = Leash(os.fdopen(options.control, "rb"), options.lease)
    leash.attach()
    throttle, failed = Throttle(), False
    said = events(options, leash)
    with os.fdopen(options.events, "wb") as stream, contextlib.closing(said):
        for event in said:
            if leash.stopped.is_set():
                return EXIT_STOPPED
            if throttle.passes(event):
                write_frame(stream, event)
            failed = isinstance(event, Failed)
    return EXIT_FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
