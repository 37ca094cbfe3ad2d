"""Keeps a lake up with the log, in rounds: what each topic has, what is missing, and its writing.

A round asks Kafka for the topics and their ends, so topics and partitions that came late, and
topics that were made anew, are found by the next one. It reads from each table's own positions:
there are no offsets of a consumer group. Where another writer was faster, the next round goes on
from what it has written.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from analytics.errors import AnalyticsError
from analytics.lake_counts import LakeCounts
from analytics.lake_settings import LakeSettings
from analytics.lake_writer import Gap, LakeWriter, TopicBatch, TopicTables
from analytics.log_rows import Log
from analytics.sinks.base import Lane, Span
from analytics.sinks.errors import LakeUnavailable, Overtaken
from kafka_io.clock import now_us
from kafka_io.errors import Unread
from kafka_io.log_ranges import LogRange
from kafka_io.reader import ConsumedRecord

logger = logging.getLogger(__name__)


class Aggregates(Protocol):
    """The aggregates of the lake, as `analytics.aggregate_keeper.Keeper` keeps them."""

    def step(self) -> Sequence[object]:
        """Bring each aggregate up to date with the lake's tables."""
        ...


@dataclass(slots=True)
class _Pending:
    """Records of a topic that are read and not written yet."""

    spans: dict[Lane, Span] = field(default_factory=dict)
    records: list[ConsumedRecord] = field(default_factory=list)
    size: int = 0

    def add(self, span: Span, records: Sequence[ConsumedRecord]) -> None:
        held = self.spans.get(span.lane, span)
        self.spans[span.lane] = Span(span.lane, held.begin, span.end)
        self.records += records
        self.size += sum(len(record.value or b"") for record in records)


class LakeRounds:
    """Writes what is new in the log, round by round."""

    def __init__(
        self,
        log: Log,
        writer: LakeWriter,
        topics: Sequence[TopicTables],
        counts: LakeCounts,
        settings: LakeSettings,
        aggregates: Aggregates | None = None,
    ) -> None:
        """Write nothing yet.

        Args:
            log: the log.
            writer: writes the lake.
            topics: the tables.
            counts: counts what is written, and has what the writer counts.
            settings: how often the log is looked at, and the most bytes of a step.
            aggregates: brought up to date after each round that has written something; None for
                none.
        """
        self._aggregates = aggregates
        self._summarized_us: int | None = None
        """The time of the last write when the aggregates were last up to date with it."""
        self._log = log
        self._writer = writer
        self._topics = topics
        self._counts = counts
        self._settings = settings
        self._stop = asyncio.Event()
        self._former: set[Lane] = set()
        """The lanes of topics that were made anew, which `log_gap` has."""

    def stop(self) -> None:
        """End after the step that is being written."""
        self._stop.set()

    async def run(self, *, once: bool = False) -> None:
        """Write until stopped, or until the present end of the log.

        Args:
            once: whether to end when all is written that the log has now.

        Raises:
            LakeError: the sink refuses for a reason that time does not mend.
            Unread: with `once`, Kafka cannot be read.
        """
        while not self._stop.is_set():
            try:
                is_current = await self.write_round()
                await self._keep_aggregates(is_required=once)
            except (Unread, TimeoutError, LakeUnavailable) as error:
                if once:
                    raise
                logger.warning("the lake stays behind for now: %s", str(error) or "Kafka is silent")
                is_current = False
            if once and is_current:
                return
            if not once:
                await self._pause()

    async def write_round(self) -> bool:
        """Write what the log has now, and return whether no other writer was faster."""
        names = [tables.topic.name for tables in self._topics]
        ranges = await self._log.ranges(names)
        is_current = True
        for tables in self._topics:
            name = self._log.full_name(tables.topic.name)
            mine = [span for span in ranges if span.topic == name]
            if mine and not self._stop.is_set():
                try:
                    await self._write_topic(tables, mine)
                except Overtaken as error:
                    self._counts.overtaken += 1
                    logger.info("%s", error)
                    is_current = False
        return is_current

    async def _keep_aggregates(self, *, is_required: bool) -> None:
        """Bring the aggregates up to date with what this process has written, if it has.

        Raises:
            AnalyticsError: that has failed, and is required; else it is tried again after the next
                round, and the tables go on without them.
        """
        committed_us = self._counts.committed_us
        if self._aggregates is None or self._summarized_us == committed_us:
            return
        try:
            await asyncio.to_thread(self._aggregates.step)
        except AnalyticsError as error:
            if is_required:
                raise
            logger.warning("the aggregates stay behind for now: %s", error)
            return
        self._summarized_us = committed_us

    async def _write_topic(self, tables: TopicTables, ranges: Sequence[LogRange]) -> None:
        positions = await asyncio.to_thread(self._writer.positions, tables)
        lanes = {span: Lane(span.topic, span.epoch, span.partition) for span in ranges}
        gaps = [gap for span in ranges if (gap := _gap(span, positions.get(lanes[span], 0)))]
        former = self._former_lanes(ranges, positions)
        # Its position in the table of gaps is beyond all that another gap of the lane can have.
        gaps += [
            Gap(Span(lane, positions[lane], positions[lane] + 1), "recreated") for lane in former
        ]
        if gaps:
            await asyncio.to_thread(self._writer.write_gaps, gaps, now_us())
            self._former.update(former)
        wanted = []
        for span in ranges:
            begin = max(positions.get(lanes[span], 0), span.begin)
            if begin < span.end:
                wanted.append(LogRange(span.topic, span.epoch, span.partition, begin, span.end))
        self._counts.lag[tables.topic.name] = sum(span.end - span.begin for span in wanted)
        starts = {lanes[span]: positions.get(lanes[span], 0) for span in ranges}
        await self._read(tables, wanted, starts)

    def _former_lanes(
        self, ranges: Sequence[LogRange], positions: Mapping[Lane, int]
    ) -> Sequence[Lane]:
        """Return the lanes of a topic's former incarnations that were not found before."""
        topic, epochs = ranges[0].topic, {span.epoch for span in ranges}
        return [
            lane
            for lane in positions
            if lane.topic == topic and lane.epoch not in epochs and lane not in self._former
        ]

    async def _read(
        self, tables: TopicTables, ranges: Sequence[LogRange], starts: Mapping[Lane, int]
    ) -> None:
        """Read ranges of a topic, and write them in steps of bounded size."""
        pending = _Pending()
        following = dict(starts)
        async for part, records in self._log.read(ranges):
            lane = Lane(part.topic, part.epoch, part.partition)
            pending.add(Span(lane, following[lane], part.end), records)
            following[lane] = part.end
            if pending.size >= self._settings.lake_batch_bytes:
                await self._write(tables, pending)
                pending = _Pending()
            if self._stop.is_set():
                break
        if pending.spans:
            await self._write(tables, pending)

    async def _write(self, tables: TopicTables, pending: _Pending) -> None:
        """Write what was read, unless the topic was made anew, or has lost it, meanwhile."""
        present = {
            Lane(span.topic, span.epoch, span.partition): span.begin
            for span in await self._log.ranges([tables.topic.name])
        }
        if any(lane not in present for lane in pending.spans):
            logger.warning("%s was made anew while it was read", tables.topic.name)
            return
        lost = [
            gap
            for lane, span in pending.spans.items()
            if (gap := _lost(span, present[lane], pending.records))
        ]
        if lost:
            await asyncio.to_thread(self._writer.write_gaps, lost, now_us())
        epoch = next(iter(pending.spans)).epoch
        batch = TopicBatch(tables, epoch, list(pending.spans.values()), pending.records)
        await asyncio.to_thread(self._writer.write, batch)
        self._counts.committed_us = now_us()
        self._counts.lag[tables.topic.name] -= sum(s.end - s.begin for s in pending.spans.values())

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._settings.lake_interval_s):
                await self._stop.wait()
        except TimeoutError:
            return


def _gap(span: LogRange, position: int) -> Gap | None:
    """Return what the log has lost between a table's position and its own beginning, or end."""
    lane = Lane(span.topic, span.epoch, span.partition)
    if position < span.begin:
        return Gap(Span(lane, position, span.begin), "expired")
    if position > span.end:
        return Gap(Span(lane, span.end, position), "truncated")
    return None


def _lost(span: Span, log_begin: int, records: Sequence[ConsumedRecord]) -> Gap | None:
    """Return the offsets that retention may have deleted while they were read."""
    lane = span.lane
    if log_begin <= span.begin:
        return None
    offsets = (record.offset for record in records if record.partition == lane.partition)
    first = min(offsets, default=span.end)
    until = min(first, log_begin, span.end)
    return Gap(Span(lane, span.begin, until), "expired") if span.begin < until else None
