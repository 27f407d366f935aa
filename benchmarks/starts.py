"""How soon things happen in a lab of two workers: first steps, freed slots, cancels."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.progress import say
from benchmarks.table import machine
from partlab.client import Client, Run
from partlab.credentials import embedded_lab
from partlab.embedded.lab import CELERY, CELERY_QUIET, Choices, EmbeddedLab
from partlab.embedded.parts import child_environment
from partlab.embedded.state import State

SPEC = {
    "preset": "pgd-at",
    "data": {"dataset": "digits"},
    "training": {"epochs": 10_000, "checkpoint_every": 10_000},
}
CALM = 20.0
"""Seconds in which an interpreter is kept ready again after one was taken."""
LIMITS = {
    "submit -> first step": {True: 3.0, False: 8.0},
    "preempt -> first step of the other": {True: 6.0, False: None},
    "cancel on another host": {True: 1.0, False: 1.0},
    "idle slot beside a runnable run": {True: 1.0, False: 1.0},
}
"""Seconds in which 95 % must happen: with interpreters kept ready, and without."""
Took = dict[str, list[float]]


def main(arguments: list[str]) -> None:
    """Print the figures with and without interpreters kept ready."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts", description=__doc__)
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="for the heading")
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args(arguments)
    print(machine(chosen.date), flush=True)
    for ready in (True, False):
        print(f"  {'with' if ready else 'without'} interpreters kept ready", flush=True)
        took: Took = defaultdict(list)
        with two_workers(ready=ready) as client:
            for number in range(chosen.rounds):
                say(f"round {number + 1} of {chosen.rounds}")
                one_round(client, took, pause=CALM if ready else 2.0)
        for name, limits in LIMITS.items():
            print(f"    {told(name, took[name], limits[ready])}", flush=True)


@contextmanager
def two_workers(*, ready: bool) -> Iterator[Client]:
    """A lab with a worker of one slot, and another host's that has none free for these runs."""
    os.environ["PARTLAB_STANDBY"] = "1" if ready else "0"
    with tempfile.TemporaryDirectory() as folder:
        state = State(Path(folder) / "lab")
        lab = EmbeddedLab(Choices(state, cpu_slots=1), tell=lambda _: None)
        with lab.running():
            token = state.token_file.read_text().strip()
            with Client(lab.url, token) as client, other_worker(state, Path(folder) / "other"):
                _until(lambda: len(client.workers()) == 2)
                yield client


@contextmanager
def other_worker(state: State, folder: Path) -> Iterator[None]:
    """A second worker, on a queue of its own: calls reach it as they would another host."""
    found = embedded_lab(state.folder)
    assert found is not None
    folder.mkdir()
    told = {
        "PARTLAB_STATE": str(folder),
        "PARTLAB_DATABASE_URL": f"sqlite:///{state.database}",
        "PARTLAB_ARTIFACTS_URL": str(state.artifacts),
        "PARTLAB_BROKER_URL": str(found.broker_url),
        "PARTLAB_WORKER_NAME": "other",
        "PARTLAB_CPU_QUEUE": "other",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *CELERY, *CELERY_QUIET],
            env=child_environment(told),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def one_round(client: Client, took: Took, *, pause: float) -> None:
    """A run on an idle host, one that takes its slot, and a cancel that gives it back."""
    time.sleep(pause)
    first, seconds = stepped(client, priority=0)
    took["submit -> first step"].append(seconds)
    time.sleep(pause)
    second, seconds = stepped(client, priority=10)
    took["preempt -> first step of the other"].append(seconds)
    begun = time.monotonic()
    client.cancel(second.id)
    _until(lambda: client.get(second.id).state == "cancelled")
    took["cancel on another host"].append(time.monotonic() - begun)
    _until(lambda: client.get(first.id).state == "running")
    took["idle slot beside a runnable run"].append(gap(client, second.id, first.id))
    client.cancel(first.id)
    client.wait(first.id, timeout=60)


def stepped(client: Client, *, priority: int) -> tuple[Run, float]:
    """Submit a run; return it with the seconds until its first step was told."""
    begun = time.monotonic()
    run = client.submit({**SPEC, "priority": priority})
    _until(lambda: (client.get(run.id).progress or {}).get("phase") == "train")
    return run, time.monotonic() - begun


def gap(client: Client, ended: str, begun: str) -> float:
    """Return the seconds from one run's end to the next run's start, by the database's clock."""
    end = next(e.at for e in reversed(client.events(ended)) if e.target == "cancelled")
    start = next(e.at for e in reversed(client.events(begun)) if e.target == "running")
    return (start - end).total_seconds()


def told(name: str, took: Sequence[float], limit: float | None) -> str:
    """Say the median and the 95th percentile, in seconds."""
    high = statistics.quantiles(took, n=20, method="inclusive")[-1]
    verdict = "" if limit is None else f" (<= {limit:g} s: {'ok' if high <= limit else 'MISSED'})"
    return f"{name:36} p50 {statistics.median(took):5.2f} s, p95 {high:5.2f} s{verdict}"


def _until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError("the lab did not get there")
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
