import pytest
from hypothesis import given, strategies as st

from sse_edge.cursor import OFFSET_MAX, Cursor, CursorCodec, TopicPosition, incarnation_of
from sse_edge.errors import ForeignCursor, InvalidCursor

ALPHABET = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")

offsets = st.integers(0, OFFSET_MAX)
dense = st.lists(offsets, min_size=1, max_size=12).map(lambda many: tuple(enumerate(many)))
sparse = st.dictionaries(st.integers(0, 4096), offsets, min_size=1, max_size=4).map(
    lambda some: tuple(sorted(some.items()))
)
topics = st.builds(
    TopicPosition, incarnation=st.binary(min_size=4, max_size=4), offsets=dense | sparse
)
cursors = st.builds(
    Cursor, topics=st.tuples(topics) | st.tuples(topics, topics), ended=st.booleans()
)


def codec(cursor: Cursor, identity: str = "stream", secret: bytes = b"") -> CursorCodec:
    return CursorCodec(identity, len(cursor.topics), secret)


@given(cursors, st.text(), st.binary(max_size=40))
def test_what_is_written_is_read(cursor: Cursor, identity: str, secret: bytes) -> None:
    try:
        identity.encode()
    except UnicodeEncodeError:
        return
    text = codec(cursor, identity, secret).encode(cursor)
    assert codec(cursor, identity, secret).decode(text) == cursor
    assert set(text) <= ALPHABET


@given(st.lists(st.integers(0, 2**48), min_size=12, max_size=12))
def test_twelve_partitions_fit_in_128_characters(many: list[int]) -> None:
    one = TopicPosition(b"abcd", tuple(enumerate(many)))
    assert len(codec(Cursor((one,))).encode(Cursor((one,)))) <= 128
    halves = tuple(TopicPosition(b"abcd", tuple(enumerate(part))) for part in (many[:6], many[6:]))
    assert len(codec(Cursor(halves)).encode(Cursor(halves))) <= 128


def test_many_partitions_that_are_filled_alike_fit_in_128_characters() -> None:
    topics = tuple(
        TopicPosition(b"abcd", tuple((number, 10**7 + 97 * number) for number in range(6)))
        for _ in range(4)
    )
    text = codec(Cursor(topics)).encode(Cursor(topics))
    assert len(text) <= 128
    assert codec(Cursor(topics)).decode(text) == Cursor(topics)


many = st.lists(offsets, min_size=13, max_size=40).map(lambda some: tuple(enumerate(some)))


@given(st.binary(min_size=4, max_size=4), many)
def test_a_cursor_of_many_partitions_is_exact(
    incarnation: bytes, some: tuple[tuple[int, int], ...]
) -> None:
    cursor = Cursor((TopicPosition(incarnation, some),))
    assert codec(cursor).decode(codec(cursor).encode(cursor)) == cursor


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.data())
def test_a_writer_that_moves_on_writes_what_one_that_starts_there_does(
    start: list[int], data: st.DataObject
) -> None:
    writer = CursorCodec("stream", 1).writer([(b"abcd", range(len(start)))])
    cells, offsets = writer.start(start), list(start)
    for _ in range(5):
        at = data.draw(st.integers(0, len(start) - 1))
        offsets[at] += data.draw(st.integers(0, 1_000))
        writer.move(cells, at, offsets[at])
        [topic] = CursorCodec("stream", 1).decode(writer.finish(cells).decode()).topics
        assert topic.offsets == tuple(enumerate(offsets))


@given(cursors, st.data())
def test_an_altered_cursor_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = codec(cursor).encode(cursor)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(sorted(ALPHABET - {text[at]})))
    with pytest.raises(InvalidCursor):
        codec(cursor).decode(text[:at] + other + text[at + 1 :])
    with pytest.raises(InvalidCursor):
        codec(cursor).decode(text[:at])


@given(st.text(max_size=60) | st.text(sorted(ALPHABET), max_size=60))
def test_any_text_is_a_cursor_or_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CursorCodec("stream", 1).decode(text)


@given(cursors)
def test_a_cursor_of_another_stream_is_refused_as_such(cursor: Cursor) -> None:
    text = codec(cursor, "alerts").encode(cursor)
    with pytest.raises(ForeignCursor, match="belongs to another stream"):
        codec(cursor, "training").decode(text)


def test_a_cursor_of_another_secret_is_refused() -> None:
    cursor = Cursor((TopicPosition(b"abcd", ((0, 7),)),))
    text = codec(cursor, secret=b"one").encode(cursor)
    with pytest.raises(InvalidCursor, match="checksum"):
        codec(cursor, secret=b"two").decode(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "too early"),
        ("AAAAAAAAAAAA", "version 0; this edge reads 1 and 2"),
        ("a b", "characters other than|base64url"),
        ("x" * 3000, "3000 characters"),
        ("A", "base64url"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(InvalidCursor, match=named):
        CursorCodec("stream", 1).decode(text)


GOLDEN = {
    "one partition of six": (
        Cursor((TopicPosition(b"\x01\x02\x03\x04", ((4, 1234),)),)),
        "AT3B46NDuAECAwQAAQTSCQ",
    ),
    "six partitions, idle ones too": (
        Cursor((TopicPosition(b"\x01\x02\x03\x04", tuple(enumerate((0, 1, 127, 128, 2**32, 5)))),)),
        "AacUICdDuAECAwQGAAF_gAGAgICAEAU",
    ),
    "two topics, ended": (
        Cursor(
            (
                TopicPosition(b"aaaa", ((0, 1), (1, 2))),
                TopicPosition(b"bbbb", ((0, 2**63 - 1),)),
            ),
            ended=True,
        ),
        "garsdGdDuGFhYWECAQJiYmJiAf__________fw",
    ),
    "thirteen partitions, in version 2": (
        Cursor((TopicPosition(b"abcd", tuple((n, 70_000 + n * n) for n in range(13))),)),
        "AncvOIFDuGFiY2QN8KIEAAEECRAZJDFAUWR5kAE",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_cursors_that_clients_hold_stay_valid(name: str) -> None:
    """These texts never change: they are what clients came home with."""
    cursor, text = GOLDEN[name]
    assert codec(cursor, "golden").encode(cursor) == text
    assert codec(cursor, "golden").decode(text) == cursor


def test_an_incarnation_is_another_for_another_topic_id() -> None:
    assert incarnation_of(bytes(16)) != incarnation_of(bytes(15) + b"\x01")
    assert len(incarnation_of(bytes(16))) == 4
