"""``python -m tests.chaos --sequences 200``: random faults, and what they violated."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.chaos.bugs import BUGS
from tests.chaos.driver import sequence, shown
from tests.chaos.lab import chaos_lab
from tests.store.databases import KINDS


def main() -> int:
    """Play the sequences, half of them on each database; 0 if nothing was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--sequences", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first sequence")
    parser.add_argument("--database", choices=KINDS, help="only one (default: half each)")
    parser.add_argument("--faults", nargs="*", default=(), help="instead of random ones")
    parser.add_argument("--planted", action="store_true", help="plant each of tests/chaos/bugs.py")
    options = parser.parse_args()
    if options.planted:
        return planted()
    kinds = (options.database,) if options.database else KINDS
    seeds = range(options.seed, options.seed + options.sequences)
    started, outcomes = time.monotonic(), []
    for number, kind in enumerate(kinds):
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{kind}-"))
        sys.stdout.write(f"{kind}: logs in {folder}\n")
        with chaos_lab(kind, folder) as lab:
            outcomes += [
                shown(lambda seed=seed: sequence(lab, seed, names=options.faults))
                for seed in seeds[number :: len(kinds)]
            ]
    done = [outcome for outcome in outcomes if outcome is not None]
    bad = [outcome for outcome in done if outcome.violated]
    faults = Counter(fault for outcome in done for fault in outcome.faults)
    sys.stdout.write(
        f"{len(done)} of {options.sequences} sequences, {sum(o.runs for o in done)} runs, "
        f"{sum(faults.values())} faults, {len(bad)} sequences with a violation, "
        f"{time.monotonic() - started:.0f} s\n"
    )
    return 0 if not bad and len(done) == options.sequences else 1


def planted() -> int:
    """Plant every defect; 0 if each was seen as a violation of its invariant."""
    missed = [name for name in BUGS if not _is_seen(name)]
    sys.stdout.write(f"{len(BUGS) - len(missed)} of {len(BUGS)} planted defects were seen\n")
    return 1 if missed else 0


def _is_seen(bug: str) -> bool:
    _, invariant, faults = BUGS[bug]
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        chaos_lab("sqlite", Path(folder), bug=bug) as lab,
    ):
        for seed in range(4):
            outcome = sequence(lab, seed, names=faults, patience=20)
            if invariant in outcome.violated:
                told = outcome.violated[invariant][0]
                sys.stdout.write(f"{bug:18} seen    {invariant}: {told}\n")
                sys.stdout.flush()
                return True
    sys.stdout.write(f"{bug:18} MISSED  {invariant}\n")
    return False


if __name__ == "__main__":
    sys.exit(main())
