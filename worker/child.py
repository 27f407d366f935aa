"""The child's entry: one experiment, its events on a pipe, its life on a leash.

``python -m worker.child --spec FILE --work DIR ... --events FD --control FD``
``python -m worker.child --standby --events FD --control FD``

On standby it imports what every attempt needs, touches no device, and waits for its one attempt on
the control pipe. It knows no database and holds no credential. It ends itself when its supervisor
dies (the control pipe closes) and when its lease was not renewed in time, on its own monotonic
clock.
"""

import argparse
import contextlib
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from domain.control import Begin, read_line
from domain.errors import ExperimentError
from domain.events import Event, Failed, Progress, write_frame
from domain.presets import RUN_SPEC
from worker.exits import EXIT_FAILED, EXIT_STOPPED
from worker.failures import out_of_memory, unexpected
from worker.leash import Leash, die_with_parent
from worker.mates import Mates
from worker.outbox import Outbox

PROGRESS_SECONDS = 0.5


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
    """Until when this process may live unless it is renewed: a deadline as in ``Renew``."""
    ranks: int

    def for_mates(self) -> list[str]:
        """Return the command line of the other ranks."""
        told = {
            "--spec": self.spec,
            "--work": self.work,
            "--data-root": self.data_root,
            "--device": self.device,
            "--threads": self.threads,
        }
        flags = ["--resume"] if self.resume else []
        return [*(str(part) for pair in told.items() for part in pair), *flags]


def parse(arguments: list[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m worker.child")
    for name in ("spec", "work", "data-root"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--device", required=True)
    for name in ("source", "surrogates"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--resume", action="store_true")
    for name in ("threads", "ranks", "events", "control"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--lease", type=float, required=True)
    return Options(**vars(parser.parse_args(arguments)))


def events(options: Options, leash: Leash) -> Generator[Event, None, None]:
    """Yield what the experiment says, and how it failed if it does."""
    if options.ranks == 1:
        yield from _events(options, leash, None)
        return
    mates = Mates(options.ranks, options.for_mates(), folder=Path.cwd())
    try:
        yield from _events(options, leash, mates)
    finally:
        mates.end()


def _events(options: Options, leash: Leash, mates: Mates | None) -> Generator[Event, None, None]:
    import torch

    from partcore.environment import Environment, configure
    from partcore.experiment import run_experiment
    from partcore.ranks import Ranks

    ranks = Ranks.from_environment()
    environment = Environment(
        work=options.work,
        data_root=options.data_root,
        device=ranks.device(options.device),
        threads=options.threads,
        resume=options.resume,
        source_checkpoint=options.source,
        surrogates=options.surrogates,
        checkpoint_requested=leash.checkpoint_requested,
        ranks=ranks,
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
        if mates is not None and mates.want_memory():
            yield out_of_memory(error)
        else:
            yield unexpected(error)


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


def preload() -> None:
    """Import what an attempt would: most of the seconds until its first step."""
    import torch

    import partcore.experiment  # noqa: F401

    # The first optimiser of a process imports PyTorch's compiler.
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)


def stand_by(arguments: list[str]) -> tuple[list[str], BinaryIO] | None:
    """Wait for an attempt; return its command line and the control pipe, None if none comes."""
    parser = argparse.ArgumentParser(prog="python -m worker.child --standby")
    parser.add_argument("--events", required=True)
    parser.add_argument("--control", type=int, required=True)
    pipes = parser.parse_args(arguments)
    preload()
    control = os.fdopen(pipes.control, "rb")
    begin = read_line(line) if (line := control.readline()) else None
    if not isinstance(begin, Begin):
        return None
    os.environ |= begin.environment
    told = [*begin.arguments, "--events", pipes.events, "--control", str(pipes.control)]
    return told, control


def main(arguments: list[str]) -> int:
    """Run the experiment; return the exit status."""
    die_with_parent()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    control = None
    if arguments[:1] == ["--standby"]:
        begun = stand_by(arguments[1:])
        if begun is None:
            return 0
        arguments, control = begun
    options = parse(arguments)
    leash = Leash(control or os.fdopen(options.control, "rb"), options.lease)
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
