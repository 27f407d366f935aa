"""Who starts next, on which slots, and why everybody else waits: pure functions over a snapshot.

The store takes the snapshot and carries the plan out; the simulator in ``benchmarks`` runs the
very same functions. Order: priority; then fair share, a group's slot-seconds by its share before a
user's by theirs; then submission. A run that has to gather slots or cores, and is the first of its
owner's, gets a reservation: what runs there meanwhile either ends in time or gives way. It keeps
its turn until it starts: equal users change ranks by the minute, and no host would ever be empty.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

USAGE_HALF_LIFE = timedelta(hours=24)
LEAST_CHARGE = 60.0
"""Slot-seconds that a started attempt weighs at least: many starts at one instant take turns."""
NEVER = timedelta.max

Why = Literal[
    "starts",
    "impossible",
    "no-worker",
    "data-missing",
    "set-aside",
    "beyond-quota",
    "running-quota",
    "week-quota",
    "slots",
    "reserved",
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
    data: str = ""
    """The dataset that must be under the host's data root; empty for none."""

    @property
    def gathers(self) -> bool:
        """Whether what one other run leaves may be too little, so that it has to be kept."""
        return self.slots > 1 or self.cores > 0


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
    datasets: frozenset[str] | None = None
    """What is under its data root; None if it does not say: then it may have any."""

    def has(self, data: str) -> bool:
        """Whether a run that reads this dataset may start here."""
        return data == "" or self.datasets is None or data in self.datasets


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
    reserved: bool = False
    """Slots were kept for it before: it goes before all others of its priority."""


@dataclass(frozen=True)
class Running:
    """An attempt that holds slots."""

    run_id: str
    owner: str
    slots: tuple[int, ...]
    started_at: datetime
    priority: int = 0
    cores: int = 0
    data: str = ""
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
    """Slots and cores kept for a run that fits nowhere yet."""

    run_id: str
    worker: str
    needs: Needs
    slots: frozenset[int]
    at: datetime | None
    """When they are expected to be free; None if that is not known."""
    imminent: bool = False
    """Whoever is there was asked to give way: nothing may slip in."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    starts: tuple[Start, ...] = ()
    """In order of rank."""
    yields: tuple[str, ...] = ()
    """Running runs to be asked to give way."""
    reservations: tuple[Reservation, ...] = ()
    """In order of rank; no slot is kept twice."""
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
    barred: frozenset[str] = frozenset()
    while True:
        planner = _Planner(snapshot, worker, barred)
        proposed = planner.plan()
        if not (in_vain := _preempts_in_vain(snapshot, proposed, planner.preempts, barred)):
            return proposed
        barred |= in_vain


def _preempts_in_vain(
    snapshot: Snapshot, proposed: Plan, preempts: Collection[str], barred: frozenset[str]
) -> frozenset[str]:
    """Return those of ``preempts`` that would not start on the slots they have others give up.

    Quotas and ranks change with every preemption and start: another run may come first then, and
    let in again whoever made room. Such plans would go round in circles, a checkpoint each time.
    """
    if not preempts:
        return frozenset()
    following = _Planner(carried_out(snapshot, proposed), None, barred).plan()
    return frozenset(preempts) - {start.run_id for start in following.starts}


def carried_out(snapshot: Snapshot, decided: Plan) -> Snapshot:
    """Return the lab a moment later: runs have started, and preempted ones wait again."""
    leaving = {run.run_id for run in snapshot.running if run.yielding} | {*decided.yields}
    starting = {start.run_id: start for start in decided.starts}
    reserved = {reservation.run_id for reservation in decided.reservations}
    slots = {slot.id: slot for host in snapshot.hosts for slot in host.slots}
    accounts = dict(snapshot.accounts)
    waiting, running = [], [run for run in snapshot.running if run.run_id not in leaving]
    for run in snapshot.waiting:
        if (start := starting.get(run.run_id)) is None:
            waiting.append(replace(run, reserved=run.reserved or run.run_id in reserved))
            continue
        running.append(_started(run, start, snapshot.now))
        account = accounts.get(run.owner, Account())
        usage = account.usage + LEAST_CHARGE * len(start.slots)
        accounts[run.owner] = replace(account, usage=usage)
    waiting += [_queued(run, slots) for run in snapshot.running if run.run_id in leaving]
    return replace(
        snapshot,
        waiting=tuple(waiting),
        running=tuple(running),
        accounts=MappingProxyType(accounts),
    )


def _started(run: Waiting, start: Start, now: datetime) -> Running:
    return Running(
        run.run_id,
        run.owner,
        start.slots,
        now,
        run.priority,
        cores=run.needs.cores,
        data=run.needs.data,
        seconds=run.seconds,
        preemptible=run.preemptible,
        backfilled=start.backfilled,
    )


def _queued(run: Running, slots: Mapping[int, Slot]) -> Waiting:
    """Return a preempted run as it waits again. It needs what it had, as far as is known."""
    held = slots.get(run.slots[0], Slot(run.slots[0], queue=""))
    needs = Needs(held.queue, held.kind, len(run.slots), cores=run.cores, data=run.data)
    return Waiting(run.run_id, run.owner, needs, run.priority, run.seconds, run.preemptible)


class _Planner:
    """One plan in the making: slots fill up as runs are placed."""

    def __init__(self, snapshot: Snapshot, worker: str | None, barred: Collection[str]) -> None:
        self._barred = barred
        """Who may not preempt."""
        self.preempts: list[str] = []
        """Who has others preempted by this plan."""
        self._now = snapshot.now
        self._snapshot = snapshot
        self._hosts = sorted(snapshot.hosts, key=lambda h: (h.worker != worker, h.worker))
        occupant = {slot: run for run in snapshot.running for slot in run.slots}
        self._home = {slot.id: host.worker for host in self._hosts for slot in host.slots}
        self._there: dict[str, list[Running]] = defaultdict(list)
        """Of the snapshot's, by worker."""
        for run in snapshot.running:
            if all(slot in self._home for slot in run.slots):
                self._there[self._home[run.slots[0]]].append(run)
        self._taken = set(occupant) | set(snapshot.lost_slots)
        self._cores = {host.worker: _cores_left(host, occupant) for host in self._hosts}
        self._holds: dict[str, int] = defaultdict(int)
        for run in snapshot.running:
            self._holds[run.owner] += len(run.slots)
        self._ledger = Ledger(snapshot.accounts, snapshot.groups)
        self._hosts_of: dict[Needs, list[Host]] = {}
        self._slots_of: dict[tuple[Needs, str], tuple[int, ...]] = {}
        self._reserved: dict[str, list[Reservation]] = defaultdict(list)
        """By worker."""
        self._first: dict[tuple[str, str, str], str] = {}
        """Which of an owner's runs for slots of a queue and kind comes first."""
        self._starts: list[Start] = []
        self._yields: list[str] = []

    def plan(self) -> Plan:
        waiting = sorted(self._snapshot.waiting, key=self._ledger.rank)
        for run in sorted(waiting, key=lambda run: (-run.priority, run.run_id)):
            if self._able(run.needs):
                self._first.setdefault(_line(run), run.run_id)
        why = {run.run_id: self._place(run) for run in waiting}
        kept = {r.run_id: r for found in self._reserved.values() for r in found}
        in_order = tuple(kept[run.run_id] for run in waiting if run.run_id in kept)
        return Plan(tuple(self._starts), tuple(self._yields), in_order, why)

    def _place(self, run: Waiting) -> Why:
        """Start a run if it may, else reserve for it if it may; say what became of it."""
        hosts = self._able(run.needs)
        if not hosts:
            return self._nowhere(run.needs)
        if (quota := self._quota(run)) is not None:
            return quota
        keeping = [host for host in hosts if self._reserved[host.worker]]
        for may_slip_in, where in ((False, hosts), (True, keeping)):
            for host in where:
                if self._start(run, host, may_slip_in=may_slip_in):
                    return "starts"
        behind = any(self._has_room(run, host) for host in keeping)
        self._reserve(run, hosts)
        return "reserved" if behind else "slots"

    def _able(self, needs: Needs) -> list[Host]:
        """Return the hosts that could run it on the slots that may be used."""
        if needs not in self._hosts_of:
            lost = self._snapshot.lost_slots
            found = [host for host in self._hosts if _could_hold(host, needs, without=lost)]
            self._hosts_of[needs] = found
        return self._hosts_of[needs]

    def _nowhere(self, needs: Needs) -> Why:
        return nowhere(self._hosts, needs)

    def _quota(self, run: Waiting) -> Why | None:
        account = self._snapshot.accounts.get(run.owner, Account())
        wanted = self._holds[run.owner] + run.needs.slots
        if account.most_running is not None and wanted > account.most_running:
            alone = run.needs.slots <= account.most_running
            return "running-quota" if alone else "beyond-quota"
        if account.most_week is not None and account.week >= account.most_week:
            return "week-quota"
        return None

    # -- where there is room ------------------------------------------------------------------

    def _suiting(self, needs: Needs, host: Host) -> tuple[int, ...]:
        """Return slots that suit, taken or not, the least able first: able ones stay free."""
        if (needs, host.worker) not in self._slots_of:
            suiting = (slot for slot in host.slots if slot.suits(needs))
            found = sorted(suiting, key=lambda slot: (slot.memory, slot.id))
            self._slots_of[needs, host.worker] = tuple(slot.id for slot in found)
        return self._slots_of[needs, host.worker]

    def _free(
        self, needs: Needs, host: Host, kept: Sequence[Reservation]
    ) -> tuple[list[int], float]:
        """Return free slots that suit, and free cores, without the kept."""
        suiting, closed = self._suiting(needs, host), _slots_of(kept)
        free = [slot for slot in suiting if slot not in self._taken and slot not in closed]
        return free, self._cores[host.worker] - sum(r.needs.cores for r in kept)

    def _has_room(self, run: Waiting, host: Host) -> bool:
        free, cores = self._free(run.needs, host, ())
        return _suffice(run.needs, free, cores)

    def _start(self, run: Waiting, host: Host, *, may_slip_in: bool) -> bool:
        kept = self._reserved[host.worker]
        closed = [r for r in kept if not (may_slip_in and self._may_slip_in(run, r))]
        free, cores = self._free(run.needs, host, closed)
        if not _suffice(run.needs, free, cores):
            return False
        free.sort(key=_slots_of(kept).__contains__)
        chosen = tuple(free[: run.needs.slots])
        slips_in = may_slip_in and len(closed) < len(kept)
        self._begin(run, Start(run.run_id, host.worker, chosen, backfilled=slips_in))
        return True

    def _begin(self, run: Waiting, start: Start) -> None:
        self._starts.append(start)
        self._taken.update(start.slots)
        self._cores[start.worker] -= run.needs.cores
        self._holds[run.owner] += len(start.slots)

    def _may_slip_in(self, run: Waiting, reservation: Reservation) -> bool:
        """Whether a run delays the reservation by no more than a checkpoint."""
        in_time = (
            run.seconds is not None
            and reservation.at is not None
            and self._now + timedelta(seconds=run.seconds) <= reservation.at
        )
        return not reservation.imminent and (in_time or run.preemptible)

    # -- what a run that fits nowhere gets ----------------------------------------------------

    def _reserve(self, run: Waiting, hosts: Sequence[Host]) -> None:
        """Let others give way if that is enough; else keep what is free first, where it must.

        Only the first of an owner's runs: others may be large as well, and younger.
        """
        ways = [way for host in hosts if (way := self._by_yielding(run, host)) is not None]
        if ways:
            _, host, slots, victims = min(ways, key=lambda way: way[0])
            if preempted := [v.run_id for v in victims if not self._is_asked(v)]:
                self._yields += preempted
                self.preempts.append(run.run_id)
            now = self._now
            self._keep(Reservation(run.run_id, host.worker, run.needs, slots, now, imminent=True))
        elif self._has_turn(run):
            self._keep_what_is_free_first(run, hosts)

    def _has_turn(self, run: Waiting) -> bool:
        """Whether it may gather slots, and push out for that what slipped in."""
        mine = run.reserved or self._first[_line(run)] == run.run_id
        return mine and run.needs.gathers

    def _keep_what_is_free_first(self, run: Waiting, hosts: Sequence[Host]) -> None:
        ways = [way for host in hosts if (way := self._by_waiting(run, host)) is not None]
        if ways:
            wait, host, slots = min(ways, key=lambda way: way[0])
            at = None if wait == NEVER else self._now + wait
            self._keep(Reservation(run.run_id, host.worker, run.needs, slots, at))

    def _keep(self, reservation: Reservation) -> None:
        self._reserved[reservation.worker].append(reservation)

    def _by_yielding(
        self, run: Waiting, host: Host
    ) -> tuple[tuple[int, float], Host, frozenset[int], list[Running]] | None:
        """Return the cheapest set of runs whose slots would be enough; None if none is."""
        needs, kept = run.needs, self._reserved[host.worker]
        if not (candidates := self._who_gives_way(run, host)):
            return None
        gathered, cores = self._free(needs, host, kept)
        victims: list[Running] = []
        for other in candidates:
            if _suffice(needs, gathered, cores):
                break
            gained = self._gain(other, needs, host) if len(gathered) < needs.slots else []
            if gained or (other.cores and needs.cores > max(cores, 0)):
                victims.append(other)
                gathered += gained
                cores += other.cores
        if not _suffice(needs, gathered, cores):
            return None
        lost = sum((self._now - victim.started_at).total_seconds() for victim in victims)
        slots = frozenset(gathered[: needs.slots])
        return (sum(len(v.slots) for v in victims), lost), host, slots, victims

    def _who_gives_way(self, run: Waiting, host: Host) -> list[Running]:
        """Return who may be asked: those asked already, then the youngest of the lowest."""
        found = [
            other
            for other in self._there[host.worker]
            if self._is_asked(other) or self._gives_way(other, run)
        ]
        return sorted(
            found,
            key=lambda o: (
                not self._is_asked(o), not o.backfilled, o.priority, -o.started_at.timestamp(),
            ),
        )  # fmt: skip

    def _is_asked(self, running: Running) -> bool:
        return running.yielding or running.run_id in self._yields

    def _gives_way(self, running: Running, to: Waiting) -> bool:
        """Whether a run may be asked. One that would then come first again never is."""
        if not running.preemptible or to.run_id in self._barred:
            return False
        if running.priority < to.priority:
            return True
        slipped_in = running.backfilled and self._has_turn(to)
        return slipped_in and self._ledger.rank(to) < self._ledger.rank(running)

    def _by_waiting(
        self, run: Waiting, host: Host
    ) -> tuple[timedelta, Host, frozenset[int]] | None:
        """Return how long until a host has enough, and which slots; None if it never will."""
        needs, kept = run.needs, self._reserved[host.worker]
        gathered, cores = self._free(needs, host, kept)
        wait = timedelta(0)
        there = [(self._wait_for(other, run), other) for other in self._there[host.worker]]
        for when, other in sorted(there, key=lambda pair: pair[0]):
            if _suffice(needs, gathered, cores):
                break
            gathered += self._gain(other, needs, host)
            cores += other.cores
            wait = when
        if not _suffice(needs, gathered, cores):
            return None
        return wait, host, frozenset(gathered[: needs.slots])

    def _gain(self, running: Running, needs: Needs, host: Host) -> list[int]:
        """Return the slots that suit which a run would leave to whoever comes next."""
        suiting, closed = self._suiting(needs, host), _slots_of(self._reserved[host.worker])
        return [slot for slot in running.slots if slot in suiting and slot not in closed]

    def _wait_for(self, running: Running, run: Waiting) -> timedelta:
        if self._is_asked(running) or self._gives_way(running, run):
            return timedelta(0)  # once all others have ended
        if running.seconds is None:
            return NEVER
        return max(timedelta(0), remaining(running, self._now))


def _suffice(needs: Needs, slots: Collection[int], cores: float) -> bool:
    """Whether that is enough. cores: below zero where more are kept than are free."""
    return len(slots) >= needs.slots and (needs.cores == 0 or cores >= needs.cores)


def _slots_of(kept: Sequence[Reservation]) -> frozenset[int]:
    return frozenset[int]().union(*(reservation.slots for reservation in kept))


def _line(run: Waiting) -> tuple[str, str, str]:
    return run.owner, run.needs.queue, run.needs.kind


def _could_hold(host: Host, needs: Needs, *, without: Collection[int] = frozenset()) -> bool:
    """Whether a host could ever run something of those needs; without: on other slots only."""
    suiting = sum(slot.suits(needs) and slot.id not in without for slot in host.slots)
    enough = suiting >= needs.slots and host.has(needs.data)
    return enough and (host.cores == 0 or host.cores >= needs.cores)


def nowhere(hosts: Collection[Host], needs: Needs) -> Why:
    """Say why no host can run something of those needs now: its slots, its data, or all of it."""
    if any(_could_hold(host, needs) for host in hosts):
        return "set-aside"
    if any(_could_hold(host, replace(needs, data="")) for host in hosts):
        return "data-missing"
    offered = (slot for host in hosts for slot in host.slots)
    served = any((slot.queue, slot.kind) == (needs.queue, needs.kind) for slot in offered)
    return "impossible" if served else "no-worker"


def could_run(hosts: Collection[Host], needs: Needs, *, without: Collection[int]) -> bool:
    """Whether a host could run something of those needs on slots that may be used."""
    return any(_could_hold(host, needs, without=without) for host in hosts)


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

    def rank(self, run: Waiting | Running) -> tuple[int, bool, float, float, str]:
        """Return what sorts runs: priority, a kept turn, fair share, submission."""
        has_turn = isinstance(run, Waiting) and run.reserved
        return (-run.priority, not has_turn, *self.weigh(run.owner), run.run_id)

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
    lines: dict[tuple[int, bool], dict[str, list[Waiting]]]
    lines = defaultdict(lambda: defaultdict(list))
    for run in sorted(snapshot.waiting, key=lambda run: run.run_id, reverse=True):
        lines[run.priority, run.reserved][run.owner].append(run)
    for turn in sorted(lines, reverse=True):
        owners = lines[turn]
        while owners:
            owner = min(owners, key=lambda name: (*ledger.weigh(name), owners[name][-1].run_id))
            run = owners[owner].pop()
            if not owners[owner]:
                del owners[owner]
            seconds = unknown if run.seconds is None else run.seconds
            ledger.charge(owner, max(LEAST_CHARGE, seconds) * run.needs.slots)
            yield run


def forecast(snapshot: Snapshot, run_id: str, *, unknown: float) -> datetime | None:
    """Return when a waiting run is expected to start; None if no host could run it on what it has.

    The waiting runs are laid onto the slots one after the other, each where it starts first.

    unknown: seconds of a run that nothing is known of.
    """
    free_at = _free_at(snapshot, unknown)
    for run in in_turn(snapshot, unknown=unknown):
        best = min(
            (_earliest(host, run.needs, free_at) for host in snapshot.hosts
             if _could_hold(host, run.needs, without=snapshot.lost_slots)),
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
    offered = (slot.id for host in snapshot.hosts for slot in host.slots)
    found = {slot: now for slot in offered if slot not in snapshot.lost_slots}
    for run in snapshot.running:
        seconds = unknown if run.seconds is None else run.seconds
        end = run.started_at + timedelta(seconds=seconds)
        for slot in run.slots:
            found[slot] = max(now, end)
    return found


def _earliest(
    host: Host, needs: Needs, free_at: Mapping[int, datetime]
) -> tuple[datetime, tuple[int, ...]]:
    suiting = sorted(
        (free_at[slot.id], slot.id)
        for slot in host.slots
        if slot.suits(needs) and slot.id in free_at
    )
    chosen = suiting[: needs.slots]
    return chosen[-1][0], tuple(slot for _, slot in chosen)
