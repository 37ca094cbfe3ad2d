from base64 import urlsafe_b64decode

import pytest
from hypothesis import given, strategies as st

from sse_edge.cursor import (
    OFFSET_MAX,
    Cursor,
    CursorCodec,
    CursorKeys,
    TopicPosition,
    incarnation_of,
)
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


SEALED = CursorKeys.of(b"a secret of the operator's own")
# Written down, since clients hold them and every node must write the same.
SEALED_TEXTS = {
    3: "AzUmjesFxTXqTvsnmHpx1SRmldzywdxR4wxbNw",
    4: "BDUm1u_IrJVdvxuqpIOUrOy9yHCddhVvXW4TZk53vyLvBLGmnsHez_o",
    5: "BTUmNefACSyaxjAXLyxPJchaiaoJanajy3XYcmqdm4jMfxyuq81Gj7AJ7LsW2dYPMONrUuvjBH_geYq1x-3Zei5TbB"
    "OTpgn0xTzt4y1EtaKvfmY3dSnJ0C7Ph9Jm",
}


def sealed(cursor: Cursor, identity: str = "stream", keys: CursorKeys = SEALED) -> CursorCodec:
    return CursorCodec(identity, len(cursor.topics), keys=keys)


@given(cursors, st.text(st.characters(codec="utf-8")))
def test_an_encrypted_cursor_is_read_by_every_node_with_the_secret(
    cursor: Cursor, identity: str
) -> None:
    text = sealed(cursor, identity).encode(cursor)
    assert (
        sealed(cursor, identity, CursorKeys.of(b"a secret of the operator's own")).decode(text)
        == cursor
    )
    assert text == sealed(cursor, identity).encode(cursor)
    assert set(text) <= ALPHABET


@given(st.lists(st.integers(0, 2**42 - 1), min_size=12, max_size=12))
def test_twelve_encrypted_partitions_fit_in_128_characters(offsets: list[int]) -> None:
    for topics, bits in ((1, 42), (2, 42), (3, 40), (6, 30)):
        size = 12 // topics
        some = [offset & ((1 << bits) - 1) for offset in offsets]
        parts = [some[at : at + size] for at in range(0, 12, size)]
        cursor = Cursor(tuple(TopicPosition(b"abcd", tuple(enumerate(part))) for part in parts))
        text = sealed(cursor).encode(cursor)
        assert len(text) <= 128
        assert sealed(cursor).decode(text) == cursor


def test_the_highest_offsets_of_two_topics_are_packed_into_128_characters() -> None:
    half = tuple((number, 2**42 - 1 - number) for number in range(6))
    cursor = Cursor((TopicPosition(b"abcd", half), TopicPosition(b"efgh", half)), ended=True)
    text = sealed(cursor).encode(cursor)
    assert len(text) <= 128
    assert urlsafe_b64decode(text)[0] == 5 | 0x80
    assert sealed(cursor).decode(text) == cursor


@given(st.integers(0, 2**40), st.integers(1, 2**20))
def test_an_encrypted_cursor_shows_nothing_of_how_much_was_written(at: int, more: int) -> None:
    before, after = (
        Cursor((TopicPosition(b"abcd", ((0, at), (1, offset))),)) for offset in (7, 7 + more)
    )
    texts = [urlsafe_b64decode(sealed(cursor).encode(cursor) + "==") for cursor in (before, after)]
    assert texts[0][:3] == texts[1][:3]
    assert texts[0][3:19] != texts[1][3:19]
    assert texts[0][19:] != texts[1][19:]


@given(cursors, st.data())
def test_an_altered_encrypted_cursor_is_refused(cursor: Cursor, data: st.DataObject) -> None:
    text = sealed(cursor).encode(cursor)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(sorted(ALPHABET - {text[at]})))
    with pytest.raises(InvalidCursor):
        sealed(cursor).decode(text[:at] + other + text[at + 1 :])
    with pytest.raises(InvalidCursor):
        sealed(cursor).decode(text[:at])


@given(cursors)
def test_an_encrypted_cursor_of_another_stream_is_refused_as_such(cursor: Cursor) -> None:
    text = sealed(cursor, "alerts").encode(cursor)
    with pytest.raises(ForeignCursor, match="belongs to another stream"):
        sealed(cursor, "training").decode(text)


POSITION = Cursor((TopicPosition(b"abcd", ((0, 7), (1, 900_000))),))


def test_cursors_of_before_are_read_for_as_long_as_the_settings_say() -> None:
    unsigned = codec(POSITION).encode(POSITION)
    signed = codec(POSITION, secret=b"the secret of before").encode(POSITION)
    old = sealed(POSITION, keys=CursorKeys.of(b"the secret of before")).encode(POSITION)
    strict = sealed(POSITION, keys=CursorKeys.of(b"the present secret"))
    for text, why in (
        (unsigned, "from before this edge had a secret"),
        (signed, "checksum"),
        (old, "cannot be decrypted.*of another secret"),
    ):
        with pytest.raises(InvalidCursor, match=why):
            strict.decode(text)
    keys = CursorKeys.of(b"the present secret", [b"the secret of before"], accepts_unsigned=True)
    lenient = sealed(POSITION, keys=keys)
    for text in (unsigned, signed, old, strict.encode(POSITION)):
        assert lenient.decode(text) == POSITION
    assert lenient.encode(POSITION) == strict.encode(POSITION)


@pytest.mark.parametrize("old", [b"", b"the secret of before"])
def test_nodes_take_a_secret_one_after_another_and_each_reads_the_others(old: bytes) -> None:
    new = b"the secret to come"
    first = CursorKeys.of(old, [new])
    second = CursorKeys.of(new, [old] if old else [], accepts_unsigned=not old)
    # One node is always a step behind or ahead: before and after the first step, then the second.
    for behind, ahead in ((CursorKeys.of(old), first), (first, second)):
        for writing, reading in ((behind, ahead), (ahead, behind)):
            text = sealed(POSITION, keys=writing).encode(POSITION)
            assert sealed(POSITION, keys=reading).decode(text) == POSITION
    # While a node may not know the new secret, no node writes with it.
    texts = {sealed(POSITION, keys=keys).encode(POSITION) for keys in (CursorKeys.of(old), first)}
    assert len(texts) == 1
    assert sealed(POSITION, keys=second).encode(POSITION) not in texts


def test_a_cursor_that_was_signed_with_the_present_secret_is_read() -> None:
    signed = codec(POSITION, secret=b"the present secret").encode(POSITION)
    assert sealed(POSITION, keys=CursorKeys.of(b"the present secret")).decode(signed) == POSITION


def test_a_node_without_the_secret_says_that_it_is_missing() -> None:
    with pytest.raises(InvalidCursor, match="version 3; this edge reads 1 and 2; others need"):
        codec(POSITION).decode(sealed(POSITION).encode(POSITION))


def test_encrypted_cursors_are_the_texts_that_clients_hold() -> None:
    half = tuple((number, 2**42 - 1 - number) for number in range(6))
    many = tuple((number, 10**7 + number) for number in range(13))
    found = {
        3: sealed(POSITION).encode(POSITION),
        5: sealed(cursor := Cursor((TopicPosition(b"abcd", half),) * 2)).encode(cursor),
        4: sealed(cursor := Cursor((TopicPosition(b"abcd", many),))).encode(cursor),
    }
    assert found == SEALED_TEXTS
    assert {urlsafe_b64decode(text + "==")[0] for text in found.values()} == {3, 4, 5}


def test_a_text_is_decoded_alike_each_time_and_few_are_kept() -> None:
    one = Cursor((TopicPosition(b"abcd", ((0, 7),)),))
    reader = codec(one, secret=b"key")
    text = reader.encode(one)
    assert reader.decode(text) is reader.decode(text)
    for _ in range(2):
        with pytest.raises(InvalidCursor):
            reader.decode(text[:-1] + ("A" if text[-1] != "A" else "B"))
    many = [Cursor((TopicPosition(b"abcd", ((0, offset),)),)) for offset in range(100)]
    assert [reader.decode(reader.encode(cursor)) for cursor in many] == many
    long = Cursor((TopicPosition(b"abcd", tuple((at, 1 << 40) for at in range(200))),))
    assert reader.decode(reader.encode(long)) == long
    assert len(reader._decoded) <= 16
    assert reader.encode(long) not in reader._decoded
