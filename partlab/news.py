"""What a followed run tells, read from server-sent events."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from partlab.answers import LogLine, Run, RunEvent, Series

_METRICS: TypeAdapter[dict[str, Series]] = TypeAdapter(dict[str, Series])
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class StateChanged:
    """The run moved to another state."""

    event: RunEvent


@dataclass(frozen=True)
class Advanced:
    """The run is further in its phase."""

    progress: Mapping[str, Any]


@dataclass(frozen=True)
class Logged:
    """The run said something."""

    line: LogLine


@dataclass(frozen=True)
class Measured:
    """Series have new points."""

    series: Mapping[str, Series]


@dataclass(frozen=True)
class Ended:
    """The run is over."""

    run: Run


News = StateChanged | Advanced | Logged | Measured | Ended


@dataclass(frozen=True)
class ServerEvent:
    """One event of the stream."""

    id: str | None
    name: str
    data: str


def lines_of(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a stream. Only a line feed ends one: JSON may hold other separators."""
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode()


def server_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield the events of a text/event-stream; comments and a torn last event are dropped."""
    name, identifier = "message", None
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                yield ServerEvent(identifier, name, "\n".join(data))
            name, data = "message", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identifier = value


def news_of(event: ServerEvent) -> News | None:
    """Read an event; None for one this client does not know. Raises pydantic's ValidationError."""
    match event.name:
        case "state":
            return StateChanged(RunEvent.model_validate_json(event.data))
        case "progress":
            return Advanced(_OBJECT.validate_json(event.data))
        case "log":
            return Logged(LogLine.model_validate_json(event.data))
        case "metrics":
            return Measured(_METRICS.validate_json(event.data))
        case "end":
            return Ended(Run.model_validate_json(event.data))
        case _:
            return None
