import io
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.control import Renew, Stop, TakeCheckpoint, read_line, write_line
from domain.events import (
    MAX_FRAME,
    ArtifactSaved,
    Event,
    Failed,
    Finished,
    Log,
    Metrics,
    Progress,
    Started,
    read_frames,
    write_frame,
)

EVENTS: list[Event] = [
    Started(facts={"device": "cpu", "threads": 2, "ema": None, "deterministic": True}),
    Progress(phase="train", done=1, total=10, unit="step", epoch=1, epochs=2),
    Metrics(steps=(0, 1), values={"train/loss": (2.3, float("inf"))}),
    Log(message="line"),
    Failed(failure_class="code", code="x", message="y"),
    Finished(summary={"clean_accuracy": 0.5}),
]


def frames(*events: Event) -> bytes:
    stream = io.BytesIO()
    for event in events:
        write_frame(stream, event)
    return stream.getvalue()


def test_frames_come_back_in_order_and_typed():
    assert list(read_frames(io.BytesIO(frames(*EVENTS)))) == EVENTS


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_every_float_survives_the_pipe(values):
    event = Metrics(steps=tuple(range(len(values))), values={"x": tuple(values)})
    (read,) = read_frames(io.BytesIO(frames(event)))
    assert isinstance(read, Metrics)
    for sent, got in zip(values, read.values["x"], strict=True):
        assert got == sent or (math.isnan(got) and math.isnan(sent))


@given(st.integers(0, 200))
def test_a_torn_stream_yields_the_whole_frames_before_the_tear(cut):
    whole = frames(*EVENTS)
    read = list(read_frames(io.BytesIO(whole[: min(cut, len(whole))])))
    assert read == EVENTS[: len(read)]


def test_a_frame_too_long_or_not_an_event_is_an_error():
    with pytest.raises(ValueError, match="exceeds"):
        list(read_frames(io.BytesIO(struct.pack(">I", MAX_FRAME + 1))))
    with pytest.raises(ValidationError):
        list(read_frames(io.BytesIO(struct.pack(">I", 2) + b"{}")))


@pytest.mark.parametrize("file", ["/etc/passwd", "../x", "a/../b", "", "a//b", ".hidden"])
def test_a_file_is_always_inside_the_work_folder(file):
    with pytest.raises(ValidationError):
        ArtifactSaved(
            file=file, name="n", kind="figure", media_type="image/png", sha256="0", size=0
        )


@pytest.mark.parametrize("message", [Renew(deadline=123456.789), TakeCheckpoint(), Stop()])
def test_control_messages_survive_their_line(message):
    assert read_line(write_line(message)) == message
