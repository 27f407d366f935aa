"""`make fuzz` draws 50 times the examples of every property: none may set its count by itself."""

import re
from pathlib import Path

OWN_COUNT = {"domain/test_random_specs.py"}
"""Searches that `make test` leaves out: their count is what `make fuzz` draws."""


def test_no_property_escapes():
    here = Path(__file__).parent
    literal = {
        str(file.relative_to(here))
        for file in here.rglob("*.py")
        if re.search(r"max_examples=\d", file.read_text())
    }
    assert literal == OWN_COUNT
