"""Writes the events of an interval of the log as a file, in bounded memory."""

from pathlib import Path
from typing import NamedTuple

from analytics.columns import schema_of
from analytics.errors import UnknownTable
from analytics.log_rows import Interval, Log, read_rows
from analytics.names import EventTable
from analytics.table_files import Format, open_writer


class Exported(NamedTuple):
    """The result of an export."""

    rows: int
    refused: int
    """The records of the topic that the gate refused, which are no rows."""


async def export_rows(
    log: Log,
    table: EventTable,
    interval: Interval,
    *,
    form: Format,
    path: Path | None = None,
    tenant: str | None = None,
) -> Exported:
    """Write the rows that the log got in an interval, partition by partition, in their order.

    Args:
        log: the log.
        table: the table.
        interval: the interval, by the log's clock.
        form: the form of the file.
        path: the file; None for the standard output.
        tenant: the tenant whose rows are written; empty for those without one, None for all.

    Raises:
        UnknownTable: the table's topic does not exist.
        NotWritten: the file cannot be written.
    """
    ranges = await log.ranges([table.topic.name], *interval)
    if not ranges:
        raise UnknownTable(
            f"there is no topic {table.topic.name} for the table {table.name}; "
            "`tapewire topics create` makes it"
        )
    rows = refused = 0
    with open_writer(path, form, schema_of(table.kind)) as writer:
        async for batch in read_rows(log, table, ranges, interval, tenant):
            writer.write(batch.rows)
            rows += batch.rows.num_rows
            refused += batch.refused
    return Exported(rows, refused)
