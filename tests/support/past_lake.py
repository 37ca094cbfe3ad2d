"""A lake with the returns, measures and alerts of 2008 of the packaged stocks, and some jobs."""

from collections.abc import Iterator, Sequence
from datetime import date
from random import Random

import pyarrow as pa

from analytics.log_rows import rows_of
from analytics.names import event_tables
from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Span
from kafka_io.reader import ConsumedRecord
from producers.market.prices import TradingDay, load_prices, trading_days
from schemas.codec import encode
from schemas.events import (
    BacktestProgress,
    JobStep,
    Record,
    ReturnBatch,
    RiskAlert,
    RiskMeasure,
    TrainingProgress,
)
from schemas.topics import TopicPartition, topic_of
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from tests.support.straight_run import CONFIG

FIRST, LAST = date(2007, 6, 1), date(2008, 12, 31)
"""The window of 2008's first measures begins in 2007."""
_LOGGED_US = 1_796_000_000_000_000
_EPOCH = "0a" * 16


def write_past(address: str) -> None:
    """Write the tables of a lake."""
    events: dict[type[Record], list[Record]] = {}
    for event in [*_risk_of_2008(), *_jobs()]:
        events.setdefault(type(event), []).append(event)
    sink = open_sink(address)
    for name, table in event_tables().items():
        found = events.get(table.kind)
        if found:
            records = _records(found)
            lane = Lane(table.topic.name, _EPOCH, 0)
            rows = rows_of(table, _EPOCH, records).rows
            sink.append(name, pa.Table.from_batches([rows]), [Span(lane, 0, len(records))])


def _records(events: Sequence[Record]) -> list[ConsumedRecord]:
    return [
        ConsumedRecord(
            topic_of(event).name,
            0,
            offset,
            _LOGGED_US / 1e6 + offset / 1000,
            None,
            encode(event),
            [],
        )
        for offset, event in enumerate(events)
    ]


def _risk_of_2008() -> Iterator[ReturnBatch | RiskMeasure | RiskAlert]:
    days: Sequence[TradingDay] = trading_days(load_prices())
    risks: dict[str, PortfolioRisk] = {}
    for offset, day in enumerate(day for day in days if FIRST <= day.day <= LAST):
        returns = day.at_close()
        yield ReturnBatch(returns=returns)
        for item in returns:
            risk = risks.setdefault(
                item.portfolio_id, PortfolioRisk(item.portfolio_id, CONFIG, TopicPartition("", 0))
            )
            _, alerts = risk.apply(item, ReturnOffset(offset, 0))
            measure = risk.measure_event()
            assert measure is not None
            yield measure
            yield from alerts


def _jobs() -> Iterator[TrainingProgress | BacktestProgress]:
    dice = Random(7)
    for number in range(40):
        begin_us = _LOGGED_US + number * 1_000_000
        end_us = begin_us + int(dice.expovariate(1 / 30) * 1e6)
        steps = [("running", 0.0, begin_us)]
        if number % 10:
            steps.append(("failed" if number % 7 == 0 else "completed", 100.0, end_us))
        for status, progress, at_us in steps:
            yield TrainingProgress(
                task_id=f"t-{number}",
                progress=progress,
                status=status,
                message="",
                metrics={},
                event_time_us=at_us,
            )
            yield BacktestProgress(
                backtest_id=f"b-{number}",
                progress=progress,
                status="running",
                message="",
                results={},
                event_time_us=at_us,
                job=JobStep(
                    kind="progress" if status == "running" else status,
                    symbol="MSFT",
                    strategy="buy_and_hold",
                ),
            )
