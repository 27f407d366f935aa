"""docs/methods.md names every part a method is made of, and nothing that is not there."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from domain import spec
from domain.recipes import PRESETS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/methods.md").read_text()


def kinds(union: Any) -> list[str]:
    """The ``kind`` of every member of a discriminated union."""
    members = get_args(get_args(union)[0])
    return [member.model_fields["kind"].default for member in members]


NAMED = [
    *PRESETS,
    *get_args(spec.CamName),
    *kinds(spec.MaskSpec),
    *kinds(spec.ScoringSpec),
    *kinds(spec.ObjectiveSpec),
    *kinds(spec.RefreshSpec),
    *get_args(spec.CamSpec.model_fields["combine"].annotation),
    *get_args(spec.Part.model_fields["control"].annotation),
]


@pytest.mark.parametrize("name", sorted({*NAMED} - {"none"}))
def test_everything_a_method_is_made_of_is_on_the_page(name):
    assert f"`{name}`" in PAGE


def test_every_file_on_the_page_is_there():
    files = re.findall(r"\]\((?:\.\./)?([\w/.-]+)\)", PAGE)
    assert len(files) > 40
    for file in files:
        assert (ROOT / file).exists() or (ROOT / "docs" / file).exists(), file


def test_every_test_on_the_page_is_there():
    source = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 20
    missing = {name for name in named if f"def {name}(" not in source}
    assert not missing
