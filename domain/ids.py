"""Identifiers that sort by time."""

import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_PATTERN = r"^[0-9a-hjkmnp-tv-z]{18}$"


def _base32(value: int, digits: int) -> str:
    return "".join(_ALPHABET[(value >> (5 * i)) & 31] for i in reversed(range(digits)))


def new_id(now: datetime, *, entropy: int | None = None) -> str:
    """Eighteen characters: milliseconds since 1970 (ten), then forty random bits (eight)."""
    bits = secrets.randbits(40) if entropy is None else entropy
    return _base32(int(now.timestamp() * 1000), 10) + _base32(bits, 8)
