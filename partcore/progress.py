"""Throughput, and columnar batches of metrics."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from domain.events import Metrics


@dataclass
class Throughput:
    """Items a second, smoothed over the last few reports."""

    clock: Callable[[], float]
    last: float = field(init=False)
    rate: float | None = None

    def __post_init__(self) -> None:
        self.last = self.clock()

    def count(self, items: int) -> float | None:
        """Note that ``items`` more are done; return items a second."""
        now = self.clock()
        if now > self.last:
            current = items / (now - self.last)
            self.rate = current if self.rate is None else 0.9 * self.rate + 0.1 * current
        self.last = now
        return self.rate


class MetricBuffer:
    """Collects points and gives them out in columns, one event for each set of names."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, ...], tuple[list[int], list[list[float]]]] = {}
        self._points = 0

    def __len__(self) -> int:
        return self._points

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point of every series in ``values``."""
        steps, columns = self._columns.setdefault(tuple(values), ([], [[] for _ in values]))
        steps.append(step)
        for column, value in zip(columns, values.values(), strict=True):
            column.append(value)
        self._points += 1

    def flush(self) -> Iterator[Metrics]:
        """Yield all that was collected, and forget it."""
        for names, (steps, columns) in self._columns.items():
            values = {name: tuple(c) for name, c in zip(names, columns, strict=True)}
            yield Metrics(steps=tuple(steps), values=values)
        self._columns.clear()
        self._points = 0
