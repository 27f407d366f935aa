"""What an experiment says while it runs, and how it travels.

The core yields these; the child writes them to a pipe as frames (four bytes of length, big-endian,
then JSON); the recorder turns them into rows. Files are named relative to the run's work folder.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Annotated, BinaryIO, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from domain.base import Model
from domain.errors import FailureClass
from domain.results import Evaluation

MAX_FRAME = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")

RelativeFile = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$")
]


class Started(Model):
    """The experiment is set up; ``facts`` are what a paper's appendix would say of it."""

    type: Literal["started"] = "started"
    facts: Mapping[str, str | int | float | bool | None]


class Progress(Model):
    """How far it is. ``done`` counts within ``phase`` and reaches ``total``."""

    type: Literal["progress"] = "progress"
    phase: Literal["prepare", "train", "validate", "evaluate", "draw"]
    done: int
    total: int
    unit: Literal["step", "image", "pass"]
    epoch: int | None = None
    epochs: int | None = None
    images_per_second: float | None = None
    detail: str | None = None
    """E.g. the attack that is running."""
    loss: float | None = None
    """While it trains: the mean of the epoch so far."""
    accuracy: float | None = None
    robust_accuracy: float | None = None
    """While it trains: of the last validation, of the better of raw and averaged weights."""


class Metrics(Model):
    """A columnar batch: one column a series, all over the same steps."""

    type: Literal["metrics"] = "metrics"
    steps: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]


class Log(Model):
    """A line for people."""

    type: Literal["log"] = "log"
    level: Literal["info", "warning", "error"] = "info"
    message: str


class CheckpointSaved(Model):
    """A checkpoint lies complete in the work folder."""

    type: Literal["checkpoint"] = "checkpoint"
    file: RelativeFile
    role: Literal["last", "best", "partial", "kept"]
    """`partial` is an unfinished evaluation; `kept` stays when later ones come."""
    sha256: str
    size: int
    epoch: int
    step: int
    """Global step it continues from; also the metrics cursor: points at or after it are superseded
    on resume."""

    @property
    def name(self) -> str:
        """What the run's file of it is called; a later one of that name takes its place."""
        which = f"epoch-{self.epoch:04d}" if self.role == "kept" else self.role
        return f"checkpoints/{which}.safetensors"


class ArtifactSaved(Model):
    """A file worth keeping lies complete in the work folder."""

    type: Literal["artifact"] = "artifact"
    file: RelativeFile
    name: RelativeFile
    kind: Literal["figure", "outcomes", "evidence", "weights", "table"]
    media_type: str
    sha256: str
    size: int


class Evaluated(Model):
    """An evaluation is complete and audited."""

    type: Literal["evaluated"] = "evaluated"
    evaluation: Evaluation


class Finished(Model):
    """The experiment is over and everything it had to say is said."""

    type: Literal["finished"] = "finished"
    summary: Mapping[str, str | int | float | bool | None]


class Failed(Model):
    """The experiment ended in an error that another attempt would meet again."""

    type: Literal["failed"] = "failed"
    failure_class: FailureClass
    code: str
    message: str
    traceback: str | None = None


Event = (
    Started
    | Progress
    | Metrics
    | Log
    | CheckpointSaved
    | ArtifactSaved
    | Evaluated
    | Finished
    | Failed
)
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def write_frame(stream: BinaryIO, event: Event) -> None:
    """Write one event and flush."""
    payload = event.model_dump_json().encode()
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_frames(stream: BinaryIO) -> Iterator[Event]:
    """Yield events until the stream ends; a torn last frame ends it too.

    Raises ValueError on a frame that is no event or is longer than MAX_FRAME.
    """
    while len(header := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(header)
        if length > MAX_FRAME:
            raise ValueError(f"a frame of {length} bytes exceeds {MAX_FRAME}")
        payload = stream.read(length)
        if len(payload) < length:
            return
        yield _EVENT.validate_json(payload)
