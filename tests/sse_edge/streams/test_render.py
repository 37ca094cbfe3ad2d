from dataclasses import replace

import pytest

from schemas.codec import decode, encode
from schemas.events import TrainingProgress
from sse_edge.errors import Unframable
from sse_edge.frame import FRAME_BYTES_MAX
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.render import render_value
from tests.support.edge import alert, progress


def with_metrics(text: str) -> bytes:
    event = decode(progress("t", 1))
    assert isinstance(event, TrainingProgress)
    return encode(replace(event, metrics_json=text))


@pytest.mark.parametrize("name", list(CHANNELS))
def test_each_example_of_a_channel_is_rendered(name: str) -> None:
    channel = CHANNELS[name]
    rendered = [render_value(channel, encode(example), 0) for example in channel.examples]
    frames = [frame for frame in rendered if frame is not None]
    assert {frame.event for frame in frames} == channel.events
    assert all(frame.body.startswith((b"event: ", b"data: ")) for frame in frames)


def test_a_tombstone_is_no_event() -> None:
    assert render_value(CHANNELS["alerts"], None, 0) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", "expected Avro's single-object marker"),
        (progress("t", 1), "a TrainingProgress is no event of channel alerts"),
        (alert("x" * FRAME_BYTES_MAX, 1), "an event has at most"),
        (with_metrics("[" * 5_000 + "]" * 5_000), "recursion"),
        (with_metrics("{"), "Expecting property name"),
    ],
)
def test_a_record_that_cannot_be_rendered_says_why(value: bytes, text: str) -> None:
    channel = CHANNELS["training" if text in ("recursion", "Expecting property name") else "alerts"]
    with pytest.raises(Unframable, match=text):
        render_value(channel, value, 0)
