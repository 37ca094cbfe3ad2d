"""Where the states of another cluster go on in copies of its topics."""

import pytest

from kafka_io.reader import ConsumedRecord, OffsetRange
from kafka_io.settings import ProducerSettings
from schemas.events import ProcessorPositions, TopicPosition
from schemas.topics import TopicPartition
from stream_processors import copied_topics
from stream_processors.copied_topics import CopiedPositions, find_start
from stream_processors.errors import TopicsCopied
from stream_processors.log_marks import mark_of

WHERE = TopicPartition("t", 2)
SETTINGS = ProducerSettings(bootstrap_servers="nowhere:1")


def record(offset: int, append_ms: int, value: bytes) -> ConsumedRecord:
    return ConsumedRecord("t", 2, offset, append_ms / 1000, b"k", value, [])


COPY = [
    record(4, 1_000, b"a"),
    record(5, 2_000, b"b"),
    record(6, 2_000, b"c"),
    record(7, 2_000, b"d"),
    record(8, 3_000, b"e"),
]
LOG = OffsetRange(4, 9, None)


def position_after(append_ms: int, value: bytes) -> TopicPosition:
    """Return a position after a record that had offset 70 in the other cluster."""
    mark = mark_of(record(70, append_ms, value))
    return TopicPosition("t", "aa", 0, 71, 0, mark.offset, mark.append_ms, mark.crc32)


@pytest.fixture(autouse=True)
def copy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def find_after(
        _topic: str, _number: int, append_ms: int, _settings: ProducerSettings
    ) -> int | None:
        return next((at.offset for at in COPY if at.timestamp * 1000 > append_ms), None)

    async def read(
        _topic: str, _number: int, offsets: range, _settings: ProducerSettings
    ) -> list[ConsumedRecord]:
        return [at for at in COPY if at.offset in offsets]

    monkeypatch.setattr(copied_topics, "find_offset_after", find_after)
    monkeypatch.setattr(copied_topics, "read_between", read)


@pytest.mark.parametrize(
    ("position", "log", "start"),
    [
        (position_after(1_000, b"a"), LOG, (5, 4)),
        (position_after(2_000, b"c"), LOG, (7, 6)),
        (position_after(3_000, b"e"), LOG, (9, 8)),
        # A record that the copy does not have: expired, of a hole, or after the end of the copy.
        (position_after(500, b"x"), LOG, (4, -1)),
        (position_after(2_500, b"x"), LOG, (8, -1)),
        (position_after(4_000, b"x"), LOG, (9, -1)),
        (TopicPosition("t", "aa", 0, 0), LOG, (4, -1)),  # nothing was read
        (position_after(2_000, b"c"), OffsetRange(4, 4, None), (4, -1)),
    ],
)
async def test_a_copy_is_read_from_after_the_last_record_that_was_processed(
    position: TopicPosition, log: OffsetRange, start: tuple[int, int]
) -> None:
    assert await find_start(position, WHERE, log, SETTINGS) == start


async def test_a_copy_whose_records_have_the_times_of_the_copying_is_refused() -> None:
    with pytest.raises(TopicsCopied, match=r"t/2 have the times .* message\.timestamp\.type"):
        await find_start(position_after(10, b"c"), WHERE, LOG, SETTINGS)


@pytest.mark.parametrize(("key", "group"), [(b"3", "tapewire"), (b"of/x/3", "of/x")])
def test_the_key_of_positions_names_their_group(key: bytes, group: str) -> None:
    row = ProcessorPositions(partition=3, epoch=0, positions=[], event_time_us=0)
    assert CopiedPositions(key, 3, row, {}).group == group
