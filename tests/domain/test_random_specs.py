"""Random search: several fields of a submission at once, each with anything at all."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import json_text
from domain.errors import SpecInvalid
from domain.presets import expand, named_sources
from tests.fuzzing import DATA, LEAKS, STRANGE, WRONG, all_places, value_at, written

RUN = "0" * 18
TRAINED = expand({"preset": "part++", "data": DATA, "model": {"name": "small-cnn"}})
PLACES = list(all_places(RUN))
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=50)
    | st.sampled_from([*WRONG.values(), *STRANGE.values()]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=10) | st.sampled_from(["kind", "points", "run"]), inner)
    ),
    max_leaves=8,
)


def mutated(body: Any, changes: list[tuple[str, Any]]) -> Any:
    """Return a submission with other values at some of its places."""
    for pointer, value in changes:
        parent, _, name = pointer.rpartition("/")
        try:
            above = value_at(body, parent) if parent else body
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        if isinstance(above, dict):
            above[name] = value
    return body


@pytest.mark.fuzz
@settings(max_examples=5000, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from(PLACES),
    value=ANYTHING,
    changes=st.lists(st.tuples(st.sampled_from([p.pointer for p in PLACES]), ANYTHING), max_size=3),
)
def test_a_random_submission_is_right_or_told_why(start, value, changes):
    try:
        body = json_text.parse(written(mutated(start.put(value), changes)).decode())
    except json_text.Malformed:
        return
    assert isinstance(body, dict)
    try:
        known = {pointer: TRAINED for pointer, given in named_sources(body) if given}
        source = known.pop("/source", None)
        spec = expand(body, source=source, others=known)
    except SpecInvalid as error:
        said = str(error)
    else:
        said = ""
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec
        assert expand(spec.model_dump(mode="json"), source=source, others=known) == spec
    assert not [words for words in LEAKS if words in said]
    assert len(said) < 10_000
