"""Per-sample outcomes as bits, in order of sample id, without any numeric library."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce


@dataclass(frozen=True)
class Bitmap:
    """``n`` booleans; the first sample is the most significant bit."""

    bits: int
    n: int

    @classmethod
    def of(cls, values: Iterable[bool]) -> "Bitmap":
        """Return the bitmap of some booleans."""
        flags = list(values)
        return cls(int("".join("1" if flag else "0" for flag in flags) or "0", 2), len(flags))

    @classmethod
    def decode(cls, outcomes: str, n: int) -> "Bitmap":
        """Read base64 of big-endian packed bits. Raises ValueError for another number of bytes."""
        raw = base64.b64decode(outcomes, validate=True)
        if len(raw) != (n + 7) // 8:
            raise ValueError(f"{len(raw)} bytes cannot hold {n} outcomes")
        return cls(int.from_bytes(raw, "big") >> (8 * len(raw) - n), n)

    def encode(self) -> str:
        """Return base64 of big-endian packed bits."""
        length = (self.n + 7) // 8
        return base64.b64encode(
            (self.bits << (8 * length - self.n)).to_bytes(length, "big")
        ).decode()

    def count(self) -> int:
        """Return how many are true."""
        return self.bits.bit_count()

    def __and__(self, other: "Bitmap") -> "Bitmap":
        return Bitmap(self.bits & other.bits, self._matched(other))

    def __or__(self, other: "Bitmap") -> "Bitmap":
        return Bitmap(self.bits | other.bits, self._matched(other))

    def __invert__(self) -> "Bitmap":
        return Bitmap(~self.bits & ((1 << self.n) - 1), self.n)

    def _matched(self, other: "Bitmap") -> int:
        if self.n != other.n:
            raise ValueError(f"{self.n} and {other.n} outcomes are not of the same samples")
        return self.n


def union_of_breaks(standing: Iterable[Bitmap]) -> Bitmap:
    """Return what stands under all attacks. Raises TypeError without any."""
    return reduce(lambda a, b: a & b, standing)
