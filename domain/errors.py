"""Every error the lab raises on purpose. None of them knows HTTP or SQL.

::

    LabError
    ├── NotFound
    ├── SpecInvalid            the spec says something that cannot be
    ├── CheckpointRefused      an uploaded file is not what it should be
    ├── NotPermitted           a known user who may not do this
    ├── Unauthenticated        no valid token
    ├── Conflict
    │   ├── IdempotencyMismatch
    │   ├── Incomparable       two evaluations do not answer the same question
    │   ├── InvalidTransition
    │   └── VersionMismatch
    ├── Fenced                 a newer attempt owns the run; stop writing
    └── ExperimentError        ends a run, carries its failure class
        ├── DataMissing
        ├── DataUnreadable
        ├── DiskFull
        ├── CheckpointInvalid
        ├── OutOfMemory
        └── SpecUnsatisfiable
            └── EmulatedPrecision
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from domain.wording import shown

FailureClass = Literal[
    "infrastructure",
    "out-of-memory",
    "spec",
    "code",
    "data-missing",
    "data-unreadable",
    "disk-full",
    "stuck",
    "dependency",
]


class LabError(Exception):
    """Base of the tree. ``code`` is stable and part of the API."""

    code: ClassVar[str] = "lab-error"


class NotFound(LabError):
    """There is no such thing, or it is not visible to this user."""

    code = "not-found"

    def __init__(self, what: str, identifier: str) -> None:
        self.what, self.identifier = what, identifier
        super().__init__(f"There is no {what} {shown(identifier)}.")


@dataclass(frozen=True)
class FieldError:
    """One thing wrong with a request: a JSON pointer and a sentence."""

    pointer: str
    detail: str


class SpecInvalid(LabError):
    """The spec says something that cannot be; ``errors`` names each field."""

    code = "spec-invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.detail}" for e in self.errors))


class CheckpointRefused(LabError):
    """An uploaded file is no safetensors file, or not of the network it is said to be."""

    code = "checkpoint-refused"


class QuotaExceeded(LabError):
    """The user has as much in the queue as the lab allows."""

    code = "quota-exceeded"


class Unauthenticated(LabError):
    """The request carries no valid token."""

    code = "unauthenticated"


class NotPermitted(LabError):
    """The user is known and may not do this."""

    code = "not-permitted"


class Conflict(LabError):
    """The request contradicts what is stored."""

    code = "conflict"


class IdempotencyMismatch(Conflict):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency-mismatch"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"Idempotency-Key {shown(key)} was used before with a different body.")


class Incomparable(Conflict):
    """Two evaluations do not answer the same question; the message says why."""

    code = "incomparable"


class InvalidTransition(Conflict):
    """The run cannot move to that state from where it is."""

    code = "invalid-transition"

    def __init__(self, run_id: str, source: str, target: str) -> None:
        self.run_id, self.source, self.target = run_id, source, target
        super().__init__(f"Run {run_id} is {source}; it cannot become {target}.")


class VersionMismatch(Conflict):
    """If-Match named another version than the stored one."""

    code = "version-mismatch"


class Fenced(LabError):
    """A newer attempt owns the run (or none does): this writer must stop."""

    code = "fenced"

    def __init__(self, run_id: str, attempt: int) -> None:
        self.run_id, self.attempt = run_id, attempt
        super().__init__(f"Attempt {attempt} no longer owns run {run_id}.")


class ExperimentError(LabError):
    """Ends a run for good; ``failure_class`` says of what kind."""

    code = "experiment-error"
    failure_class: ClassVar[FailureClass] = "code"


class DataMissing(ExperimentError):
    """The dataset is not on this host; the message says how to get it."""

    code = "data-missing"
    failure_class = "data-missing"


class DataUnreadable(ExperimentError):
    """A folder of images holds what cannot be read; the message names it, and what to do."""

    code = "data-unreadable"
    failure_class = "data-unreadable"


class DiskFull(ExperimentError):
    """A file could not be written for want of space; what was there before is intact."""

    code = "disk-full"
    failure_class = "disk-full"


class CheckpointInvalid(ExperimentError):
    """A checkpoint cannot be read, or is of another model."""

    code = "checkpoint-invalid"


class OutOfMemory(ExperimentError):
    """The device has too little memory for this spec."""

    code = "out-of-memory"
    failure_class = "out-of-memory"


class SpecUnsatisfiable(ExperimentError):
    """The spec is well formed and the data or the model cannot satisfy it."""

    code = "spec-unsatisfiable"
    failure_class = "spec"


class EmulatedPrecision(SpecUnsatisfiable):
    """A number type that the CPU at hand has no arithmetic for, and would crawl with."""

    code = "emulated-precision"

    def __init__(self, field: str, precision: str, processor: str) -> None:
        self.field, self.precision, self.processor = field, precision, processor
        super().__init__(
            f"{field} is {precision}, which {processor} only emulates, many times slower than "
            "fp32: set it to fp32, run on a GPU or on a CPU that has it, or insist with "
            "resources.emulate_precision"
        )
