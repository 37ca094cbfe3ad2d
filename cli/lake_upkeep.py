"""`tapewire lake`: lists the tables of a lake, and keeps their files few and young."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cli.answers import Answer
from cli.errors import AnalyticsFailed
from cli.table_libraries import tables_or_reason

if TYPE_CHECKING:
    from analytics.sinks.base import Tables

Row = Mapping[str, Any]


def list_tables(address: str, names: Sequence[str]) -> Answer:
    """Return the tables of a lake with the next offset of each partition.

    Raises:
        CommandError: the lake cannot be read.
    """

    def row(lake: "Tables", name: str) -> Row:
        snapshot = lake.snapshot(name)
        lanes = [
            {"topic": lane.topic, "epoch": lane.epoch, "partition": lane.partition, "next": offset}
            for lane, offset in sorted(snapshot.positions.items())
        ]
        return {"location": snapshot.location, "version": snapshot.version, "positions": lanes}

    def line(found: Row) -> str:
        offsets = sum(lane["next"] for lane in found["positions"])
        return f"{len(found['positions'])} partitions up to {offsets} offsets, {found['location']}"

    return _each_table(address, names, row, line)


def compact(address: str, names: Sequence[str]) -> Answer:
    """Write the small files of each day as few.

    Raises:
        CommandError: the lake cannot be written.
    """

    def row(lake: "Tables", name: str) -> Row:
        done = lake.compact(name)
        return {
            "files_before": done.files_before,
            "files_after": done.files_after,
            "rows": done.rows,
        }

    def line(found: Row) -> str:
        if not found["files_before"]:
            return "nothing to do"
        return (
            f"{found['files_before']} files of {found['rows']} rows are {found['files_after']} now"
        )

    return _each_table(address, names, row, line)


def expire(address: str, names: Sequence[str], older_than: timedelta) -> Answer:
    """Forget old states of tables.

    Raises:
        CommandError: the lake cannot be written.
    """
    return _each_table(
        address,
        names,
        lambda lake, name: {"expired": lake.expire(name, older_than)},
        lambda found: f"{found['expired']} old states are forgotten",
    )


def vacuum(address: str, names: Sequence[str], older_than: timedelta) -> Answer:
    """Delete old files that no state of a table needs.

    Raises:
        CommandError: the lake cannot be written.
    """
    return _each_table(
        address,
        names,
        lambda lake, name: {"deleted": list(lake.vacuum(name, older_than))},
        lambda found: f"{len(found['deleted'])} files are deleted",
    )


def _each_table(
    address: str,
    names: Sequence[str],
    row: "Callable[[Tables, str], Row]",
    line: Callable[[Row], str],
) -> Answer:
    """Do something with the tables of these names, or with all, and return what came of it."""
    with _opened(address) as lake:
        rows = [{"table": name, **row(lake, name)} for name in names or lake.tables()]
    lines = [f"{found['table']}: {line(found)}" for found in rows]
    return Answer(rows, lines or [f"there is no table at {address}"])


@contextmanager
def _opened(address: str) -> "Generator[Tables]":
    with tables_or_reason():
        # Only these commands need the libraries.
        from analytics.sinks.address import open_sink  # noqa: PLC0415  # see above
        from analytics.sinks.base import Tables  # noqa: PLC0415  # see above

        lake = open_sink(address)
        if not isinstance(lake, Tables):
            raise AnalyticsFailed(
                f"{address} has plain files without a history; only tables of delta: and iceberg: "
                "are kept up"
            )
        yield lake
