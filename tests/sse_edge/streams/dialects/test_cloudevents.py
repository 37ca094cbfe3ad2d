"""CloudEvents: every channel's events with the attributes that the specification asks for."""

import re
from dataclasses import replace
from typing import Any

import pytest

from schemas.codec import encode
from schemas.keys import encode_key
from sse_edge.frame import FRAME_BYTES_MAX, with_id, with_members
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.dialect import ClientInfo, Rendered
from sse_edge.streams.dialects.cloudevents import CONTEXT_BYTES_MAX
from sse_edge.streams.render import render
from sse_edge.streams.requests import as_cloudevents, many_channels, one_channel
from sse_edge.streams.stream import Stream
from tests.support.edge import alert, progress
from tests.support.sse import Block, Reader

HERE = Partition("x.risk.alerts", 3)
NOW = "2024-01-15T10:32:20.000000Z"
CLIENT = ClientInfo("c", "alerts")
_NAME = re.compile(r"[a-z0-9]{1,20}")


def record_of(value: bytes, **more: Any) -> Record:
    fields: dict[str, Any] = {"key": b"p", "event_id": b"e-1"} | more
    return Record(HERE, 7, 1_223_596_800_123, fields.pop("key"), value, **fields)


def blocks_of(channel: Channel, record: Record) -> list[Block]:
    channel = CHANNELS.as_cloudevents(channel)
    frame, context = render(channel, record), channel.dialect.context
    assert frame is not None
    assert context is not None
    body = with_members(frame.body, lambda part: context(record, part))
    return list(Reader().feed(with_id(body, b"CURSOR")))


def event_of(channel: Channel, record: Record) -> dict[str, Any]:
    (block,) = blocks_of(channel, record)
    found: dict[str, Any] = block.json
    return found


def test_an_alert_has_the_attributes_of_its_record() -> None:
    event = event_of(CHANNELS["alerts"], record_of(alert("p", 1)))
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "type": "tapewire.alerts.risk_alert",
        "time": "2008-10-10T00:00:00.123000Z",
        "datacontenttype": "application/json",
        "id": "e-1",
        "source": "/tapewire/risk.alerts",
        "subject": "p",
    }
    assert data["message"] == "number 1"


@pytest.mark.parametrize("key", [*CHANNELS, *(f"{name}+" for name in CHANNELS.mystocks)])
def test_each_example_of_a_channel_is_an_event_with_valid_attributes(key: str) -> None:
    channel = CHANNELS.by_key(key)
    for example in channel.examples:
        record = record_of(encode(example))
        plain = render(channel, record)
        if plain is None:
            continue
        (block,) = blocks_of(channel, record)
        event = block.json
        assert block.event == Reader().feed(with_id(plain.body, b"CURSOR"))[0].event
        assert block.id == "CURSOR"
        assert event["type"] == f"tapewire.{channel.name}.{plain.event}"
        assert all(_NAME.fullmatch(name) for name in event)
        assert {"id", "source", "specversion", "type", "data"} <= event.keys()


def test_ids_of_tenants_are_of_different_sources() -> None:
    key = encode_key("p", "a/c me")
    event = event_of(CHANNELS["alerts"], record_of(alert("p", 1), key=key, tenant=b"a/c me"))
    assert event["source"] == "/tapewire/risk.alerts?tenant=a%2Fc%20me"
    assert event["subject"] == "p"


@pytest.mark.parametrize("event_id", [None, b"", b"x" * 257])
def test_a_record_without_a_usable_id_is_named_by_its_position(event_id: bytes | None) -> None:
    record = record_of(alert("p", 1), event_id=event_id)
    assert event_of(CHANNELS["alerts"], record)["id"] == "3-7"


def test_each_part_of_a_large_event_is_an_event_of_its_own_id_and_fits_its_bound() -> None:
    events = [f"line {number} {'x' * 900}" for number in range(150)]
    channel = replace(
        CHANNELS["alerts"],
        name="large",
        render=lambda _: Rendered("risk_alert", {"lines": events}),
    )
    try:
        blocks = blocks_of(channel, record_of(alert("p", 1)))
    finally:
        CHANNELS._as_cloudevents.pop("large")
    found = [block.json for block in blocks]
    assert [event["id"] for event in found] == [f"e-1-{n + 1}" for n in range(len(found))]
    assert [event["part"] for event in found] == list(range(1, len(found) + 1))
    assert [line for event in found for line in event["data"]["lines"]] == events
    assert all(len(block.raw) <= FRAME_BYTES_MAX for block in blocks)
    assert [block.id for block in blocks] == [*[None] * (len(blocks) - 1), "CURSOR"]


def test_no_attributes_take_more_than_is_kept_for_them() -> None:
    context = CHANNELS.as_cloudevents(CHANNELS["alerts"]).dialect.context
    assert context is not None
    text = ("\U0001f4c9" * 256).encode()
    record = record_of(b"", key=text, event_id=text, tenant=text)
    assert 9 * 1024 < len(context(record, "16")) <= CONTEXT_BYTES_MAX


def test_events_about_the_stream_are_events_of_the_edge() -> None:
    dialect = CHANNELS.as_cloudevents(CHANNELS["alerts"]).dialect
    gap = dialect.notice(CLIENT, "gap", {"reason": "expired"}, NOW)
    again = dialect.notice(CLIENT, "gap", {"reason": "expired"}, NOW)
    other = dialect.notice(CLIENT, "gap", {"reason": "future"}, NOW)
    assert isinstance(gap.data, dict)
    assert isinstance(other.data, dict)
    assert gap == again
    assert gap.data["id"] != other.data["id"]
    assert (gap.event, gap.data["type"]) == ("gap", "tapewire.stream.gap")
    assert (gap.data["source"], gap.data["data"]) == ("/tapewire/edge", {"reason": "expired"})
    assert dialect.beat(CLIENT, NOW) == b":\n"


def test_a_room_tells_its_client_the_name_that_it_has() -> None:
    dialect = CHANNELS.as_cloudevents(CHANNELS["chat"]).dialect
    assert dialect.opening is not None
    joined = dialect.opening(CLIENT, NOW)
    assert isinstance(joined.data, dict)
    assert joined.event == "join"
    assert (joined.data["data"], joined.data["datacontenttype"]) == ("c", "text/plain")


@pytest.mark.parametrize(
    "stream", [one_channel("alerts", {"entity_id": "p"}), many_channels(["alerts", "training:T"])]
)
def test_the_format_changes_no_cursor(stream: Stream) -> None:
    formatted = as_cloudevents(stream)
    assert formatted.identity == stream.identity
    assert formatted != stream
    assert as_cloudevents(formatted) == formatted


def test_a_variant_is_found_by_its_key_and_made_once() -> None:
    for key in ("alerts", "alerts+"):
        variant = CHANNELS.as_cloudevents(CHANNELS.by_key(key))
        assert CHANNELS.by_key(variant.key) is variant


def test_the_last_event_ends_a_stream_in_this_format_too() -> None:
    channel = CHANNELS.as_cloudevents(CHANNELS["training"])
    frame = render(channel, record_of(progress("T", 100.0, "completed")))
    assert frame is not None
    assert frame.ends
