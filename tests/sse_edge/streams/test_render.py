import pickle
from dataclasses import replace

import pytest

from schemas.codec import encode
from schemas.errors import RefusedValue, UnresolvedSchema
from schemas.events import AgentEvent, ChatEvent, Record, RiskAlert, UserUpdate
from sse_edge.errors import Unframable
from sse_edge.frame import FRAME_BYTES_MAX
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import Rendered
from sse_edge.streams.render import render_value
from tests.support.edge import absurd_alert, alert, progress


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
        (progress("t", 1), "expected RiskAlert, found TrainingProgress"),
        (absurd_alert(metric_value=float("nan")), "metric_value is nan"),
    ],
)
def test_a_record_that_cannot_be_rendered_says_why(value: bytes, text: str) -> None:
    with pytest.raises(Unframable, match=text):
        render_value(CHANNELS["alerts"], value, 0)


def test_a_value_whose_schema_is_not_known_is_skipped_with_this_reason_in_any_process() -> None:
    error = UnresolvedSchema("the schema of the id 7 is not known")
    value = RefusedValue.of(b"\0\0\0\0\7body", error)
    for process in (value, pickle.loads(pickle.dumps(value))):  # noqa: S301  # made here
        with pytest.raises(Unframable, match="the schema of the id 7") as refused:
            render_value(CHANNELS["alerts"], process, 0)
        assert refused.value.reason == "unresolved_schema"


def test_data_that_has_no_members_and_is_too_large_is_refused_with_its_size() -> None:
    def render(_: Record) -> Rendered:
        return Rendered("update", "x" * FRAME_BYTES_MAX)

    channel = replace(CHANNELS["user"], render=render)
    update = UserUpdate(user_id="u", kind="update", data="{}", event_time_us=0)
    with pytest.raises(Unframable, match=f"at most {FRAME_BYTES_MAX}") as refused:
        render_value(channel, encode(update), 0)
    assert refused.value.reason == "too_large"


def test_a_dialect_that_fails_is_of_this_record_only() -> None:
    def fail(event: RiskAlert) -> None:
        raise ZeroDivisionError(event.alert_id)

    channel = replace(CHANNELS["alerts"], render=fail)
    with pytest.raises(Unframable, match="ZeroDivisionError: a1") as refused:
        render_value(channel, alert("p", 1), 0)
    assert refused.value.reason == "failed"


@pytest.mark.parametrize(
    ("channel", "record"),
    [
        ("agent", AgentEvent(run_id="r", kind="dreamt", event_time_us=0)),
        ("chat", ChatEvent(room="r", kind="dreamt", user="u", event_time_us=0)),
        ("user", UserUpdate(user_id="u", kind="dreamt", data="{}", event_time_us=0)),
    ],
)
def test_a_word_that_a_dialect_does_not_know_is_skipped(channel: str, record: Record) -> None:
    with pytest.raises(Unframable, match="'dreamt' is no") as refused:
        render_value(CHANNELS[channel], encode(record), 0)
    assert refused.value.reason == "unknown_word"


def test_an_event_far_ahead_of_the_log_is_skipped() -> None:
    ahead = absurd_alert(event_time_us=3 * 86_400_000_000)
    assert render_value(CHANNELS["alerts"], ahead, 2 * 86_400_000) is not None
    assert render_value(CHANNELS["alerts"], ahead, -1) is not None
    assert render_value(CHANNELS["alerts"], ahead, 1, ahead_us=1e12) is not None
    with pytest.raises(Unframable, match="86400 s ahead") as refused:
        render_value(CHANNELS["alerts"], ahead, 1)
    assert refused.value.reason == "future"
