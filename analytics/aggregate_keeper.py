"""Keeps aggregates as Parquet files beside a lake's tables, up to date with them.

The footer of a file says up to which offset of each lane of its tables it stands. A step reads
these offsets, finds the keys of the events after them, computes the rows of these keys again of all
events, and replaces the file: rows and offsets in one rename, or one upload. A step that dies
leaves the former file, and the next step begins with its offsets. Two keepers at once, or one that
comes back late, can put an older file in the place of a newer one. It is whole, too, and the next
step goes on from its own offsets. So a file is at all times equal to its query over the events
before its offsets.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import duckdb
import pyarrow as pa

from analytics.columns import event_classes, schema_of
from analytics.errors import InvalidLake
from analytics.sinks.base import Lane
from analytics.sql.aggregates import AGGREGATES, Aggregate
from analytics.sql.database import allow_s3, connect, failures, named, quoted
from analytics.sql.lakes import LakeTable, open_lake
from analytics.sql.settings import SqlSettings

FOLDER = "aggregates"
"""The folder of the files, at the lake's place."""
_POSITIONS = "tapewire.positions"
"""The entry of a file's footer with the offsets up to which it stands."""
_FORM = "tapewire.form"
"""The entry that changes with the aggregate's definition; the file is computed anew then."""
_SPANS = pa.schema(
    [
        ("topic", pa.string()),
        ("epoch", pa.string()),
        ("partition", pa.int32()),
        ("begin", pa.int64()),
        ("end", pa.int64()),
    ]
)

Positions = Mapping[str, Mapping[Lane, int]]
"""The offset of the next record of each lane, by the name of the table."""


class Tables(Protocol):
    """The tables of a lake, as `analytics.sql.lakes.Lake` has them."""

    place: str
    is_remote: bool
    extensions: Sequence[str]

    def find(self, name: str) -> LakeTable | None:
        """Return a table; None if the lake has none of the name."""
        ...


class Step(NamedTuple):
    """The result of a step for one aggregate."""

    name: str
    rows: int
    """The rows that the aggregate has now."""
    changed: int
    """The keys whose rows were computed again."""


class Keeper:
    """Keeps the aggregates of a lake."""

    def __init__(
        self,
        lake: Tables,
        settings: SqlSettings | None = None,
        aggregates: Sequence[Aggregate] = AGGREGATES,
    ) -> None:
        """Open a keeper.

        Args:
            lake: the lake.
            settings: the bounds of memory.
            aggregates: what is kept.

        Raises:
            NotInstalled: an extension of DuckDB is missing.
        """
        self._lake = lake
        self._aggregates = aggregates
        self._scratch = tempfile.TemporaryDirectory(prefix="tapewire-aggregates-")
        try:
            self._database = connect(
                settings or SqlSettings(), Path(self._scratch.name), extensions=lake.extensions
            )
            if lake.is_remote:
                allow_s3(self._database)
            # The cache tells files of one path apart by whole seconds.
            self._database.execute("SET enable_external_file_cache = false")
            self._database.execute("CREATE SCHEMA spans")
        except BaseException:
            self._scratch.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()
        self._scratch.cleanup()

    def step(self, *, rebuild: bool = False) -> list[Step]:
        """Bring each aggregate up to date with the lake's tables.

        Args:
            rebuild: whether all rows are computed again, as after an erasure.

        Returns:
            The aggregates that have changed.

        Raises:
            QueryFailed: a file cannot be read or written.
            LakeError: the lake cannot be read.
        """
        return [
            step
            for aggregate in self._aggregates
            if (step := self._bring_up_to_date(aggregate, rebuild=rebuild)) is not None
        ]

    def path_of(self, name: str) -> str:
        """Return where the file of an aggregate is."""
        return f"{self._lake.place}/{FOLDER}/{name}.parquet"

    def _bring_up_to_date(self, aggregate: Aggregate, *, rebuild: bool) -> Step | None:
        held = {base: self._lake.find(base) for base in aggregate.bases}
        ends = {base: table.positions for base, table in held.items() if table is not None}
        before, former = (None, "") if rebuild else self._former(aggregate)
        if before == ends or not ends:
            return None
        with failures():
            for base, lanes in ends.items():
                self._put_spans(base, lanes, (before or {}).get(base, {}))
            every = {base: self._rows(base, table, is_new=False) for base, table in held.items()}
            new = {base: self._rows(base, table, is_new=True) for base, table in held.items()}
            if before is None:
                former = ""
            return self._replace(aggregate, (every, new, former), ends)

    def _replace(
        self,
        aggregate: Aggregate,
        rows: tuple[Mapping[str, str], Mapping[str, str], str],
        ends: Positions,
    ) -> Step:
        """Write the file of an aggregate anew.

        Args:
            aggregate: the aggregate.
            rows: all rows of its tables, the new ones among them, and the rows of the former file;
                empty without one.
            ends: the offsets before which all rows are.
        """
        every, new, former = rows
        keys = ", ".join(aggregate.keys)
        run = self._database.execute
        run(
            f"CREATE OR REPLACE TEMP TABLE touched AS SELECT DISTINCT {keys} "
            f"FROM ({aggregate.facts_of(new)})"
        )
        same = " AND ".join(f"t.{key} IS NOT DISTINCT FROM r.{key}" for key in aggregate.keys)
        recomputed = aggregate.batch_query(every, self._near(aggregate) if former else "TRUE")
        texts = [f"SELECT r.* FROM ({recomputed}) AS r SEMI JOIN touched AS t ON {same}"]
        if former:
            texts.append(f"SELECT r.* FROM {former} AS r ANTI JOIN touched AS t ON {same}")
        query = f"SELECT * FROM ({' UNION ALL BY NAME '.join(texts)}) ORDER BY {keys}"
        count = self._write(aggregate, query, ends)
        ((changed,),) = run("SELECT count(*) FROM touched").fetchall()
        return Step(aggregate.name, count, changed)

    def _near(self, aggregate: Aggregate) -> str:
        """Return a condition that the facts of touched keys meet, by which files are left out."""
        if aggregate.time is None:
            keys = ", ".join(aggregate.keys[1:])
            return f"({keys}) IN (SELECT ({keys}) FROM touched)"
        ((first, last),) = self._database.execute(
            "SELECT CAST(min(day) AS VARCHAR), CAST(max(day) + 1 AS VARCHAR) FROM touched"
        ).fetchall()
        if first is None:
            return "FALSE"
        return (
            f"{aggregate.time} >= TIMESTAMPTZ '{first} 00:00:00+00' "
            f"AND {aggregate.time} < TIMESTAMPTZ '{last} 00:00:00+00'"
        )

    def _write(self, aggregate: Aggregate, query: str, ends: Positions) -> int:
        """Replace the file of an aggregate, and return how many rows it has."""
        path = self.path_of(aggregate.name)
        unfinished = path
        if not self._lake.is_remote:
            Path(path).parent.mkdir(exist_ok=True)
            unfinished = f"{self._lake.place}/{FOLDER}/.{aggregate.name}.{os.getpid()}.unfinished"
        values = {_POSITIONS: _listed(ends), _FORM: _form_of(aggregate)}
        footer = ", ".join(f"{named(name)}: {quoted(text)}" for name, text in values.items())
        options = f"FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{footer}}}"
        try:
            ((count,),) = self._database.execute(
                f"COPY ({query}) TO {quoted(unfinished)} ({options})"
            ).fetchall()
            if not self._lake.is_remote:
                _settle(Path(unfinished), Path(path))
        finally:
            if not self._lake.is_remote:
                with suppress(OSError):
                    Path(unfinished).unlink()
        return int(count)

    def _former(self, aggregate: Aggregate) -> tuple[Positions | None, str]:
        """Return the offsets of the present file and what its rows come from.

        Both are of the same file, although another keeper may replace it at any time: a local file
        is copied, and one in a bucket is read between two looks at its offsets.

        Returns:
            None and a text without meaning if there is no file, or one of another definition.
        """
        path = self.path_of(aggregate.name)
        if not self._lake.is_remote:
            copy = Path(self._scratch.name, f"{aggregate.name}.parquet")
            try:
                shutil.copyfile(path, copy)
            except FileNotFoundError:
                return None, ""
            return self._positions(aggregate, str(copy)), f"read_parquet({quoted(str(copy))})"
        while (before := self._positions(aggregate, path)) is not None:
            with failures():
                self._database.execute(
                    f"CREATE OR REPLACE TEMP TABLE former AS FROM read_parquet({quoted(path)})"
                )
            if self._positions(aggregate, path) == before:
                break
        return before, "former"

    def _positions(self, aggregate: Aggregate, path: str) -> Positions | None:
        """Return the offsets of a file; None if there is none, or of another definition."""
        try:
            rows = self._database.execute(
                f"SELECT decode(key), decode(value) FROM parquet_kv_metadata({quoted(path)})"
            ).fetchall()
        except duckdb.HTTPException as error:
            if "404" in str(error):
                return None
            raise InvalidLake(f"{path} cannot be read: {error}") from error
        except duckdb.Error as error:
            raise InvalidLake(
                f"{self.path_of(aggregate.name)} is no Parquet file: {error}; delete it, and it is "
                "computed anew"
            ) from error
        footer = dict(rows)
        if footer.get(_FORM) != _form_of(aggregate):
            return None
        return _parsed(footer[_POSITIONS])

    def _put_spans(self, base: str, ends: Mapping[Lane, int], begins: Mapping[Lane, int]) -> None:
        rows = [
            {
                "topic": lane.topic,
                "epoch": lane.epoch,
                "partition": lane.partition,
                "begin": begins.get(lane, 0),
                "end": end,
            }
            for lane, end in ends.items()
        ]
        self._database.register("new_rows", pa.Table.from_pylist(rows, _SPANS))
        self._database.execute(
            f"CREATE OR REPLACE TABLE spans.{named(base)} AS SELECT * FROM new_rows"
        )
        self._database.unregister("new_rows")

    def _rows(self, base: str, held: LakeTable | None, *, is_new: bool) -> str:
        """Return the rows of a table before the ends, or the new ones among them.

        All of the table's columns are there, also those that the lake does not have yet.
        """
        empty = f"empty_{base}"
        self._database.register(empty, schema_of(event_classes()[base]).empty_table())
        if held is None:
            return f"(SELECT * FROM {empty})"
        begin = "AND l._offset >= s.begin " if is_new else ""
        rows = (
            f"SELECT * FROM {held.relation} AS l WHERE EXISTS (SELECT 1 FROM spans.{named(base)} "
            "AS s WHERE s.topic = l._topic AND s.epoch IS NOT DISTINCT FROM l._epoch "
            f"AND s.partition = l._partition {begin}AND l._offset < s.end)"
        )
        return f"(SELECT * FROM {empty} UNION ALL BY NAME {rows})"


def open_keeper(address: str) -> Keeper:
    """Return the keeper of the lake of an address.

    Raises:
        NotInstalled: an extension of DuckDB is missing.
        InvalidLake: no tables can be read from a lake of this format.
        LakeError: the address cannot be understood, or a library is missing.
    """
    return Keeper(open_lake(address))


def _settle(unfinished: Path, path: Path) -> None:
    """Give a file its name, so that it also survives the loss of power."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _form_of(aggregate: Aggregate) -> str:
    """Return a text that changes with an aggregate's definition."""
    return sha256(f"{aggregate.facts} {aggregate.query}".encode()).hexdigest()


def _listed(positions: Positions) -> str:
    return json.dumps(
        {
            base: [
                [lane.topic, lane.epoch, lane.partition, end] for lane, end in sorted(lanes.items())
            ]
            for base, lanes in sorted(positions.items())
        }
    )


def _parsed(text: str) -> Positions:
    return {
        base: {Lane(topic, epoch, partition): end for topic, epoch, partition, end in lanes}
        for base, lanes in json.loads(text).items()
    }
