"""Every field of every kind of spec, found by walking the models, and wrong values for each."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from domain.scheduled import Ramp
from domain.spec import EvaluateSpec, TrainSpec, VisualiseSpec
from domain.weights import ModelSpec, Source

Body = dict[str, Any]
LONG = "x" * 100_000
WRONG: Mapping[str, object] = {
    "a list": [],
    "an object": {},
    "null": None,
    "huge": 10**350,
    "negative": -1,
    "NaN": float("nan"),
    "many items": [1] * 100_000,
    "long": LONG,
    "a control character": "a\x1bb",
    "a NUL": "a\x00b",
    "a lone surrogate": "a\ud800b",
    "true": True,
    "a number as text": "3",
}
STRANGE: Mapping[str, object] = {
    "a list of lists": [[[]]],
    "a list of objects": [{}],
    "an object with a strange field": {"colour": [1]},
    "an object of an unhashable kind": {"kind": []},
    "beyond 64 bit": 2**64,
    "a tiny fraction": 1e-320,
    "infinite": float("inf"),
    "many texts": ["x"] * 1001,
    "empty": "",
    "zero": 0,
    "a half": 0.5,
    "false": False,
    "white": " \t",
    "a path": "../../etc/passwd",
}
"""More of them, for where a request is not needed."""
DATA = {"dataset": "cifar10"}
STARTS: Mapping[type[BaseModel], Body] = {
    TrainSpec: {"kind": "train", "preset": "part++", "data": DATA},
    EvaluateSpec: {"kind": "evaluate"},
    VisualiseSpec: {"kind": "visualise"},
}
"""What a person writes of each kind; the rest is filled in."""


@dataclass(frozen=True)
class Place:
    """A field of a submission."""

    model: type[BaseModel]
    name: str
    pointer: str
    put: Callable[[object], Body]
    """Returns the submission with another value there."""


def all_places(source: str) -> Iterator[Place]:
    """Yield each field of every kind of spec; those deep inside once, where kinds share them.

    source: a run with weights.
    """
    shared: set[tuple[type[BaseModel], str]] = set()
    for kind in STARTS:
        for place in places(kind, source):
            parent = place.pointer.rpartition("/")[0]
            if parent.count("/") < SHARED_DEPTH or (place.model, place.pointer) not in shared:
                yield place
            shared.add((place.model, place.pointer))


SHARED_DEPTH = 2
"""Levels at which kinds treat fields apart; below, validators alone look at them."""


def places(kind: type[BaseModel], source: str) -> Iterator[Place]:
    """Yield each field of a kind of spec once a model; ``source`` is a run with weights."""
    start = {**STARTS[kind], **({} if kind is TrainSpec else {"source": {"run": source}})}
    seen: set[type[BaseModel]] = set()

    def walk(
        model: type[BaseModel], body: Body, pointer: str, place: Callable[[Body], Body]
    ) -> Iterator[Place]:
        if model in seen:
            return
        seen.add(model)
        for name, field in model.model_fields.items():
            at = f"{pointer}/{name}"

            def put(value: object, name: str = name) -> Body:
                return place({**body, name: value})

            yield Place(model, name, at, put)
            for arm, is_item in arms(field.annotation):

                def below(
                    inner: Body,
                    put: Callable[[object], Body] = put,
                    is_item: bool = is_item,  # noqa: FBT001
                ) -> Body:
                    return put([inner] if is_item else inner)

                yield from walk(arm, example(arm, source), f"{at}/0" if is_item else at, below)

    yield from walk(kind, start, "", lambda body: body)


def arms(annotation: object, *, is_item: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """Yield the models a field may hold, and whether as items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, is_item
        return
    is_item = is_item or get_origin(annotation) is tuple
    for inner in get_args(annotation):
        yield from arms(inner, is_item=is_item)


def example(model: type[BaseModel], source: str) -> Body:
    """Return a body of a model with what it requires."""
    if model is Source:
        return {"run": source}
    if model is ModelSpec:
        return {"name": "small-cnn"}
    if issubclass(model, Ramp):
        return {"points": [[0, value_of(model.model_fields["points"].annotation, source)]]}
    needed = {
        name: value_of(field.annotation, source)
        for name, field in model.model_fields.items()
        if field.is_required() or name == "kind"
    }
    # What a model needs beside its required fields: one of two.
    return {**needed, **({"epsilon_low": "1/255"} if "epsilon_gap" in model.model_fields else {})}


def value_of(annotation: object, source: str) -> object:
    """Return a value that is allowed somewhere in an annotation: the last alternative's first."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return inner[0]
    if origin is tuple:
        return value_of(inner[1] if inner[-1] is not ... else inner[0], source)
    if origin in (Union, UnionType, Annotated):
        return value_of(inner[0], source)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return example(annotation, source)
    values: Mapping[object, object] = {Fraction: "1/255", int: 1, float: 0.5, str: "cifar10"}
    return values[annotation]


def value_at(body: object, pointer: str) -> object:
    """Return what a JSON pointer points to. Raises KeyError, IndexError, TypeError."""
    for part in pointer.split("/")[1:]:
        body = body[int(part)] if isinstance(body, list) else body[part]  # type: ignore[index]
    return body


def written(body: object) -> bytes:
    """Return JSON as a careless client writes it, NaN and lone surrogates included."""
    return json.dumps(body).encode()


LEAKS = (
    "discriminator", "valid tuple", "Input should", "union_tag", "Extra inputs", "literal_error",
    "valid dictionary", "Field required", "Unable to", "unable to", "pydantic", "Value error",
    "ensure this value", "String should", "List should", "Tuple should", "Traceback", "ValueError",
)  # fmt: skip
"""Words of validators that no answer may have."""
