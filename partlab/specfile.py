"""A submission from a file and `--set`: what a person writes, as the JSON object the lab takes."""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from domain import json_text, spec_file
from domain.json_text import Ambiguous, Malformed, decoded
from domain.wording import cut
from partlab.errors import UsageError


def read_submission(file: str) -> dict[str, Any]:
    """Read a submission; ``-`` is standard input in any of the formats.

    Raises UsageError with what is wrong and where.
    """
    try:
        return _standard_input() if file == "-" else spec_file.read_file(file)
    except FileNotFoundError:
        raise UsageError(f"There is no file {file}.") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except Malformed as error:
        raise UsageError(f"{error}.") from error


def _standard_input() -> dict[str, Any]:
    try:
        return spec_file.read_text(decoded(sys.stdin.buffer.read()))
    except Malformed as error:
        raise Malformed(f"Standard input cannot be read: {error}") from None


def apply_settings(body: dict[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Lay ``a.b=value`` settings on a submission, in order; the given one stays as it is.

    A value is JSON where it reads as such (``3``, ``true``, ``null``, ``[1, 2]``), a list or object
    in YAML's short form (``[a, b]``), else text, so that ``8/255`` needs no quotes.

    Raises UsageError.
    """
    changed: dict[str, Any] = json.loads(_dumped(body))
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not all(path.split(".")):
            raise UsageError(f"--set {setting}: write it as name.below=value.")
        _set(changed, path.split("."), typed(value), setting)
    return changed


def _dumped(body: Mapping[str, Any]) -> str:
    try:
        return json.dumps(body)
    except TypeError as error:
        raise UsageError(f"The spec has a value that JSON does not know: {error}.") from error


def typed(text: str) -> object:
    """Return the value that ``text`` writes. Raises UsageError."""
    is_nested = text.startswith(("[", "{"))
    try:
        return json_text.parse(text)
    except Malformed as error:
        if not is_nested:
            return text  # NaN, 1e999 and 010 among them: words here, and no setting's value
        if isinstance(error, Ambiguous):
            raise _unreadable(text, error) from error
    try:
        return spec_file.read_yaml(text)
    except Malformed as error:
        raise _unreadable(text, error) from error


def _unreadable(text: str, error: Malformed) -> UsageError:
    return UsageError(f"--set: {cut(text)} is not well formed: {error}.")


def _set(body: dict[str, Any], path: list[str], value: object, setting: str) -> None:
    place: object = body
    for depth, name in enumerate(path[:-1]):
        place = _below(place, name, path[:depth], setting)
    if isinstance(place, dict):
        place[path[-1]] = value
    elif isinstance(place, list):
        place[_index(place, path[-1], setting)] = value
    else:
        raise _nothing_below(place, path[:-1], setting)


def _below(place: object, name: str, above: list[str], setting: str) -> object:
    if isinstance(place, dict):
        return place.setdefault(name, {})
    if isinstance(place, list):
        return place[_index(place, name, setting)]
    raise _nothing_below(place, above, setting)


def _index(place: list[Any], name: str, setting: str) -> int:
    if not name.isdecimal() or int(name) >= len(place):
        raise UsageError(
            f"--set {setting}: {name!r} is no place in a list of {len(place)}; count from 0, or "
            "set the whole list."
        )
    return int(name)


def _nothing_below(place: object, above: list[str], setting: str) -> UsageError:
    name = ".".join(above)
    return UsageError(f"--set {setting}: {name} is {place!r} and has nothing below it.")
