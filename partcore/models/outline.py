"""``python -m partcore.models.outline > domain/architectures.json``: the shapes of our networks."""

import json
import sys
from collections.abc import Sequence

import torch
from torch import Generator

from partcore.models import MODELS

ONE, OTHER = (3, 10), (5, 13)
"""Channels and classes of two builds; where their shapes differ, one of the two decides."""


def outline(name: str) -> dict[str, list[int | str]]:
    """Return the shapes of a network's state, `channels` and `classes` by name."""
    one, other = _shapes(name, *ONE), _shapes(name, *OTHER)
    words = dict(zip(zip(ONE, OTHER, strict=True), ("channels", "classes"), strict=True))
    return {
        tensor: [a if a == b else words[a, b] for a, b in zip(one[tensor], shape, strict=True)]
        for tensor, shape in other.items()
    }


def _shapes(name: str, channels: int, classes: int) -> dict[str, Sequence[int]]:
    with torch.device("meta"):
        ones = torch.ones(channels)
        network = MODELS[name](
            channels=channels, classes=classes, mean=ones, std=ones, generator=Generator("cpu")
        )
    return {tensor: tuple(value.shape) for tensor, value in network.state_dict().items()}


def main() -> None:
    """Write the table: a line a tensor."""
    models = []
    for name in MODELS:
        lines = [f"    {json.dumps(t)}: {json.dumps(shape)}" for t, shape in outline(name).items()]
        models.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n  }")
    sys.stdout.write("{\n" + ",\n".join(models) + "\n}\n")


if __name__ == "__main__":
    main()
