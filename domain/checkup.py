"""What is wrong with a lab, by what is seen of it: the rules of `part doctor`.

`fail`: something is lost or stands still until somebody acts. `warn`: it goes on, slower or not for
long. Nothing is repaired here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]

CLOCK_SECONDS = 2.0
"""How far a clock may be off the database's. Leases do not depend on it; times in logs do."""
SILENT_SECONDS = 60.0
"""After this a worker, or the reaper, counts as silent."""
OVERDUE_SECONDS = 120.0
"""How long after its end a lease may still be there: workers look every few seconds, but wait for a
whole lease after the database was away."""
CANCELLING_SECONDS = 600.0
"""How long cancelling may take."""
DISK_LOW, DISK_FULL = 0.10, 0.02
"""Free share of a disk below which it is low, and below which checkpoints will soon fail."""
NAMED = 5
"""How many of many are named."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    told: str
    advice: str = ""
    """What to do about it; empty where nothing."""


@dataclass(frozen=True)
class Disk:
    """A disk, in bytes."""

    free: int
    total: int


@dataclass(frozen=True)
class Store:
    """An artifact store, as somebody sees it."""

    identity: str | None
    """A word that is kept in it: two who read the same see one store."""
    error: str
    """Why nothing can be kept there; empty if it can."""


@dataclass(frozen=True)
class Host:
    """A worker as it last told of itself; None where it did not look."""

    name: str
    silent_seconds: float
    has_left: bool
    """It said that it ends, or fell silent after it was drained: nobody waits for it."""
    clock_skew: float | None
    """Seconds its clock is ahead of the database's."""
    disk: Disk | None
    orphans: int | None
    """Processes of ended attempts that it could not kill."""
    standby_bytes: int | None = None
    """Memory that its interpreters on standby hold."""
    store: Store | None = None
    driver_error: str = ""
    """Why its GPUs cannot be used by the PyTorch it has."""
    rival: str = ""
    """The host of another worker that asks for its name."""


@dataclass(frozen=True)
class Shut:
    """A slot that is given to nobody."""

    worker: str
    slot: str
    """Such as ``gpu:0``."""
    why: Literal["unconfirmed", "quarantine", "foreign"]
    told: str


@dataclass(frozen=True)
class Schema:
    """The database's."""

    dialect: str
    revision: str | None
    """None before the first migration."""
    needed: str

    @property
    def is_current(self) -> bool:
        """Whether this version can work with it."""
        return self.revision == self.needed


@dataclass(frozen=True)
class Rows:
    """What the database holds that bears on the lab's health."""

    hosts: Sequence[Host]
    shut: Sequence[Shut]
    reaper_silent: float | None
    """Seconds since leases were last looked through; None if never."""
    overdue: Sequence[str]
    """Runs whose lease ran out long ago."""
    unleased: Sequence[str]
    """Runs that run without a lease."""
    leased: Sequence[str]
    """Runs that do not run and have one."""
    cancelling: Sequence[str]
    """Runs that were to be cancelled long ago."""
    miscounted: Sequence[str]
    """Queued runs that wait for another number of runs than they say."""
    unmet: Sequence[str]
    """What waiting runs ask for and no live host has, in words."""
    waiting: int
    """Runs in the queue."""


@dataclass(frozen=True)
class Api:
    """What the API sees of its own machine."""

    clock_skew: float
    disk: Disk | None
    """Where artifacts are stored; None if that is no folder."""
    broker: str | None
    """Empty if it answers, else what it said; None if there is none."""
    store: Store | None = None


def findings(schema: Schema, rows: Rows | None, api: Api) -> tuple[Finding, ...]:
    """Return what every check found, one line for each that is well.

    rows: None where the schema does not let them be read.
    """
    if rows is None:
        return (_schema(schema), _broker(api))
    parts = (
        (_schema(schema), _broker(api)),
        _clocks(rows, api),
        _workers(rows),
        _rivals(rows),
        _slots(rows),
        _reaper(rows),
        _stuck(rows),
        _needs(rows),
        _orphans(rows),
        _standby(rows),
        _stores(rows, api),
        _drivers(rows),
        _disks(rows, api),
    )
    return tuple(finding for part in parts for finding in part)


def worst(found: Sequence[Finding]) -> Level:
    """Return the gravest level found."""
    levels = {finding.level for finding in found}
    return next((level for level in ("fail", "warn") if level in levels), "ok")


def _schema(schema: Schema) -> Finding:
    if schema.is_current:
        return Finding("database", "ok", f"{schema.dialect} answers, schema {schema.revision}")
    told = f"schema {schema.revision or 'missing'}, this version needs {schema.needed}"
    return Finding("database", "fail", told, "python -m migrations upgrade")


def _broker(api: Api) -> Finding:
    polls = "runs start at the workers' next poll"
    if api.broker is None:
        return Finding("broker", "warn", f"none is set: {polls}", "set PARTLAB_BROKER_URL")
    if api.broker:
        return Finding("broker", "warn", f"no answer ({api.broker}): {polls}", "start it again")
    return Finding("broker", "ok", "answers")


def _clocks(rows: Rows, api: Api) -> Iterator[Finding]:
    skews = {"the API": api.clock_skew}
    skews |= {h.name: h.clock_skew for h in _at_work(rows) if h.clock_skew is not None}
    off = {name: skew for name, skew in skews.items() if abs(skew) > CLOCK_SECONDS}
    for name, skew in off.items():
        told = f"{name} is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database"
        yield Finding("clocks", "warn", told, "let the host keep time with NTP")
    if not off:
        most = max(map(abs, skews.values()))
        yield Finding("clocks", "ok", f"{_many(len(skews), 'clock')} within {most:.2f} s")


def _workers(rows: Rows) -> Iterator[Finding]:
    live = [h for h in _at_work(rows) if h.silent_seconds <= SILENT_SECONDS]
    for host in _at_work(rows):
        if host not in live:
            told = f"{host.name} has been silent for {_span(host.silent_seconds)}"
            yield Finding("workers", "warn", told, "start it again, or look at its host")
    if live:
        yield Finding("workers", "ok", f"{_many(len(live), 'worker')} at work")
    else:
        waits = f", {_many(rows.waiting, 'run')} in the queue" if rows.waiting else ""
        advice = "celery --app worker.app worker"
        yield Finding("workers", "fail", f"none is at work{waits}", advice)


def _rivals(rows: Rows) -> Iterator[Finding]:
    for host in _at_work(rows):
        if host.rival:
            told = f"two are named {host.name}: one is at work, one on {host.rival} stands by"
            yield Finding("workers", "warn", told, "give each its own PARTLAB_WORKER_NAME")


def _slots(rows: Rows) -> Iterator[Finding]:
    does: Mapping[str, str] = {
        "unconfirmed": "its worker says when the lost attempt's process is gone: start it",
        "quarantine": "part admin release {worker} {slot}, once the device is known to be well",
        "foreign": "it is used again when the other program has ended",
    }
    for shut in rows.shut:
        where = f"{shut.worker} {shut.slot}"
        advice = does[shut.why].format(worker=shut.worker, slot=shut.slot)
        yield Finding("slots", "warn", f"{where} is given to nobody: {shut.told}", advice)
    if not rows.shut:
        yield Finding("slots", "ok", "every slot may be used")


def _reaper(rows: Rows) -> Iterator[Finding]:
    silent = rows.reaper_silent
    if silent is None or silent > SILENT_SECONDS:
        last = "never" if silent is None else f"{_span(silent)} ago"
        told = f"leases were last looked through {last}: what dead workers held stays held"
        yield Finding("reaper", "fail", told, "start a worker: every one does it")
    else:
        yield Finding("reaper", "ok", f"leases were looked through {silent:.0f} s ago")


def _stuck(rows: Rows) -> Iterator[Finding]:
    bug = "report this with `part show RUN --events`: it should not be possible"
    cases: tuple[tuple[Sequence[str], Level, str, str], ...] = (
        (
            rows.overdue,
            "fail",
            "hold a lease that ended long ago",
            "start a worker: it takes them back",
        ),
        (rows.unleased, "fail", "are running and have no lease", bug),
        (rows.leased, "fail", "have a lease and are not running", bug),
        (rows.miscounted, "fail", "wait for another number of runs than they say", bug),
        (
            rows.cancelling,
            "warn",
            f"have been cancelling for more than {_span(CANCELLING_SECONDS)}",
            "look at their worker",
        ),
    )
    for ids, level, told, advice in cases:
        if ids:
            yield Finding("rows", level, f"{_named(ids)} {told}", advice)
    if not any(ids for ids, *_ in cases):
        yield Finding("rows", "ok", "runs and leases agree")


def _needs(rows: Rows) -> Iterator[Finding]:
    for wants in rows.unmet:
        advice = "start a worker that has it, or submit for less"
        yield Finding("needs", "warn", f"runs wait for {wants}: no live host has that", advice)
    if not rows.unmet:
        yield Finding("needs", "ok", "the hosts have what every waiting run asks for")


def _orphans(rows: Rows) -> Iterator[Finding]:
    looked = [h for h in _at_work(rows) if h.orphans is not None]
    for host in looked:
        if host.orphans:
            left = _many(host.orphans, "process", "es")
            told = f"{left} of ended attempts on {host.name} cannot be killed"
            advice = "they hang in the kernel or a driver: restart the host"
            yield Finding("orphans", "warn", told, advice)
    if not any(host.orphans for host in looked):
        yield Finding("orphans", "ok", f"none on {_many(len(looked), 'host')}")


def _standby(rows: Rows) -> Iterator[Finding]:
    held = {h.name: h.standby_bytes for h in _at_work(rows) if h.standby_bytes}
    if held:
        told = ", ".join(f"{_size(size)} on {name}" for name, size in held.items())
        yield Finding("standby", "ok", f"interpreters that are kept ready hold {told}")


def _stores(rows: Rows, api: Api) -> Iterator[Finding]:
    seen = {h.name: h.store for h in _at_work(rows) if h.store is not None}
    if api.store is not None:
        seen = {"the API": api.store, **seen}
    for name, store in seen.items():
        if store.error:
            told = f"{name} can keep nothing in its artifact store: {store.error}"
            yield Finding("artifacts", "fail", told, "it starts no run until that is mended")
        elif api.store is not None and not api.store.error and store.identity != api.store.identity:
            told = f"{name} keeps artifacts in another store than the API, which cannot read them"
            yield Finding("artifacts", "fail", told, "give both one PARTLAB_ARTIFACTS_URL")
    if seen and not any(s.error for s in seen.values()) and len(_identities(seen)) == 1:
        yield Finding("artifacts", "ok", f"one store, seen by {_many(len(seen), 'process', 'es')}")


def _identities(seen: Mapping[str, Store]) -> set[str | None]:
    return {store.identity for store in seen.values()}


def _drivers(rows: Rows) -> Iterator[Finding]:
    for host in _at_work(rows):
        if host.driver_error:
            advice = "install a newer driver, or set PARTLAB_GPU_SLOTS=0"
            yield Finding("drivers", "fail", f"{host.name}: {host.driver_error}", advice)


def _disks(rows: Rows, api: Api) -> Iterator[Finding]:
    disks = {h.name: h.disk for h in _at_work(rows) if h.disk is not None}
    if api.disk is not None:
        disks = {"the artifact store": api.disk, **disks}
    low = {name: disk for name, disk in disks.items() if disk.free < DISK_LOW * disk.total}
    for name, disk in low.items():
        level: Level = "fail" if disk.free < DISK_FULL * disk.total else "warn"
        told = f"{name} has {_size(disk.free)} of {_size(disk.total)} left"
        yield Finding("disk", level, told, "make room: a run that cannot write fails")
    if disks and not low:
        least = min(disks.values(), key=lambda disk: disk.free)
        yield Finding("disk", "ok", f"{_size(least.free)} free where it is least")


def _at_work(rows: Rows) -> list[Host]:
    return [host for host in rows.hosts if not host.has_left]


def _many(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}"


def _named(ids: Sequence[str]) -> str:
    more = len(ids) - NAMED
    return f"{_many(len(ids), 'run')} ({', '.join(ids[:NAMED])}{', ...' if more > 0 else ''})"


def _span(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
