"""The header of a stranger's safetensors file: every lie is found, and nothing more is refused."""

import io
import json
import struct
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from domain.architectures import COUNTER, OUTLINES, fit
from domain.errors import CheckpointRefused
from domain.tensor_file import LONGEST_HEADER, SIZES, TensorEntry, read_header
from tests import making_weights as making


def entries(raw: bytes):
    return read_header(io.BytesIO(raw), len(raw))


def one(**body) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **body}
    return making.packed({"a": entry}, bytes(8))


LIES = {
    "empty": (b"", "no header"),
    "a pickle": (b"\x80\x02}q\x00.", "no header"),
    "a zip": (b"PK\x03\x04" + bytes(60), "no header"),
    "endless header": (struct.pack("<Q", 2**60) + b"{}", "no header"),
    "long header": (struct.pack("<Q", LONGEST_HEADER + 1) + bytes(LONGEST_HEADER + 9), "no header"),
    "no JSON": (making.packed(b"{" * 9, b""), "no JSON"),
    "deep JSON": (making.packed(b"[" * 100_000, b""), "no JSON"),
    "no text": (making.packed(b"\xff\xfe", b""), "no JSON"),
    "no object": (making.packed([1], b""), "no JSON object"),
    "no tensor": (making.packed({}, b""), "no tensor"),
    "metadata alone": (making.packed({"__metadata__": {"a": "b"}}, b""), "no tensor"),
    "named twice": (making.packed(b'{"a": 1, "a": 2}', b""), "twice"),
    "nothing told": (making.packed({"a": {}}, bytes(8)), "describes no tensor"),
    "told too much": (one(colour="red"), "describes no tensor"),
    "unknown type": (one(dtype="F31"), "describes no tensor"),
    "a list for a type": (one(dtype=["F32"]), "describes no tensor"),
    "negative extent": (one(shape=[-2]), "describes no tensor"),
    "extent of text": (one(shape=["2"]), "describes no tensor"),
    "extent true": (one(shape=[2, True]), "describes no tensor"),
    "extent of 1.0": (one(shape=[2.0]), "describes no tensor"),
    "vast extents": (one(shape=[2**47, 2**47]), "claims F32"),
    "shape larger than bytes": (one(shape=[3]), "claims F32"),
    "offsets reversed": (one(data_offsets=[8, 0]), "claims F32"),
    "offsets beyond": (one(shape=[4], data_offsets=[0, 16]), "its header tells 16"),
    "offsets too late": (one(shape=[1], data_offsets=[4, 8]), "its header tells"),
    "bytes left over": (one() + b"tail", "12 bytes"),
    "truncated": (one()[:-1], "7 bytes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_file_is_refused(lie):
    raw, reason = LIES[lie]
    with pytest.raises(CheckpointRefused, match=reason):
        entries(raw)


@pytest.mark.parametrize(("second", "reason"), [([4, 12], "overlap"), ([12, 20], "gap")])
def test_tensors_lie_one_after_the_other(second, reason):
    told = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": second},
    }
    with pytest.raises(CheckpointRefused, match=reason):
        entries(making.packed(told, bytes(second[1])))


def test_a_long_name_does_not_flood_the_message():
    with pytest.raises(CheckpointRefused) as refused:
        entries(making.packed({"a" * 100_000: 1}, b""))
    assert len(str(refused.value)) < 200


def accepted_by_the_library(raw: bytes) -> bool:
    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        try:
            with safe_open(file.name, framework="pt"):
                return True
        except SafetensorError:
            return False


COUNTS = st.integers(-1, 24)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*SIZES, "F31"]),
        "shape": st.lists(COUNTS, max_size=2),
        "data_offsets": st.lists(COUNTS, min_size=1, max_size=3),
    }
)


@given(told=st.dictionaries(st.sampled_from("abc"), ENTRY, max_size=2), size=st.integers(0, 24))
def test_what_is_accepted_here_the_library_accepts_too(told, size):
    raw = making.packed(told, bytes(size))
    try:
        entries(raw)
    except CheckpointRefused:
        return
    assert accepted_by_the_library(raw)


@given(raw=st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(raw):
    try:
        entries(raw)
    except CheckpointRefused:
        return
    assert accepted_by_the_library(raw)


# Whose weights they are


@pytest.mark.parametrize("model", OUTLINES)
@pytest.mark.parametrize("prefix", ["", "model/"])
def test_a_networks_own_weights_fit(model, prefix):
    shapes = making.shapes(model, channels=3, classes=7)
    held = [
        TensorEntry(prefix + name, "I64" if name.endswith(COUNTER) else "F32", tuple(shape), 0, 0)
        for name, shape in shapes.items()
    ]
    found = fit(model, held)
    assert (found.channels, found.classes) == (3, 7)
    assert len(found.tensors) == len(shapes)


def changed(**over):
    held = making.tensors()
    for name, tensor in over.items():
        name = name.replace("__", ".")
        if tensor is None:
            del held[name]
        else:
            held[name] = tensor
    return entries(making.file(held))


WRONG = [
    ({"head__linear__weight": None}, "missing: head.linear.weight"),
    ({"extra": ("F32", [1], bytes(4))}, "unexpected: 'extra'"),
    ({"body__1__weight": ("F32", [31], bytes(124))}, r"body.1.weight F32 \[31\] instead of F32"),
    ({"body__1__weight": ("F16", [32], bytes(64))}, r"body.1.weight F16"),
    ({"body__1__num_batches_tracked": ("F32", [], bytes(4))}, "instead of I64"),
]


@pytest.mark.parametrize(("over", "reason"), WRONG)
def test_another_networks_weights_are_refused_by_tensor(over, reason):
    with pytest.raises(CheckpointRefused, match=reason):
        fit("small-cnn", changed(**over))


def test_weights_of_another_architecture_are_refused_in_a_few_words():
    with pytest.raises(CheckpointRefused, match=r"no resnet18; missing: .* and .* more") as refused:
        fit("resnet18", entries(making.file()))
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize("extents", [{"channels": 0}, {"classes": 0}, {"classes": 1}])
def test_a_network_of_nothing_is_refused(extents):
    with pytest.raises(CheckpointRefused, match="is none"):
        fit("small-cnn", entries(making.file(**extents)))


def test_an_unknown_network_is_told_what_is_known():
    with pytest.raises(CheckpointRefused, match="allowed: small-cnn, resnet18"):
        fit("vgg", [])


def test_the_header_of_a_sound_file_is_read_in_the_order_of_its_bytes():
    raw = making.file(making.tensors("model/") | {"optimiser/a": ("F64", [2], bytes(16))})
    found = entries(raw)
    assert [entry.name for entry in found] == list(json.loads(raw[8 : found[0].start]))
    assert found[-1].end == len(raw)
    assert len(fit("small-cnn", found).tensors) == len(found) - 1
