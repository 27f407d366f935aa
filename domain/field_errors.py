"""Pydantic's verdict on a body, as JSON pointers and sentences."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from domain.errors import FieldError
from domain.wording import cut, sentence

MOST_ERRORS = 20
"""Errors that an answer lists: a list of 100,000 wrong items is told in a few lines."""
CONSTANT, RAMP = "scheduled:constant", "scheduled:ramp"
"""Tags of :mod:`domain.scheduled`, which are in pydantic's locations and in no body."""
Location = tuple[int | str, ...]


def field_errors(errors: Sequence[Mapping[str, Any]], body: object) -> list[FieldError]:
    """Translate pydantic's errors on ``body``, the first of them if they are many."""
    errors = [e for e in errors if not _follows(e, errors)]
    told = [FieldError(pointer(_place(e), body), sentence(e)) for e in islice(errors, MOST_ERRORS)]
    left = len(errors) - len(told)
    return [*told, FieldError("", f"and {left} more errors")] if left else told


def _follows(error: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a list counts as too short only because items of it are wrong."""
    place = error["loc"]
    if error["type"] != "too_short":
        return False
    return any(len(e["loc"]) > len(place) and e["loc"][: len(place)] == place for e in errors)


def _place(error: Mapping[str, Any]) -> Location:
    """Return the location of an error, with what our own validators and unions know of it."""
    location, facts = tuple(error["loc"]), error.get("ctx", {})
    if error["type"].startswith("union_tag_") and isinstance(error["input"], Mapping):
        return (*location, str(facts["discriminator"]).strip("'"))
    return (*location, *facts.get("place", ()))


def pointer(location: Location, body: object) -> str:
    """Drop the discriminator tags pydantic puts into a location: the body has no such level."""
    steps: list[str] = []
    parts = [part for part in location if part not in (CONSTANT, RAMP)]
    for depth, part in enumerate(parts):
        is_last = depth == len(parts) - 1
        if not is_last and isinstance(body, Mapping) and part == body.get("kind"):
            continue
        body = _child(body, part)
        steps.append(step(part))
    return "".join(f"/{step}" for step in steps)


def step(name: object) -> str:
    """Return one step of a JSON pointer; a long name is cut."""
    return cut(str(name)).replace("~", "~0").replace("/", "~1")


def _child(body: object, part: int | str) -> object:
    if isinstance(body, Mapping):
        return body.get(part)
    if isinstance(body, list | tuple) and isinstance(part, int) and part < len(body):
        return body[part]
    return None
