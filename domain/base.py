"""The base of every value that crosses a process boundary."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Model(BaseModel):
    """A frozen value; an unknown field is an error; NaN and infinities survive JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        use_attribute_docstrings=True,
    )


class SpecModel(Model):
    """A value that people write by hand: an unknown field is told what is allowed."""

    @model_validator(mode="before")
    @classmethod
    def _knows_every_field(cls, body: Any) -> Any:  # noqa: ANN401 - whatever a client sent
        if isinstance(body, Mapping):
            for name in body:
                if name not in cls.model_fields:
                    allowed = ", ".join(cls.model_fields)
                    raise misfit(str(name), f"there is no such field; allowed: {allowed}")
        return body


def misfit(field: str, detail: str) -> PydanticCustomError:
    """Return an error to raise in a model validator; it names a field below the validated model.

    field: a path such as ``method/warmup_epochs``, relative to that model.
    """
    return PydanticCustomError("misfit", "{detail}", {"field": field, "detail": detail})
