"""Events that are too large for one block come as several of the same name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import cycle, islice, product
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from annotated_types import MaxLen

from schemas.bounds import NAME_CHARS_MAX
from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.errors import OutOfBounds
from schemas.events import BookRisk, Record, RiskMeasure
from schemas.topics import RISK_BOOK_RISKS
from schemas.vocabularies import UserUpdateKind
from sse_edge.delivery.start import FromEdge
from sse_edge.frame import FRAME_BYTES_MAX, with_id, with_member
from sse_edge.streams import examples
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.dialect import Dialect, EventBlock, Rendered
from sse_edge.streams.dialects.chat import RESPONSE
from sse_edge.streams.dialects.mystocks import MYSTOCKS
from sse_edge.streams.parts import PARTS_MAX, in_parts, without_the_largest
from sse_edge.streams.render import render_value
from sse_edge.streams.requests import one_channel
from tests.support.edge import running_edge
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader

LOGGED_MS = 1_700_000_000_000
BOOK: Any = examples.BOOKS[0]
MEASURE: Any = examples.MEASURES[0]
HORIZONS = range(1, 26)


def blocks_of(body: bytes) -> list[Block]:
    whole = with_id(body, b"cursor")
    assert all(len(block) <= FRAME_BYTES_MAX + 100 for block in whole.split(b"\n\n"))
    return Reader().feed(whole)


def large_book(holdings: int = 500) -> BookRisk:
    parts = [BOOK.parts[0]._replace(part_id=f"instrument-{number}") for number in range(holdings)]
    estimates = [BOOK.estimates[0]._replace(horizon=horizon) for horizon in HORIZONS]
    book: BookRisk = replace(BOOK, parts=parts, estimates=estimates)
    return book


def long_measure() -> RiskMeasure:
    """Return a measure of 25 horizons and all methods."""
    some = MEASURE.estimates[0]._replace(var=0.041234567890123456, es=0.051234567890123456)
    many = [some._replace(horizon=horizon) for horizon in HORIZONS for _ in range(27)]
    measure: RiskMeasure = replace(MEASURE, estimates=many)
    return measure


def test_a_book_of_500_holdings_and_25_horizons_comes_in_parts_that_hold_each_once() -> None:
    book = large_book()
    frame = render_value(CHANNELS["books"], encode(book), LOGGED_MS)
    assert frame is not None
    blocks = blocks_of(frame.body)
    data = [json.loads(block.data or "") for block in blocks]
    assert [block.event for block in blocks] == ["book_risk"] * len(blocks)
    assert [(event["part"], event["parts"]) for event in data] == [
        (number + 1, len(blocks)) for number in range(len(blocks))
    ]
    assert [block.id for block in blocks] == [None] * (len(blocks) - 1) + ["cursor"]
    inner = [event["data"] for event in data]
    names = [part["part_id"] for event in inner for part in event["parts"]]
    assert names == [part.part_id for part in book.parts]
    assert [row["horizon"] for event in inner for row in event["estimates"]] == list(HORIZONS)
    assert {event["var_95"] for event in inner} == {BOOK.var_95}


def test_a_measure_of_25_horizons_and_all_methods_is_divided() -> None:
    measure = long_measure()
    frame = render_value(CHANNELS["measures"], encode(measure), LOGGED_MS)
    assert frame is not None
    data = [json.loads(block.data or "")["data"] for block in blocks_of(frame.body)]
    assert sum(len(event["estimates"]) for event in data) == len(measure.estimates)
    assert len(data) > 1


def test_each_part_has_the_members_that_are_added_to_an_event() -> None:
    frame = render_value(CHANNELS["measures"], encode(long_measure()), LOGGED_MS)
    assert frame is not None
    plain = blocks_of(frame.body)
    traced = blocks_of(with_member(frame.body, "traceparent", b"00-ab"))
    assert len(traced) > 1
    assert [block.json for block in traced] == [
        block.json | {"traceparent": "00-ab"} for block in plain
    ]


@pytest.mark.virtual_time
async def test_a_client_that_is_lost_between_two_parts_gets_all_of_them_again() -> None:
    log, stream, topic = FakeLog(0), one_channel("books", {}), RISK_BOOK_RISKS.name
    frame = render_value(CHANNELS["books"], encode(large_book(1_000)), LOGGED_MS)
    assert frame is not None
    count = 2 + len(blocks_of(frame.body))
    log.make(topic, 1)
    for book in (BOOK, large_book(1_000), BOOK):
        log.append(topic, 0, b"p", encode(book))
    async with running_edge(log) as edge:
        client = edge.connect(stream, FromEdge.EARLIEST)
        whole = await client.until(count, event="book_risk")
        parts = [block.json.get("part") for block in whole]
        assert parts == [None, *range(1, count - 1), None]
        assert count >= 5
        for read in range(1, count):
            last_id = next(block.id for block in whole[read - 1 :: -1] if block.id)
            again = edge.connect(stream, last_id)
            begin = 1 if read < count - 1 else count - 1
            seen = await again.until(count - begin, event="book_risk")
            assert [block.raw for block in seen] == [block.raw for block in whole[begin:]]


def test_what_fits_has_no_part() -> None:
    frame = render_value(CHANNELS["books"], encode(BOOK), LOGGED_MS)
    assert frame is not None
    assert frame.body.count(b"event:") == 1
    assert b'"part":' not in frame.body


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * FRAME_BYTES_MAX},
        {"rows": ["x" * FRAME_BYTES_MAX, "y"]},
        {"rows": ["x" * 60_000] * (PARTS_MAX + 1)},
        "x" * FRAME_BYTES_MAX,
    ],
)
def test_what_cannot_be_divided_is_in_no_parts(data: object) -> None:
    assert in_parts(MYSTOCKS, Rendered("e", data), "2026-01-01T00:00:00Z") is None


@pytest.mark.parametrize("channel", ["training", "trainmodel"])
def test_an_event_with_long_texts_is_shown_without_what_makes_it_too_large(channel: str) -> None:
    metrics = json.dumps({"text": "x" * (FRAME_BYTES_MAX - 100)})
    last = replace(
        examples.TRAINING[0],
        status="completed",
        message="\U0001f600" * 16_000,
        metrics={},
        metrics_json=metrics,
    )
    frame = render_value(CHANNELS[channel], encode(last), LOGGED_MS)
    assert frame is not None
    assert frame.ends
    (block,) = blocks_of(frame.body)
    data = block.inner if channel == "training" else block.json
    by_size = ["message", "metrics"] if channel == "training" else ["result", "message"]
    assert data["left_out"] == by_size
    assert data["message"] == "\U0001f600" * 1_000 + "\u2026"
    assert data.get("metrics", data.get("result")) is None
    assert data["progress"] == 40.0


def test_what_has_no_members_cannot_be_shortened() -> None:
    rendered = Rendered("e", "x" * FRAME_BYTES_MAX)
    assert without_the_largest(MYSTOCKS, rendered, "2026-01-01T00:00:00Z") is None


def test_a_message_that_is_too_large_is_shortened() -> None:
    long = replace(examples.CHAT[1], message="\U0001f600" * 16_000)  # twelve bytes each
    frame = render_value(CHANNELS["chat"], encode(long), LOGGED_MS)
    assert frame is not None
    (block,) = blocks_of(frame.body)
    assert block.json["message"] == "\U0001f600" * 1_000 + "\u2026"
    assert block.json["user"] == "ann"
    assert block.json["left_out"] == ["message"]


def test_many_texts_that_are_too_large_even_in_part_are_null() -> None:
    data = {f"text-{number}": "\U0001f600" * 1_000 for number in range(30)}
    update = replace(examples.USER[0], data=json.dumps(data, ensure_ascii=False))
    frame = render_value(CHANNELS["user"], encode(update), LOGGED_MS)
    assert frame is not None
    (block,) = blocks_of(frame.body)
    assert block.json.keys() == data.keys() | {"left_out"}
    assert all(block.json[name] in (None, data[name]) for name in data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("\U0001f600" * 6_000, "a value that is no object has at most 65500"),
        (["\U0001f600" * 6_000], "a value that is no object has at most 65500"),
        ({f"{number}\U0001f600": 0 for number in range(4_000)}, "the names of its members alone"),
    ],
)
def test_an_update_that_no_event_can_show_is_refused_where_it_is_written(
    data: object, reason: str
) -> None:
    with pytest.raises(OutOfBounds, match=reason):
        encode(replace(examples.USER[0], data=json.dumps(data, ensure_ascii=False)))


def test_the_largest_value_that_is_no_object_fits() -> None:
    for kind in UserUpdateKind:
        largest = replace(examples.USER[0], kind=kind, data=json.dumps("x" * 65_498))
        frame = render_value(CHANNELS["user"], encode(largest), LOGGED_MS)
        assert frame is not None
        assert len(frame.body) <= FRAME_BYTES_MAX


_WORDS = frozenset({"kind", "status", "state", "stage", "severity", "cause"})
"""The fields whose words dialects know."""


def longest(value: Any) -> Any:
    """Return an event, or a part of one, with the longest text in each of its fields."""
    changes: dict[str, Any] = {}
    for name, hint, inside in fields_of(value):
        if is_part(inside):
            changes[name] = longest(inside)
        elif isinstance(inside, list | tuple):
            changes[name] = [longest(item) if is_part(item) else item for item in inside]
        elif name not in _WORDS and (most := _most_of(hint, str)):
            is_json = "json" in name or name in {"data", "result_summary"}
            text = "\U0001f600" * most
            changes[name] = json.dumps({"text": text[12:]}, ensure_ascii=False) if is_json else text
    return value._replace(**changes) if hasattr(value, "_fields") else replace(value, **changes)


def with_items(value: Any, count: int, name_chars: int) -> Any:
    """Return an event, or a part of one, with so many items in each list and table that has any.

    Args:
        value: the event.
        count: the items; as many as the field's bound allows, if these are fewer.
        name_chars: the characters of the names in its tables.
    """
    changes: dict[str, Any] = {}
    for name, hint, inside in fields_of(value):
        if is_part(inside):
            changes[name] = with_items(inside, count, name_chars)
        elif inside and (most := _most_of(hint, Sequence)):
            items = [
                with_items(item, count, name_chars) if is_part(item) else item for item in inside
            ]
            changes[name] = list(islice(cycle(items), min(count, most)))
        elif inside and (most := _most_of(hint, Mapping)):
            names = (f"{number:06}".ljust(name_chars, "\U0001f600") for number in range(most))
            changes[name] = dict(zip(islice(names, count), cycle(inside.values()), strict=False))
    return value._replace(**changes) if hasattr(value, "_fields") else replace(value, **changes)


def is_part(value: Any) -> bool:
    """Whether a value is an event, or a part of one with fields."""
    return is_dataclass(value) or hasattr(value, "_fields")


def fields_of(value: Any) -> list[tuple[str, Any, Any]]:
    """Return the name, type and value of each field of an event, or a part of one."""
    names = value._fields if hasattr(value, "_fields") else [row.name for row in fields(value)]
    hints = get_type_hints(type(value), include_extras=True)
    return [(name, hints[name], getattr(value, name)) for name in names]


def _most_of(hint: Any, kind: type) -> int:
    """Return the most characters or items of a field; 0 for one of another type."""
    branches = (
        get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    )
    for branch in branches:
        inner, *bounds = get_args(branch) if get_origin(branch) is Annotated else (branch,)
        if (get_origin(inner) or inner) is kind:
            return min(bound.max_length for bound in bounds if isinstance(bound, MaxLen))
    return 0


def is_shown(channel: Channel, event: Record) -> bool:
    """Whether clients of a channel are shown an event; its blocks are not too large."""
    frame = render_value(channel, encode(event), LOGGED_MS)
    if frame is not None:
        assert blocks_of(frame.body)
        assert max(map(len, frame.body.split(b"\n\n"))) <= FRAME_BYTES_MAX
    return frame is not None


@pytest.mark.parametrize("name", CHANNELS)
def test_no_event_with_long_texts_is_skipped(name: str) -> None:
    channel = CHANNELS[name]
    for example in channel.examples:
        assert is_shown(channel, longest(example)) == is_shown(channel, example)


@pytest.mark.parametrize("name", CHANNELS)
def test_an_event_with_many_items_is_shown_or_refused_where_it_is_written(name: str) -> None:
    channel = CHANNELS[name]
    for example, count in product(channel.examples, [30, 300, 3_000]):
        for name_chars, has_long_texts in product([6, NAME_CHARS_MAX], [False, True]):
            event = with_items(example, count, name_chars)
            event = longest(event) if has_long_texts and count <= 300 else event
            try:
                value = encode(event)
            except OutOfBounds:
                continue
            if len(value) <= VALUE_BYTES_MAX:
                assert is_shown(channel, event) == is_shown(channel, example)


@pytest.mark.parametrize("name", ["part", "parts"])
def test_an_event_with_a_member_of_that_name_keeps_it(name: str) -> None:
    rendered = Rendered("update", {name: "its own", "rows": ["x" * 1_000] * 100})
    assert in_parts(RESPONSE, rendered, "2026-01-01T00:00:00Z") is None


def counted(most: int) -> Dialect:
    """Return a dialect that wraps no more than so many events."""
    left = iter(range(most))

    def wrap(rendered: Rendered, timestamp: str) -> EventBlock:
        next(left)
        return RESPONSE.wrap(rendered, timestamp)

    return replace(RESPONSE, wrap=wrap)


def test_an_event_that_cannot_be_divided_is_rendered_once_for_each_number_of_parts() -> None:
    rendered = Rendered("update", {"text": "x" * FRAME_BYTES_MAX, "rows": list(range(PARTS_MAX))})
    assert in_parts(counted(PARTS_MAX), rendered, "2026-01-01T00:00:00Z") is None


def test_an_event_of_many_members_is_shortened_in_few_steps() -> None:
    rendered = Rendered("update", {f"{number:09}": "x" * 400 for number in range(400)})
    block = without_the_largest(counted(6), rendered, "2026-01-01T00:00:00Z")
    assert block is not None
    assert b'"000000399":"xxx' in block
    nameless = Rendered("update", {f"{number:0400}": "x" for number in range(400)})
    assert without_the_largest(counted(6), nameless, "2026-01-01T00:00:00Z") is None
    numbers = Rendered("update", {f"{number:09}": [0] * 200 for number in range(400)})
    block = without_the_largest(counted(3), numbers, "2026-01-01T00:00:00Z")
    assert block is not None
    assert FRAME_BYTES_MAX - 2_000 < len(block) <= FRAME_BYTES_MAX
