"""From a submission over HTTP to the start of its child, while workers hardly poll."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.progress import say
from benchmarks.table import machine
from partlab.client import Client
from partlab.embedded.lab import Choices, EmbeddedLab
from partlab.embedded.state import State

SPEC = {"preset": "pgd-at", "data": {"dataset": "digits"}, "training": {"epochs": 1000}}
LIMIT = 0.1
"""Seconds within which half of the children have started."""


def main(arguments: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doorbell", description=__doc__)
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="for the heading")
    parser.add_argument("--runs", type=int, default=30)
    chosen = parser.parse_args(arguments)
    print(machine(chosen.date), flush=True)
    os.environ |= {"PARTLAB_POLL_SECONDS": "60", "PARTLAB_STANDBY": "0"}
    with tempfile.TemporaryDirectory() as folder:
        lab = EmbeddedLab(Choices(State(Path(folder)), cpu_slots=1), tell=lambda _: None)
        with lab.running():
            token = lab.state.token_file.read_text().strip()
            with Client(lab.url, token) as client:
                took = []
                for number in range(chosen.runs):
                    took.append(started_after(client))
                    say(f"start {number + 1} of {chosen.runs}: {1000 * took[-1]:.0f} ms")
    report(took)


def report(took: list[float]) -> None:
    """Print the median and the 90th percentile, in milliseconds."""
    median, tenths = statistics.median(took), statistics.quantiles(took, n=10)
    verdict = "ok" if median <= LIMIT else "MISSED"
    print(
        f"submission to child start: p50 {1000 * median:.0f} ms, p90 {1000 * tenths[-1]:.0f} ms "
        f"of {len(took)} runs (p50 <= {1000 * LIMIT:.0f} ms: {verdict})"
    )


def started_after(client: Client) -> float:
    """Return the seconds from before a submission until its child process existed.

    The kernel tells when a process started in its own clock, to a hundredth of a second: a process
    started here at a known time gives the difference to this clock.
    """
    before = time.time()
    run = client.submit(SPEC)
    created = None
    while created is None and time.time() < before + 90:
        created = child_of(run.id)
        time.sleep(0.02)
    client.cancel(run.id)
    client.wait(run.id, timeout=60)
    if created is None:
        raise RuntimeError("the child never started")
    return created + clock_difference() - before


def child_of(run_id: str) -> float | None:
    """Return when the child of a run started, by psutil's clock; None if there is none yet."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "worker.child" in words and any(run_id in word for word in words):
                return process.create_time()
    return None


def clock_difference() -> float:
    """Return this process's clock minus psutil's."""
    before = time.time()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
    created = psutil.Process(process.pid).create_time()
    process.kill()
    process.wait()
    return before - created


if __name__ == "__main__":
    main(sys.argv[1:])
