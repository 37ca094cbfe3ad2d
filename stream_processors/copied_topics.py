"""Let processors go on in another cluster, to which the topics of a system were copied.

A copy has other topic ids, and other offsets: retention, compaction and the markers of transactions
leave holes in the original that the copy does not have. So processors refuse to read on from the
positions that were copied with their states. Here each position is replaced by that of the same
record in the copy, which is found by its time, its key and its value. Most rows of states need no
change: a recovery takes offsets in rows for at most the position's. The rows of tasks and jobs get
the offsets of their events in the copy, since edges read from there.

The states themselves go on. Alerts that were computed again from the copy would have other ids
where a change of limits raised them, since the id names the offset of the limits.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from kafka_io.clock import now_us
from kafka_io.errors import Unread
from kafka_io.reader import (
    ConsumedRecord,
    OffsetRange,
    find_offset_after,
    read_between,
    read_offsets,
    read_rows,
)
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.transactions import OutgoingRecord, open_writer
from schemas.codec import encode
from schemas.events import ProcessorPositions, TopicPosition
from schemas.gate import admit_or_none
from schemas.topics import PROCESSOR_POSITIONS, TopicPartition
from stream_processors.agents.lifecycle import lifecycles
from stream_processors.errors import TopicsCopied
from stream_processors.kafka_adapter import GROUP, SESSION_TIMEOUT_S, read_growths
from stream_processors.log_marks import RecordMark, are_copies, find_copy, mark_of, saved_mark

_KAFKA_S = 60.0
_OPEN_S = 20.0
_CHUNK = 20_000
"""The offsets that are read at once."""


@dataclass(frozen=True, slots=True)
class CopiedPositions:
    """The positions of one partition number and group, as another cluster had them."""

    key: bytes
    number: int
    row: ProcessorPositions
    topic_ids: Mapping[str, str]
    """The ids of the topics here, by the topic's name in the catalogue."""

    @property
    def group(self) -> str:
        """The group of the workers, without the prefix of topics."""
        return self.key.decode().rpartition("/")[0] or GROUP


async def find_copied(settings: ProducerSettings, count: int) -> Sequence[CopiedPositions]:
    """Return the positions that were saved in another cluster; none in the cluster of its own.

    Args:
        settings: where Kafka is.
        count: the partitions that each topic of portfolios has.

    Raises:
        Unread, TimeoutError: Kafka cannot be read.
    """
    name = settings.topic_prefix + PROCESSOR_POSITIONS.name
    admin = TopicAdmin(settings.bootstrap_servers)
    # A principal without access to positions rebuilds in the cluster of its own.
    if not await asyncio.to_thread(partial(admin.describe, [name], leave_out_forbidden=True)):
        return []
    saved: list[tuple[bytes, int, ProcessorPositions]] = []
    for number in range(count):
        async with asyncio.timeout(_KAFKA_S):
            rows = await read_rows({name: PROCESSOR_POSITIONS}, number, settings)
        saved += [
            (key, number, row)
            for key, row in rows[name].items()
            if isinstance(row, ProcessorPositions)
        ]
    positions = [position for _, _, row in saved for position in row.positions]
    ids = await _topic_ids(positions, settings)
    return [
        CopiedPositions(key, number, row, ids)
        for key, number, row in saved
        if are_copies(row.positions, ids)
    ]


async def have_grown_elsewhere(settings: ProducerSettings) -> bool:
    """Return whether the topics of portfolios had grown before they were copied to this cluster.

    The copies do not tell which records were processed before a growth.

    Raises:
        Unread: Kafka cannot be read.
    """
    growths = await read_growths(settings.bootstrap_servers, settings.topic_prefix)
    return are_copies(growths.positions, await _topic_ids(growths.positions, settings))


async def _topic_ids(
    positions: Sequence[TopicPosition], settings: ProducerSettings
) -> Mapping[str, str]:
    """Return Kafka's ids of the topics of some positions, by the topic's name in the catalogue."""
    names = {position.topic: settings.topic_prefix + position.topic for position in positions}
    if not names:
        return {}
    admin = TopicAdmin(settings.bootstrap_servers)
    describe = partial(admin.describe, list(names.values()), leave_out_forbidden=True)
    found = await asyncio.to_thread(describe)
    return {topic: found[name].topic_id.hex() for topic, name in names.items() if name in found}


async def adopt(copied: Sequence[CopiedPositions], settings: ProducerSettings) -> None:
    """Replace positions of another cluster by those of the same records here.

    A worker that runs nevertheless is fenced. It does no harm to adopt positions again after a
    crash: those that are of this cluster already are not among the copied ones.

    Args:
        copied: what `find_copied` has found.
        settings: where Kafka is.

    Raises:
        TopicsCopied: records of the copies have the times at which they were copied.
        ProducerError, TimeoutError: Kafka does not answer.
    """
    for positions in copied:
        await _adopt(positions, settings)


async def _adopt(copied: CopiedPositions, settings: ProducerSettings) -> None:
    prefix, number = settings.topic_prefix, copied.number
    group = f"{prefix}{copied.group}"
    async with open_writer(
        settings.bootstrap_servers,
        f"{group}-{number}",
        group,
        timeout_s=SESSION_TIMEOUT_S,
        within_s=_OPEN_S,
    ) as writer:
        here = [at for at in copied.row.positions if at.topic in copied.topic_ids]
        names = [prefix + at.topic for at in here]
        logs = await read_offsets(names, number, group, settings)
        admin = TopicAdmin(settings.bootstrap_servers)
        ends = await asyncio.to_thread(admin.ends, [(name, number) for name in names])
        positions = []
        for at, name in zip(here, names, strict=True):
            if (name, number) not in ends:
                raise Unread(f"{name}/{number} has no leader that answers")
            next_offset, last = await find_start(
                at, TopicPartition(name, number), logs[name], settings
            )
            positions.append(
                at._replace(
                    topic_id=copied.topic_ids[at.topic],
                    leader_epoch=ends[name, number].leader_epoch,
                    next_offset=next_offset,
                    row_limit=0,
                    last_offset=last,
                )
            )
        row = ProcessorPositions(
            partition=number, epoch=writer.epoch, positions=positions, event_time_us=now_us()
        )
        record = OutgoingRecord(prefix + PROCESSOR_POSITIONS.name, copied.key, encode(row), number)
        offsets = {
            TopicPartition(name, number): at.next_offset
            for name, at in zip(names, positions, strict=True)
        }
        moved = await _relocated(copied, positions, logs, settings)
        async with asyncio.timeout(_KAFKA_S):
            await writer.commit([*moved, record], offsets)


async def _relocated(
    copied: CopiedPositions,
    positions: Sequence[TopicPosition],
    logs: Mapping[str, OffsetRange],
    settings: ProducerSettings,
) -> Sequence[OutgoingRecord]:
    """Return the rows of tasks and jobs with the offsets of their events in the copy."""
    if copied.group != GROUP:
        return []
    prefix, number = settings.topic_prefix, copied.number
    next_offsets = {at.topic: at.next_offset for at in positions}
    records: list[OutgoingRecord] = []
    for lifecycle in lifecycles():
        events, name = lifecycle.events, prefix + lifecycle.topic.name
        if events.name not in next_offsets:
            continue
        async with asyncio.timeout(_KAFKA_S):
            rows = await read_rows({name: lifecycle.topic}, number, settings)
        where = TopicPartition(prefix + events.name, number)
        span = range(logs[where.topic].begin, next_offsets[events.name])
        found = [
            (message, event)
            async for message in _read(where, span, settings)
            if (event := admit_or_none(events.record, message.value)) is not None
        ]
        records += [
            OutgoingRecord(name, key, None if row is None else encode(row), number)
            for key, row in lifecycle.relocated(rows[name], found).items()
        ]
    return records


async def _read(
    where: TopicPartition, offsets: range, settings: ProducerSettings
) -> AsyncGenerator[ConsumedRecord]:
    """Yield the records of a partition."""
    for start in range(offsets.start, offsets.stop, _CHUNK):
        chunk = range(start, min(start + _CHUNK, offsets.stop))
        for record in await read_between(*where, chunk, settings):
            yield record


async def find_start(
    at: TopicPosition, where: TopicPartition, log: OffsetRange, settings: ProducerSettings
) -> tuple[int, int]:
    """Return where to read a copy, and the offset of the last processed record, -1 if it lacks.

    Where the copy does not have that record, it is read from the first one that is not earlier.

    Raises:
        TopicsCopied: records of the copy have the times at which they were copied.
    """
    mark = saved_mark(at)
    if mark is None or log.begin == log.end:
        return log.begin, -1
    first = await find_offset_after(*where, mark.append_ms - 1, settings)
    if first is None:
        return log.end, -1
    after = await find_offset_after(*where, mark.append_ms, settings)
    stop = log.end if after is None else after
    found = find_copy(
        mark, [mark_of(record) async for record in _read(where, range(first, stop), settings)]
    )
    if found is not None:
        return found + 1, found
    if first == log.begin:
        await _check_times(mark, where, log, settings)
    return first, -1


async def _check_times(
    mark: RecordMark, where: TopicPartition, log: OffsetRange, settings: ProducerSettings
) -> None:
    """Check that a partition without any earlier record does not have a marked one later.

    Raises:
        TopicsCopied: it has.
    """
    async for record in _read(where, range(log.begin, log.end), settings):
        if mark_of(record).crc32 == mark.crc32:
            raise TopicsCopied(
                f"the records of {where.topic}/{where.partition} have the times at which they were "
                "copied, so nobody can tell which of them were processed, and in what order; copy "
                "all topics again with message.timestamp.type=CreateTime, which keeps the times"
            )
