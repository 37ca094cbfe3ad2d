"""Writes batches of a topic to a lake: each record a row once, through kills and other writers.

Each table holds the offsets up to which it has rows. A topic's *main* table is written last, so its
position says how far the topic was read. Its other tables have few rows, which are written first. A
writer that was killed between the two reads the same records again. It leaves out those that the
other tables already have.

`refused_record` holds the records that are no events, and `log_gap` the offsets that the log has
lost before they were read. So the rows of both and of the classes of events are the whole log.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from analytics.arrow_compute import pc
from analytics.columns import PLACE, TIMESTAMP, schema_of
from analytics.decoding import decode
from analytics.lake_counts import LakeCounts
from analytics.names import event_tables, find_table
from analytics.sinks.base import Lane, Sink, Span
from analytics.sinks.errors import Overtaken
from analytics.table_names import table_name
from kafka_io.reader import ConsumedRecord
from schemas.events import Record
from schemas.gate import AHEAD_US
from schemas.topics import Topic

logger = logging.getLogger(__name__)

REFUSED_TABLE = "refused_record"
GAP_TABLE = "log_gap"
GAPS = pa.schema(
    [
        pa.field("reason", pa.string()),
        pa.field("from_offset", pa.int64()),
        pa.field("to_offset", pa.int64()),
        *PLACE,
    ]
)
"""The columns of gaps: the offsets from the first one up to, not including, the second one are
missing; null if nothing says how far the log went. `_offset` is the first, and `_ingested_at` when
that was found."""


@dataclass(frozen=True, slots=True)
class TopicTables:
    """The tables that a topic's records are rows of."""

    topic: Topic
    tables: Mapping[type[Record], str]
    """The names of tables by their classes; records of other classes are left out."""

    @property
    def main(self) -> type[Record]:
        """The class whose table is written last."""
        return next(iter(self.tables))


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets of a lane that the log does not have, or not as it had them."""

    span: Span
    reason: str
    """`expired` if retention has deleted them, `truncated` if the log has lost its end, `recreated`
    if the topic was made anew, and may have had more before."""

    @property
    def is_open(self) -> bool:
        """Whether nothing says how many offsets are missing, if any."""
        return self.reason == "recreated"


@dataclass(frozen=True, slots=True)
class TopicBatch:
    """Records of a topic in one incarnation, and the offsets that they are all records of."""

    tables: TopicTables
    epoch: str
    spans: Sequence[Span]
    records: Sequence[ConsumedRecord]


def choose_tables(names: Sequence[str]) -> list[TopicTables]:
    """Return the tables of topics.

    Args:
        names: the names of tables, classes or topics; none for all tables.

    Raises:
        UnknownTable: there is no table of a name; the message has those that are near.
    """
    chosen = {find_table(name).name for name in names} if names else set(event_tables())
    by_topic: dict[Topic, dict[type[Record], str]] = {}
    for table in event_tables().values():
        by_topic.setdefault(table.topic, {})
    for topic, tables in by_topic.items():
        for kind in topic.records:
            if table_name(kind) in chosen:
                tables[kind] = table_name(kind)
    return [TopicTables(topic, tables) for topic, tables in by_topic.items() if tables]


class LakeWriter:
    """Decodes batches of topics and appends them to a sink."""

    def __init__(self, sink: Sink, counts: LakeCounts, ahead_us: float = AHEAD_US) -> None:
        """Write to a sink.

        Args:
            sink: the sink.
            counts: counts what is written.
            ahead_us: how far ahead of the log's time observed times may be, in microseconds.
        """
        self._sink = sink
        self._counts = counts
        self._ahead_us = ahead_us

    def positions(self, tables: TopicTables) -> Mapping[Lane, int]:
        """Return the next offset of each lane of a topic."""
        return self._sink.positions(tables.tables[tables.main])

    def write(self, batch: TopicBatch) -> None:
        """Write a batch.

        Raises:
            Overtaken: another writer was faster. The positions say what it has written.
            LakeError: the sink has failed; the positions say what is written.
        """
        kinds = batch.tables.topic.records
        decoded = decode(kinds, batch.epoch, batch.records, ahead_us=self._ahead_us)
        main = batch.tables.main
        others = [(REFUSED_TABLE, decoded.refused)]
        for kind, name in batch.tables.tables.items():
            if kind is not main and kind in decoded.events:
                others.append((name, decoded.events[kind]))
        others = [(name, rows) for name, rows in others if rows.num_rows]
        if others:
            self._check_positions(batch)
            for name, rows in others:
                self._append_beside(name, rows, batch)
        rows = decoded.events.get(main)
        if rows is None:
            rows = schema_of(main).empty_table()
        self._append(batch.tables.tables[main], rows, batch.spans)

    def write_gaps(self, gaps: Sequence[Gap], now_us: int) -> None:
        """Write gaps that are not written yet.

        Raises:
            Overtaken: another writer was faster.
            LakeError: the sink has failed.
        """
        positions = self._sink.positions(GAP_TABLE)
        found = [gap for gap in gaps if positions.get(gap.span.lane, 0) < gap.span.end]
        for gap in found:
            lane = gap.span.lane
            _log_gap(gap)
            row = {
                "reason": gap.reason,
                "from_offset": gap.span.begin,
                "to_offset": None if gap.is_open else gap.span.end,
                "_topic": lane.topic,
                "_partition": lane.partition,
                "_offset": gap.span.begin,
                "_ingested_at": pa.scalar(now_us, TIMESTAMP),
                "_epoch": lane.epoch,
                "_tenant": None,
            }
            span = Span(lane, positions.get(lane, 0), gap.span.end)
            self._append(GAP_TABLE, pa.Table.from_pylist([row], schema=GAPS), [span])
            if not gap.is_open:
                self._counts.gaps += gap.span.end - gap.span.begin

    def _check_positions(self, batch: TopicBatch) -> None:
        """Check that the topic is where the batch begins, before rows are written beside it."""
        positions = self.positions(batch.tables)
        for span in batch.spans:
            if positions.get(span.lane, 0) != span.begin:
                raise Overtaken(batch.tables.tables[batch.tables.main], span.lane)

    def _append_beside(self, table: str, rows: pa.Table, batch: TopicBatch) -> None:
        """Append the rows that a table does not have yet, with the lanes that they are of."""
        positions = self._sink.positions(table)
        parts, spans = [], []
        for span in batch.spans:
            begin = positions.get(span.lane, 0)
            is_new = pc.and_(
                pc.equal(rows["_partition"], pa.scalar(span.lane.partition, pa.int32())),
                pc.greater_equal(rows["_offset"], begin),
            )
            part = rows.filter(is_new)
            if part.num_rows:
                parts.append(part)
                spans.append(Span(span.lane, begin, span.end))
        if parts:
            self._append(table, pa.concat_tables(parts), spans)

    def _append(self, table: str, rows: pa.Table, spans: Sequence[Span]) -> None:
        self._sink.append(table, rows, spans)
        self._counts.rows[table] += rows.num_rows


def _log_gap(gap: Gap) -> None:
    lane = gap.span.lane
    if gap.is_open:
        logger.warning(
            "%s was made anew; if its partition %d had records from offset %d on, they are lost",
            *(lane.topic, lane.partition, gap.span.begin),
        )
        return
    logger.error(
        "%s/%d has lost the offsets from %d to %d before they were read: %s",
        *(lane.topic, lane.partition, gap.span.begin, gap.span.end, gap.reason),
    )
