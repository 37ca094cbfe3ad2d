"""The disk that a million events of each topic take: `make bench-retention`.

Each event is published by the reporter's publisher to an embedded broker, with other ids and the
sizes of the API's examples, and the files of the topic's partitions are measured before and after.
"Together" is at full speed, so that a request has many events; "alone" waits for each before the
next one, as a quiet producer does. Producers do not compress. Replication multiplies the figures.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.broker import embedded_kafka
from infra.topics import provision
from kafka_io.dead_letters import dead_letter
from kafka_io.publisher import Publisher
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from schemas.codec import encode
from schemas.events import (
    AgentCommand,
    AlertAck,
    BacktestCommand,
    Bar,
    BarChunk,
    Book,
    Candle,
    DeadLetterReason,
    Event,
    Holding,
    OperatorAction,
    OperatorActionKind,
    Return,
    ReturnBatch,
    RiskLimit,
    RiskLimits,
    Scenario,
    SeriesReturns,
    SeriesWanted,
    Shock,
    Trade,
    TradeBatch,
    TrainingCommand,
    WindowTally,
)
from schemas.registry import field_names
from schemas.topics import DAY_MS, FOR_EVER_MS, Topic, topic_of
from sse_edge.streams import examples

_AT_US = 1_700_000_000_000_000
_RETURNS = 100
"""The returns of a batch, the trades and the bars of one."""
_SHOCKS = 50
_HOLDINGS = 20
_MILLION = 1_000_000


class Sample(NamedTuple):
    """An event whose size is measured."""

    event: Any
    what: str = ""
    """A description for the table; empty where the name of the class is enough."""


class Measured(NamedTuple):
    """The bytes of an event on the disk."""

    sample: Sample
    together_bytes: float
    alone_bytes: float

    @property
    def topic(self) -> Topic:
        """The topic of the event."""
        return topic_of(self.sample.event)


def samples() -> Iterator[Sample]:
    """Yield an event of each topic whose records are kept for a time, or for ever."""
    yield Sample(examples.TRAINING[0])
    yield Sample(
        TrainingCommand(task_id="", meter_id="m-1", meter_type="gas", event_time_us=_AT_US)
    )
    yield Sample(
        BacktestCommand(
            job_id="",
            symbol="AAPL",
            strategy="rsi",
            parameters={"period": 14.0},
            cost=0.001,
            initial_cash=100_000.0,
            event_time_us=_AT_US,
        )
    )
    bar = Bar(time="2008-10-10", open=1.5, high=1.6, low=1.4, close=1.5, volume=100.0)
    yield Sample(
        BarChunk(
            job_id="",
            interval="1day",
            first=0,
            total=_RETURNS,
            bars=[bar] * _RETURNS,
            event_time_us=_AT_US,
        ),
        f"of {_RETURNS} bars",
    )
    yield Sample(examples.BACKTEST_JOB[0])
    value = Return("portfolio-1", _AT_US, 0.0123)
    yield Sample(ReturnBatch(returns=[value]), "of one return")
    yield Sample(ReturnBatch(returns=[value] * _RETURNS), f"of {_RETURNS} returns")
    yield Sample(examples.ALERTS[0])
    limits = [RiskLimit("var_95", 0.02), RiskLimit("drawdown", 0.1)]
    yield Sample(
        RiskLimits(portfolio_id="", limits=limits, set_by="ann", comment="Q4", event_time_us=_AT_US)
    )
    yield Sample(AlertAck(alert_id="a" * 40, entity_id="", by="ann", event_time_us=_AT_US))
    yield Sample(
        Scenario(
            name="",
            version=1,
            kind="hypothetical",
            shocks=[Shock("portfolio-1", -0.2)] * _SHOCKS,
            others="zero",
            event_time_us=_AT_US,
        ),
        f"of {_SHOCKS} shocks, in each partition",
    )
    holdings = [Holding("portfolio-1", 100.0, 10.5, _AT_US)] * _HOLDINGS
    yield Sample(
        Book(root="fund", book_id="desk", holdings=holdings, event_time_us=_AT_US),
        f"of {_HOLDINGS} holdings",
    )
    yield Sample(SeriesWanted(series_id="", root="fund", wanted=True, event_time_us=_AT_US))
    yield Sample(SeriesReturns(root="", returns=[value]), "of one return")
    yield Sample(
        WindowTally(
            window_start_us=_AT_US,
            window_us=_MILLION,
            counts={"returns": 20},
            source_topic="portfolio.returns",
            source_partition=0,
            last_offset=0,
        )
    )
    yield Sample(examples.DASHBOARD[0])
    yield Sample(AgentCommand(run_id="", message="what is the VaR of p-1?", event_time_us=_AT_US))
    yield Sample(examples.AGENT[0])
    yield Sample(examples.CHAT[1])
    yield Sample(examples.USER[0])
    trade = Trade(time_us=_AT_US, price=101.25, amount=0.5)
    yield Sample(
        TradeBatch(symbol="", first=0, trades=[trade] * _RETURNS, watermark_us=_AT_US),
        f"of {_RETURNS} trades",
    )
    yield Sample(
        Candle(
            symbol="",
            interval="minute",
            start_us=_AT_US,
            end_us=_AT_US + 60 * _MILLION,
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
            volume=1.0,
            trades=9,
        )
    )
    refused = encode(ReturnBatch(returns=[value]))
    record = ConsumedRecord("portfolio.returns", 0, 1, 1.0, b"acme\xffp", refused, [])
    yield Sample(dead_letter(record, DeadLetterReason.INVALID, "the tenant is not UTF-8"))
    yield Sample(examples.NOTIFICATIONS[0])
    yield Sample(
        OperatorAction(
            action=OperatorActionKind.DISCARD,
            subject="portfolio.returns/3/1207",
            comment="from a test",
            event_time_us=_AT_US,
        )
    )


def numbered(event: Any, number: int) -> Event:
    """Return an event with the number in the field that is its key, if it has one."""
    subject = topic_of(event).subject
    if subject not in field_names(type(event)):
        unchanged: Event = event
        return unchanged
    changed: Event = replace(event, **{subject: f"entity-{number % 500:04}"})
    return changed


async def measure(sample: Sample, folder: Path, settings: ProducerSettings, count: int) -> Measured:
    """Publish an event many times, together and alone, and measure the files."""
    partition = 0 if topic_of(sample.event).subject is None else None
    async with Publisher(settings) as publisher:

        async def publish(number: int) -> None:
            await publisher.publish(numbered(sample.event, number), partition=partition)

        await publish(0)  # the producer has connected
        before = size_of(folder, settings, sample.event)
        async with asyncio.TaskGroup() as running:
            for number in range(count):
                running.create_task(publish(number))
        between = size_of(folder, settings, sample.event)
        alone = max(count // 20, 1)
        for number in range(alone):
            await publish(number)
        after = size_of(folder, settings, sample.event)
    return Measured(sample, (between - before) / count, (after - between) / alone)


def size_of(folder: Path, settings: ProducerSettings, event: Any) -> int:
    """Return the bytes of the segments of an event's topic, without their indexes."""
    name = settings.topic_prefix + topic_of(event).name
    return sum(path.stat().st_size for path in folder.rglob(f"{name}-[0-9]*/*.log"))


def kept_text(topic: Topic) -> str:
    """Return for how long a topic is kept, as it is made."""
    if topic.retention_ms in (None, FOR_EVER_MS):
        return "for ever"
    assert topic.retention_ms is not None
    days = topic.retention_ms // DAY_MS
    return "1 day" if days == 1 else f"{days} days"


def table_of(rows: Sequence[Measured]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| topic | event | kept | MB per million, together | alone |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        event = f"{type(row.sample.event).__name__} {row.sample.what}".strip()
        yield (
            f"| `{row.topic.name}` | {event} | {kept_text(row.topic)} | "
            f"{row.together_bytes:,.0f} | {row.alone_bytes:,.0f} |"
        )


async def run(count: int) -> Sequence[Measured]:
    """Measure all samples on a broker of their own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with embedded_kafka(folder) as servers:
            await asyncio.to_thread(provision, servers, warn=lambda _: None)
            settings = ProducerSettings(bootstrap_servers=servers, patience_s=60)
            return [await measure(sample, folder, settings, count) for sample in samples()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=4_000, help="how many events of each topic")
    arguments = parser.parse_args()
    sys.stdout.write("\n".join(table_of(asyncio.run(run(arguments.count)))) + "\n")


if __name__ == "__main__":
    main()
