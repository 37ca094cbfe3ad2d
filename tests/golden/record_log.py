"""Records the log that the processors of a release leave behind.

    cd CHECKOUT && PYTHONPATH=. python .../tests/golden/record_log.py FILE

CHECKOUT is a checkout of the release. The program starts an embedded broker and the release's
processors, publishes a little of everything, and kills the processors when they have written the
states of the last records and not committed all offsets. FILE then holds every record of the topics
that processors read, the last row of each key of their states, and the offsets of their group.

One row is older than that, `hedge`'s: it is as if the processors had died between two rows.
"""

import asyncio
import json
import os
import sys
import tempfile
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from infra.embedded_broker import free_port, prepare
from infra.settings import InfraSettings
from infra.topics import provision, wait_for_kafka
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.returns import ReturnsPublisher
from schemas.codec import decode
from schemas.events import (
    AlertAck,
    BacktestProgress,
    Book,
    Holding,
    JobStep,
    Return,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    Trade,
    TradeBatch,
    TrainingProgress,
)
from schemas.topics import RISK_BOOKS

INPUTS = (
    "portfolio.returns",
    "risk.limits",
    "risk.acks",
    "risk.wanted",
    "risk.rebuilds",
    "risk.books",
    "risk.series",
    "training.events",
    "backtest.events",
    "market.trades",
    "risk.alerts",
    "dashboard.tallies",
)
STATES = (
    "risk.state",
    "risk.book_state",
    "training.tasks",
    "backtest.jobs",
    "market.forming",
    "dashboard.boards",
)
PARTITIONS = 6
DAY_US = 86_400_000_000
COMMITTED_DAYS, DAYS = 110, 113
"""The returns of the first days are committed; those of the others have states at least."""
DEVIATIONS = {"calm": 0.01, "wild": 0.05, "hedge": 0.02, "rented": 0.02}
TENANTS = {"rented": "acme"}
BEHIND = ("risk.state", b"hedge")


def returns_of(portfolio_id: str, days: range) -> list[Return]:
    """Return a portfolio's returns of some days, the same at each call."""
    dice = np.random.default_rng(sum(portfolio_id.encode()))
    values = np.round(dice.normal(0, DEVIATIONS[portfolio_id], 1_000), 4)
    return [Return(portfolio_id, day * DAY_US, float(values[day])) for day in days]


def task_progress(percent: float) -> TrainingProgress:
    return TrainingProgress(
        task_id="task",
        progress=percent,
        status="running",
        message="",
        metrics={},
        event_time_us=int(percent),
    )


def job_progress(percent: float, kind: str) -> BacktestProgress:
    return BacktestProgress(
        backtest_id="job",
        progress=percent,
        status="running",
        message=kind,
        results={},
        event_time_us=int(percent),
        job=JobStep(kind=kind, symbol="IBM", strategy="rsi", owner="ann"),
    )


def trades_from(first: int) -> TradeBatch:
    """Return five trades, one each half minute, the price a unit higher each time."""
    made = [
        Trade(time_us=number * 30_000_000, price=100.0 + number, amount=1.0)
        for number in range(first, first + 5)
    ]
    return TradeBatch(symbol="BTC", first=first, trades=made, watermark_us=made[-1].time_us)


async def publish_returns(settings: ProducerSettings, days: range) -> None:
    """Publish the returns of some days, in one record for each partition and tenant."""
    for tenant in (None, *sorted(set(TENANTS.values()))):
        own = [name for name in DEVIATIONS if TENANTS.get(name) == tenant]
        returns = [value for name in own for value in returns_of(name, days)]
        async with Publisher(settings.model_copy(update={"tenant": tenant})) as publisher:
            await ReturnsPublisher(publisher).send(returns)


async def publish_first(settings: ProducerSettings) -> None:
    limit = RiskLimits(portfolio_id="wild", limits=[RiskLimit("var_95", 0.03)], event_time_us=0)
    holdings = [Holding("calm", 10.0, 100.0, 0), Holding("wild", 5.0, 100.0, 0)]
    book = Book(root="fund", book_id="fund", holdings=holdings, event_time_us=0)
    async with Publisher(settings) as publisher:
        home = await publisher.partition_for(RISK_BOOKS, b"fund")
        await publisher.publish(book, partition=home)
        events = (
            limit,
            task_progress(1),
            job_progress(0, "submitted"),
            job_progress(1, "progress"),
        )
        for event in (*events, trades_from(0)):
            await publisher.publish(event)
    await publish_returns(settings, range(COMMITTED_DAYS))


async def publish_rest(settings: ProducerSettings) -> None:
    async with Publisher(settings) as publisher:
        for event in (task_progress(50), job_progress(50, "progress"), trades_from(5)):
            await publisher.publish(event)
    await publish_returns(settings, range(COMMITTED_DAYS, DAYS))


class Log:
    """Reads what Kafka holds."""

    def __init__(self, consumer: AIOKafkaConsumer, bootstrap_servers: str) -> None:
        self._consumer = consumer
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    async def records(self, names: Iterable[str]) -> list[Any]:
        partitions = [TopicPartition(name, at) for name in names for at in range(PARTITIONS)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning()
        ends = await self._consumer.end_offsets(partitions)
        found: list[Any] = []
        while any([await self._consumer.position(where) < end for where, end in ends.items()]):
            for records in (await self._consumer.getmany(timeout_ms=100)).values():
                found += records
        return sorted(found, key=lambda record: (record.topic, record.partition, record.offset))

    async def rows(self) -> dict[tuple[str, bytes], Any]:
        """Return the last row of each key of the states."""
        return {(row.topic, row.key): row for row in await self.records(STATES)}

    def committed(self) -> dict[str, dict[str, int]]:
        """Return the group's offsets, by topic and partition."""
        found: dict[str, dict[str, int]] = {}
        asked = [ConsumerGroupTopicPartitions("tapewire")]
        for answer in self._admin.list_consumer_group_offsets(asked).values():
            for where in answer.result().topic_partitions:
                found.setdefault(where.topic, {})[str(where.partition)] = where.offset
        return {topic: dict(sorted(found[topic].items())) for topic in sorted(found)}

    async def are_measured(self, days: int) -> bool:
        """Whether the states of all portfolios hold so many returns."""
        rows = [decode(row.value) for row in (await self.records(["risk.state"]))]
        full = {row.portfolio_id for row in rows if row.observations == days}  # type: ignore[attr-defined]
        return full == set(DEVIATIONS)

    async def is_committed(self) -> bool:
        """Whether the group has committed all offsets of its topics."""
        committed = self.committed()
        partitions = [TopicPartition(name, at) for name in INPUTS for at in range(PARTITIONS)]
        ends = await self._consumer.end_offsets(partitions)
        return all(
            committed.get(where.topic, {}).get(str(where.partition), 0) >= end
            for where, end in ends.items()
        )


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(120):
        while not await holds():
            continue


async def leave_log(settings: ProducerSettings, log: Log, worker: Popen[bytes]) -> dict[str, Any]:
    """Let the processors work, kill them, and return what is in Kafka."""
    await publish_first(settings)
    await until(lambda: log.are_measured(COMMITTED_DAYS))
    (alert,) = [decode(record.value) for record in await log.records(["risk.alerts"])]
    assert isinstance(alert, RiskAlert)
    ack = AlertAck(alert_id=alert.alert_id, entity_id="wild", by="ann", event_time_us=0)
    async with Publisher(settings) as publisher:
        await publisher.publish(ack)
    # Some processors read what others write, so offsets can be committed for a moment
    # before the next records are there, and nothing says when the last one is. 0.1.0 committed, and
    # sent its gauges, once a second.
    await asyncio.sleep(3)
    await until(log.is_committed)
    before = await log.rows()
    await publish_rest(settings)
    await until(lambda: log.are_measured(DAYS))
    worker.kill()
    inputs, rows = await log.records(INPUTS), await log.rows()
    rows[BEHIND] = before[BEHIND]
    return {
        "records": [
            {
                "topic": record.topic,
                "partition": record.partition,
                "key": None if record.key is None else record.key.decode(),
                "headers": {name: value.decode() for name, value in record.headers},
                "value": b64encode(record.value).decode(),
            }
            for record in (*inputs, *rows.values())
        ],
        "committed": log.committed(),
    }


async def record(bootstrap_servers: str) -> dict[str, Any]:
    provision(bootstrap_servers)
    env = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "TAPEWIRE_BATCH_WITHIN_S": "0.05"}
    worker = Popen([sys.executable, "-m", "stream_processors"], env=os.environ | env)
    try:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap_servers) as consumer:
            log = Log(consumer, bootstrap_servers)
            settings = ProducerSettings(bootstrap_servers=bootstrap_servers, patience_s=60)
            return await leave_log(settings, log, worker)
    finally:
        worker.kill()
        worker.wait()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        broker = prepare(Path(folder), free_port(), maven_url=InfraSettings().maven_url)
        process = Popen(broker.command)
        try:
            wait_for_kafka(broker.bootstrap_servers, within_s=90)
            found = asyncio.run(record(broker.bootstrap_servers))
        finally:
            process.terminate()
            process.wait()
    Path(sys.argv[1]).write_text(json.dumps(found, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
