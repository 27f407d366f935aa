"""What a person who waits for a benchmark reads meanwhile, on stderr, beside the tables."""

import sys
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def say(text: str) -> None:
    """Tell what is being done now."""
    sys.stderr.write(f"  {time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def runnable(names: Iterable[T]) -> list[T]:
    """Return the rows that this machine can measure; tell which it cannot, and why."""
    from partcore.machine import capability, emulates, processor  # the queue's need no torch

    every = list(names)
    left = [name for name in every if "bf16" in str(name) and emulates("bf16", "cpu")]
    if left:
        say(f"{processor()} ({capability()}) only emulates bf16, and would take hours; skipped:")
    for name in left:
        say(f"  {name}")
    return [name for name in every if name not in left]
