"""A log of numbered rows for tests of sinks: lanes without end, and a writer that follows them."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from analytics.sinks.base import Lane, Sink, Span, Tables
from analytics.sinks.errors import Overtaken

TABLE = "numbers"
LANES = (Lane("numbers", "0a", 0), Lane("numbers", "0a", 1))
COLUMNS = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("digest", pa.string()),
        pa.field("point", pa.struct([pa.field("x", pa.float64())])),
        pa.field("tags", pa.map_(pa.string(), pa.float64())),
        pa.field("path", pa.list_(pa.struct([pa.field("name", pa.string())]))),
        pa.field("_topic", pa.string()),
        pa.field("_partition", pa.int32()),
        pa.field("_offset", pa.int64()),
        pa.field("_ingested_at", pa.timestamp("us", "UTC")),
        pa.field("_epoch", pa.string()),
        pa.field("_tenant", pa.string()),
    ]
)
_BEGIN = datetime(2026, 11, 29, 23, 59, 30, tzinfo=UTC)


def rows_of(spans: Iterable[Span]) -> pa.Table:
    """Return the rows of spans: one of each offset, some before and some after midnight."""
    return pa.Table.from_pylist(
        [_row(span.lane, offset) for span in spans for offset in range(span.begin, span.end)],
        schema=COLUMNS,
    )


def write_step(sink: Sink, lanes: Sequence[Lane], size: int, table: str = TABLE) -> bool:
    """Write the next rows of lanes, and return whether nobody else was faster."""
    positions = sink.positions(table)
    spans = [Span(lane, positions.get(lane, 0), positions.get(lane, 0) + size) for lane in lanes]
    try:
        sink.append(table, rows_of(spans), spans)
    except Overtaken:
        return False
    return True


def check_rows(sink: Tables, table: str = TABLE) -> int:
    """Check that a table has each row of the log up to its positions once, and return how many."""
    expected = rows_of(Span(lane, 0, end) for lane, end in sink.positions(table).items())
    found = sink.read(table).select(expected.column_names)
    order = [("_partition", "ascending"), ("_offset", "ascending")]
    assert len(found) == len(expected)
    assert found.sort_by(order).to_pylist() == expected.sort_by(order).to_pylist()
    return len(found)


def _row(lane: Lane, offset: int) -> dict[str, object]:
    name = f"{lane.topic}/{lane.epoch}/{lane.partition}/{offset}"
    return {
        "number": offset,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "point": {"x": offset / 4} if offset % 3 else None,
        "tags": [(f"k{offset % 5}", 0.5)],
        "path": [{"name": name}, None],
        "_topic": lane.topic,
        "_partition": lane.partition,
        "_offset": offset,
        "_ingested_at": _BEGIN + timedelta(seconds=offset % 60),
        "_epoch": lane.epoch,
        "_tenant": f"t{offset % 2}",
    }
