"""A session of SQL: a view of each class of events, over the lake and what only the log has.

A view has each record once. Its rows from the lake are those before a bound of each lane, and those
from the log begin at that bound. The bound is the lake's position when the view was made, so rows
that the lake gets later are not taken from it: the log had them. Tables are read when a query names
them; the ends of the log are those of the session's start.

    lake       |=================|         rows before the bound
    log              |-----------======|   rows from the bound to the session's end
"""

import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa

from analytics.columns import schema_of
from analytics.errors import QueryFailed
from analytics.log_rows import Interval, Log, read_rows
from analytics.names import EventTable, event_tables
from analytics.sinks.base import Lane
from analytics.sql.aggregates import AGGREGATES
from analytics.sql.broken_files import may_be_of_a_file, named_file
from analytics.sql.database import allow_s3, check_query, connect, failures, lock, named, quoted
from analytics.sql.lakes import Lake, LakeTable
from analytics.sql.settings import SqlSettings
from kafka_io.log_ranges import LogRange

_TAIL = "log_rows"
"""The schema of the tables of what was read from the log."""
_BOUNDS = "lake_bounds"
"""The schema of the tables of bounds: up to which offset the lake's rows are taken."""
_BATCH_ROWS = 10_000
_BOUND_COLUMNS = pa.schema(
    [
        ("topic", pa.string()),
        ("epoch", pa.string()),
        ("partition", pa.int32()),
        ("bound", pa.int64()),
    ]
)


class Session:
    """Answers queries over a lake, the log, or both."""

    def __init__(
        self,
        log: Log | None,
        lake: Lake | None = None,
        *,
        as_of_ms: int | None = None,
        tenant: str | None = None,
        settings: SqlSettings | None = None,
        path: Path | None = None,
    ) -> None:
        """Open a session.

        Args:
            log: the log; None for the lake alone.
            lake: the lake; None for the log alone.
            as_of_ms: rows that the log got later are left out; milliseconds since 1970 UTC.
            tenant: whose rows are shown; empty for those of no tenant, None for all.
            settings: the bounds of memory.
            path: a file for the views and what was read from the log; None for none.

        Raises:
            NotInstalled: an extension of DuckDB is missing.
        """
        self._log = log
        self._lake = lake
        self._as_of_ms = as_of_ms
        self._tenant = tenant
        self._tables: Mapping[str, EventTable] = event_tables()
        known = lake.tables() if lake is not None else ()
        self._lake_only = frozenset(known) - self._tables.keys()
        """The tables of the lake that no class has: of refused records, and of gaps."""
        self._ranges: Sequence[LogRange] | None = None
        self._loaded: set[str] = set()
        self.notes: list[str] = []
        """Sentences for the user about rows that are missing."""
        if lake is not None and not known:
            self.notes.append(f"the lake at {lake.place} has no tables yet")
        self._folder = tempfile.TemporaryDirectory(prefix="tapewire-sql-")
        try:
            self._database = self._open(settings or SqlSettings(), path)
        except BaseException:
            self._folder.cleanup()
            raise

    def _open(self, settings: SqlSettings, path: Path | None) -> duckdb.DuckDBPyConnection:
        lake, folder = self._lake, Path(self._folder.name)
        extensions = lake.extensions if lake is not None else ()
        database = connect(settings, folder, extensions=extensions, path=path)
        if lake is not None and lake.is_remote:
            allow_s3(database)
        places = [lake.place, f"file://{lake.place}"] if lake is not None else []
        lock(database, [*places, str(folder)])
        self._make_empty(database)
        return database

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, and delete its temporary files."""
        self._database.close()
        self._folder.cleanup()

    def tables(self) -> Sequence[str]:
        """Return the names of all tables and views."""
        rows = self._database.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name"
        )
        return sorted({name for (name,) in rows.fetchall()} | self._lake_only)

    def columns(self, table: str) -> Sequence[tuple[str, str]]:
        """Return the names and types of the columns of a table or view.

        Raises:
            QueryFailed: there is no such table.
        """
        if table in self._lake_only:
            self._make_lake_view(table)
        with failures():
            found = self._database.execute(f"DESCRIBE {named(table)}").fetchall()
        return [(name, kind) for name, kind, *_ in found]

    async def query(self, sql: str) -> "Answer":
        """Return the answer to a query, after `prepare`.

        Raises:
            QueryFailed: the query is wrong, does not only read, or needs too much memory.
            Unread: Kafka cannot be read.
            LakeError: the lake cannot be read.
        """
        await self.prepare(sql)
        return self.execute(sql)

    async def prepare(self, sql: str) -> None:
        """Check a query, and read the tables that it names.

        Raises:
            QueryFailed: the query is wrong, or does not only read.
            Unread: Kafka cannot be read.
            LakeError: the lake cannot be read.
        """
        check_query(self._database, sql)
        await self.load(self._named_in(sql))

    def execute(self, sql: str) -> "Answer":
        """Return the answer to a query whose tables are read.

        Raises:
            QueryFailed: the query is wrong, or needs too much memory.
        """
        check_query(self._database, sql)
        names = self._named_in(sql)
        with self._named_failures(names):
            reader = self._database.execute(sql).to_arrow_reader(_BATCH_ROWS)
            return Answer(reader, lambda: self._named_failures(names))

    async def load(self, names: Sequence[str] | None = None) -> None:
        """Make the views of some tables, or of all, which reads what only the log has.

        Raises:
            Unread: Kafka cannot be read.
            LakeError: the lake cannot be read.
        """
        for name in (*self._tables, *self._lake_only) if names is None else names:
            if name in self._loaded:
                continue
            if name in self._lake_only:
                self._make_lake_view(name)
            else:
                await self._load_table(self._tables[name])
            self._loaded.add(name)

    def refresh(self) -> None:
        """Forget what was read, so that the next query reads the lake and the log anew."""
        self._ranges = None
        self._loaded.clear()
        self.notes.clear()
        with failures():
            self._make_empty(self._database)

    @contextmanager
    def _named_failures(self, names: Sequence[str]) -> Generator[None]:
        """Turn errors of DuckDB into errors of queries, which name the file that is broken.

        Args:
            names: the tables whose files may be broken.

        Raises:
            QueryFailed: DuckDB refused a query.
        """
        try:
            with failures():
                yield
        except QueryFailed as error:
            if self._lake is None or not may_be_of_a_file(error.__cause__):
                raise
            files = [path for name in names for path in self._lake.files(name)]
            found = named_file(self._database, files)
            if found is None:
                raise
            raise found from error

    def _named_in(self, sql: str) -> list[str]:
        """Return the tables whose name a query has, also if only in a text."""
        words = {word.lower() for word in re.findall(r"\w+", sql)}
        words.update(base for row in AGGREGATES if row.name in words for base in row.bases)
        return [name for name in (*self._tables, *self._lake_only) if name in words]

    def _make_empty(self, database: duckdb.DuckDBPyConnection) -> None:
        """Make every view, without rows."""
        run = database.execute
        run(f"CREATE SCHEMA IF NOT EXISTS {_TAIL}")
        run(f"CREATE SCHEMA IF NOT EXISTS {_BOUNDS}")
        for name, table in self._tables.items():
            _create(database, f"{_TAIL}.{named(name)}", schema_of(table.kind))
            run(f"CREATE OR REPLACE VIEW {named(name)} AS SELECT * FROM {_TAIL}.{named(name)}")
        for aggregate in AGGREGATES:
            query = aggregate.batch_query({base: named(base) for base in aggregate.bases})
            run(f"CREATE OR REPLACE VIEW {named(aggregate.name)} AS {query}")

    async def _load_table(self, table: EventTable) -> None:
        held = self._lake.find(table.name) if self._lake is not None else None
        positions = held.positions if held is not None else {}
        ranges = [r for r in await self._all_ranges() if r.topic == self._topic_of(table)]
        tail = self._tail(ranges, positions)
        with failures():
            _create(self._database, f"{_TAIL}.{named(table.name)}", schema_of(table.kind))
        if self._log is not None:
            until_ms = None if self._as_of_ms is None else self._as_of_ms + 1
            interval = Interval(None, until_ms)
            async for batch in read_rows(self._log, table, tail, interval, self._tenant):
                with failures():
                    _insert(
                        self._database,
                        f"{_TAIL}.{named(table.name)}",
                        pa.Table.from_batches([batch.rows]),
                    )
        with self._named_failures([table.name]):
            if held is not None:
                self._make_bounds(table, positions, ranges)
            self._database.execute(self._view(table, held))

    async def _all_ranges(self) -> Sequence[LogRange]:
        """Return the ranges of all topics, as they were at the session's start."""
        if self._ranges is None and self._log is not None:
            topics = sorted({table.topic.name for table in self._tables.values()})
            until_ms = None if self._as_of_ms is None else self._as_of_ms + 1
            self._ranges = await self._log.ranges(topics, until_ms=until_ms)
        return self._ranges or ()

    def _topic_of(self, table: EventTable) -> str:
        return "" if self._log is None else self._log.full_name(table.topic.name)

    def _tail(self, ranges: Sequence[LogRange], positions: Mapping[Lane, int]) -> list[LogRange]:
        """Return what only the log has, and note what neither the log nor the lake has."""
        found = []
        for span in ranges:
            begin = positions.get(_lane_of(span), span.begin)
            if begin < span.begin:
                self.notes.append(
                    f"the offsets {begin} to {span.begin - 1} of {span.topic}/{span.partition} are "
                    "missing: the log deleted them before the lake had them"
                )
            if begin < span.end:
                found.append(replace(span, begin=max(begin, span.begin)))
        return found

    def _make_bounds(
        self, table: EventTable, positions: Mapping[Lane, int], ranges: Sequence[LogRange]
    ) -> None:
        ends = {} if self._as_of_ms is not None else {_lane_of(span): span.end for span in ranges}
        rows = [
            {
                "topic": lane.topic,
                "epoch": lane.epoch,
                "partition": lane.partition,
                "bound": min(position, ends.get(lane, position)),
            }
            for lane, position in positions.items()
        ]
        _create(self._database, f"{_BOUNDS}.{named(table.name)}", _BOUND_COLUMNS)
        _insert(
            self._database,
            f"{_BOUNDS}.{named(table.name)}",
            pa.Table.from_pylist(rows, _BOUND_COLUMNS),
        )

    def _view(self, table: EventTable, held: LakeTable | None) -> str:
        name = named(table.name)
        columns = ", ".join(map(named, schema_of(table.kind).names))
        head = f"CREATE OR REPLACE VIEW {name} AS SELECT {columns} FROM"
        tail = f"SELECT * FROM {_TAIL}.{name}"
        if held is None:
            return f"{head} ({tail})"
        bounds = (
            f"EXISTS (SELECT 1 FROM {_BOUNDS}.{name} AS b WHERE b.topic = l._topic "
            "AND b.epoch IS NOT DISTINCT FROM l._epoch AND b.partition = l._partition "
            "AND l._offset < b.bound)"
        )
        conditions = [bounds, *self._conditions()]
        lake = f"SELECT * FROM {held.relation} AS l WHERE {' AND '.join(conditions)}"
        return f"{head} ({tail} UNION ALL BY NAME {lake})"

    def _make_lake_view(self, name: str) -> None:
        """Make the view of a table that only the lake has."""
        held = self._lake.find(name) if self._lake is not None else None
        if held is None:
            return
        conditions = " AND ".join(["TRUE", *self._conditions()])
        rows = f"SELECT l.* FROM {held.relation} AS l WHERE {conditions}"
        with self._named_failures([name]):
            self._database.execute(f"CREATE OR REPLACE VIEW {named(name)} AS {rows}")

    def _conditions(self) -> list[str]:
        """Return the conditions that rows of the lake meet, which are those of `l`."""
        conditions = []
        if self._as_of_ms is not None:
            conditions.append(f"l._ingested_at <= make_timestamptz({self._as_of_ms * 1000})")
        if self._tenant is not None:
            conditions.append(f"coalesce(l._tenant, '') = {quoted(self._tenant)}")
        return conditions


class Answer:
    """The rows of a query, which are computed as they are read."""

    def __init__(
        self,
        reader: pa.RecordBatchReader,
        failing: Callable[[], AbstractContextManager[None]] = failures,
    ) -> None:
        self._reader = reader
        self._failing = failing
        self.schema: pa.Schema = reader.schema
        """The columns."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows.

        Raises:
            QueryFailed: the query failed at a row, or needs too much memory.
        """
        with self._failing():
            yield from self._reader


def _lane_of(span: LogRange) -> Lane:
    return Lane(span.topic, span.epoch, span.partition)


def _create(database: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema) -> None:
    database.register("new_rows", schema.empty_table())
    database.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM new_rows")
    database.unregister("new_rows")


def _insert(database: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    database.register("new_rows", rows)
    database.execute(f"INSERT INTO {name} BY NAME SELECT * FROM new_rows")
    database.unregister("new_rows")
