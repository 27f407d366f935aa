"""JSON as RFC 8259 and common sense have it, for bodies and files alike.

The standard library's reader takes the last of two equal names, NaN, and 1e999 as infinity; here
each is refused by name.
"""

import codecs
import json
import math
from typing import Any, NoReturn

from domain.wording import cut, shown


class Malformed(ValueError):
    """A text that is not in its format; the message says what is wrong and where."""


class Ambiguous(Malformed):
    """A text in its format with something in it that has no one meaning."""


def decoded(raw: bytes) -> str:
    """Return the text of UTF-8 bytes, without a byte order mark. Raises Malformed."""
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"it is not UTF-8 (byte {error.start + 1})") from None


def parse(text: str) -> object:
    """Read a JSON text, after a byte order mark or without one. Raises Malformed."""
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=unique,
            parse_constant=_no_number,
            parse_float=finite,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"{error.msg} ({place})") from None
    except Malformed:
        raise
    except ValueError:  # what int() says of more digits than Python turns into a number
        raise Ambiguous("a number has too many digits") from None
    except RecursionError:
        raise Malformed("it is nested too deep") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names are each given once. Raises Ambiguous."""
    body: dict[str, Any] = {}
    for name, value in pairs:
        if name in body:
            raise Ambiguous(f"{shown(name)} is given twice in one object")
        body[name] = value
    return body


def finite(text: str) -> float:
    """Read a number. Raises Ambiguous for one that overflows."""
    value = float(text)
    if not math.isfinite(value):
        raise Ambiguous(f"{cut(text)} is no finite number")
    return value


def _no_number(name: str) -> NoReturn:
    raise Ambiguous(f"{name} is no number of JSON")
