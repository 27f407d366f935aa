"""What the supervisor tells its child, one JSON line each."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from domain.base import Model


class Begin(Model):
    """To an interpreter on standby: the one attempt it is for."""

    type: Literal["begin"] = "begin"
    arguments: tuple[str, ...]
    """The command line it would have been started with, without the pipes."""
    environment: dict[str, str]
    """What its environment lacks."""


class Renew(Model):
    """The lease was renewed: the child may live until then, however late it reads this.

    deadline: on CLOCK_MONOTONIC, `time.monotonic()`. On Linux and macOS it is one clock for all
    processes of a host, so that a child that was frozen cannot take an old line for a fresh one.
    """

    type: Literal["renew"] = "renew"
    deadline: float


class TakeCheckpoint(Model):
    """Write a checkpoint at the next step."""

    type: Literal["checkpoint"] = "checkpoint"


class Stop(Model):
    """End now; nothing more is wanted."""

    type: Literal["stop"] = "stop"


Control = Begin | Renew | TakeCheckpoint | Stop
_CONTROL: TypeAdapter[Control] = TypeAdapter(Annotated[Control, Field(discriminator="type")])


def write_line(message: Control) -> bytes:
    """Encode one message, newline included."""
    return message.model_dump_json().encode() + b"\n"


def read_line(line: bytes) -> Control:
    """Decode one message. Raises ValueError (pydantic's) on anything else."""
    return _CONTROL.validate_json(line)
