"""The ceiling: a bare aiokafka loop with the worker's pure code, for one worker of one group.

It recovers nothing, knows no rebalance, and keeps no tables: what a framework costs is the rest.
"""

import asyncio
import signal
import time
from typing import Any

import sdnotify
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.codec import decode, encode
from schemas.events import ReturnBatch, RiskAlert
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS, RISK_MEASURES, RISK_STATE
from stream_processors import messages
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings


async def run(settings: ProcessorSettings) -> None:
    """Measure for ever."""
    config, prefix = settings.risk_config(), settings.topic_prefix
    portfolios: dict[str, PortfolioRisk] = {}
    returns = prefix + PORTFOLIO_RETURNS.name
    consumer = AIOKafkaConsumer(
        returns,
        bootstrap_servers=settings.bootstrap_servers,
        group_id=f"{prefix}bare",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, acks="all", linger_ms=10
    )
    async with consumer, producer:
        sdnotify.SystemdNotifier().notify("READY=1")
        while True:
            found = await _gathered(consumer, settings)
            changed: dict[str, PortfolioRisk] = {}
            alerts: list[RiskAlert] = []
            for where, records in found:
                for record in records:
                    batch = decode(record.value)
                    assert isinstance(batch, ReturnBatch)
                    for index, one in enumerate(batch.returns):
                        risk = portfolios.get(one.portfolio_id)
                        if risk is None:
                            source = messages.TopicPartition(returns, where.partition)
                            risk = PortfolioRisk(one.portfolio_id, config, source)
                            portfolios[one.portfolio_id] = risk
                        changed[one.portfolio_id] = risk
                        alerts += risk.apply(one, ReturnOffset(record.offset, index))[1]
            await _send(producer, prefix, alerts, changed)
            if found:
                ends = {one: records[-1].offset + 1 for one, records in found}
                await consumer.commit(ends)


async def _gathered(
    consumer: AIOKafkaConsumer, settings: ProcessorSettings
) -> list[tuple[TopicPartition, list[Any]]]:
    """What comes within a while, as the worker takes it."""
    found: list[tuple[TopicPartition, list[Any]]] = []
    count, until_s = 0, time.monotonic() + settings.batch_within_s
    while count < settings.batch_records_max and (left_s := until_s - time.monotonic()) > 0:
        more = await consumer.getmany(timeout_ms=int(left_s * 1000))
        found += more.items()
        count += sum(map(len, more.values()))
    return found


async def _send(
    producer: AIOKafkaProducer,
    prefix: str,
    alerts: list[RiskAlert],
    changed: dict[str, PortfolioRisk],
) -> None:
    sent = [
        await producer.send(prefix + RISK_ALERTS.name, encode(alert), key=alert.entity_id.encode())
        for alert in alerts
    ]
    for name, risk in changed.items():
        key, where = name.encode(), risk.source.partition
        measure = risk.measure_event()
        assert measure is not None
        sent += [
            await producer.send(prefix + RISK_MEASURES.name, encode(measure), key, where),
            await producer.send(prefix + RISK_STATE.name, encode(risk.pack()), key, where),
        ]
    for delivered in sent:
        await delivered


async def main() -> None:
    """Run until SIGTERM."""
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await run(ProcessorSettings())


if __name__ == "__main__":
    uvloop.run(main())
