"""The order in which entries of several partitions are delivered.

Pure. Each entry comes with the index of its partition in the feed.
"""

from collections.abc import Sequence

from sse_edge.cache.window import Entry

IndexedEntry = tuple[int, Entry]
"""An entry, and the index of its partition in the feed."""


def merge_by_time(
    entries_by_partition: Sequence[tuple[int, Sequence[Entry]]],
) -> list[IndexedEntry]:
    """Merge by the log's time; within a partition by offset, even if the clock went back."""
    if len(entries_by_partition) == 1:
        ((index, entries),) = entries_by_partition
        return [(index, entry) for entry in entries]
    stamped: list[tuple[int, int, int, Entry]] = []
    for index, entries in entries_by_partition:
        latest_ms = 0
        for entry in entries:
            latest_ms = max(latest_ms, entry.record.timestamp_ms)
            stamped.append((latest_ms, index, entry.record.offset, entry))
    stamped.sort(key=lambda item: item[:3])
    return [(index, entry) for _, index, _, entry in stamped]


def newest_of_each_key(entries: Sequence[IndexedEntry]) -> list[IndexedEntry]:
    """Keep the newest entry of each key and tenant."""
    newest = {_identity(index, entry): entry for index, entry in entries}
    return [(index, entry) for index, entry in entries if newest[_identity(index, entry)] is entry]


def _identity(index: int, entry: Entry) -> tuple[int, bytes | None, bytes]:
    return index, entry.record.key, entry.record.tenant
