"""What to tell a person about a value that does not belong where it stands.

One table turns pydantic's error types into sentences; whatever it does not list gets a plain
sentence too, so that no validator's own words ever reach a client. What somebody wrote is echoed in
few characters, whatever its length.
"""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from domain import forms

ECHO = 60
"""Characters of a client's text that a message repeats."""
LISTED = 20
"""Allowed names that a message lists."""
Facts = Mapping[str, Any]
Sentence = Callable[[Facts, object], str]


def cut(text: str) -> str:
    """Return the beginning of a text, with an ellipsis where something is left out."""
    return text if len(text) <= ECHO else f"{text[:ECHO]}…"


def shown(value: object) -> str:
    """Return a value as somebody wrote it, in few characters."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() if value.bit_length() > 4 * ECHO:
            return "so large a number"
        case str():
            return repr(value) if len(value) <= ECHO else f"{value[:ECHO]!r}…"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case _:
            return cut(str(value))


def unknown(what: str, name: object, allowed: Iterable[str], *, listed: str = "") -> str:
    """Say that there is no such thing, which one may have been meant, and what there is.

    listed: what to show of the allowed names, where that is not their beginning.
    """
    names = list(allowed)
    wrong = f"unknown {what}" if isinstance(name, str) else f"name a {what}, not"
    return f"{wrong} {shown(name)}{_instead(name, names, listed or _some(names))}"


def meant(name: object, allowed: Iterable[str]) -> list[str]:
    """Return the allowed names that are most like a wrong one."""
    if not isinstance(name, str) or len(name) > ECHO:  # the comparison is slow on long texts
        return []
    by_lower = {each.lower(): each for each in allowed}
    near = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return [by_lower[each] for each in near]


def _instead(name: object, names: list[str], listed: str) -> str:
    near = meant(name, names)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"; {hint}allowed: {listed}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def choice(value: object, names: list[str]) -> str:
    """Say that a value is none of a few."""
    return f"{shown(value)} is not allowed here{_instead(value, names, _some(names))}"


def _names(expected: str) -> list[str]:
    """Read pydantic's list of alternatives: ``'a', 'b' or 'c'``."""
    return [name.strip().strip("'") for name in expected.replace(" or ", ", ").split(",")]


def _tag(facts: Facts, value: object) -> object:
    """Return what was written as the `kind` of an alternative."""
    name = str(facts["discriminator"]).strip("'")
    return value.get(name) if isinstance(value, Mapping) else facts["tag"]


def _not(what: str) -> Sentence:
    return lambda _, value: f"write {what}, not {shown(value)}"


def _bound(words: str, key: str) -> Sentence:
    return lambda facts, value: f"must be {words} {_plain(facts[key])}, not {shown(value)}"


def _plain(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _text_length(words: str, key: str) -> Sentence:
    return lambda facts, _: f"write {words} {facts[key]} characters"


def _list_length(words: str, key: str) -> Sentence:
    return lambda facts, _: f"give {words} {facts[key]}, not {_count(facts)}"


def _count(facts: Facts) -> str:
    count = facts["actual_length"]
    return "more" if count is None else str(count)


def _unlike(facts: Facts, value: object) -> str:
    form = forms.WORDS.get(facts["pattern"])
    what = f"write {form}" if form else f"must match {facts['pattern']}"
    return f"{what}; not {shown(value)}"


_WHOLE = _not("a whole number")
_NUMBER = _not("a number")
_TRUTH = _not("true or false")
_TEXT = _not("text")
_LIST = _not("a list")
_OBJECT = _not("an object: names and their values")
_TIME = _not("a date and time such as 2026-01-31T12:00:00Z")
SENTENCES: Mapping[str, Sentence] = {
    "missing": lambda _, __: "is required",
    "extra_forbidden": lambda _, __: "unknown field",
    "none_required": _not("null"),
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _not("a finite number"),
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": _TEXT,
    "string_unicode": lambda _, __: "holds characters that have no UTF-8 form",
    "string_pattern_mismatch": _unlike,
    "string_too_long": _text_length("at most", "max_length"),
    "string_too_short": _text_length("at least", "min_length"),
    "list_type": _LIST,
    "tuple_type": _LIST,
    "too_long": _list_length("at most", "max_length"),
    "too_short": _list_length("at least", "min_length"),
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than": _bound("below", "lt"),
    "less_than_equal": _bound("at most", "le"),
    "literal_error": lambda facts, value: choice(value, _names(facts["expected"])),
    "enum": lambda facts, value: choice(value, _names(facts["expected"])),
    "union_tag_invalid": lambda facts, value: choice(
        _tag(facts, value), _names(facts["expected_tags"])
    ),
    "union_tag_not_found": lambda _, __: "is required: it says which of the alternatives this is",
    "datetime_type": _TIME,
    "datetime_parsing": _TIME,
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "timezone_naive": _TIME,
    "timezone_aware": _TIME,
    "recursion_loop": lambda _, __: "refers to itself",
}
"""By pydantic's error types. Those of our own validators bring their sentence along."""
OWN = frozenset({"misfit", "value_error"})


def sentence(error: Mapping[str, Any]) -> str:
    """Say what one of pydantic's errors means."""
    kind, facts = error["type"], error.get("ctx", {})
    if kind in OWN:
        return str(error["msg"]).removeprefix("Value error, ")
    write = SENTENCES.get(kind)
    if write is None:
        return f"{shown(error.get('input'))} is not what belongs here"
    return write(facts, error.get("input"))
