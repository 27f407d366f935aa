"""The shapes of answers: times in ISO 8601, UTC; NaN and infinities as strings of that name."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, computed_field

from domain import forms
from domain.base import Model, SpecModel
from domain.checkup import Level
from domain.forecast import DurationSource
from domain.run_state import RunState
from domain.series import UnitName, measure
from store.rows import Role, SlotKind

EXAMPLE_RUN = "01kb7qz3h4m8x2v9ap"
T = TypeVar("T")


def spell(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Spell the floats JSON does not know, at any depth."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: spell(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spell(item) for item in value]
    return value


JsonObject = Annotated[Mapping[str, Any], BeforeValidator(spell)]


class Answer(Model):
    """Base of every answer; built from the store's rows by their attributes."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class WaitAnswer(Answer):
    """What holds a queued run back other than its turn."""

    why: str = Field(examples=["data-missing"])
    """As `/runs/{id}/position` has it; decide by this."""
    state: str = Field(examples=["data missing"])
    """In a few words, for a list."""
    waits_for: str


class Run(Answer):
    """A run."""

    id: str = Field(examples=[EXAMPLE_RUN])
    owner: str = Field(examples=["ada"])
    experiment: str = Field(examples=["default"])
    kind: str = Field(examples=["train"])
    preset: str | None = Field(examples=["part++"])
    name: str | None
    tags: tuple[str, ...]
    state: RunState
    version: int
    """Grows with every change; the ETag."""
    attempt: int
    """How often it was started."""
    priority: int
    slot_kind: SlotKind
    seed: int = Field(examples=[42])
    spec: JsonObject
    """The whole spec, presets and defaults expanded."""
    spec_sha256: str
    progress: JsonObject | None
    """Phase, done, total, unit, and more while it runs."""
    summary: JsonObject | None
    """Headline figures once it has finished."""
    facts: JsonObject | None
    """What a paper's appendix would say of the environment."""
    failure: JsonObject | None
    """failure_class, code, message, traceback."""
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    not_before: datetime
    alive_at: datetime | None
    """When its worker was last heard of."""
    advanced_at: datetime | None
    """When it last made progress."""
    worker: str | None
    held: bool
    """Paused by hand."""
    blockers: int
    """How many runs it still waits for."""
    losses: int
    """How many attempts were lost through no fault of its own."""
    retry_of: str | None
    waits: WaitAnswer | None = None
    """What it waits for other than its turn, at this moment: not part of its version."""
    took_seconds: float | None = None
    """How long its attempts held their slots, added up; up to now while it runs. Null before it
    was started."""


class Items(Answer, Generic[T]):
    """A list."""

    items: tuple[T, ...]


class RunPage(Items[Run]):
    """A slice of the runs, newest first."""

    next_cursor: str | None
    """Give it as `cursor` for the next slice; null at the end."""


class Event(Answer):
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
    """Give it as `after` for the lines that follow."""


class Series(Answer):
    """A metric at a glance."""

    name: str = Field(examples=["train/loss"])
    count: int
    last: float
    last_step: int
    minimum: float
    minimum_step: int | None
    maximum: float
    maximum_step: int | None

    @computed_field
    def chart(self) -> str:
        """Name of the chart it belongs in; series of one chart share a unit."""
        return measure(self.name).chart.name

    @computed_field
    def label(self) -> str:
        """Which of the chart's lines it is."""
        return measure(self.name).label

    @computed_field
    def unit(self) -> UnitName:
        """`share`: of one; `radius`: in [0, 1] pixels."""
        return measure(self.name).chart.unit.name


class Points(Answer):
    """A metric's points."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


class History(Answer):
    """Series by name."""

    series: Mapping[str, Points]


class Checkpoint(Answer):
    """Uploaded weights; name its `id` as `source.checkpoint` of a run."""

    id: str
    owner: str
    name: str | None
    model: str = Field(examples=["resnet18"])
    channels: int
    """Of the images it takes."""
    classes: int
    sha256: str
    size: int
    created_at: datetime


class Artifact(Answer):
    """A stored file; its bytes are at `…/artifacts/{id}/content`."""

    id: str
    run_id: str
    attempt: int
    name: str = Field(examples=["figures/budget.png"])
    kind: str = Field(examples=["figure"])
    role: str | None
    """`last` or `best` for checkpoints."""
    media_type: str
    sha256: str
    size: int
    epoch: int | None
    step: int | None
    created_at: datetime


class EvaluationAnswer(Answer):
    """An evaluation with its audit; `record` holds every attack, interval and check."""

    id: str
    run_id: str
    attempt: int
    verdict: str = Field(examples=["sound"])
    record: JsonObject
    created_at: datetime


class PositionAnswer(Answer):
    """Why a run waits."""

    ahead: int
    """How many runs of its queue are expected to start before it."""
    why: str = Field(examples=["slots"])
    """The rule or resource that holds it; decide by this."""
    waits_for: str
    estimated_start: datetime | None
    basis: str
    """What the estimate rests on."""
    earliest_start: datetime | None
    """Eight starts in ten are expected from here to `latest_start`."""
    latest_start: datetime | None
    source: DurationSource | None
    """What most of the durations before it rest on: what owners declared, what running runs report,
    what runs of the same spec took (scaled to its steps and sizes), what the lab's runs took, or
    none."""


class QueueAnswer(Answer):
    """The queue in numbers."""

    queued: int
    running: int
    cancelling: int
    cpu_slots: int
    cpu_busy: int
    gpu_slots: int
    gpu_busy: int


class SlotAnswer(Answer):
    """A place where one run fits."""

    kind: SlotKind
    ordinal: int
    device_name: str
    queue: str
    memory: int
    """Bytes of a GPU; 0 if not known."""
    run_id: str | None
    unconfirmed: bool
    """Its lease was lost and its host has not said that the process is gone."""
    quarantine: str | None
    """Why nothing runs on it until an administrator releases it."""
    foreign_use: str | None
    """What other programs do on it; it is given to nobody meanwhile."""


class WorkerAnswer(Answer):
    """A host's worker."""

    name: str
    host: str
    pid: int
    started_at: datetime
    seen_at: datetime
    cores: int
    """CPU cores that runs may count on; 0 if it does not say."""
    draining: bool
    """It finishes what it has and is given nothing more."""
    datasets: tuple[str, ...] | None
    """What is under its data root, beside what is bundled; null if it does not say."""
    slots: tuple[SlotAnswer, ...]


class Catalog(Answer):
    """What a spec may name."""

    datasets: Mapping[str, JsonObject]
    models: Mapping[str, JsonObject]
    presets: Mapping[str, str]


class UserAnswer(Answer):
    """A user."""

    name: str
    role: Role


UserName = Annotated[str, StringConstraints(pattern=forms.USER)]


class NewUser(SpecModel):
    """A user to create."""

    name: UserName
    role: Role = "member"


class Limits(SpecModel):
    """What to change of a user's share, group and quotas; null takes a group or quota away."""

    share: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Against other users of the group; null leaves it."""
    group_name: UserName | None = None
    most_running: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Slots held at once."""
    most_queued: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    most_hours: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    """Slot-hours in seven days."""

    @property
    def changes(self) -> dict[str, object]:
        """What was given."""
        given = self.model_dump(exclude_unset=True)
        if given.get("share", 0) is None:
            del given["share"]
        return given


class LimitsAnswer(UserAnswer):
    """A user's share, group and quotas; null for no quota."""

    share: float
    group_name: str | None
    most_running: int | None
    most_queued: int | None
    most_hours: float | None


class GroupShare(SpecModel):
    """A group's share against other groups."""

    share: float = Field(gt=0, le=1000)


class GroupAnswer(Answer):
    """Users who share a share."""

    name: str
    share: float


class LedgerEntry(Answer):
    """Slot-seconds of an attempt, or of all of a user, an experiment or a week."""

    name: str
    kind: SlotKind
    attempts: int
    useful: float
    """Whose work is kept."""
    wasted: float
    """Of failed and cancelled attempts, and of lost ones after their last checkpoint."""


class NewToken(SpecModel):
    """A token to issue."""

    user: UserName
    label: Annotated[str, StringConstraints(pattern=forms.LABEL)] = "token"
    """What it is for."""


class IssuedToken(Answer):
    """A new token. The secret is shown this once."""

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


class Misfit(Answer):
    """One thing wrong with a request."""

    pointer: str = Field(examples=["/method/epsilon_low"])
    """JSON pointer into the body, or `?name` for a query parameter."""
    detail: str


class Problem(Answer):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(examples=["urn:partlab:problem:spec-invalid"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["spec-invalid"])
    """Stable; decide by this."""
    errors: tuple[Misfit, ...] = ()


class FindingAnswer(Answer):
    """What one check of the lab found."""

    check: str = Field(examples=["disk"])
    level: Level
    """`fail`: something stands still or is lost until somebody acts; `warn`: it goes on, slower or
    not for long."""
    told: str
    advice: str
    """What to do about it; empty where nothing."""


class Checkup(Answer):
    """Whether the lab is well."""

    level: Level
    """The gravest of the findings'."""
    findings: tuple[FindingAnswer, ...]


class Health(Answer):
    """Whether a part works."""

    status: str = Field(examples=["ok"])


def items(rows: Sequence[object]) -> Mapping[str, object]:
    """Return the body of a list."""
    return {"items": rows}
