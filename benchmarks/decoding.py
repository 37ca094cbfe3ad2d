"""`make bench-lake`: compare decoding many records at once with the gate, record by record.

It runs on one core. README.md in this folder explains the figures.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["POLARS_MAX_THREADS"] = "1"  # it is read when polars is imported

import pyarrow as pa

from analytics.decoding import decode, structs_of
from analytics.lake_counts import LakeCounts
from analytics.lake_writer import LakeWriter, TopicBatch, choose_tables
from analytics.sinks.base import Lane, Span
from analytics.sinks.parquet import ParquetSink
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import ModelBacktest, Record, Return, ReturnBatch, RiskEstimate, RiskMeasure
from schemas.gate import admit
from schemas.headers import Headers, headers_of

_RECORDS = 6_000
_RETURNS = 20
"""The returns of a batch."""
_ROUNDS = 5
_AT_US = 1_790_000_000_000_000


def main() -> int:
    """Print how many returns and measures are decoded and written in a second."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    print("| | by record | at once | at once, and written |")
    print("| --- | --- | --- | --- |")
    _compare("measures/s", RiskMeasure, _records(_measure()), "risk_measure", 1)
    _compare("returns/s", ReturnBatch, _records(_batch()), "return_batch", _RETURNS)
    return 0


def _compare(
    name: str, kind: type[Record], records: Sequence[ConsumedRecord], table: str, size: int
) -> None:
    tables = choose_tables([table])[0]

    def by_record() -> None:
        structs_of(kind, [admit(r.value, kind, logged_us=_AT_US) for r in records])

    def at_once() -> None:
        assert decode([kind], "e", records).events[kind].num_rows == len(records)

    def written() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = LakeWriter(ParquetSink(Path(folder)), LakeCounts())
            span = Span(Lane(tables.topic.name, "e", 0), 0, len(records))
            writer.write(TopicBatch(tables, "e", [span], records))

    rates = [size * len(records) / _fastest(work) for work in (by_record, at_once, written)]
    print(f"| {name} | {' | '.join(f'{rate:,.0f}' for rate in rates)} |")


def _fastest(work: Callable[[], None]) -> float:
    took_s = []
    for _ in range(_ROUNDS):
        began_s = time.perf_counter()
        work()
        took_s.append(time.perf_counter() - began_s)
    return min(took_s)


def _records(event: RiskMeasure | ReturnBatch) -> list[ConsumedRecord]:
    value = encode(event)
    headers: Headers = headers_of(event, value, "/bench", recorded_us=_AT_US)
    topic = choose_tables([type(event).__name__])[0].topic.name
    return [
        ConsumedRecord(topic, 0, offset, _AT_US / 1e6, b"k", value, headers)
        for offset in range(_RECORDS)
    ]


def _batch() -> ReturnBatch:
    return ReturnBatch(returns=[Return(f"p{n}", _AT_US, 0.01) for n in range(_RETURNS)])


def _measure() -> RiskMeasure:
    """Return a measure with 14 estimates and 2 backtests: some 1,260 bytes."""
    estimate = RiskEstimate("historical", 0.95, 1, "ok", _AT_US, 0.02, 0.03)
    backtest = ModelBacktest(0.99, 250, 3, "green", 1.0, 0.2, 0.3, 0.4, 0.5, 0.6, 250, 0.9, 0.3)
    return RiskMeasure(
        portfolio_id="p",
        as_of_us=_AT_US,
        method="historical",
        status="ok",
        observations=250,
        var_95=0.02,
        es_95=0.03,
        var_99=0.04,
        es_99=0.05,
        event_id="p:1",
        source_topic="portfolio.returns",
        source_partition=0,
        source_offset=1,
        estimates=[estimate] * 14,
        model_backtests=[backtest] * 2,
    )


if __name__ == "__main__":
    sys.exit(main())
