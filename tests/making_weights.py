"""Files of weights for tests, sound ones and others, written without PyTorch."""

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

from domain.architectures import COUNTER, OUTLINES

Header = dict[str, Any]


def shapes(
    model: str = "small-cnn", *, channels: int = 1, classes: int = 10
) -> dict[str, list[int]]:
    """The shapes of a network's tensors."""
    extents = {"channels": channels, "classes": classes}
    return {
        name: [extents.get(extent, extent) for extent in shape]
        for name, shape in OUTLINES[model].items()
    }


def tensors(prefix: str = "", **which: Any) -> dict[str, tuple[str, list[int], bytes]]:
    """Small numbers in the form of a network: by name, number type, shape and bytes."""
    found = {}
    for name, shape in shapes(**which).items():
        n = math.prod(shape)
        if name.endswith(COUNTER):
            found[prefix + name] = ("I64", shape, bytes(8 * n))
        else:
            found[prefix + name] = ("F32", shape, struct.pack("<f", 0.01) * n)
    return found


def header(held: Mapping[str, tuple[str, list[int], bytes]]) -> Header:
    """The header of a file of these tensors."""
    entries: Header = {}
    start = 0
    for name, (dtype, shape, content) in held.items():
        end = start + len(content)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        start = end
    return entries


def packed(told: object, content: bytes) -> bytes:
    """A file of a header, true or not, and bytes."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<Q", len(text)) + text + content


def content(held: Mapping[str, tuple[str, list[int], bytes]]) -> bytes:
    """The bytes of all tensors in order."""
    return b"".join(one for _, _, one in held.values())


def file(held: Mapping[str, tuple[str, list[int], bytes]] | None = None, **which: Any) -> bytes:
    """A sound safetensors file."""
    held = tensors(**which) if held is None else held
    return packed(header(held), content(held))
