"""Who goes next: a pure function over a snapshot of the queue.

Order: priority, then fair share (slot-seconds a user has used, decayed exponentially), then
submission. The store takes the snapshot and carries the choice out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

USAGE_HALF_LIFE = timedelta(hours=24)


@dataclass(frozen=True)
class Candidate:
    """A queued run. Its id sorts by submission."""

    run_id: str
    owner: str
    priority: int
    slot_kind: str


@dataclass(frozen=True)
class Snapshot:
    """What a choice is made from."""

    candidates: tuple[Candidate, ...]
    """At least the earliest run of every owner at the best priority of each slot kind."""
    usage: Mapping[str, float]
    """Decayed slot-seconds by owner; none means zero."""
    free_slots: Mapping[str, int]
    """Free slot ids' count by kind."""


def decayed(seconds: float, since: datetime, now: datetime) -> float:
    """Usage ``seconds`` known at ``since``, as it weighs at ``now``."""
    halvings = max(0.0, (now - since) / USAGE_HALF_LIFE)
    return float(seconds * 0.5**halvings)


def choose(snapshot: Snapshot) -> Candidate | None:
    """Return the run that starts next, or None if none fits a free slot."""
    return min(
        (c for c in snapshot.candidates if snapshot.free_slots.get(c.slot_kind, 0) > 0),
        key=lambda c: (-c.priority, snapshot.usage.get(c.owner, 0.0), c.run_id),
        default=None,
    )


def ahead_of(run: Candidate, others: Iterable[Candidate]) -> int:
    """How many of ``others`` come before ``run`` if nobody's usage changes the order."""
    mine = (-run.priority, run.run_id)
    return sum(1 for o in others if o.slot_kind == run.slot_kind and (-o.priority, o.run_id) < mine)
