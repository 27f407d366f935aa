"""The lab's answers as values. A field that a newer lab adds is ignored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict

from domain.base import Model
from domain.forecast import DurationSource
from domain.results import Evaluation
from domain.run_state import RunState

T = TypeVar("T")


class Answer(Model):
    """Base of every answer."""

    model_config = ConfigDict(extra="ignore")


class Wait(Answer):
    """What holds a queued run back other than its turn."""

    why: str
    state: str
    """In a few words: `paused`, `no such device`, `data missing`, `waits for ID`."""
    waits_for: str


class Run(Answer):
    """A run."""

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
    alive_at: datetime | None
    advanced_at: datetime | None
    worker: str | None
    retry_of: str | None
    waits: Wait | None = None
    """What it waits for other than its turn."""
    took_seconds: float | None = None
    """How long its attempts held their slots, added up."""

    @property
    def title(self) -> str:
        """What a person calls it: its name, else its preset, else its kind."""
        return self.name or self.preset or self.kind


class Items(Answer, Generic[T]):
    """A list."""

    items: tuple[T, ...]


class RunPage(Items[Run]):
    """A slice of the runs, newest first."""

    next_cursor: str | None
    """Give it as ``cursor`` for the next slice; None at the end."""


class RunEvent(Answer):
    """A change of state."""

    id: int
    at: datetime
    source: RunState | None
    target: RunState
    attempt: int
    reason: str
    actor: str


class LogLine(Answer):
    """A line of a run's log."""

    id: int
    attempt: int
    at: datetime
    level: str
    message: str


class LogPage(Items[LogLine]):
    """Log lines in order."""

    next_after: int | None
    """Give it as ``after`` for the lines that follow."""


class Series(Answer):
    """A metric at a glance."""

    name: str
    count: int
    last: float
    last_step: int
    minimum: float
    maximum: float


class Points(Answer):
    """A metric's points."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


class History(Answer):
    """Series by name."""

    series: Mapping[str, Points]


class Artifact(Answer):
    """A stored file."""

    id: str
    run_id: str
    name: str
    kind: str
    role: str | None
    """`last` or `best` for checkpoints."""
    media_type: str
    sha256: str
    size: int
    """Bytes."""
    epoch: int | None
    step: int | None
    created_at: datetime


class Checkpoint(Answer):
    """Uploaded weights."""

    id: str
    owner: str
    name: str | None
    model: str
    channels: int
    classes: int
    sha256: str
    size: int
    """Bytes."""
    created_at: datetime


class EvaluationAnswer(Answer):
    """An evaluation with its audit."""

    id: str
    run_id: str
    attempt: int
    verdict: str
    record: Evaluation
    created_at: datetime


class Position(Answer):
    """Why a run waits."""

    ahead: int
    why: str
    """The rule or resource that holds it, such as `slots` or `running-quota`."""
    waits_for: str
    estimated_start: datetime | None
    basis: str
    earliest_start: datetime | None = None
    latest_start: datetime | None = None
    """Eight starts in ten are expected from the earliest to the latest."""
    source: DurationSource | None = None
    """What the estimate rests on most: `declared`, `reported`, `same-spec`, `history`, `none`."""


class Queue(Answer):
    """The queue in numbers."""

    queued: int
    running: int
    cancelling: int
    cpu_slots: int
    cpu_busy: int
    gpu_slots: int
    gpu_busy: int


class Slot(Answer):
    """A place where one run fits."""

    kind: str
    ordinal: int
    device_name: str
    queue: str = ""
    memory: int = 0
    run_id: str | None
    unconfirmed: bool = False
    quarantine: str | None = None
    foreign_use: str | None = None


class Worker(Answer):
    """A host's worker."""

    name: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    cores: int = 0
    draining: bool = False
    slots: tuple[Slot, ...]


class Finding(Answer):
    """What one check of the lab found; `advice` says what to do, or is empty."""

    check: str
    level: str
    told: str
    advice: str = ""


class Checkup(Answer):
    """Whether the lab is well: `ok`, `warn` or `fail`, the gravest of its findings."""

    level: str
    findings: tuple[Finding, ...]


class UserLimits(Answer):
    """A user's share of the lab, group and quotas; None for no quota."""

    name: str
    role: str
    share: float
    group_name: str | None
    most_running: int | None
    most_queued: int | None
    most_hours: float | None


class UserGroup(Answer):
    """Users who share a share."""

    name: str
    share: float


class LedgerEntry(Answer):
    """Slot-seconds: useful ones, whose work is kept, and wasted ones."""

    name: str
    kind: str
    attempts: int
    useful: float
    wasted: float


class Catalog(Answer):
    """What a spec may name."""

    datasets: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    presets: Mapping[str, str]


class User(Answer):
    """A user."""

    name: str
    role: str


class IssuedToken(Answer):
    """A new token; its secret is told this once."""

    secret: str
    user: str
    label: str


class Token(Answer):
    """A token without its secret."""

    id: str
    user_name: str
    label: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class Evaluations(Items[EvaluationAnswer]):
    """A run's evaluations."""
