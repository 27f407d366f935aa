"""How figures are printed: what was measured, its target, and whether it holds."""

from dataclasses import dataclass
from typing import Literal

import torch

from benchmarks.paired import Ratio
from partcore.machine import capability, processor

WIDTH = 56


@dataclass(frozen=True)
class Target:
    """A bound a figure is held to."""

    side: Literal["<=", ">="]
    limit: float

    def holds(self, value: float) -> bool:
        """Compare what was measured, unrounded."""
        return value <= self.limit if self.side == "<=" else value >= self.limit

    def verdict(self, value: float) -> str:
        """Return the bound and whether the value keeps it, for a line's end."""
        return f"{self.side} {self.limit:<7.4g}{'holds' if self.holds(value) else 'FAILS'}"


def at_most(limit: float) -> Target:
    """Return an upper bound."""
    return Target("<=", limit)


def at_least(limit: float) -> Target:
    """Return a lower bound."""
    return Target(">=", limit)


def heading(text: str, *, columns: str = "") -> None:
    """Begin a section."""
    print(f"\n{text:{WIDTH}s}{columns}", flush=True)


def line(name: str, figures: str, value: float, target: Target | None) -> None:
    """Print one row; ``value`` is what the target is about."""
    verdict = "" if target is None else target.verdict(value)
    print(f"  {name:{WIDTH - 2}s}{figures}   {verdict}".rstrip(), flush=True)


def ratio_line(name: str, seconds: float, found: Ratio, target: Target | None = None) -> None:
    """Print a time in milliseconds an image and a ratio with its range over rounds.

    No verdict where the rounds fall on both sides of the target: the machine was too busy to tell.
    """
    figures = f"{1000 * seconds:8.1f} ms {found.median:7.3f} ({found.low:.3f} to {found.high:.3f})"
    if target is not None and target.holds(found.low) != target.holds(found.high):
        verdict = f"{target.side} {target.limit:<7.4g}unclear: rounds disagree"
        print(f"  {name:{WIDTH - 2}s}{figures:36s}   {verdict}", flush=True)
        return
    line(name, f"{figures:36s}", found.median, target)


def machine(date: str) -> str:
    """Return one line that says where and when."""
    threads = f"{torch.get_num_threads()} threads"
    where = f"{processor()} ({capability()})"
    return f"{date}; {where}, {threads}, CPU only; torch {torch.__version__}"
