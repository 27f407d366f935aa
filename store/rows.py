"""What queries return: plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from domain.forecast import DurationSource
from domain.run_state import RunState
from domain.schedule import Start

Role = Literal["admin", "member", "viewer"]
SlotKind = Literal["cpu", "gpu"]
T = TypeVar("T")


@dataclass(frozen=True)
class RunRow:
    """A run as stored."""

    id: str
    owner: str
    experiment: str
    kind: str
    preset: str | None
    name: str | None
    tags: tuple[str, ...]
    state: RunState
    version: int
    attempt: int
    priority: int
    slot_kind: SlotKind
    needs_id: int
    family: str
    """Runs of one family should take about as long."""
    expected_seconds: float | None
    preemptible: bool
    held: bool
    """Paused by hand."""
    reserved: bool
    """Slots are kept for it: it goes before all others of its priority."""
    blockers: int
    """How many runs it still waits for."""
    losses: int
    """How many of its attempts were lost through no fault of its own."""
    seed: int
    spec: Mapping[str, Any]
    spec_sha256: str
    progress: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    facts: Mapping[str, Any] | None
    failure: Mapping[str, Any] | None
    """failure_class, code, message, traceback."""
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime
    alive_at: datetime | None
    advanced_at: datetime | None
    worker: str | None
    retry_of: str | None


@dataclass(frozen=True)
class Submission:
    """What submit did."""

    run: RunRow
    created: bool
    """False when the Idempotency-Key had made this run before."""


@dataclass(frozen=True)
class Page(Generic[T]):
    """A slice of a list; ``next_cursor`` is None at its end."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class SlotSpec:
    """A place on a host where one run fits."""

    kind: SlotKind
    ordinal: int
    device_name: str
    memory: int = 0
    """Bytes of a GPU; 0 if not known."""
    queue: str = ""
    """Which queue it serves; empty for the one named as its kind."""


@dataclass(frozen=True)
class SlotRow:
    """A slot as stored."""

    id: int
    worker: str
    kind: SlotKind
    ordinal: int
    device_name: str


@dataclass(frozen=True)
class Claim:
    """A run that now belongs to slots of a worker."""

    run: RunRow
    attempt: int
    slots: tuple[SlotRow, ...]
    """By rank; all on one host, all of one kind."""
    expires_at: datetime

    @property
    def name(self) -> str:
        """What its processes and its work folder are known by: ``<run>-<attempt>``."""
        return f"{self.run.id}-{self.attempt}"


@dataclass(frozen=True)
class Look:
    """What a worker learns when it looks at the queue."""

    starts: tuple[tuple[Start, int], ...]
    """What the plan starts on this worker, by rank, each with the number of its attempt."""
    yielding: tuple[str, ...]
    """Runs, wherever they are, that were asked just now to give way."""


@dataclass(frozen=True)
class Heartbeat:
    """What the owner of a lease learns when it renews."""

    cancel_requested: bool
    pause_requested: bool
    yield_requested: bool
    """A run that comes before this one needs its slots."""
    expires_at: datetime


@dataclass(frozen=True)
class Reaped:
    """A lease that was lost, and what became of its run."""

    run_id: str
    attempt: int
    outcome: RunState


@dataclass(frozen=True)
class Position:
    """Where a queued run stands and what it waits for."""

    ahead: int
    why: str
    """The rule or resource that holds it: state, paused, after, backoff, or one of
    ``domain.schedule.Why``."""
    waits_for: str
    estimated_start: datetime | None = None
    basis: str = ""
    earliest_start: datetime | None = None
    latest_start: datetime | None = None
    """Eight starts in ten are from the earliest to the latest."""
    source: DurationSource | None = None
    """What most of the durations before it rest on."""


@dataclass(frozen=True)
class Wait:
    """What holds a queued run back other than its turn."""

    why: str
    """As a :class:`Position` has it."""
    state: str
    """In the few words that a list has room for: `paused`, `no such device`."""
    waits_for: str


@dataclass(frozen=True)
class QueueView:
    """The queue in numbers."""

    queued: int
    running: int
    cancelling: int
    cpu_slots: int
    cpu_busy: int
    gpu_slots: int
    gpu_busy: int


@dataclass(frozen=True)
class SlotView:
    """A slot and what occupies it."""

    kind: SlotKind
    ordinal: int
    device_name: str
    queue: str
    memory: int
    run_id: str | None
    unconfirmed: bool
    quarantine: str | None
    foreign_use: str | None


@dataclass(frozen=True)
class WorkerRow:
    """A worker and its slots."""

    name: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    cores: int
    draining: bool
    datasets: tuple[str, ...] | None
    """What is under its data root; None if it does not say."""
    slots: tuple[SlotView, ...]


@dataclass(frozen=True)
class Vitals:
    """What a worker sees of its host."""

    clock_skew: float
    """Seconds its clock is ahead of the database's."""
    disk_free: int
    disk_total: int
    """Bytes of the disk it works on."""
    orphans: int
    """Processes of ended attempts that it could not kill."""
    datasets: tuple[str, ...] | None = None
    """What is under its data root; None if that cannot be told."""
    standby_bytes: int = 0
    """Memory that its interpreters on standby hold."""
    store_id: str | None = None
    """What its artifact store is known by; None if that cannot be told."""
    store_error: str | None = None
    """Why nothing can be kept there; empty if it can, None if that was not tried."""
    driver_error: str = ""
    """Why its GPUs cannot be used by the PyTorch it has."""


@dataclass(frozen=True)
class EventRow:
    """One line of a run's history."""

    id: int
    at: datetime
    source: str | None
    target: str
    attempt: int
    reason: str
    actor: str


@dataclass(frozen=True)
class LogRow:
    """One line of a run's log."""

    id: int
    attempt: int
    at: datetime
    level: str
    message: str


@dataclass(frozen=True)
class SeriesSummary:
    """A metric at a glance; NaN where there is no number."""

    name: str
    count: int
    last: float
    last_step: int
    minimum: float
    minimum_step: int | None
    maximum: float
    maximum_step: int | None


@dataclass(frozen=True)
class NewArtifact:
    """A file whose blob is stored and which a run is about to own."""

    name: str
    kind: str
    media_type: str
    sha256: str
    size: int
    key: str
    role: str | None = None
    epoch: int | None = None
    step: int | None = None


@dataclass(frozen=True)
class ArtifactRow:
    """A stored file."""

    id: str
    run_id: str
    attempt: int
    name: str
    kind: str
    role: str | None
    media_type: str
    sha256: str
    size: int
    key: str
    epoch: int | None
    step: int | None
    created_at: datetime


@dataclass(frozen=True)
class EvaluationRow:
    """A stored evaluation; ``record`` is domain.results.Evaluation as JSON."""

    id: str
    run_id: str
    attempt: int
    verdict: str
    record: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class CheckpointRow:
    """Weights that somebody uploaded; what the file holds was checked."""

    id: str
    owner: str
    name: str | None
    model: str
    channels: int
    classes: int
    sha256: str
    size: int
    key: str
    created_at: datetime


@dataclass(frozen=True)
class User:
    """Who is asking."""

    name: str
    role: Role


@dataclass(frozen=True)
class UserRow:
    """A user with their share of the lab and their quotas; None for no quota."""

    name: str
    role: Role
    share: float
    group_name: str | None
    most_running: int | None
    most_queued: int | None
    most_hours: float | None


@dataclass(frozen=True)
class GroupRow:
    """Users who share a share."""

    name: str
    share: float


@dataclass(frozen=True)
class TokenRow:
    """A token; its secret is known to its holder alone."""

    id: str
    user_name: str
    label: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
