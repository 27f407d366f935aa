"""A submission from a file and `--set`: what a person writes, as the JSON object the lab takes."""

import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from partlab.errors import UsageError

Reader = Callable[[str], object]


class _PlainLoader(yaml.SafeLoader):
    """YAML whose values are those of JSON: a date stays the text that was written."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(text: str) -> object:
    return yaml.load(text, Loader=_PlainLoader)


READERS: Mapping[str, Reader] = {
    ".json": json.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": tomllib.loads,
}


def read_submission(file: str) -> dict[str, Any]:
    """Read a submission; ``-`` is standard input in any of the formats.

    Raises UsageError with what is wrong and where.
    """
    if file == "-":
        return _read_any(sys.stdin.read())
    path = Path(file)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{file}: name a .json, .yaml or .toml file, or - for standard input.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"There is no file {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from error
    return _object(file, _parse(file, reader, text))


def _parse(file: str, reader: Reader, text: str) -> object:
    try:
        return reader(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file} is not well formed: {error}") from error


def _read_any(text: str) -> dict[str, Any]:
    """JSON is YAML but for tabs; a TOML document is at most a plain text in YAML."""
    for reader in (json.loads, _yaml, tomllib.loads):
        try:
            body = reader(text)
        except (ValueError, yaml.YAMLError):
            continue
        if isinstance(body, dict):
            return _object("standard input", body)
    raise UsageError("Standard input is neither a JSON, YAML nor TOML object.")


def _object(file: str, body: object) -> dict[str, Any]:
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise UsageError(f"{file} must hold an object: names and their values.")
    return body


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
    """Return the value that ``text`` writes."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        pass
    if text.startswith(("[", "{")):
        try:
            return _yaml(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set: {text} is not well formed: {error}") from error
    return text


def _refuse_constant(name: str) -> object:
    """NaN and infinities are words here: no setting may be one."""
    raise ValueError(name)


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
