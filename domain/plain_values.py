"""What no field of a spec can hold, whatever the field: found before anything is looked up.

A NUL is no text to PostgreSQL, a lone surrogate has no UTF-8 form, NaN is no number to JSON, and a
body nested a thousand deep exhausts the stack of whoever walks it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import islice

from domain.errors import FieldError
from domain.field_errors import MOST_ERRORS, step
from domain.wording import shown

MOST_DEEP = 32
"""Levels of lists and objects in a submission; specs have seven."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def odd_values(body: object) -> list[FieldError]:
    """Return what cannot be meant in a submission, by JSON pointer; the first few if many."""
    return list(islice(_odd(body, "", 0), MOST_ERRORS))


def _odd(value: object, pointer: str, depth: int) -> Iterator[FieldError]:
    if depth > MOST_DEEP:
        yield FieldError(pointer, f"is nested more than {MOST_DEEP} levels deep")
    elif isinstance(value, str):
        yield from _odd_text(value, pointer)
    elif isinstance(value, float) and not math.isfinite(value):
        yield FieldError(pointer, f"write a finite number, not {shown(value)}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            below = f"{pointer}/{step(name)}"
            yield from _odd_text(str(name), below)
            yield from _odd(item, below, depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if type(item) is not int:  # 100,000 numbers are no work
                yield from _odd(item, f"{pointer}/{index}", depth + 1)


def _odd_text(text: str, pointer: str) -> Iterator[FieldError]:
    if _CONTROL.search(text):
        yield FieldError(pointer, f"holds a control character: {shown(text)}")
    elif _SURROGATE.search(text):
        yield FieldError(pointer, f"holds characters that have no UTF-8 form: {shown(text)}")
