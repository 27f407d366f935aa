"""A child that behaves as its spec's name says, so that supervision is tested without PyTorch.

Run as a file: tests hand it to the dispatcher as ``entry``; no client can name one.
"""

# ruff: noqa: ARG001 - every behaviour is called alike

import hashlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from domain.events import (
    ArtifactSaved,
    CheckpointSaved,
    Event,
    Failed,
    Finished,
    Log,
    Metrics,
    Progress,
    Started,
)
from worker import child
from worker.child import Leash, Options
from worker.exits import EXIT_OUT_OF_MEMORY
from worker.failures import unexpected
from worker.outbox import Outbox

LAST = "checkpoints/last.safetensors"
train_for_real = child.events


def progress(done: int) -> Progress:
    return Progress(phase="train", done=done, total=1000, unit="step")


def write(options: Options, name: str, content: bytes) -> str:
    path = options.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("part")
    part.write_bytes(content)
    part.replace(path)
    return hashlib.sha256(content).hexdigest()


def checkpoint(options: Options, step: int, content: bytes) -> Event:
    sha256 = write(options, LAST, content)
    saved = CheckpointSaved(
        file=LAST, role="last", sha256=sha256, size=len(content), epoch=1, step=step
    )
    return outbox(options).hand_over(saved)


@cache
def outbox(options: Options) -> Outbox:
    return Outbox(options.work)


def obedient(options: Options, leash: Leash) -> Iterator[Event]:
    """Everything a run may say, in a moment."""
    yield Started(facts={"threads": options.threads, "resumed": options.resume})
    yield progress(1)
    yield Metrics(steps=(0, 1), values={"train/loss": (2.0, float("nan"))})
    yield Log(message="half way")
    yield checkpoint(options, 2, b"weights of step 2")
    yield Finished(summary={"cwd": str(Path.cwd()), "environment": ",".join(sorted(os.environ))})


def endless(options: Options, leash: Leash) -> Iterator[Event]:
    """Trains for ever, and takes a checkpoint when asked."""
    for step in range(1_000_000):
        yield progress(step)
        if leash.checkpoint_requested():
            yield checkpoint(options, step, b"weights")
        time.sleep(0.02)


def deaf(options: Options, leash: Leash) -> Iterator[Event]:
    """Hears neither a stop nor SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield progress(1)
    time.sleep(600)


def fatherly(options: Options, leash: Leash) -> Iterator[Event]:
    """Leaves a process behind in its group, which must not outlive the attempt."""
    if (pid := os.fork()) == 0:
        os.close(options.events)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        os._exit(0)
    yield Finished(summary={"left_behind": pid})


def dies_once(options: Options, leash: Leash) -> Iterator[Event]:
    """Is killed after its first checkpoint, and goes on from it."""
    if not options.resume:
        yield Metrics(steps=(0, 1, 2, 3), values={"train/loss": (4.0, 3.0, 9.0, 9.0)})
        yield checkpoint(options, 2, b"weights of step 2")
        os.kill(os.getpid(), signal.SIGKILL)
    assert (options.work / LAST).read_bytes() == b"weights of step 2"
    yield Metrics(steps=(2, 3), values={"train/loss": (2.0, 1.0)})
    yield Finished(summary={})


def dies_always(options: Options, leash: Leash) -> Iterator[Event]:
    """Ends without a verdict, having complained."""
    sys.stderr.write("terrible things happened\n")
    sys.stderr.flush()
    yield progress(1)
    os._exit(77)


def babbles(options: Options, leash: Leash) -> Iterator[Event]:
    """Writes a frame that is no event."""
    os.write(options.events, b"\x00\x00\x00\x05hello")
    time.sleep(600)
    yield progress(1)


def lies(options: Options, leash: Leash) -> Iterator[Event]:
    """Announces a checkpoint that is not what lies there."""
    said = checkpoint(options, 2, b"weights of step 2")
    yield said.model_copy(update={"sha256": "0" * 64})
    time.sleep(600)


def imagines(options: Options, leash: Leash) -> Iterator[Event]:
    """Announces a file that is not there."""
    yield ArtifactSaved(
        file="nowhere.png",
        name="nowhere.png",
        kind="figure",
        media_type="image/png",
        sha256="0" * 64,
        size=1,
    )
    time.sleep(600)


def hasty(options: Options, leash: Leash) -> Iterator[Event]:
    """Writes checkpoints faster than they can be stored."""
    for step in range(1, 21):
        yield checkpoint(options, step, f"weights of step {step}".encode())
    yield Finished(summary={})


def keeps(options: Options, leash: Leash) -> Iterator[Event]:
    """Keeps every second checkpoint, and dies between keeping the fourth and saying it last."""
    for step in range(3 if options.resume else 1, 6):
        saved = checkpoint(options, step, f"weights of step {step}".encode())
        if step % 2 == 0:
            yield saved.model_copy(update={"role": "kept", "epoch": step})
            if step == 4 and not options.resume:
                os.kill(os.getpid(), signal.SIGKILL)
            saved = checkpoint(options, step, f"weights of step {step}".encode())
        yield saved
    yield Finished(summary={})


def heavy(options: Options, leash: Leash) -> Iterator[Event]:
    """Writes a small checkpoint, then one that the artifact store has no room for."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    yield checkpoint(options, 3, b"weights of step 3")
    yield checkpoint(options, 6, bytes(4_000_000))
    yield Finished(summary={})


def full_disk(options: Options, leash: Leash) -> Iterator[Event]:
    """Trains for real on a disk that is full after the first checkpoint."""
    for event in train_for_real(options, leash):
        yield event
        if isinstance(event, CheckpointSaved) and event.role == "last":
            _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))


def no_memory(options: Options, leash: Leash) -> Iterator[Event]:
    """Trains for real; then memory runs out."""
    for event in train_for_real(options, leash):
        yield event
        if isinstance(event, Started):
            yield unexpected(_cannot_allocate())
            return


def _cannot_allocate() -> Exception:
    import torch

    try:
        torch.empty(1 << 60)
    except RuntimeError as error:
        return error
    raise AssertionError("a machine with an exbibyte of memory")


def loses_its_gpu(options: Options, leash: Leash) -> Iterator[Event]:
    """Its device gives way once."""
    if not options.resume:
        yield checkpoint(options, 2, b"weights of step 2")
        yield unexpected(RuntimeError("CUDA error: unspecified launch failure"))
        return
    yield Finished(summary={})


def hungry(options: Options, leash: Leash) -> Iterator[Event]:
    """Has memory for a batch in four parts, and goes on from its checkpoint."""
    parts = json.loads(options.spec.read_text())["training"]["accumulation"]
    yield progress(1)
    if parts < 4:
        yield checkpoint(options, parts, b"weights")
        yield unexpected(_cannot_allocate())
        return
    yield Finished(summary={"parts": parts, "resumed": options.resume})


def ends_badly(options: Options, leash: Leash) -> Iterator[Event]:
    """Has finished; then its interpreter ends with an error, as a library's clean-up may."""
    yield Finished(summary={"done": True})
    os._exit(77)


def loses_a_rank_to_memory(options: Options, leash: Leash) -> Iterator[Event]:
    """Hangs in a collective for a rank that ran out of memory, until its watch ends it."""
    yield progress(1)
    parts = json.loads(options.spec.read_text())["training"]["accumulation"]
    if parts < 2:
        os._exit(EXIT_OUT_OF_MEMORY)
    yield Finished(summary={"parts": parts})


def gives_up(options: Options, leash: Leash) -> Iterator[Event]:
    """Fails for good."""
    yield Failed(failure_class="spec", code="spec-unsatisfiable", message="cannot be done")


BEHAVIOURS: Mapping[str, Callable[[Options, Leash], Iterator[Event]]] = {
    function.__name__: function
    for function in (
        obedient,
        endless,
        deaf,
        fatherly,
        dies_once,
        dies_always,
        babbles,
        lies,
        imagines,
        hasty,
        keeps,
        heavy,
        full_disk,
        no_memory,
        loses_its_gpu,
        hungry,
        ends_badly,
        loses_a_rank_to_memory,
        gives_up,
    )
}


def behave(options: Options, leash: Leash) -> Iterator[Event]:
    name = json.loads(options.spec.read_text())["name"]
    yield from BEHAVIOURS[name](options, leash)


if __name__ == "__main__":
    child.events, child.preload = behave, lambda: None
    sys.exit(child.main(sys.argv[1:]))
