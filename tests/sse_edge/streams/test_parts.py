"""Events that are too large for one block come as several of the same name."""

import json
from dataclasses import replace
from typing import Any

import pytest

from schemas.codec import encode
from sse_edge.errors import Unframable
from sse_edge.frame import FRAME_BYTES_MAX, with_id
from sse_edge.streams import examples
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.dialect import Rendered
from sse_edge.streams.dialects.mystocks import MYSTOCKS
from sse_edge.streams.parts import PARTS_MAX, in_parts
from sse_edge.streams.render import render_value
from tests.support.sse import Block, Reader

LOGGED_MS = 1_700_000_000_000
BOOK: Any = examples.BOOKS[0]
MEASURE: Any = examples.MEASURES[0]
HORIZONS = range(1, 26)


def blocks_of(body: bytes) -> list[Block]:
    whole = with_id(body, b"cursor")
    assert all(len(block) <= FRAME_BYTES_MAX + 100 for block in whole.split(b"\n\n"))
    return Reader().feed(whole)


def test_a_book_of_500_holdings_and_25_horizons_comes_in_parts_that_hold_each_once() -> None:
    parts = [BOOK.parts[0]._replace(part_id=f"instrument-{number}") for number in range(500)]
    estimates = [BOOK.estimates[0]._replace(horizon=horizon) for horizon in HORIZONS]
    book = replace(BOOK, parts=parts, estimates=estimates)
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
    assert names == [part.part_id for part in parts]
    assert [row["horizon"] for event in inner for row in event["estimates"]] == list(HORIZONS)
    assert {event["var_95"] for event in inner} == {BOOK.var_95}


def test_a_measure_of_25_horizons_and_all_methods_is_divided() -> None:
    some = MEASURE.estimates[0]._replace(var=0.041234567890123456, es=0.051234567890123456)
    many = [some._replace(horizon=horizon) for horizon in HORIZONS for _ in range(27)]
    value = encode(replace(MEASURE, estimates=many))
    frame = render_value(CHANNELS["measures"], value, LOGGED_MS)
    assert frame is not None
    data = [json.loads(block.data or "")["data"] for block in blocks_of(frame.body)]
    assert sum(len(event["estimates"]) for event in data) == len(many)
    assert len(data) > 1


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


def test_a_text_that_is_too_large_is_skipped_with_its_size() -> None:
    long = replace(examples.CHAT[1], message="\U0001f600" * 16_000)  # twelve bytes each
    with pytest.raises(Unframable, match="an event has at most 65536") as refused:
        render_value(CHANNELS["chat"], encode(long), LOGGED_MS)
    assert refused.value.reason == "too_large"
