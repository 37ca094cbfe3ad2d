"""Offsets that sort as texts, and cursors for caches that never go back."""

import pytest
from hypothesis import given, strategies as st

from sse_edge.cursor import Cursor, CursorCodec, CursorKeys, TopicPosition
from sse_edge.errors import InvalidCursor, InvalidParameter
from sse_edge.streams.durable_offsets import (
    EPOCH_S,
    INTERVAL_S,
    JITTER_S_MAX,
    offset_of,
    position_in,
    stream_cursor,
)

CODECS = [
    CursorCodec("s", 1),
    CursorCodec("s", 1, keys=CursorKeys.of(b"a secret of sixteen bytes")),
]
NOW_S = EPOCH_S + 1_000 * INTERVAL_S + 7


def cursor_at(*offsets: int) -> Cursor:
    return Cursor((TopicPosition(b"abcd", tuple(enumerate(offsets))),))


def text_at(codec: CursorCodec, *offsets: int) -> str:
    return offset_of(sum(offsets), codec.encode(cursor_at(*offsets)))


@given(
    offsets=st.lists(st.integers(0, 2**40), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2**40)), max_size=8),
)
@pytest.mark.parametrize("codec", CODECS)
def test_each_step_of_a_reader_has_an_offset_that_sorts_after_all_before(
    codec: CursorCodec, offsets: list[int], steps: list[tuple[int, int]]
) -> None:
    found = [text_at(codec, *offsets)]
    for index, step in steps:
        offsets[index % len(offsets)] += step
        found.append(text_at(codec, *offsets))
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert position_in(found[-1], codec) == cursor_at(*offsets)


@pytest.mark.parametrize(
    "text", ["", "x", "-2", "0", "1_AR", "a,b", "12 34", f"{'1' * 20}_", f"{'1' * 20}_=?", "NOW"]
)
def test_another_text_is_no_offset(text: str) -> None:
    with pytest.raises(InvalidParameter, match="is neither -1 nor now nor"):
        position_in(text, CODECS[0])


def test_an_offset_that_was_put_together_is_refused() -> None:
    cursor = CODECS[0].encode(cursor_at(3, 4))
    with pytest.raises(InvalidParameter, match="do not belong together"):
        position_in(offset_of(8, cursor), CODECS[0])
    with pytest.raises(InvalidCursor):
        position_in(offset_of(7, cursor[:-1]), CODECS[0])


@pytest.mark.parametrize("known", ["", "999", "x", "-5", "1" * 40])
def test_a_cursor_for_caches_is_the_number_of_the_interval(known: str) -> None:
    assert stream_cursor(NOW_S, known, 1) == "1000"


@pytest.mark.parametrize("jitter_s", [1, 20, JITTER_S_MAX])
@pytest.mark.parametrize("known", [1_000, 1_001, 5_000])
def test_a_cursor_that_the_client_has_already_is_advanced(known: int, jitter_s: int) -> None:
    assert known < int(stream_cursor(NOW_S, str(known), jitter_s)) <= known + 180


def test_before_the_epoch_the_cursor_is_0() -> None:
    assert stream_cursor(0.0, "", 1) == "0"
