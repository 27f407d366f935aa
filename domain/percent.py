"""Shares as percentages that rounding cannot turn into more than was measured."""

import math

MAX_DIGITS = 9
"""Below this a share is 0 or 1: no test set has so many images, but sums have such errors."""


def percent(share: float, digits: int = 1) -> str:
    """Write a share of one in percent, without the sign: ``0.8722`` is ``87.2``.

    Only 1 is written as 100 and only 0 as 0: 0.9997 is ``99.97``, not ``100.0``, however few digits
    are asked for. What is not finite is ``n/a``.
    """
    if not math.isfinite(share):
        return "n/a"
    share = round(share, MAX_DIGITS) + 0.0  # -0.0 would be written with its sign
    for count in range(digits, MAX_DIGITS):
        text = f"{100 * share:.{count}f}"
        if float(text) not in (0, 100) or share in (0, 1):
            return text
    return f"{100 * share:.{digits}f}"
