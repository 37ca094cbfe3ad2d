"""A batch is written once, though writers die between its tables, and others are faster."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from analytics.errors import UnknownTable
from analytics.lake_counts import LakeCounts
from analytics.lake_writer import (
    GAP_TABLE,
    REFUSED_TABLE,
    Gap,
    LakeWriter,
    TopicBatch,
    choose_tables,
)
from analytics.sinks.base import Lane, Span
from analytics.sinks.errors import Overtaken
from analytics.sinks.parquet import ParquetSink
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import InputGap, RiskHistory

TOPIC = "risk.measures"
LANES = [Lane(TOPIC, "e1", number) for number in range(2)]
TABLES = choose_tables(["risk_measure", "input_gap"])[0]
HISTORY = RiskHistory(portfolio_id="p", as_of_us=1, observations=0, window=b"")


class Dies(Exception):  # it stands for a kill
    """The writer is dead."""


class MortalSink(ParquetSink):
    """A sink whose process dies before or after some of its appends."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        super().__init__(root)
        self._dice = dice

    def append(self, table: str, rows: pa.Table, spans: Sequence[Span]) -> None:
        fate = self._dice.random()
        if fate < 0.2:
            raise Dies
        super().append(table, rows, spans)
        if fate > 0.8:
            raise Dies


def log_of(dice: random.Random, count: int) -> Mapping[Lane, list[ConsumedRecord]]:
    """Return records of three kinds: gaps are events, and others are refused or deletions."""
    gap = InputGap(
        topic="t", partition=1, reason="expired", from_offset=5, to_offset=9, event_time_us=1
    )
    values = [encode(gap), b"malformed", None, encode(HISTORY)]
    return {
        lane: [
            ConsumedRecord(TOPIC, lane.partition, offset, 1.7e9, b"k", dice.choice(values), ())
            for offset in range(count)
        ]
        for lane in LANES
    }


def batch_from(
    positions: Mapping[Lane, int], log: Mapping[Lane, list[ConsumedRecord]], size: int
) -> TopicBatch:
    spans, records = [], []
    for lane, held in log.items():
        begin = positions.get(lane, 0)
        end = min(begin + size, len(held))
        spans.append(Span(lane, begin, end))
        records += held[begin:end]
    return TopicBatch(TABLES, "e1", spans, records)


@pytest.mark.parametrize("seed", range(4))
def test_rows_and_refused_records_are_the_log_whenever_writers_die(
    seed: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    log = log_of(dice, 60)
    writers = [LakeWriter(MortalSink(tmp_path, dice), LakeCounts()) for _ in range(2)]
    ends = {lane: len(held) for lane, held in log.items()}
    prepared = [batch_from({}, log, 9) for _ in writers]
    interrupted = 0
    while writers[0].positions(TABLES) != ends:
        number = dice.randrange(2)
        try:
            writers[number].write(prepared[number])
        except (Dies, Overtaken):
            interrupted += 1
        # The other one keeps its batch, like a process that is paused.
        positions = writers[number].positions(TABLES)
        prepared[number] = batch_from(positions, log, dice.randint(1, 12))
    assert interrupted > 3
    sink = ParquetSink(tmp_path)
    found = [
        row
        for table in sink.tables()
        for row in sink.read(table).select(["_partition", "_offset"]).to_pylist()
    ]
    places = sorted((row["_partition"], row["_offset"]) for row in found)
    assert places == sorted((r.partition, r.offset) for held in log.values() for r in held)
    assert set(sink.tables()) == {"risk_measure", "input_gap", REFUSED_TABLE}


def test_a_zombie_writes_nothing_beside_the_main_table(tmp_path: Path) -> None:
    log = log_of(random.Random(1), 20)
    sink = ParquetSink(tmp_path)
    writer = LakeWriter(sink, LakeCounts())
    late = batch_from({}, log, 10)
    clean = TopicBatch(TABLES, "e1", late.spans, [])
    writer.write(clean)
    with pytest.raises(Overtaken):
        writer.write(late)
    assert sink.tables() == ["risk_measure"]


def test_refused_records_have_their_bytes_and_reasons(tmp_path: Path) -> None:
    sink, counts = ParquetSink(tmp_path), LakeCounts()
    record = ConsumedRecord(TOPIC, 0, 0, 1.7e9, b"k", b"malformed", [("tenant", b"acme")])
    LakeWriter(sink, counts).write(TopicBatch(TABLES, "e1", [Span(LANES[0], 0, 3)], [record]))
    (row,) = sink.read(REFUSED_TABLE).to_pylist()
    assert (row["reason"], row["key"], row["value"]) == ("undecodable", b"k", b"malformed")
    assert (row["_topic"], row["_epoch"], row["_tenant"]) == (TOPIC, "e1", "acme")
    assert sink.positions("risk_measure") == {LANES[0]: 3}
    assert counts.rows[REFUSED_TABLE] == 1


def test_a_gap_is_written_once(tmp_path: Path) -> None:
    sink, counts = ParquetSink(tmp_path), LakeCounts()
    writer = LakeWriter(sink, counts)
    gap = Gap(Span(LANES[0], 5, 9), "expired")
    for _ in range(2):
        writer.write_gaps([gap], 1_790_000_000_000_000)
    (row,) = sink.read(GAP_TABLE).to_pylist()
    assert (row["from_offset"], row["to_offset"], row["reason"]) == (5, 9, "expired")
    assert counts.gaps == 4


def test_tables_are_chosen_by_their_names() -> None:
    everything = choose_tables([])
    assert len(everything) > 20
    assert [list(t.tables.values()) for t in choose_tables(["input_gap"])] == [["input_gap"]]
    measures = next(t for t in everything if t.topic.name == TOPIC)
    assert list(measures.tables.values()) == ["risk_measure", "input_gap"]
    with pytest.raises(UnknownTable, match="risk_alert"):
        choose_tables(["risk_alerts"])
