"""What the weights of each of our networks look like, for who must not load PyTorch.

The table beside this file is written by ``python -m partcore.models.outline``; a test of partcore
holds it against the networks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from domain.errors import CheckpointRefused
from domain.tensor_file import TensorEntry, shown

Extent = int | Literal["channels", "classes"]
Outline = Mapping[str, Sequence[Extent]]
"""Shapes by tensor name; `channels` of the images and `classes` stand where they decide."""
OUTLINES: Mapping[str, Outline] = json.loads(
    files("domain").joinpath("architectures.json").read_text(encoding="utf-8")
)
COUNTER = "num_batches_tracked"
"""Ends the names of whole numbers; all others are single precision."""
SHOWN = 4
LAYOUT = "model/"
"""What the names of this lab's own files begin with."""


@dataclass(frozen=True)
class Fit:
    """What a file of weights is for."""

    channels: int
    classes: int
    tensors: tuple[TensorEntry, ...]
    """The network's own, in the order of their bytes."""


def fit(model: str, entries: Sequence[TensorEntry]) -> Fit:
    """Return what ``model`` a file's tensors make.

    Where names begin with ``model/``, as in this lab's files, what does not is left alone.

    Raises CheckpointRefused with every tensor that is missing, unexpected, or of another form.
    """
    outline = OUTLINES.get(model)
    if outline is None:
        raise CheckpointRefused(
            f"files of {model!r} cannot be uploaded; allowed: {', '.join(OUTLINES)}"
        )
    own = _own(entries)
    extents = _extents(outline, own)
    problems = {
        "missing": [name for name in outline if name not in own],
        "unexpected": [shown(name) for name in own if name not in outline],
        "of another form": [
            f"{name} {entry.dtype} {list(entry.shape)} instead of {' '.join(map(str, wanted))}"
            for name, entry in own.items()
            if name in outline
            and (wanted := _wanted(name, outline[name], extents)) != (entry.dtype, [*entry.shape])
        ],
    }
    told = [f"{kind}: {_some(names)}" for kind, names in problems.items() if names]
    if told:
        raise CheckpointRefused(f"the file holds no {model}; " + "; ".join(told))
    if extents["channels"] < 1 or extents["classes"] < 2:
        raise CheckpointRefused(
            f"a {model} of {extents['channels']} channels and {extents['classes']} classes is none"
        )
    return Fit(extents["channels"], extents["classes"], tuple(own.values()))


def _own(entries: Sequence[TensorEntry]) -> dict[str, TensorEntry]:
    prefix = LAYOUT if any(entry.name.startswith(LAYOUT) for entry in entries) else ""
    return {e.name.removeprefix(prefix): e for e in entries if e.name.startswith(prefix)}


def _extents(outline: Outline, own: Mapping[str, TensorEntry]) -> dict[Extent, int]:
    """Read the free extents off the first tensors that show them; 0 where none does."""
    found: dict[Extent, int] = {"channels": 0, "classes": 0}
    for name, shape in outline.items():
        entry = own.get(name)
        if entry is not None and len(entry.shape) == len(shape):
            for extent, size in zip(shape, entry.shape, strict=True):
                if found.get(extent) == 0:
                    found[extent] = size
    return found


def _wanted(
    name: str, shape: Sequence[Extent], extents: Mapping[Extent, int]
) -> tuple[str, list[int]]:
    dtype = "I64" if name.endswith(COUNTER) else "F32"
    return dtype, [e if isinstance(e, int) else extents[e] for e in shape]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
