"""``make bench-core``: what PART++ costs, what its approximations keep, and how others fare.

Times are ratios within one round, since the machine is never quiet. The network and exact
Score-CAM of the test images are computed once and kept in ``.bench/``.
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks import fidelity, memory, rivals, step
from benchmarks.setting import BATCH, labels, smooth_images, untrained
from benchmarks.step import Workbench
from benchmarks.subject import FOLDER, LEAST_ACCURACY, Subject, subject
from benchmarks.table import at_least, heading, line, machine
from domain.errors import DataMissing


def options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    root = os.environ.get("PART_DATA_ROOT", "data")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=__doc__)
    parser.add_argument("--data-root", type=Path, default=Path(root), help=f"holds {FOLDER}/")
    parser.add_argument("--date", default=f"{datetime.now(UTC):%Y-%m-%d}", help="for the heading")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5, help="of every timed variant")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Print every table."""
    chosen = options(arguments)
    torch.set_num_threads(chosen.threads)
    print(machine(chosen.date))
    print(f"ResNet-18, {BATCH} images of 3x32x32, PGD-10 and update, fp32 and channels_last")
    print("unless said otherwise; medians of paired rounds", flush=True)
    found = _subject(chosen.data_root)
    if found is not None:
        _tell(found)
        fidelity.report(found)
    bench = _bench(found)
    step.report(bench, rounds=chosen.rounds)
    rivals.report_naive(bench, rounds=chosen.rounds)
    rivals.report_others(bench, rounds=max(1, chosen.rounds // 2), small=16, small_rounds=1)
    memory.report()


def _subject(data_root: Path) -> Subject | None:
    """Return the trained network, or say what is missing for it."""
    try:
        return subject(data_root)
    except DataMissing as error:
        print(f"\nfidelity skipped, times on smooth synthetic images: {error}.")
        print(f"Unpack {FOLDER}.tar.xz under the data root (--data-root or PART_DATA_ROOT).")
        return None


def _tell(found: Subject) -> None:
    heading("the network that maps are compared on")
    name = f"clean accuracy on {len(found.test):,} test images"
    line(name, f"{found.accuracy:10.3f}{'':26s}", found.accuracy, at_least(LEAST_ACCURACY))


def _bench(found: Subject | None) -> Workbench:
    """Return what is timed: the trained network on photographs, or a stand-in."""
    if found is None:
        return Workbench(untrained(), smooth_images(BATCH), labels(BATCH))
    return Workbench(found.model, *found.fresh(BATCH))


if __name__ == "__main__":
    main(sys.argv[1:])
