"""What a step needs of memory: the process's peak (VmHWM) above what it held before the steps.

Each variant has a process of its own, since an allocator does not give back what it once took.
"""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.progress import say
from benchmarks.setting import BATCH, labels, smooth_images, untrained
from benchmarks.step import PGD_AT, Workbench, plain, reweighted
from benchmarks.table import Target, at_most, heading, line
from partcore.methods import Perturbation, Reweighted

STEPS, PROCESSES = 2, 1
TARGETS: dict[str, Target | None] = {
    PGD_AT: None,
    "feature space": at_most(1.1),
    "mean of the two": at_most(1.1),
    "8 centroids": None,
}


def report() -> None:
    """Print the peaks and their ratio to PGD-AT's; only Linux tells them."""
    if not Path("/proc/self/clear_refs").exists():
        print("\nmemory: skipped, /proc tells it on Linux alone")
        return
    heading("peak memory of a step, part++ / pgd-at", columns="      MB    ratio")
    peaks = {name: _median_peak(name) for name in TARGETS}
    for name, target in TARGETS.items():
        ratio = peaks[name] / peaks[PGD_AT]
        shown = name if name == PGD_AT else f"score-cam, {name}, at image"
        line(shown, f"{f'{peaks[name]:8.0f} {ratio:8.3f}':36s}", ratio, target)


def _median_peak(name: str) -> float:
    return statistics.median(_peak_of_process(name) for _ in range(PROCESSES))


def _peak_of_process(name: str) -> float:
    """Return megabytes, from a fresh interpreter."""
    say(f"{STEPS} steps of {name}, in a process of their own")
    command = [sys.executable, "-m", "benchmarks.memory", name, str(torch.get_num_threads())]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1])


def peak(name: str) -> float:
    """Take the steps here; return the megabytes they took beyond the network and the images."""
    bench = Workbench(untrained(), smooth_images(BATCH), labels(BATCH))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    for _ in range(STEPS):
        bench.step(_method(name))
    return (_status("VmHWM") - before) / 1024


def _method(name: str) -> Perturbation:
    return plain() if name == PGD_AT else reweighted("score-cam", name, at=Reweighted)


def _status(field: str) -> int:
    """Return a line of the kernel's account of this process, kB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(peak(sys.argv[1]))
