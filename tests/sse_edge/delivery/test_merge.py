from hypothesis import given, strategies as st

from sse_edge.cache.window import Entry
from sse_edge.delivery.merge import merge_by_time, newest_of_each_key
from sse_edge.log.record import Partition, Record

times = st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=15), min_size=1, max_size=4)


def entries_of(index: int, times_ms: list[int]) -> list[Entry]:
    partition = Partition("t", index)
    return [
        Entry(Record(partition, offset, time_ms, b"%d" % (offset % 3), b"", None))
        for offset, time_ms in enumerate(times_ms)
    ]


@given(times)
def test_merged_entries_keep_the_order_of_each_partition_and_lose_none(
    times_ms: list[list[int]],
) -> None:
    by_partition = [(index, entries_of(index, row)) for index, row in enumerate(times_ms)]
    merged = merge_by_time(by_partition)
    for index, entries in by_partition:
        assert [entry for at, entry in merged if at == index] == entries


@given(times)
def test_where_clocks_never_go_back_merged_entries_are_in_the_order_of_time(
    times_ms: list[list[int]],
) -> None:
    by_partition = [(index, entries_of(index, sorted(row))) for index, row in enumerate(times_ms)]
    stamps = [entry.record.timestamp_ms for _, entry in merge_by_time(by_partition)]
    assert stamps == sorted(stamps)


def test_a_clock_that_goes_back_delays_no_record_of_another_partition() -> None:
    merged = merge_by_time([(0, entries_of(0, [5, 1])), (1, entries_of(1, [4, 6]))])
    assert [(index, entry.record.offset) for index, entry in merged] == [
        (1, 0),
        (0, 0),
        (0, 1),
        (1, 1),
    ]


@given(times)
def test_of_each_key_and_partition_the_newest_entry_is_kept(times_ms: list[list[int]]) -> None:
    by_partition = [(index, entries_of(index, row)) for index, row in enumerate(times_ms)]
    merged = merge_by_time(by_partition)
    kept = newest_of_each_key(merged)
    last = {(index, entry.record.key): entry for index, entry in merged}
    assert [entry for _, entry in kept] == [
        entry for index, entry in merged if last[index, entry.record.key] is entry
    ]
    assert len(kept) == len(last)


def test_nothing_merges_to_nothing() -> None:
    assert merge_by_time([]) == []
    assert newest_of_each_key([]) == []
