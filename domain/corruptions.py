"""The corruptions an evaluation may name: what happens to pictures without any attacker.

Kinds and severities after Hendrycks & Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019.
"""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from domain.base import SpecModel, misfit

CorruptionName = Literal[
    "gaussian-noise",
    "shot-noise",
    "impulse-noise",
    "speckle-noise",
    "defocus-blur",
    "motion-blur",
    "zoom-blur",
    "gaussian-blur",
    "snow",
    "fog",
    "brightness",
    "contrast",
    "saturate",
    "elastic",
    "pixelate",
    "jpeg",
]
KINDS: tuple[CorruptionName, ...] = get_args(CorruptionName)
SEVERITIES = (1, 2, 3, 4, 5)


class CorruptionSpec(SpecModel):
    """Which corruptions the images are shown under: every kind at every severity."""

    kinds: tuple[CorruptionName, ...] = Field(default=KINDS, min_length=1, max_length=len(KINDS))
    """Which corruptions (default: all)."""
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        default=SEVERITIES, min_length=1, max_length=len(SEVERITIES)
    )
    """How strong, from 1 to 5."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.kinds)) != len(self.kinds):
            raise misfit("kinds", "a corruption is named twice")
        if len(set(self.severities)) != len(self.severities):
            raise misfit("severities", "a severity is named twice")
        return self


def corruption_label(kind: str, severity: int) -> str:
    """Return a corruption's name in tables, such as `gaussian-noise@3`."""
    return f"{kind}@{severity}"
