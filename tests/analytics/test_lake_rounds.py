"""Rounds write the whole log, find what came late, and tell what is lost."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from analytics.errors import InvalidLake
from analytics.lake_counts import LakeCounts
from analytics.lake_rounds import LakeRounds
from analytics.lake_settings import LakeSettings
from analytics.lake_writer import GAP_TABLE, REFUSED_TABLE, LakeWriter, choose_tables
from analytics.sinks.base import Lane
from analytics.sinks.parquet import ParquetSink
from kafka_io.errors import Unread
from kafka_io.log_ranges import LogRange
from schemas.events import AlertAck, UserUpdate
from tests.support.table_log import EPOCH, TableLog

ACK = AlertAck(alert_id="a", entity_id="e", event_time_us=1_700_000_000_000_000)
AT_MS = 1_790_000_000_000


class Aggregates:
    """Aggregates that are brought up to date, or cannot be."""

    def __init__(self) -> None:
        self.steps = 0
        self.failures = 0
        self.recovered = threading.Event()

    def step(self) -> list[object]:
        self.steps += 1
        if self.steps <= self.failures:
            raise InvalidLake("daily_risk.parquet is no Parquet file")
        self.recovered.set()
        return []


class Lake:
    def __init__(self, log: TableLog, folder: Path, **settings: float) -> None:
        self.aggregates = Aggregates()
        self.sink = ParquetSink(folder)
        self.counts = LakeCounts()
        writer = LakeWriter(self.sink, self.counts)
        tables = choose_tables(["alert_ack", "user_update"])
        chosen = LakeSettings(lake_interval_s=0.05, **settings)  # type: ignore[arg-type]  # numbers
        self.rounds = LakeRounds(log, writer, tables, self.counts, chosen, self.aggregates)

    async def offsets(self, table: str = "alert_ack") -> list[tuple[int, int]]:
        await self.rounds.run(once=True)
        rows = self.sink.read(table).select(["_partition", "_offset"]).to_pylist()
        return sorted((row["_partition"], row["_offset"]) for row in rows)


def acks(log: TableLog, count: int, partition: int = 0) -> None:
    for _ in range(count):
        log.write(ACK, AT_MS, partition=partition)


async def test_the_log_is_written_once_and_gone_on_with(tmp_path: Path) -> None:
    log = TableLog("risk.acks", partitions=2)
    acks(log, 7)
    acks(log, 4, partition=1)
    lake = Lake(log, tmp_path)
    expected = [(0, n) for n in range(7)] + [(1, n) for n in range(4)]
    assert await lake.offsets() == expected
    assert await lake.offsets() == expected
    acks(log, 2)
    assert await Lake(log, tmp_path).offsets() == sorted([*expected, (0, 7), (0, 8)])
    assert lake.counts.rows == {"alert_ack": 11}
    assert lake.counts.lag == {"risk.acks": 0}


async def test_aggregates_are_kept_after_each_round_that_wrote_something(tmp_path: Path) -> None:
    log = TableLog("risk.acks")
    lake = Lake(log, tmp_path)
    for count in (0, 3, 0, 2):
        acks(log, count)
        await lake.rounds.run(once=True)
    assert lake.aggregates.steps == 3  # at the start, and twice after new rows


async def test_aggregates_that_fail_hold_up_no_rows_and_are_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = TableLog("risk.acks")
    acks(log, 3)
    lake = Lake(log, tmp_path)
    lake.aggregates.failures = 3
    with pytest.raises(InvalidLake):
        await lake.rounds.run(once=True)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(lake.rounds.run())
        assert await asyncio.to_thread(lake.aggregates.recovered.wait, 30)
        lake.rounds.stop()
        await running
    assert caplog.text.count("the aggregates stay behind for now: daily_risk.parquet") == 2
    assert lake.counts.rows == {"alert_ack": 3}


async def test_small_steps_write_the_same(tmp_path: Path) -> None:
    log = TableLog("risk.acks", at_once=100)
    big = replace(ACK, comment="c" * 16_000)
    for _ in range(20):
        log.write(big, AT_MS)
    lake = Lake(log, tmp_path, lake_batch_bytes=1 << 16)
    log._at_once = 3
    assert await lake.offsets() == [(0, n) for n in range(20)]
    assert len(list(tmp_path.rglob("*.parquet"))) > 3


async def test_topics_and_partitions_that_came_late_are_found(tmp_path: Path) -> None:
    log = TableLog("risk.acks")
    acks(log, 1)
    lake = Lake(log, tmp_path)
    assert await lake.offsets() == [(0, 0)]
    log.records["risk.acks", 1] = []
    acks(log, 1, partition=1)
    log.records["user.updates", 0] = []
    log.epochs["user.updates"] = EPOCH
    log.write(UserUpdate(user_id="u", kind="k", data="{}", event_time_us=1), AT_MS)
    assert await lake.offsets() == [(0, 0), (1, 0)]
    assert await lake.offsets("user_update") == [(0, 0)]


async def test_a_topic_that_was_made_anew_begins_again(tmp_path: Path) -> None:
    log = TableLog("risk.acks")
    acks(log, 3)
    lake = Lake(log, tmp_path)
    await lake.rounds.run(once=True)
    log.records["risk.acks", 0] = []
    log.epochs["risk.acks"] = "0b" * 16
    acks(log, 2)
    assert await lake.offsets() == [(0, 0), (0, 0), (0, 1), (0, 1), (0, 2)]
    assert lake.sink.positions("alert_ack") == {
        Lane("risk.acks", EPOCH, 0): 3,
        Lane("risk.acks", "0b" * 16, 0): 2,
    }


async def test_a_topic_that_was_made_anew_is_a_gap_without_an_end_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ShortLog("risk.acks", partitions=2)
    acks(log, 3)
    lake = Lake(log, tmp_path)
    await lake.rounds.run(once=True)
    log.end = 2
    await lake.rounds.run(once=True)  # a gap that the former incarnation had of its own
    log.end = 100
    for epoch in ("0b", "0c"):
        log.records = {("risk.acks", 0): [], ("risk.acks", 1): []}
        log.epochs["risk.acks"] = epoch * 16
        acks(log, 1)
        for rounds in (lake.rounds, Lake(log, tmp_path).rounds):
            await rounds.run(once=True)
            await rounds.run(once=True)
    rows = lake.sink.read(GAP_TABLE).to_pylist()
    names = ("reason", "_epoch", "_partition", "from_offset", "to_offset")
    assert sorted(tuple(row[name] for name in names) for row in rows) == [
        ("recreated", EPOCH, 0, 3, None),
        ("recreated", "0b" * 16, 0, 1, None),
        ("truncated", EPOCH, 0, 2, 3),
    ]
    assert lake.counts.gaps == 1
    assert "risk.acks was made anew; if its partition 0 had records from offset 3" in caplog.text


class ShortLog(TableLog):
    """A log that has lost its beginning or its end."""

    begin = 0
    end = 100

    async def ranges(self, *arguments: object, **options: object) -> list[LogRange]:
        found = await super().ranges(*arguments, **options)  # type: ignore[arg-type]  # passed on
        return [
            replace(span, begin=max(self.begin, span.begin), end=min(self.end, span.end))
            for span in found
        ]


async def test_what_retention_has_deleted_is_a_gap(tmp_path: Path) -> None:
    log = ShortLog("risk.acks")
    acks(log, 9)
    log.begin = 4
    lake = Lake(log, tmp_path)
    assert await lake.offsets() == [(0, n) for n in range(4, 9)]
    (gap,) = lake.sink.read(GAP_TABLE).to_pylist()
    assert (gap["reason"], gap["from_offset"], gap["to_offset"]) == ("expired", 0, 4)
    await lake.rounds.run(once=True)
    assert lake.counts.gaps == 4


async def test_a_log_that_lost_its_end_is_a_gap_once(tmp_path: Path) -> None:
    log = ShortLog("risk.acks")
    acks(log, 9)
    lake = Lake(log, tmp_path)
    await lake.rounds.run(once=True)
    log.end = 6
    for _ in range(2):
        await lake.rounds.run(once=True)
    (gap,) = lake.sink.read(GAP_TABLE).to_pylist()
    assert (gap["reason"], gap["from_offset"], gap["to_offset"]) == ("truncated", 6, 9)
    log.end = 100
    acks(log, 1)
    assert await lake.offsets() == [(0, n) for n in range(10)]


async def test_refused_records_are_beside_the_rows(tmp_path: Path) -> None:
    log = TableLog("risk.acks")
    acks(log, 2)
    log.write(b"malformed", AT_MS, topic="risk.acks")
    lake = Lake(log, tmp_path)
    assert await lake.offsets() == [(0, 0), (0, 1)]
    assert await lake.offsets(REFUSED_TABLE) == [(0, 2)]


async def test_it_stops_between_steps_and_waits_for_a_silent_kafka(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = TableLog("risk.acks")
    acks(log, 1)
    lake = Lake(log, tmp_path)
    ranges, calls = log.ranges, 0

    async def silent(*arguments: object) -> list[LogRange]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unread("nobody answers")
        if calls == 4:
            lake.rounds.stop()
        return list(await ranges(*arguments))  # type: ignore[arg-type]  # passed on

    log.ranges = silent  # type: ignore[method-assign, assignment]  # of this log
    await lake.rounds.run()
    assert "nobody answers" in caplog.text
    assert lake.counts.rows == {"alert_ack": 1}
    calls = 0
    with pytest.raises(Unread):
        await Lake(log, tmp_path / "other").rounds.run(once=True)
