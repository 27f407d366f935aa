"""Which weights: of a run or uploaded, and of which network."""

from typing import Annotated, Literal, Self

from pydantic import StringConstraints, field_validator, model_validator

from domain.base import SpecModel, misfit
from domain.catalog import MODELS, TORCHVISION
from domain.ids import ID_PATTERN
from domain.wording import unknown

Weights = Literal["best", "last"]


class ModelSpec(SpecModel):
    """Which network."""

    name: str
    """`small-cnn`, `resnet18`, `preact-resnet18`, `wrn-28-10`, `wrn-34-10`, or `torchvision:` and a
    classifier of torchvision that ends in pooling and a linear head, such as
    `torchvision:resnet50`."""

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in MODELS:
            ours = [model for model in MODELS if not model.startswith(TORCHVISION)]
            allowed = f"{', '.join(ours)}, {TORCHVISION}..."
            raise ValueError(unknown("model", name, MODELS, listed=allowed))
        return name


class Source(SpecModel):
    """Weights: of a finished run, or uploaded."""

    run: Annotated[str, StringConstraints(pattern=ID_PATTERN)] | None = None
    """Id of the run that trained them."""
    weights: Weights = "best"
    """Of a run: `best` or `last`."""
    checkpoint: Annotated[str, StringConstraints(pattern=ID_PATTERN)] | None = None
    """Id of an uploaded file, instead of a run."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.run is None) == (self.checkpoint is None):
            raise misfit("run", "give one of `run` and `checkpoint`")
        return self

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return f"run {self.run}" if self.run else f"checkpoint {self.checkpoint}"

    @property
    def key(self) -> str:
        """One text for the same weights, another for others; made of an id, fit for a file name."""
        return f"{self.run}-{self.weights}" if self.run else str(self.checkpoint)

    @property
    def short(self) -> str:
        """The end of the id, which `part` takes for the whole; and `last` weights say so."""
        last = "-last" if self.run and self.weights == "last" else ""
        return f"{self.run or self.checkpoint}"[-SHORT:] + last


SHORT = 8
"""Characters of an id that are drawn at random: its end."""
