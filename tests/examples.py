"""How many examples a property draws: so many in `make test`, 50 times as many in `make fuzz`."""

import os

FACTOR = int(os.environ.get("FUZZ_FACTOR", "1"))


def examples(count: int) -> int:
    """Return how many examples to draw where `make test` draws ``count``."""
    return count * FACTOR
