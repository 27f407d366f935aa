"""Pixel radii, read once into exact fractions of the [0, 1] range."""

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from domain.wording import shown

# Bounded on purpose: Fraction("1e999999999") would compute for hours.
_WRITTEN = re.compile(r"\s*[+-]?[0-9.]{1,40}(/[0-9]{1,40})?(e[+-]?[0-9]{1,3})?\s*", re.IGNORECASE)
_FINEST = 10**39
"""Greatest denominator: what is written out must be readable again."""
_HINT = 'write grey levels as a fraction such as "8/255", or a number in [0, 1] such as 0.03'


def parse_radius(value: object) -> Fraction:
    """Read ``"8/255"``, ``"0.03"``, ``0.03`` or a Fraction as an exact radius in [0, 1].

    Raises ValueError with what to write instead. A float keeps its shortest decimal form, so
    ``0.031`` is 31/1000 and never equal to 8/255.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Fraction):
        raise ValueError(_HINT)  # noqa: TRY004 - pydantic turns ValueError into a field error
    if isinstance(value, int) and value not in (0, 1):
        raise ValueError(f"{shown(value)} is outside [0, 1]; {_HINT}")
    if not _WRITTEN.fullmatch(str(value)):
        raise ValueError(f"not a pixel radius; {_HINT}")
    try:
        radius = Fraction(str(value))
    except ZeroDivisionError:
        raise ValueError(f"the denominator is zero; {_HINT}") from None
    except ValueError:
        raise ValueError(f"not a pixel radius; {_HINT}") from None
    if not 0 <= radius <= 1:
        raise ValueError(f"{value} is outside [0, 1]; {_HINT}")
    if radius.denominator > _FINEST:
        raise ValueError(f"{value} is finer than any pixel; {_HINT}")
    return radius


def format_radius(radius: Fraction) -> str:
    """Write a radius as grey levels where that is exact (``8/255``), else as a plain fraction."""
    levels = radius * 255
    if levels.denominator == 1:
        return f"{levels.numerator}/255"
    return f"{radius.numerator}/{radius.denominator}"


Radius = Annotated[
    Fraction,
    BeforeValidator(parse_radius),
    PlainSerializer(format_radius, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}],
            "examples": ["8/255"],
        },
        mode="validation",
    ),
    WithJsonSchema({"type": "string", "examples": ["8/255"]}, mode="serialization"),
]
"""A pixel radius in [0, 1], exact, written ``"8/255"`` in JSON."""
