"""Protocols of sinks, which append rows and the offsets that they stand for in one step.

A sink has a table of each event class. A table holds the rows of some lanes and, for each lane, the
offset of the next record. Both change in one step, so a writer that dies or is replaced goes on at
the table's positions, and each record of the log is one row.

Two writers may run at once. A writer whose span does not begin at the table's position is refused
with `Overtaken`, and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, order=True)
class Lane:
    """Where offsets count: a partition of a topic.

    Attributes:
        topic: the topic's name.
        epoch: the topic's id in hexadecimal; a topic that is made again has another one.
        partition: the partition's number.
    """

    topic: str
    epoch: str
    partition: int


@dataclass(frozen=True)
class Span:
    """The offsets of a lane from `begin` up to, not including, `end`."""

    lane: Lane
    begin: int
    end: int


@dataclass(frozen=True)
class Snapshot:
    """The state of a table at one moment, which readers can join with the log.

    Attributes:
        location: what a reader of the format opens: the table's folder, or for Iceberg the file of
            its metadata.
        version: the number of the state in the format's own history; None without a history.
        positions: the offset of the next record of each lane.
    """

    location: str
    version: int | None
    positions: Mapping[Lane, int]


class Sink(Protocol):
    """Writes tables of rows."""

    def positions(self, table: str) -> Mapping[Lane, int]:
        """Return the next offset of each lane of a table; none of a table that is not there yet."""
        ...

    def append(self, table: str, rows: "pa.Table", spans: Sequence[Span]) -> None:
        """Append rows and advance lanes: readers see both or neither. A new table is made.

        Args:
            table: the table's name.
            rows: the rows of these spans; their columns are the table's, or more.
            spans: what the rows stand for, at most one of each lane. A span may have no rows.

        Raises:
            Overtaken: a lane's position is not where its span begins.
            LakeError: nothing was written, or it is unknown whether it was: read the positions.
        """
        ...


@runtime_checkable
class Tables(Sink, Protocol):
    """A sink whose tables have a history, and can be listed and kept up."""

    def tables(self) -> Sequence[str]:
        """Return the names of all tables, sorted."""
        ...

    def snapshot(self, table: str) -> Snapshot:
        """Return the current state of a table."""
        ...

    def read(self, table: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """Return all rows of a table, in no order."""
        ...

    def files(self, table: str) -> Sequence[str]:
        """Return the paths or addresses of the Parquet files with the rows of a table."""
        ...

    def compact(self, table: str) -> "Compacted":
        """Write the many small files of each day as few, without a change of rows."""
        ...

    def erase(self, table: str, column: str, value: str) -> int:
        """Delete the rows with a value in a column of texts, and return how many."""
        ...

    def expire(self, table: str, older_than: timedelta) -> int:
        """Forget the states before the current one that are older, and return how many."""
        ...

    def vacuum(self, table: str, older_than: timedelta) -> Sequence[str]:
        """Delete older files that no remembered state needs, and return their names."""
        ...


@dataclass(frozen=True)
class Compacted:
    """The result of a compaction: the files and rows that were read, and the files written."""

    files_before: int
    files_after: int
    rows: int
