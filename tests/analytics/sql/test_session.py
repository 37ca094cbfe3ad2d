"""A view has every row of the log once, whatever the lake has of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from analytics.errors import QueryFailed
from analytics.lake_counts import LakeCounts
from analytics.lake_rounds import LakeRounds
from analytics.lake_settings import LakeSettings
from analytics.lake_writer import LakeWriter, choose_tables
from analytics.log_rows import read_rows
from analytics.names import find_table
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Sink, Span
from analytics.sql.lakes import open_lake
from analytics.sql.session import Session
from analytics.sql.settings import SqlSettings
from tests.support.alerts import raised_alert
from tests.support.table_log import TableLog

ALERTS = find_table("risk_alert")
SMALL = SqlSettings(sql_memory_mib=64, sql_threads=1)
TOPIC = "risk.alerts"


def log_of(count: int) -> TableLog:
    """Return a log of two partitions, whose records are a second apart."""
    log = TableLog(TOPIC, partitions=2)
    for number in range(count):
        log.write(
            raised_alert(f"t{number}"),
            1_000 * (number + 1),
            partition=number % 2,
            tenant="acme" if number % 3 == 0 else None,
        )
    return log


async def sink_until(sink: Sink, log: TableLog, *ends: int) -> None:
    """Let a sink take each partition up to an offset."""
    before = sink.positions(ALERTS.name)
    ranges = await log.ranges([TOPIC])
    spans, parts = [], []
    for span, end in zip(ranges, ends, strict=True):
        lane = Lane(span.topic, span.epoch, span.partition)
        begin = before.get(lane, 0)
        spans.append(Span(lane, begin, end))
        taken = type(span)(span.topic, span.epoch, span.partition, begin, end)
        parts += [batch.rows async for batch in read_rows(log, ALERTS, [taken])]
    sink.append(ALERTS.name, pa.Table.from_batches(parts), spans)


async def rows_of(session: Session, query: str) -> list[tuple[Any, ...]]:
    answer = await session.query(query)
    return [tuple(row.values()) for rows in answer.batches() for row in rows.to_pylist()]


async def names_in(session: Session) -> list[str]:
    """Return the names of all alerts, in the order of the log's time."""
    query = "SELECT transition_id FROM risk_alert ORDER BY _ingested_at"
    return [name for (name,) in await rows_of(session, query)]


def expected(numbers: Sequence[int]) -> list[str]:
    return [f"t{number}" for number in numbers]


async def test_the_log_alone_is_a_table() -> None:
    with Session(log_of(7), settings=SMALL) as session:
        assert await names_in(session) == expected(range(7))
        ((kind, count),) = await rows_of(
            session, "SELECT typeof(event_time_us), count(*) FROM risk_alert GROUP BY 1"
        )
        assert (kind, count) == ("TIMESTAMP WITH TIME ZONE", 7)


@pytest.mark.parametrize("form", ["delta", "iceberg", "parquet"])
async def test_a_sink_that_stops_in_the_middle_costs_and_repeats_no_row(
    form: str, tmp_path: Path
) -> None:
    log, address = log_of(20), f"{form}:{tmp_path}"
    sink = open_sink(address)
    await sink_until(sink, log, 4, 7)
    with Session(log, open_lake(address), settings=SMALL) as session:
        assert await names_in(session) == expected(range(20))
        assert sorted(log.read_offsets[-9:]) == [
            *((TOPIC, 0, offset) for offset in range(4, 10)),
            *((TOPIC, 1, offset) for offset in range(7, 10)),
        ]
        # The sink goes on, and the log, too: the session stays at its moment.
        await sink_until(sink, log, 9, 10)
        log.write(raised_alert("new"), 90_000)
        await sink_until(sink, log, 11, 10)
        assert await names_in(session) == expected(range(20))
        session.refresh()
        assert await names_in(session) == [*expected(range(20)), "new"]


async def test_a_sink_that_goes_on_before_a_table_is_read_costs_and_repeats_no_row(
    tmp_path: Path,
) -> None:
    log, address = log_of(20), f"delta:{tmp_path}"
    sink = open_sink(address)
    with Session(log, open_lake(address), settings=SMALL) as session:
        await session.load(["risk_measure"])  # the session knows the log's ends now
        log.write(raised_alert("new"), 90_000)
        await sink_until(sink, log, 11, 3)
        assert await names_in(session) == expected(range(20))


async def test_a_topic_that_was_made_anew_is_read_beside_its_former_rows(tmp_path: Path) -> None:
    old, address = log_of(6), f"delta:{tmp_path}"
    await sink_until(open_sink(address), old, 3, 3)
    new = TableLog(TOPIC, partitions=2)
    new.epochs[TOPIC] = "0b" * 16
    new.write(raised_alert("new"), 50_000)
    with Session(new, open_lake(address), settings=SMALL) as session:
        assert await names_in(session) == [*expected(range(6)), "new"]


@pytest.mark.parametrize("parts", [["log"], ["log", "lake"]])
async def test_as_of_an_instant_later_rows_are_left_out(parts: list[str], tmp_path: Path) -> None:
    log, address = log_of(20), f"delta:{tmp_path}"
    await sink_until(open_sink(address), log, 7, 2)
    lake = open_lake(address) if "lake" in parts else None
    with Session(log, lake, as_of_ms=10_000, settings=SMALL) as session:
        assert await names_in(session) == expected(range(10))
    assert max(offset for _, _, offset in log.read_offsets[-10:]) < 10


async def test_a_tenants_session_shows_its_rows_alone(tmp_path: Path) -> None:
    log, address = log_of(12), f"delta:{tmp_path}"
    await sink_until(open_sink(address), log, 2, 5)
    with Session(log, open_lake(address), tenant="acme", settings=SMALL) as session:
        assert await names_in(session) == expected(range(0, 12, 3))


async def test_rows_that_the_log_lost_before_the_lake_had_them_are_noted(tmp_path: Path) -> None:
    log, address = log_of(10), f"delta:{tmp_path}"
    await sink_until(open_sink(address), log, 1, 5)
    whole = await log.ranges([TOPIC])

    class Later(TableLog):
        async def ranges(self, *_: object, **__: object) -> Any:
            return [type(r)(r.topic, r.epoch, r.partition, 3, r.end) for r in whole]

    later = Later(TOPIC, partitions=2)
    later.records = log.records
    with Session(later, open_lake(address), settings=SMALL) as session:
        await session.load(["risk_alert"])
        (note,) = session.notes
        assert note.startswith(f"the offsets 1 to 2 of {TOPIC}/0 are missing: the log deleted")
        assert len(await names_in(session)) == 8


async def test_the_lake_alone_is_a_table(tmp_path: Path) -> None:
    log, address = log_of(10), f"iceberg:{tmp_path}"
    await sink_until(open_sink(address), log, 5, 2)
    with Session(None, open_lake(address), settings=SMALL) as session:
        assert await names_in(session) == expected([0, 1, 2, 3, 4, 6, 8])


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT * FROM risk_alerts", 'Did you mean "risk_alert"'),
        ("SELECT nothing FROM risk_alert", '"nothing" not found'),
        ("SELECT 1; SELECT 2", "write one statement, not 2"),
        ("", "write one statement, not 0"),
        ("COPY (SELECT 1) TO 'f.csv'", "COPY is not allowed"),
        ("DROP VIEW risk_alert", "DROP is not allowed"),
        ("EXPLAIN ANALYZE DELETE FROM log_rows.risk_alert", "DELETE is not allowed"),
        ("ATTACH 'x.db'", "ATTACH is not allowed"),
        ("SET memory_limit = '9GB'", "SET is not allowed"),
        ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
    ],
)
async def test_a_query_that_does_not_only_read_or_is_wrong_is_refused(
    query: str, reason: str
) -> None:
    with Session(log_of(1), settings=SMALL) as session:
        with pytest.raises(QueryFailed) as refused:
            await session.query(query)
        assert reason in str(refused.value)
        assert await names_in(session) == ["t0"]


@pytest.mark.parametrize("part", ["all", "a page"])
@pytest.mark.parametrize("form", ["delta", "iceberg", "parquet"])
async def test_a_broken_file_of_the_lake_is_named(form: str, part: str, tmp_path: Path) -> None:
    log, address = log_of(20), f"{form}:{tmp_path}"
    await sink_until(open_sink(address), log, 4, 1)
    await sink_until(open_sink(address), log, 9, 2)
    broken = max(tmp_path.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    content = bytearray(broken.read_bytes())
    content[4:200] = b"\xff" * 196 if part == "a page" else content[:0]
    broken.write_bytes(content if part == "a page" else b"none at all")
    with Session(log, open_lake(address), settings=SMALL) as session:
        with pytest.raises(QueryFailed) as failed:
            await names_in(session)
        assert f"{broken} is broken: " in str(failed.value)
        with pytest.raises(QueryFailed, match="nothing"):
            await session.query("SELECT nothing FROM risk_measure")


async def test_tables_of_the_lake_alone_are_views_too(tmp_path: Path) -> None:
    log, address = log_of(2), f"delta:{tmp_path}"
    log.write(b"malformed", 5_000, topic=TOPIC, tenant="acme")
    log.write(b"malformed", 6_000, topic=TOPIC)
    counts = LakeCounts()
    writer = LakeWriter(open_sink(address), counts)
    await LakeRounds(log, writer, choose_tables([]), counts, LakeSettings()).run(once=True)
    query = "SELECT reason, _offset FROM refused_record ORDER BY _offset"
    with Session(log, open_lake(address), settings=SMALL) as session:
        assert "refused_record" in session.tables()
        assert ("reason", "VARCHAR") in session.columns("refused_record")
        assert await rows_of(session, query) == [("undecodable", 1), ("undecodable", 2)]
    with Session(log, open_lake(address), tenant="acme", settings=SMALL) as session:
        assert await rows_of(session, query) == [("undecodable", 1)]
    with Session(log, open_lake(address), as_of_ms=4_000, settings=SMALL) as session:
        assert await rows_of(session, query) == []


async def test_a_lake_without_tables_is_noted(tmp_path: Path) -> None:
    with Session(log_of(1), open_lake(f"delta:{tmp_path}/missing"), settings=SMALL) as session:
        assert await names_in(session) == ["t0"]
        assert session.notes == [f"the lake at {tmp_path}/missing has no tables yet"]


async def test_a_query_that_needs_too_much_memory_names_the_settings() -> None:
    settings = SqlSettings(sql_memory_mib=64, sql_spill_mib=0, sql_threads=1)
    with Session(log_of(1), settings=settings) as session:
        query = "SELECT list(repeat(range::VARCHAR, 20)) AS texts FROM range(3_000_000)"
        with pytest.raises(QueryFailed, match="TAPEWIRE_SQL_MEMORY_MIB"):
            await session.query(query)


async def test_an_aggregate_is_computed_of_the_events_of_its_tables() -> None:
    log = log_of(0)
    for state, at_ms in (("raised", 1_000), ("acknowledged", 61_000), ("cleared", 121_000)):
        log.write(raised_alert(state, state=state), at_ms)
    log.write(raised_alert("cleared", state="cleared"), 200_000)  # written once more
    with Session(log, settings=SMALL) as session:
        found = await rows_of(
            session,
            "SELECT alert_id, time_to_acknowledge_s, transitions, severity_high "
            "FROM alert_statistics",
        )
        assert found == [("a", 60.0, 3, "high")]
        assert await rows_of(session, "SELECT alerts_raised FROM daily_risk") == [(1,)]


async def test_tables_and_columns_are_listed() -> None:
    with Session(log_of(0), settings=SMALL) as session:
        assert {"risk_alert", "risk_measure", "return_batch"} <= set(session.tables())
        assert ("_offset", "BIGINT") in session.columns("risk_alert")
        with pytest.raises(QueryFailed, match="nothing"):
            session.columns("nothing")


async def test_a_file_keeps_the_views(tmp_path: Path) -> None:

    path = tmp_path / "views.duckdb"
    with Session(log_of(3), settings=SMALL, path=path) as session:
        await session.load(["risk_alert"])
    with duckdb.connect(str(path), read_only=True) as database:
        assert database.execute("SELECT count(*) FROM risk_alert").fetchall() == [(3,)]
