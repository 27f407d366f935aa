"""The base of every value that crosses a process boundary."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from domain.wording import unknown

MOST_INTEGER = 2**53
"""The greatest whole number that every reader of JSON agrees on."""


class Model(BaseModel):
    """A frozen value; an unknown field is an error; NaN and infinities survive JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
    )


def _strict(schema: Any, model: type[BaseModel]) -> Any:  # noqa: ANN401 - a tree of dicts and lists
    """Return the core schema of a model with numbers and booleans that take nothing else.

    Lists are measured before anybody looks at their items: 100,000 wrong ones cost half a second.
    """
    if isinstance(schema, list | tuple):
        return type(schema)(_strict(each, model) for each in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "model" and schema["cls"] is not model and issubclass(schema["cls"], SpecModel):
        return schema  # it has been here before
    if kind in {"float", "bool"}:
        return {**schema, "strict": True}
    if kind == "int" and not schema.get("strict"):
        whole = {"le": MOST_INTEGER, "ge": -MOST_INTEGER, **schema, "strict": True}
        return core_schema.no_info_before_validator_function(_whole, whole)
    inner = {key: _strict(value, model) for key, value in schema.items()}
    if kind == "tuple" and "max_length" in schema:
        check = partial(_measured, schema["max_length"])
        return core_schema.no_info_before_validator_function(check, inner)
    return inner


def _whole(value: object) -> object:
    """Read 3.0 as 3: some writers of JSON and YAML know one kind of number only."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _measured(most: int, value: object) -> object:
    """Refuse a list of too many items."""
    if isinstance(value, list | tuple) and len(value) > most:
        facts = {"field_type": "Tuple", "max_length": most, "actual_length": len(value)}
        raise PydanticKnownError("too_long", facts)
    return value


class SpecModel(Model):
    """A value that people write by hand.

    An unknown field is told what is allowed. Nothing is read as what it is not: ``true`` and
    ``"3"`` are no numbers, 3.0 is the whole number 3, and no number is NaN or infinite.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(
        cls,
        source: Any,  # noqa: ANN401
        handler: GetCoreSchemaHandler,
    ) -> CoreSchema:
        """Return the schema with every scalar in it strict, so that no new field can forget to."""
        schema: CoreSchema = _strict(handler(source), cls)
        return schema

    @model_validator(mode="before")
    @classmethod
    def _knows_every_field(cls, body: Any) -> Any:  # noqa: ANN401 - whatever a client sent
        if isinstance(body, Mapping):
            for name in body:
                if name not in cls.model_fields:
                    raise _misfit((str(name),), unknown("field", name, cls.model_fields))
        return body


def misfit(field: str, detail: str) -> PydanticCustomError:
    """Return an error to raise in a model validator; it names a field below the validated model.

    field: a path such as ``method/warmup_epochs``, relative to that model.
    """
    return _misfit(tuple(field.split("/")), detail)


def _misfit(place: tuple[str, ...], detail: str) -> PydanticCustomError:
    return PydanticCustomError("misfit", "{detail}", {"place": place, "detail": detail})
