"""`tapewire tenant find --lake` and `erase --lake`: the rows of a tenant in the tables of a lake.

An erasure writes the rows of a table's files anew without those of the tenant. Earlier states of
the table have them still: those that are older than a time are forgotten, and the files that no
remembered state needs are deleted. So the command is run again when that time has passed.

Aggregates beside the tables have rows of tenants, too. Their files are deleted, since `tapewire
aggregates` computes them anew from the tables.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from cli.answers import Answer
from cli.errors import AnalyticsFailed, ErasureRefused
from cli.table_libraries import tables_or_reason
from cli.tenant_survey import check_tenant
from kafka_io.clock import now_us
from schemas.instants import to_rfc3339

if TYPE_CHECKING:
    from analytics.sinks.base import Tables

_TENANT, _AT = "_tenant", "_ingested_at"
_AGGREGATES = "aggregates"


@dataclass(frozen=True, slots=True)
class LakeErasure:
    """An erasure that is asked for."""

    lake: str
    """The address, such as `delta:/srv/lake`."""
    tenant: str
    confirmed: str | None
    """The tenant's name once more."""
    keep_hours: int
    """For how long earlier states of the tables can be read."""
    is_dry: bool
    """Whether nothing is written."""


def find_in_lake(lake: str, tenant: str) -> Answer:
    """Count the rows of a tenant in each table of a lake.

    Args:
        lake: the lake's address.
        tenant: the tenant.

    Raises:
        InvalidArgument: no tenant has such a name.
        NotInstalled: the extra `lake` is not installed.
        AnalyticsFailed: the lake cannot be read.
    """
    check_tenant(tenant)
    with tables_or_reason():
        sink = _opened(lake)
        rows = [found for table in sink.tables() if (found := _found(sink, table, tenant))["rows"]]
    document = {"tenant": tenant, "lake": lake, "tables": rows}
    lines = [
        f"{row['table']:<30} {row['rows']:>9,} rows  {row['oldest']} to {row['newest']}"
        for row in rows
    ]
    return Answer(document, lines or [f"the tables of {lake} have no rows of {tenant!r}"])


def erase_in_lake(erasure: LakeErasure) -> Answer:
    """Delete the rows of a tenant from a lake, and say until when earlier states have them.

    Raises:
        InvalidArgument: no tenant has such a name.
        ErasureRefused: the name is not confirmed; nothing was written.
        NotInstalled: the extra `lake` is not installed.
        AnalyticsFailed: the lake cannot be read or written; run it again.
    """
    if erasure.is_dry:
        return find_in_lake(erasure.lake, erasure.tenant)
    tenant = check_tenant(erasure.tenant)
    if erasure.confirmed != tenant:
        raise ErasureRefused(
            f"this deletes the rows of {tenant!r} from {erasure.lake} for good; give --confirm "
            f"{tenant} to agree, or --dry-run to see what it would do"
        )
    with tables_or_reason():
        sink = _opened(erasure.lake)
        history = timedelta(hours=erasure.keep_hours)
        rows = [_erased(sink, table, tenant, history) for table in sink.tables()]
        aggregates = list(_without_aggregates(erasure.lake))
    until = to_rfc3339(now_us() + int(history.total_seconds()) * 1_000_000)
    document: dict[str, Any] = {
        "tenant": tenant,
        "lake": erasure.lake,
        "tables": rows,
        "aggregates": aggregates,
        "history_until": until if erasure.keep_hours else None,
    }
    lines = [_line(row) for row in rows] or [f"{erasure.lake} has no tables"]
    lines += [f"{path}: deleted; `tapewire aggregates` computes it anew" for path in aggregates]
    if erasure.keep_hours and any(row["rows"] for row in rows):
        lines.append(
            f"Earlier states of these tables have the rows, and can be read until {until}: run "
            "this again then, which deletes their files, or now with --keep-hours 0 if nobody "
            "reads or writes the lake"
        )
    lines.append(
        "Not touched: tables that others have made of these, and copies of the files. The log has "
        "what `tapewire tenant find` says; a lake that is written anew from it has these rows again"
    )
    return Answer(document, lines)


def _opened(lake: str) -> "Tables":
    """Return the tables of a lake, of a format that deletes rows."""
    from analytics.sinks.address import open_sink  # noqa: PLC0415  # it needs an extra

    sink = open_sink(lake)
    missing = [name for name in ("tables", "read", "erase", "expire") if not hasattr(sink, name)]
    if missing:
        raise AnalyticsFailed(
            f"no rows can be deleted from {lake}: its format has no history of states. Delete its "
            "files, and let them be written anew from the log"
        )
    return cast("Tables", sink)


def _found(sink: "Tables", table: str, tenant: str) -> dict[str, Any]:
    """Return how many rows of a table are a tenant's, and since when."""
    import pyarrow.compute as pc  # noqa: PLC0415  # it needs an extra

    columns: Any = sink.read(table, [_TENANT, _AT])
    calculate: Any = pc
    times = columns.filter(calculate.equal(columns[_TENANT], tenant))[_AT]
    bounds: Mapping[str, Any] = calculate.min_max(times).as_py()
    return {
        "table": table,
        "rows": len(times),
        "oldest": None if bounds["min"] is None else bounds["min"].isoformat(),
        "newest": None if bounds["max"] is None else bounds["max"].isoformat(),
    }


def _erased(sink: "Tables", table: str, tenant: str, history: timedelta) -> dict[str, Any]:
    rows = sink.erase(table, _TENANT, tenant)
    states = sink.expire(table, history)
    files = sink.vacuum(table, history)
    return {"table": table, "rows": rows, "states_forgotten": states, "files_deleted": len(files)}


def _without_aggregates(lake: str) -> Iterator[str]:
    """Delete the files of the aggregates beside the tables, and yield their paths."""
    from analytics.sinks.address import parse_address  # noqa: PLC0415  # it needs an extra
    from analytics.sinks.store import Store  # noqa: PLC0415  # as above

    store = Store(parse_address(lake))
    for path in store.files_below(store.place_of(_AGGREGATES)):
        store.delete(path)
        yield path


def _line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['table']:<30} {row['rows']:>9,} rows deleted, {row['states_forgotten']} earlier "
        f"states forgotten, {row['files_deleted']} files deleted"
    )
