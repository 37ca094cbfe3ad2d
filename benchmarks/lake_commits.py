"""The cost of a commit into a lake, by its format and its rows: `make bench-lake`.

Rows have the columns of `RiskMeasure`, and half of the numbers are null. The commits before count:
Iceberg reads and writes the list of all states of a table each time, so its commits become slower
until `tapewire lake expire` forgets old states. The median of some commits is shown.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa

from analytics.columns import schema_of
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span, Tables
from analytics.table_names import table_name
from schemas.events import RiskMeasure

_TABLE = table_name(RiskMeasure)
_LANE = Lane("risk.measures", "0a", 0)
_BEGIN_US = 1_796_000_000_000_000
_FORMATS = ("delta", "iceberg")


class Case(NamedTuple):
    """A commit of some rows to a table that has got some commits before."""

    rows: int
    commits_before: int


_CASES = (
    Case(0, 10),
    Case(1_000, 10),
    Case(10_000, 10),
    Case(100_000, 10),
    Case(1_000, 300),
)


def rows_of(begin: int, count: int) -> pa.Table:
    """Return measures of some offsets."""
    dice = np.random.default_rng(begin)
    columns = [_column(field, begin, count, dice) for field in schema_of(RiskMeasure)]
    return pa.table(columns, schema=schema_of(RiskMeasure))


def measure(table_format: str, case: Case, repeats: int) -> float:
    """Return the median of the seconds that a commit takes."""
    with tempfile.TemporaryDirectory() as folder:
        sink = cast("Tables", open_sink(f"{table_format}:{folder}/lake"))
        offset = 0
        took_s = []
        for number in range(case.commits_before + repeats):
            size = case.rows if number >= case.commits_before else min(case.rows, 10)
            rows = rows_of(offset, size)
            began = time.perf_counter()
            sink.append(_TABLE, rows, [Span(_LANE, offset, offset + max(size, 1))])
            if number >= case.commits_before:
                took_s.append(time.perf_counter() - began)
            offset += max(size, 1)
        return statistics.median(took_s)


def measure_upkeep(table_format: str, commits: int, rows: int) -> tuple[float, float]:
    """Return the seconds of a compaction after some commits, and of a scan after it."""
    with tempfile.TemporaryDirectory() as folder:
        sink = cast("Tables", open_sink(f"{table_format}:{folder}/lake"))
        for number in range(commits):
            span = Span(_LANE, number * rows, (number + 1) * rows)
            sink.append(_TABLE, rows_of(span.begin, rows), [span])
        began = time.perf_counter()
        sink.compact(_TABLE)
        compacted = time.perf_counter()
        sink.expire(_TABLE, timedelta())
        sink.vacuum(_TABLE, timedelta())
        return compacted - began, time.perf_counter() - compacted


def _column(field: pa.Field, begin: int, count: int, dice: np.random.Generator) -> pa.Array:
    if field.name == "_offset":
        return pa.array(np.arange(begin, begin + count), field.type)
    if pa.types.is_timestamp(field.type):
        return pa.array(_BEGIN_US + np.arange(count), pa.int64()).cast(field.type)
    if pa.types.is_string(field.type):
        return pa.array([f"{field.name}-{number % 1_000}" for number in range(count)], field.type)
    if pa.types.is_floating(field.type):
        return pa.array(dice.normal(size=count), field.type, mask=dice.random(count) < 1 / 2)
    if pa.types.is_integer(field.type):
        return pa.array(dice.integers(0, 1_000, count), field.type)
    return pa.nulls(count, field.type)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of the costs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10, help="the commits that are measured")
    parser.add_argument("--quick", action="store_true", help="one small case")
    given = parser.parse_args(arguments)
    cases = (Case(10, 1),) if given.quick else _CASES
    lines = ["| rows of a commit | commits before | " + " | ".join(_FORMATS) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(_FORMATS))
    for case in cases:
        costs = [measure(name, case, given.repeats) for name in _FORMATS]
        shown = " | ".join(f"{cost * 1_000:,.0f} ms" for cost in costs)
        lines.append(f"| {case.rows:,} | {case.commits_before} | {shown} |")
    commits, rows = (2, 10) if given.quick else (100, 1_000)
    for name in _FORMATS:
        compaction_s, rest_s = measure_upkeep(name, commits, rows)
        lines.append("")
        lines.append(
            f"{name}: {commits} files of {rows:,} rows are compacted in {compaction_s:.2f} s, "
            f"expired and vacuumed in {rest_s:.2f} s"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
