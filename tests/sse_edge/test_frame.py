import pytest
from hypothesis import given, strategies as st

from sse_edge.frame import FRAME_BYTES_MAX, Text, block, body, checkpoint, with_id, with_member
from tests.support.sse import Reader

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(anything, st.lists(st.integers(1, 50), max_size=20))
def test_any_text_travels_on_one_line_however_the_bytes_are_cut(
    data: object, cuts: list[int]
) -> None:
    sent = block("name", data, retry_ms=5) + with_id(body(None, data), b"abc") + checkpoint(b"x_-9")
    reader, blocks = Reader(), []
    for size in cuts:
        blocks += reader.feed(sent[:size])
        sent = sent[size:]
    blocks += reader.feed(sent)
    named, unnamed, moved = blocks
    assert (named.event, named.json, named.retry_ms, named.id) == ("name", data, 5, None)
    assert (unnamed.event, unnamed.json, unnamed.id) == (None, data, "abc")
    assert (moved.event, moved.data, moved.id) == (None, None, "x_-9")
    assert reader.is_between_blocks


@given(st.text())
def test_frames_are_ascii_with_lf_alone(text: str) -> None:
    sent = block("name", {"text": text})
    assert sent.isascii()
    assert b"\r" not in sent
    assert b"\x00" not in sent
    assert sent.count(b"\n") == 3


def test_what_json_cannot_say_becomes_null() -> None:
    assert b'{"loss":null,"note":"\\u00e9"}' in block("name", {"loss": float("nan"), "note": "é"})


def test_an_id_is_the_last_line_of_its_block() -> None:
    assert with_id(body("name", {}), b"c").endswith(b"\nid: c\n\n")
    assert checkpoint(b"c", retry_ms=9) == b"retry: 9\nid: c\n\n"
    assert checkpoint(b"c", named=True) == b"event: checkpoint\ndata: {}\nid: c\n\n"


@given(st.dictionaries(st.text(), anything, max_size=3), st.none() | st.just("name"))
def test_a_member_is_added_to_the_object_that_is_an_events_data(
    data: dict[str, object], event: str | None
) -> None:
    added = with_member(body(event, data), "traceparent", b"00-ab")
    (found,) = Reader().feed(with_id(added, b"c"))
    assert (found.event, found.json, found.id) == (event, data | {"traceparent": "00-ab"}, "c")


@pytest.mark.parametrize(
    "data", [[{}], "{}", 7, None, Text("a {text}\nof lines"), {"t": "a" * (FRAME_BYTES_MAX - 40)}]
)
def test_data_that_can_have_no_member_more_stay(data: object) -> None:
    unfinished = body("name", data)
    assert with_member(unfinished, "traceparent", b"00-ab") == unfinished
