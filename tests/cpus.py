"""``make test-cpus``: the numeric tests as other CPUs would compute them, in child interpreters.

PyTorch's own kernels and oneDNN choose by vector units; both can be told to do with fewer.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence

SETTINGS = (
    ("ATEN_CPU_CAPABILITY", "default"),
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "SSE41"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
)
NUMERIC = tuple(
    f"tests/partcore/test_{name}.py"
    for name in (
        *(
            "attacks",
            "audit_selftest",
            "budgets",
            "cam_zoo",
            "cams",
            "corrupted",
            "corruptions",
            "data",
        ),
        *("evaluation", "folding", "learned", "machine", "map_cache", "models", "objectives"),
        *("other_peoples_attacks", "ranks", "robustbench", "science", "training", "transfer"),
        "update",
    )
)
FEW = (
    "tests/partcore/test_attacks.py",
    "tests/partcore/test_cams.py",
    "tests/partcore/test_science.py",
)
"""Attacks, maps and the report's equations: what every ``make test`` tries under two settings."""


def run(name: str, value: str, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests in an interpreter of their own, under one setting."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command,
        env={**inherited, name: value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main(tests: Sequence[str]) -> int:
    """Print a line for each setting, and what failed; return how many settings are not green."""
    red = 0
    for name, value in SETTINGS:
        sys.stdout.write(f"{name}={value}: ")
        sys.stdout.flush()
        start = time.monotonic()
        done = run(name, value, tests or NUMERIC)
        last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
        sys.stdout.write(f"{last} ({time.monotonic() - start:.0f} s)\n")
        sys.stdout.flush()
        if done.returncode:
            red += 1
            sys.stdout.write(done.stdout)
    return red


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
