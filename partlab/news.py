"""What a followed run tells, read from server-sent events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from httpx_sse import ServerSentEvent
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


def news_of(event: ServerSentEvent) -> News | None:
    """Read an event; None for one that says nothing, or that this client does not know.

    Raises pydantic's ValidationError.
    """
    if not event.data:
        return None
    match event.event:
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
