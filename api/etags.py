"""Run versions as entity tags (RFC 9110)."""

import re


def etag(version: int) -> str:
    """Return the tag of a run's version."""
    return f'"{version}"'


def etag_matches(header: str | None, version: int) -> bool:
    """Tell whether an If-None-Match header names this version, weakly compared, or is ``*``."""
    return header is not None and (header.strip() == "*" or version in _listed(header))


def required(header: str | None) -> frozenset[int] | None:
    """Return the versions an If-Match header allows, strongly compared; None for any."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(_listed(re.sub(r'W/"[^"]*"', "", header)))


def _listed(header: str) -> list[int]:
    return [int(version) for version in re.findall(r'"(\d{1,9})"', header)]
