"""The header of a safetensors file, read without trust and without loading a tensor.

Format: https://huggingface.co/docs/safetensors. Eight bytes of length (little endian), a JSON
object of that length, then the tensors' bytes without gaps.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

from domain.errors import CheckpointRefused

LONGEST_HEADER = 4 << 20
"""Bytes; the header of a network of a thousand tensors has 0.1 MB."""
SIZES: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 1),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes an element, by the format's name of a number type."""
_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies and what it claims to be."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """First byte, from the beginning of the file."""
    end: int
    """The byte after the last."""


def read_header(stream: BinaryIO, size: int) -> list[TensorEntry]:
    """Return what a file of ``size`` bytes holds, in the order of its bytes.

    Everything it claims is checked: number types, shapes against lengths, and that the tensors
    cover the file without gap or overlap. Raises CheckpointRefused.
    """
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(size - 8, LONGEST_HEADER):
        raise CheckpointRefused("this is no safetensors file: it has no header of a sane length")
    content = _object(stream.read(length))
    content.pop(_METADATA, None)
    entries = [_entry(name, body, 8 + length) for name, body in content.items()]
    entries.sort(key=lambda entry: (entry.start, entry.end))
    _cover(entries, 8 + length, size)
    return entries


def _object(raw: bytes) -> dict[str, Any]:
    try:
        content = json.loads(raw, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        raise CheckpointRefused("this is no safetensors file: its header is no JSON") from None
    if not isinstance(content, dict):
        raise CheckpointRefused("this is no safetensors file: its header is no JSON object")
    return content


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CheckpointRefused("the header names something twice")
    return found


def _entry(name: str, body: object, data: int) -> TensorEntry:
    """Read one tensor's claims. data: where the tensors begin."""
    match body:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end], **rest}:
            numbers = (*shape, start, end)
            if not rest and dtype in SIZES and all(map(_is_count, numbers)):
                if SIZES[dtype] * math.prod(shape) != end - start:
                    raise CheckpointRefused(
                        f"{shown(name)} claims {dtype} {shape} in {end - start} bytes"
                    )
                return TensorEntry(name, dtype, tuple(shape), data + start, data + end)
        case _:
            pass
    raise CheckpointRefused(f"the header's entry of {shown(name)} describes no tensor")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def _cover(entries: Sequence[TensorEntry], data: int, size: int) -> None:
    if not entries:
        raise CheckpointRefused("the file holds no tensor")
    for before, after in pairwise(entries):
        if before.end != after.start:
            raise CheckpointRefused(
                f"{shown(before.name)} and {shown(after.name)} overlap or leave a gap"
            )
    if entries[0].start != data or entries[-1].end != size:
        held, told = size - data, entries[-1].end - data
        raise CheckpointRefused(f"the file holds {held} bytes of tensors; its header tells {told}")


def shown(name: str) -> str:
    """Return a name out of a stranger's file, fit for a message."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
