"""The agent that measures portfolios: returns in, measures and alerts out.

Limits, acknowledgements and requests of books arrive beside the returns. A timer looks for
portfolios whose measures are stale, and sends the dashboard's gauges. When a rebuild of a partition
is done, the agent continues from the rebuilt states.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import faust

from kafka_io import reader
from kafka_io.clock import now_us
from kafka_io.settings import ProducerSettings
from schemas.events import DeadLetter, PortfolioState, RebuildDone, RiskAlert
from schemas.topics import (
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_ALERTS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_REBUILDS,
    RISK_STATE,
    RISK_WANTED,
    Topic,
)
from stream_processors.faust_adapter import (
    StateTable,
    Writer,
    finish_before_stopping,
    process_batches,
)
from stream_processors.messages import Message, decode_message
from stream_processors.risk.portfolio import PortfolioRisk
from stream_processors.risk.risk_batch import RiskBatch, gauges_of
from stream_processors.settings import ProcessorSettings

logger = logging.getLogger(__name__)

JUDGED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)
"""The topics from which measures and alerts follow."""

_FOLDED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS)
"""The topics whose offsets are in the portfolios' states."""

_TICK_S = 1.0
_LAST_ALERTS = 1_000
"""The alerts that a recovery reads from each partition: more than one batch is likely to cause."""
_RECORDS_BETWEEN_YIELDS = 8


def add_risk(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add the measuring of returns to a worker; one that rebuilds does not take over rebuilds."""
    portfolios = _Portfolios(app, settings, writer)
    topics: tuple[Topic, ...] = JUDGED if settings.rebuild_version else (*JUDGED, RISK_REBUILDS)

    @app.agent(writer.topic(*topics), name="measure_returns")
    async def measure_returns(stream: Any) -> None:
        await process_batches(
            stream,
            portfolios.process,
            records_max=settings.batch_records_max,
            within_s=settings.batch_within_s,
        )

    @app.timer(_TICK_S)
    async def tick() -> None:
        await portfolios.tick()


class _Portfolios:
    """The portfolios in the partitions that this worker has."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._app = app
        self._settings = settings
        self._writer = writer
        self._config = settings.risk_config()
        self._returns_topic = settings.topic_prefix + PORTFOLIO_RETURNS.name
        self._rebuilds_topic = settings.topic_prefix + RISK_REBUILDS.name
        self._window_us = settings.dashboard_windows_us()[0]
        self._portfolios: dict[str, PortfolioRisk] = {}
        self._changed_partitions: set[int] = set()
        """The partitions whose gauges may have changed since they were sent."""
        self._states = StateTable(app, writer, RISK_STATE)
        self._states.on_recover(self._recover)
        self._published: set[str] = set()
        """Ids of alerts' transitions that are in the log, though perhaps in no state."""
        self._lock = asyncio.Lock()
        finish_before_stopping(app, self._lock)

    async def process(self, messages: Sequence[Message]) -> None:
        """Measure and judge the messages; returns when Kafka has all that follows from them."""
        async with self._lock:
            batch = self._batch(self._portfolios)
            rebuilds = []
            for number, message in enumerate(messages):
                if message.topic == self._rebuilds_topic:
                    rebuilds.append(message)
                else:
                    batch.apply(message)
                if number % _RECORDS_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)  # lets the consumer and the other agents run
            await self._publish(batch)
            for message in rebuilds:
                await self._take_over(message)

    async def tick(self) -> None:
        """Raise alerts about stale measures, and send the gauges that may have changed."""
        async with self._lock:
            batch = self._batch(self._portfolios)
            batch.tick(now_us())
            await self._publish(batch)
            gauges = gauges_of(self._portfolios.values(), self._changed_partitions)
            await self._writer.send_all(gauges)
            self._changed_partitions.clear()

    async def _publish(self, batch: RiskBatch) -> None:
        await self._writer.send_each(batch.events(self._published))
        await self._writer.delete(RISK_OPEN, batch.closed_alerts())
        rows = {
            portfolio_id.encode(): (risk.source.partition, risk.pack())
            for portfolio_id, risk in batch.changed.items()
        }
        await self._states.write(rows)
        self._changed_partitions.update(partition for partition, _ in rows.values())

    async def _take_over(self, message: Message) -> None:
        """Continue from a rebuilt partition.

        The rebuilt states may be older than the present ones. So the records that the present
        portfolios have read, and the rebuild has not, are applied to the rebuilt portfolios.
        """
        done = decode_message(message, RebuildDone)
        if isinstance(done, DeadLetter):
            await self._writer.send_all([done])
            return
        source = self._reader_settings(self._settings.topic_prefix)
        prefix = self._settings.written_prefix(done.version)
        states = await reader.read_table(RISK_STATE, self._reader_settings(prefix))
        group = f"{prefix}tapewire"
        unread = await reader.read_uncommitted(_FOLDED, done.partition, group, source)
        last_offsets = self._last_offsets(done.partition)
        portfolios = {
            state.portfolio_id: PortfolioRisk.unpack(state, self._config, self._returns_topic)
            for state in states.values()
            if isinstance(state, PortfolioState) and state.partition == done.partition
        }
        batch = self._batch(portfolios)
        for record in unread:
            if record.offset <= last_offsets[record.topic]:
                batch.apply(record)
        batch.take_over(self._portfolios, done.version)
        await self._publish(batch)
        self._portfolios.update(portfolios)
        logger.info(
            "took over %d portfolios of partition %d from rebuild %s",
            *(len(portfolios), done.partition, done.version),
        )

    def _last_offsets(self, partition: int) -> dict[str, int]:
        """Return the last offset of each topic that a partition's portfolios have read."""
        risks = [risk for risk in self._portfolios.values() if risk.source.partition == partition]
        offsets = (
            (PORTFOLIO_RETURNS, [risk.position.offset for risk in risks]),
            (RISK_LIMITS, [risk.limits_offset for risk in risks]),
            (RISK_ACKS, [risk.acks_offset for risk in risks]),
        )
        prefix = self._settings.topic_prefix
        return {prefix + topic.name: max(read, default=-1) for topic, read in offsets}

    async def _recover(self) -> None:
        consumer: Any = self._app.consumer
        # Without the lock, a batch under way would continue on states that lack its own beginning.
        async with self._lock:
            self._portfolios.clear()
            assigned = self._writer.partitions(PORTFOLIO_RETURNS)
            for key, recovered in self._states.recovered(PortfolioState):
                state = recovered
                if state.partition < 0:  # the schema's first version did not say
                    partition = consumer.key_partition(self._returns_topic, key)
                    state = replace(state, partition=partition)
                if state.partition in assigned:
                    risk = PortfolioRisk.unpack(state, self._config, self._returns_topic)
                    self._portfolios[state.portfolio_id] = risk
            self._published = await self._read_published()
        logger.info("recovered %d portfolios", len(self._portfolios))
        await consumer.rewind()

    async def _read_published(self) -> set[str]:
        """Read the transitions that a worker may have sent before it crashed unacknowledged."""
        settings = self._reader_settings(self._settings.written_prefix())
        alerts = await reader.read_newest(RISK_ALERTS, settings, _LAST_ALERTS)
        return {alert.transition_id for alert in alerts if isinstance(alert, RiskAlert)}

    def _reader_settings(self, prefix: str) -> ProducerSettings:
        return ProducerSettings(
            bootstrap_servers=self._settings.bootstrap_servers, topic_prefix=prefix
        )

    def _batch(self, portfolios: dict[str, PortfolioRisk]) -> RiskBatch:
        return RiskBatch(portfolios, self._config, self._returns_topic, self._window_us)
