from hypothesis import given, strategies as st

from sse_edge.cache.window import RepeatFilter, Window
from sse_edge.log.record import Batch, Partition, Record

HERE = Partition("t", 0)


def record(offset: int, event_id: bytes | None = None, size: int = 10) -> Record:
    return Record(HERE, offset, 0, b"k", bytes(size), event_id)


steps = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2_000)), min_size=1, max_size=60)


@given(steps, st.integers(0, 20), st.integers(500, 6_000))
def test_a_window_holds_every_record_between_its_start_and_its_end(
    holes_and_sizes: list[tuple[int, int]], start: int, bytes_max: int
) -> None:
    window = Window(start, bytes_max)
    offset, written = start, []
    for hole, size in holes_and_sizes:
        offset += hole
        written.append(record(offset, size=size))
        offset += 1
        window.append(Batch((written[-1],), offset))
        assert window.next_offset == offset
        kept = [record.offset for record in written if record.offset >= window.start]
        assert [
            entry.record.offset for entry in window.between(window.start, window.next_offset, 1000)
        ] == kept
        assert window.bytes <= bytes_max
        for position in range(window.start, offset + 1):
            expected = [offset for offset in kept if offset >= position]
            found = [
                entry.record.offset for entry in window.between(position, window.next_offset, 1000)
            ]
            assert found == expected
            assert window.covers(position)
        assert not window.covers(window.start - 1)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=20),
    st.sets(st.sampled_from([b"a", b"b", b"c"])),
    st.integers(0, 300),
)
def test_a_window_finds_the_records_of_keys_between_any_two_offsets(
    keys: list[bytes], wanted: set[bytes], bytes_max: int
) -> None:
    window = Window(0, 1_000 + bytes_max)
    for offset, key in enumerate(keys):
        window.append(Batch((Record(HERE, offset, 0, key, bytes(50), None),), offset + 1))
    for begin in range(window.start, window.next_offset + 1):
        for end in range(begin, window.next_offset + 1):
            found = window.between_of(wanted, begin, end)
            expected = [offset for offset in range(begin, end) if keys[offset] in wanted]
            assert [entry.record.offset for entry in found] == expected


def test_a_record_that_the_window_has_is_not_appended_again() -> None:
    window = Window(0, 10_000)
    window.append(Batch((record(0), record(1)), 2))
    window.append(Batch((record(1), record(2)), 3))
    assert [entry.record.offset for entry in window.between(0, window.next_offset, 9)] == [0, 1, 2]


def test_a_hole_at_the_end_moves_the_window() -> None:
    window = Window(0, 10_000)
    window.append(Batch((), 5))
    assert window.next_offset == 5
    assert window.covers(0)


def test_a_record_larger_than_the_window_leaves_it_empty() -> None:
    window = Window(0, 1_000)
    window.append(Batch((record(0, size=5_000),), 1))
    assert window.between(1, window.next_offset, 9) == []
    assert (window.start, window.next_offset, window.bytes) == (1, 1, 0)


def test_a_repeat_is_recognized_by_key_and_id_among_the_last_records() -> None:
    seen = RepeatFilter(remembered=2)
    assert not seen.is_repeat(record(0, b"a"))
    assert seen.is_repeat(record(1, b"a"))
    assert not seen.is_repeat(record(2, None))
    assert not seen.is_repeat(record(3, None))
    for offset, name in enumerate((b"b", b"c", b"d"), 4):
        assert not seen.is_repeat(record(offset, name))
    other = seen.copy()
    assert seen.is_repeat(record(7, b"c"))
    assert not seen.is_repeat(record(8, b"a"))
    assert other.is_repeat(record(8, b"d"))
