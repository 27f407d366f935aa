"""The written forms of a submission: JSON, YAML 1.2 and TOML, each as one JSON object.

YAML is read by its core schema: ``off`` and ``1:30`` are texts, ``010`` is ten, ``1e-2`` is a
number, and a date is the text that was written. Tags, merge keys and second documents are refused;
an alias repeats what its anchor holds, within reason.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from domain import json_text
from domain.json_text import Ambiguous, Malformed, decoded
from domain.plain_values import MOST_DEEP
from domain.wording import shown

Reader = Callable[[str], object]
Event = Any
"""One of ruamel's, whose attributes have no types."""
MOST_DIGITS = 4000
"""Digits of a whole number; Python itself reads 4300."""
MOST_VALUES = 100_000
"""Values a YAML document may come to: a few lines of aliases can stand for billions."""
_NULL = re.compile(r"(null|Null|NULL|~)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?[0-9]+")
_OTHER_BASES = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read_file(file: str | Path) -> dict[str, Any]:
    """Read a submission from a file whose suffix says in which form it is.

    Raises Malformed with the file's name and what is wrong in it, OSError where it cannot be read.
    """
    path = Path(file)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise Malformed(f"{file}: name a .json, .yaml or .toml file")
    try:
        return require_object(reader(decoded(path.read_bytes())))
    except Malformed as error:
        raise Malformed(f"{file} is not well formed: {error}") from None


def read_text(text: str) -> dict[str, Any]:
    """Read a submission in any of the forms. Raises Malformed."""
    for reader in (json_text.parse, read_yaml, read_toml):
        try:
            body = reader(text)
        except Ambiguous:
            raise
        except Malformed:
            continue
        if isinstance(body, dict):
            return require_object(body)
    raise Malformed("it is neither a JSON, YAML nor TOML object")


def require_object(body: object) -> dict[str, Any]:
    """Return ``body`` if it is an object. Raises Malformed."""
    if not isinstance(body, dict):
        raise Malformed(f"it must hold an object, names and their values, not {shown(body)}")
    return body


def read_toml(text: str) -> object:
    """Read a TOML document; dates and times become texts. Raises Malformed."""
    try:
        return _jsonable(tomllib.loads(text.removeprefix("\ufeff"), parse_float=json_text.finite))
    except Malformed:
        raise
    except ValueError as error:
        raise Malformed(str(error)) from None
    except RecursionError:
        raise Malformed("it is nested too deep") from None


def _jsonable(value: object) -> object:
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value.isoformat() if isinstance(value, date | time) else value


def read_yaml(text: str) -> object:
    """Read a YAML document. Raises Malformed."""
    try:
        return _Document(YAML(typ="safe", pure=True).parse(text)).value()
    except YAMLError as error:
        raise Malformed(_one_line(error)) from None
    except RecursionError:
        raise Malformed("it is nested too deep") from None


READERS: Mapping[str, Reader] = {
    ".json": json_text.parse,
    ".yaml": read_yaml,
    ".yml": read_yaml,
    ".toml": read_toml,
}


def _one_line(error: YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "unreadable characters"
    return f"{what} ({_place(mark)})" if mark is not None else what


def _place(mark: Any) -> str:  # noqa: ANN401 - ruamel's own
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Document:
    """Builds the value of one document from the parser's events."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[object, int]] = {}
        """What each stands for, and how many values that is."""
        self._count = 0

    def value(self) -> object:
        """Return the document's value. Raises Malformed."""
        events = (e for e in self._events if not isinstance(e, StreamStartEvent))
        self._events = events
        if not isinstance(next(events), DocumentStartEvent):
            return None
        value = self._node(next(events), 0)
        next(events)  # the document's end
        if isinstance(next(events), DocumentStartEvent):
            raise Ambiguous("it holds more than one document")
        return value

    def _node(self, event: Event, depth: int) -> object:
        if isinstance(event, AliasEvent):
            return self._repeated(event)
        if depth > MOST_DEEP:
            raise _at(event, f"it is nested more than {MOST_DEEP} levels deep")
        if event.tag is not None:
            raise _at(event, f"the tag {shown(str(event.tag))} is not read")
        before = self._count
        self._add(1, event)
        value = self._content(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._count - before
        return value

    def _content(self, event: Event, depth: int) -> object:
        if isinstance(event, MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, SequenceStartEvent):
            return list(self._items(depth))
        try:
            return _scalar(event)
        except Ambiguous as error:
            raise _at(event, str(error)) from None

    def _items(self, depth: int) -> Iterator[object]:
        while not isinstance(event := next(self._events), SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, object]:
        body: dict[str, object] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            name = self._node(event, depth + 1)
            if not isinstance(name, str):
                raise _at(event, f"a name must be text, not {shown(name)}; put it in quotes")
            if name == "<<":
                raise _at(event, "merge keys (<<) are not read; write the fields out")
            if name in body:
                raise _at(event, f"{shown(name)} is given twice in one object")
            body[name] = self._node(next(self._events), depth + 1)
        return body

    def _repeated(self, event: Event) -> object:
        if event.anchor not in self._anchors:
            raise _at(event, f"the alias *{event.anchor} names nothing that ends before it")
        value, size = self._anchors[event.anchor]
        self._add(size, event)
        return value

    def _add(self, values: int, event: Event) -> None:
        self._count += values
        if self._count > MOST_VALUES:
            raise _at(event, f"it comes to more than {MOST_VALUES:,} values")


def _at(event: Event, detail: str) -> Ambiguous:
    return Ambiguous(f"{detail} ({_place(event.start_mark)})")


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise Ambiguous("a number has too many digits")
    return int(text)


def _scalar(event: Event) -> object:
    """Return what a scalar means by YAML 1.2's core schema; quoted, it is text."""
    text = str(event.value)
    if event.style or _NULL.fullmatch(text):
        return text if event.style else None
    if text in _TRUTH:
        return _TRUTH[text]
    if _WHOLE.fullmatch(text):
        return _whole_number(text)
    if _OTHER_BASES.fullmatch(text):
        return int(text, 0)
    if _NUMBER.fullmatch(text):
        return json_text.finite(text)
    if _NO_NUMBER.fullmatch(text):
        raise Ambiguous(f"{text} is no finite number")
    return text
