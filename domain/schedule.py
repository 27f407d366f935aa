"""Who starts next, on which slots, and why everybody else waits: pure functions over a snapshot.

The store takes the snapshot and carries the plan out; the simulator in ``benchmarks`` runs the
very same functions. Order: priority; then fair share, a group's slot-seconds by its share before a
user's by theirs; then submission. The first run that fits nowhere gets a reservation: what runs on
its slots meanwhile either ends in time or gives way.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

USAGE_HALF_LIFE = timedelta(hours=24)
LEAST_CHARGE = 60.0
"""Slot-seconds that a started attempt weighs at least: many starts at one instant take turns."""
NEVER = timedelta.max

Why = Literal[
    "starts", "impossible", "no-worker", "running-quota", "week-quota", "slots", "reserved"
]
"""What becomes of a waiting run, and of those that wait which rule or resource holds them."""


# -- what is known ----------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Needs:
    """What a run asks of one host."""

    queue: str
    kind: Literal["cpu", "gpu"] = "cpu"
    slots: int = 1
    memory: int = 0
    """Bytes that every GPU must have at least."""
    model: str = ""
    """Part of every GPU's name, in lower case; empty for any."""
    cores: int = 0
    """CPU cores of the host; 0 counts for nothing."""


@dataclass(frozen=True)
class Slot:
    """A device, or a place on a host's CPU."""

    id: int
    queue: str
    kind: Literal["cpu", "gpu"] = "cpu"
    memory: int = 0
    """Bytes; 0 if not known."""
    device: str = ""

    def suits(self, needs: Needs) -> bool:
        """Whether a run of those needs may run here."""
        return (
            (self.queue, self.kind) == (needs.queue, needs.kind)
            and self.memory >= needs.memory
            and needs.model in self.device.casefold()
        )


@dataclass(frozen=True)
class Host:
    """What a living worker offers, whether busy or free."""

    worker: str
    slots: tuple[Slot, ...]
    cores: int = 0
    """Of its CPU; 0 if not known, and then none are counted."""


@dataclass(frozen=True)
class Waiting:
    """A queued run that nothing but the queue holds back. Its id sorts by submission."""

    run_id: str
    owner: str
    needs: Needs
    priority: int = 0
    seconds: float | None = None
    """How long it is expected to take; None if not known."""
    preemptible: bool = True


@dataclass(frozen=True)
class Running:
    """An attempt that holds slots."""

    run_id: str
    owner: str
    slots: tuple[int, ...]
    started_at: datetime
    priority: int = 0
    cores: int = 0
    seconds: float | None = None
    """How long it is expected to take in all; None if not known."""
    preemptible: bool = True
    backfilled: bool = False
    """Started on slots that a waiting run has reserved."""
    yielding: bool = False
    """Was asked to give way."""


@dataclass(frozen=True)
class Account:
    """What fair share and quotas know of an owner."""

    usage: float = 0.0
    """Slot-seconds, decayed to now, running attempts included."""
    share: float = 1.0
    group: str | None = None
    week: float = 0.0
    """Slot-seconds of the last seven days."""
    most_running: int | None = None
    """Slots held at once."""
    most_week: float | None = None
    """Slot-seconds in seven days."""


@dataclass(frozen=True)
class Snapshot:
    """What a plan is made from."""

    now: datetime
    hosts: tuple[Host, ...]
    waiting: tuple[Waiting, ...]
    """At least, of every owner and kind of needs, the earliest run of the highest priority."""
    running: tuple[Running, ...] = ()
    accounts: Mapping[str, Account] = field(default_factory=dict)
    groups: Mapping[str, float] = field(default_factory=dict)
    """Shares of groups; 1 where not named."""
    lost_slots: frozenset[int] = frozenset()
    """Slots without a run that are not free either: a process may be left on them."""


# -- what follows -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """A run, and where it begins."""

    run_id: str
    worker: str
    slots: tuple[int, ...]
    backfilled: bool = False


@dataclass(frozen=True)
class Reservation:
    """Slots kept for the first run that fits nowhere."""

    run_id: str
    worker: str
    slots: frozenset[int]
    at: datetime | None
    """When they are expected to be free; None if that is not known."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    starts: tuple[Start, ...] = ()
    """In order of rank."""
    yields: tuple[str, ...] = ()
    """Running runs to be asked to give way."""
    reservations: tuple[Reservation, ...] = ()
    """At most one a queue and kind of slot."""
    why: Mapping[str, Why] = field(default_factory=dict)
    """Of every waiting run of the snapshot."""


def decayed(seconds: float, since: datetime, now: datetime) -> float:
    """Usage ``seconds`` known at ``since``, as it weighs at ``now``."""
    halvings = max(0.0, (now - since) / USAGE_HALF_LIFE)
    return float(seconds * 0.5**halvings)


def plan(snapshot: Snapshot, *, worker: str | None = None) -> Plan:
    """Decide what starts, what gives way and what waits.

    worker: the one that asks; of several hosts that suit a run, it is preferred.
    """
    return _Planner(snapshot, worker).plan()


class _Planner:
    """One plan in the making: slots fill up as runs are placed."""

    def __init__(self, snapshot: Snapshot, worker: str | None) -> None:
        self._now = snapshot.now
        self._snapshot = snapshot
        self._hosts = sorted(snapshot.hosts, key=lambda h: (h.worker != worker, h.worker))
        self._occupant = {slot: run for run in snapshot.running for slot in run.slots}
        self._taken = set(self._occupant) | set(snapshot.lost_slots)
        self._cores = {host.worker: _cores_left(host, self._occupant) for host in self._hosts}
        self._holds: dict[str, int] = defaultdict(int)
        for run in snapshot.running:
            self._holds[run.owner] += len(run.slots)
        self._ledger = Ledger(snapshot.accounts, snapshot.groups)
        self._reserved: dict[tuple[str, str], Reservation] = {}
        self._imminent: set[int] = set()
        """Reserved slots whose runs were asked to give way: nothing may slip in."""
        self._starts: list[Start] = []
        self._yields: list[str] = []

    def plan(self) -> Plan:
        waiting = sorted(self._snapshot.waiting, key=self._ledger.rank)
        why = {run.run_id: self._place(run) for run in waiting}
        reservations = tuple(self._reserved.values())
        return Plan(tuple(self._starts), tuple(self._yields), reservations, why)

    def _place(self, run: Waiting) -> Why:
        """Start a run if it may, reserve for the first that cannot; say what became of it."""
        hosts = [host for host in self._hosts if _could_hold(host, run.needs)]
        if not hosts:
            return self._nowhere(run.needs)
        if (quota := self._quota(run)) is not None:
            return quota
        for with_reserved in (False, True):
            for host in hosts:
                if self._start(run, host, with_reserved=with_reserved):
                    return "starts"
        if self._queue(run) in self._reserved:
            return "reserved" if any(self._has_room(run, host) for host in hosts) else "slots"
        self._reserve(run, hosts)
        return "slots"

    def _nowhere(self, needs: Needs) -> Why:
        offered = (slot for host in self._hosts for slot in host.slots)
        served = any((slot.queue, slot.kind) == (needs.queue, needs.kind) for slot in offered)
        return "impossible" if served else "no-worker"

    def _quota(self, run: Waiting) -> Why | None:
        account = self._snapshot.accounts.get(run.owner, Account())
        wanted = self._holds[run.owner] + run.needs.slots
        if account.most_running is not None and wanted > account.most_running:
            return "running-quota"
        if account.most_week is not None and account.week >= account.most_week:
            return "week-quota"
        return None

    def _queue(self, run: Waiting) -> tuple[str, str]:
        return run.needs.queue, run.needs.kind

    def _has_room(self, run: Waiting, host: Host) -> bool:
        return len(self._free(run.needs, host)) >= run.needs.slots

    def _free(self, needs: Needs, host: Host) -> list[Slot]:
        """Return free slots that suit, the least able first, so that able ones stay free."""
        if needs.cores > self._cores[host.worker]:
            return []
        suiting = (s for s in host.slots if s.suits(needs) and s.id not in self._taken)
        return sorted(suiting, key=lambda slot: (slot.memory, slot.id))

    def _start(self, run: Waiting, host: Host, *, with_reserved: bool) -> bool:
        reservation = self._reserved.get(self._queue(run))
        kept = reservation.slots if reservation is not None else frozenset()
        free = self._free(run.needs, host)
        open_slots = [slot for slot in free if slot.id not in kept]
        if with_reserved and reservation is not None and self._may_slip_in(run, reservation):
            open_slots += [s for s in free if s.id in kept and s.id not in self._imminent]
        chosen = tuple(slot.id for slot in open_slots[: run.needs.slots])
        if len(chosen) < run.needs.slots:
            return False
        self._starts.append(
            Start(run.run_id, host.worker, chosen, backfilled=not kept.isdisjoint(chosen))
        )
        self._taken.update(chosen)
        self._cores[host.worker] -= run.needs.cores
        self._holds[run.owner] += len(chosen)
        return True

    def _may_slip_in(self, run: Waiting, reservation: Reservation) -> bool:
        """Whether a run delays the reservation by no more than a checkpoint."""
        in_time = (
            run.seconds is not None
            and reservation.at is not None
            and self._now + timedelta(seconds=run.seconds) <= reservation.at
        )
        return in_time or run.preemptible

    # -- what the first run that fits nowhere gets --------------------------------------------

    def _reserve(self, run: Waiting, hosts: Sequence[Host]) -> None:
        """Let others give way if that is enough; else keep the slots that are free first."""
        ways = [way for host in hosts if (way := self._by_yielding(run, host)) is not None]
        if ways:
            _, host, slots, victims = min(ways, key=lambda way: way[0])
            self._yields += [victim.run_id for victim in victims if not victim.yielding]
            self._imminent |= slots
            at: datetime | None = self._now
        else:
            wait, host, slots = min(
                (self._by_waiting(run, host) for host in hosts), key=lambda way: way[0]
            )
            at = None if wait == NEVER else self._now + wait
        self._reserved[self._queue(run)] = Reservation(run.run_id, host.worker, slots, at)

    def _by_yielding(
        self, run: Waiting, host: Host
    ) -> tuple[tuple[int, float], Host, frozenset[int], list[Running]] | None:
        """Return the cheapest set of runs whose slots would be enough; None if none is."""
        needs = run.needs
        free = [slot.id for slot in host.slots if slot.suits(needs) and slot.id not in self._taken]
        suiting = {slot.id for slot in host.slots if slot.suits(needs)}
        cores = self._cores[host.worker]
        victims: list[Running] = []
        for other in self._who_gives_way(run, host):
            if len(free) >= needs.slots and cores >= needs.cores:
                break
            gained = suiting.intersection(other.slots)
            if gained or cores < needs.cores:
                victims.append(other)
                free += sorted(gained)
                cores += other.cores
        if len(free) < needs.slots or cores < needs.cores:
            return None
        lost = sum((self._now - victim.started_at).total_seconds() for victim in victims)
        slots = frozenset(free[: needs.slots])
        return (sum(len(v.slots) for v in victims), lost), host, slots, victims

    def _who_gives_way(self, run: Waiting, host: Host) -> list[Running]:
        """Return who may be asked: those asked already, then the youngest of the lowest."""
        here = {slot.id for slot in host.slots}
        found = [
            other
            for other in {o.run_id: o for o in self._occupant.values()}.values()
            if here.issuperset(other.slots) and (other.yielding or self._gives_way(other, run))
        ]
        return sorted(
            found,
            key=lambda o: (not o.yielding, not o.backfilled, o.priority, -o.started_at.timestamp()),
        )

    def _gives_way(self, running: Running, to: Waiting) -> bool:
        """Whether a run may be asked. One that would then come first again never is."""
        if not running.preemptible:
            return False
        later = self._ledger.rank(to) < self._ledger.rank(running)
        return running.priority < to.priority or (running.backfilled and later)

    def _by_waiting(self, run: Waiting, host: Host) -> tuple[timedelta, Host, frozenset[int]]:
        """Return how long until enough slots of a host are free, and which they are."""
        suiting = [slot.id for slot in host.slots if slot.suits(run.needs)]
        waits = sorted((self._wait_for(slot), slot) for slot in suiting)[: run.needs.slots]
        return waits[-1][0], host, frozenset(slot for _, slot in waits)

    def _wait_for(self, slot: int) -> timedelta:
        if slot not in self._taken:
            return timedelta(0)
        occupant = self._occupant.get(slot)
        if occupant is None or occupant.seconds is None:
            return NEVER
        return max(timedelta(0), remaining(occupant, self._now))


def _could_hold(host: Host, needs: Needs) -> bool:
    """Whether a host could ever run something of those needs."""
    enough = sum(slot.suits(needs) for slot in host.slots) >= needs.slots
    return enough and (host.cores == 0 or host.cores >= needs.cores)


def _cores_left(host: Host, occupant: Mapping[int, Running]) -> float:
    if host.cores == 0:
        return float("inf")
    here = {o.run_id: o for slot in host.slots if (o := occupant.get(slot.id)) is not None}
    return host.cores - sum(run.cores for run in here.values())


def remaining(run: Running, now: datetime) -> timedelta:
    """Return how long a run is expected to go on; negative once it is late."""
    assert run.seconds is not None
    return run.started_at + timedelta(seconds=run.seconds) - now


# -- rank -------------------------------------------------------------------------------------


class Ledger:
    """Usage by owner and group, to rank by; charges as runs are started."""

    def __init__(self, accounts: Mapping[str, Account], groups: Mapping[str, float]) -> None:
        self._accounts = accounts
        self._groups = groups
        self._used = {name: account.usage for name, account in accounts.items()}
        self._group_used: dict[str, float] = defaultdict(float)
        for name, account in accounts.items():
            if account.group is not None:
                self._group_used[account.group] += self._used[name]

    def weigh(self, owner: str) -> tuple[float, float]:
        """Return what an owner's group has used by its share, and the owner alike: least first."""
        account = self._accounts.get(owner, Account())
        own = self._used.get(owner, 0.0) / account.share
        if account.group is None:
            return own, own
        return self._group_used[account.group] / self._groups.get(account.group, 1.0), own

    def rank(self, run: Waiting | Running) -> tuple[int, float, float, str]:
        """Return what sorts runs: priority, then fair share, then submission."""
        return (-run.priority, *self.weigh(run.owner), run.run_id)

    def charge(self, owner: str, seconds: float) -> None:
        """Add slot-seconds."""
        self._used[owner] = self._used.get(owner, 0.0) + seconds
        account = self._accounts.get(owner)
        if account is not None and account.group is not None:
            self._group_used[account.group] += seconds


def in_turn(snapshot: Snapshot, *, unknown: float) -> Iterator[Waiting]:
    """Yield the waiting runs in the order they are expected to start, as each start is charged.

    unknown: seconds of a run that nothing is known of.
    """
    ledger = Ledger(snapshot.accounts, snapshot.groups)
    lines: dict[int, dict[str, list[Waiting]]] = defaultdict(lambda: defaultdict(list))
    for run in sorted(snapshot.waiting, key=lambda run: run.run_id, reverse=True):
        lines[run.priority][run.owner].append(run)
    for priority in sorted(lines, reverse=True):
        owners = lines[priority]
        while owners:
            owner = min(owners, key=lambda name: (*ledger.weigh(name), owners[name][-1].run_id))
            run = owners[owner].pop()
            if not owners[owner]:
                del owners[owner]
            seconds = unknown if run.seconds is None else run.seconds
            ledger.charge(owner, max(LEAST_CHARGE, seconds) * run.needs.slots)
            yield run


def forecast(snapshot: Snapshot, run_id: str, *, unknown: float) -> datetime | None:
    """Return when a waiting run is expected to start; None if no host here could ever run it.

    The waiting runs are laid onto the slots one after the other, each where it starts first.

    unknown: seconds of a run that nothing is known of.
    """
    free_at = _free_at(snapshot, unknown)
    for run in in_turn(snapshot, unknown=unknown):
        best = min(
            (_earliest(host, run.needs, free_at) for host in snapshot.hosts
             if _could_hold(host, run.needs)),
            key=lambda found: found[0],
            default=None,
        )  # fmt: skip
        if run.run_id == run_id:
            return None if best is None else best[0]
        if best is not None:
            at, slots = best
            seconds = unknown if run.seconds is None else run.seconds
            for slot in slots:
                free_at[slot] = at + timedelta(seconds=seconds)
    return None


def _free_at(snapshot: Snapshot, unknown: float) -> dict[int, datetime]:
    now = snapshot.now
    found = {slot.id: now for host in snapshot.hosts for slot in host.slots}
    for run in snapshot.running:
        seconds = unknown if run.seconds is None else run.seconds
        end = run.started_at + timedelta(seconds=seconds)
        for slot in run.slots:
            found[slot] = max(now, end)
    return found


def _earliest(
    host: Host, needs: Needs, free_at: Mapping[int, datetime]
) -> tuple[datetime, tuple[int, ...]]:
    suiting = sorted((free_at[slot.id], slot.id) for slot in host.slots if slot.suits(needs))
    chosen = suiting[: needs.slots]
    return chosen[-1][0], tuple(slot for _, slot in chosen)
