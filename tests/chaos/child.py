"""A training run of which every step is known beforehand: a chain of hashes.

The chaos lab's workers start it in place of :mod:`worker.child`, whose leash, pipes and end it has.
Its spec's name says what it does: ``steady-40``, ``deaf-40``, ``forks-40``.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from domain.events import (
    ArtifactSaved,
    CheckpointSaved,
    Event,
    Finished,
    Metrics,
    Progress,
    Started,
)
from tests.chaos.chain import CHECKPOINT_EVERY, LAST, SERIES, STEP_SECONDS, State, final_weights
from worker import child
from worker.child import Leash, Options
from worker.outbox import Outbox


def train(options: Options, leash: Leash) -> Iterator[Event]:
    """Follow the chain from the last checkpoint to its end."""
    spec = json.loads(options.spec.read_text())
    behaviour, _, steps = str(spec["name"]).partition("-")
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leash.stopped = threading.Event()
    elif behaviour == "forks":
        leave_one_behind(options)
    outbox = Outbox(options.work)
    last = options.work / LAST
    state = State.read(last) if options.resume else State.first(spec["seed"])
    yield Started(facts={"threads": options.threads})
    while state.step < int(steps):
        time.sleep(STEP_SECONDS)
        yield Metrics(steps=(state.step,), values={SERIES: (state.loss,)})
        state = state.following()
        yield Progress(phase="train", done=state.step, total=int(steps), unit="step")
        if state.step % CHECKPOINT_EVERY == 0 or leash.checkpoint_requested():
            yield outbox.hand_over(checkpoint(state, last))
    yield outbox.hand_over(weights(state, options.work / "weights.bin"))
    yield Finished(summary={"steps": state.step})


def leave_one_behind(options: Options) -> None:
    """Fork a process that hears no SIGTERM and would sleep for long."""
    if os.fork() == 0:
        os.close(options.events)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)


def write(file: Path, content: bytes) -> tuple[str, int]:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name("part")
    part.write_bytes(content)
    part.replace(file)
    return hashlib.sha256(content).hexdigest(), len(content)


def checkpoint(state: State, file: Path) -> Event:
    sha256, size = write(file, state.bytes())
    return CheckpointSaved(
        file=LAST, role="last", sha256=sha256, size=size, epoch=0, step=state.step
    )


def weights(state: State, file: Path) -> Event:
    sha256, size = write(file, final_weights(state))
    return ArtifactSaved(
        file=file.name,
        name="weights.safetensors",
        kind="weights",
        media_type="application/octet-stream",
        sha256=sha256,
        size=size,
    )


def main() -> None:
    """Run as :mod:`worker.child` is run."""
    child.events, child.preload = train, lambda: None
    sys.exit(child.main(sys.argv[1:]))
