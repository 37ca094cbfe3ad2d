"""A bare aiokafka loop around the worker's pure calculations: the upper bound of its speed.

It does not recover, rebalance or keep tables. The difference from the worker is what these and
Faust cost.
"""

import asyncio
import signal
import time
from typing import Any

import aiokafka
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from kafka_io.readiness import notify_ready
from schemas.codec import decode, encode
from schemas.events import ReturnBatch, RiskAlert
from schemas.topics import PORTFOLIO_RETURNS, RISK_ALERTS, RISK_MEASURES, RISK_STATE, TopicPartition
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings


async def run(settings: ProcessorSettings) -> None:
    """Measure returns until it is cancelled."""
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
        notify_ready("ready")
        while True:
            found = await _gathered(consumer, settings)
            changed: dict[str, PortfolioRisk] = {}
            alerts: list[RiskAlert] = []
            for where, records in found:
                for record in records:
                    batch = decode(record.value)
                    assert isinstance(batch, ReturnBatch)
                    for index, observation in enumerate(batch.returns):
                        risk = portfolios.get(observation.portfolio_id)
                        if risk is None:
                            source = TopicPartition(returns, where.partition)
                            risk = PortfolioRisk(observation.portfolio_id, config, source)
                            portfolios[observation.portfolio_id] = risk
                        changed[observation.portfolio_id] = risk
                        alerts += risk.apply(observation, ReturnOffset(record.offset, index))[1]
            await _send(producer, prefix, alerts, changed)
            if found:
                ends = {partition: records[-1].offset + 1 for partition, records in found}
                await consumer.commit(ends)


async def _gathered(
    consumer: AIOKafkaConsumer, settings: ProcessorSettings
) -> list[tuple[aiokafka.TopicPartition, list[Any]]]:
    """Return the records of one batch, collected as the worker collects them."""
    found: list[tuple[aiokafka.TopicPartition, list[Any]]] = []
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
