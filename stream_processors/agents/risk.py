"""The agent that measures: returns become measures and alerts, by limits that may change.

People acknowledge the alerts; a clock finds portfolios that nothing is heard of any more; and where
a partition was computed anew beside this worker, it goes on from that.
"""

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import faust

from kafka_io import reader
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
from stream_processors.faust_adapter import StateTable, Writer, finish_before_stopping
from stream_processors.messages import Message, decode_message
from stream_processors.risk.portfolio import PortfolioRisk
from stream_processors.risk.risk_batch import Round, standing
from stream_processors.settings import ProcessorSettings

logger = logging.getLogger(__name__)

JUDGED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)
"""What measures and alerts follow from."""

_FOLDED = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS)
"""What portfolios carry the positions of."""

_LOOK_AT_CLOCK_S = 1.0
_LAST_ALERTS = 1_000
"""Of each partition: more than a round is likely to tell."""
_TURN_RECORDS = 8


def add_risk(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add the measuring of returns to a worker; one beside the others reads of no rebuilds."""
    measuring = _Measuring(app, settings, writer)
    read: tuple[Topic, ...] = JUDGED if settings.rebuild_version else (*JUDGED, RISK_REBUILDS)

    @app.agent(writer.topic(*read), name="measure_returns")
    async def measure_returns(stream: Any) -> None:
        async for events in stream.noack_take(
            settings.batch_records_max, within=settings.batch_within_s
        ):
            await measuring.take([event.message for event in events])
            for event in events:
                await stream.ack(event)

    @app.timer(_LOOK_AT_CLOCK_S)
    async def look_at_the_clock() -> None:
        await measuring.look_at_the_clock()


class _Measuring:
    """The portfolios of the partitions that this worker has."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
        self._app = app
        self._settings = settings
        self._writer = writer
        self._config = settings.risk()
        self._returns_topic = settings.topic_prefix + PORTFOLIO_RETURNS.name
        self._rebuilds_topic = settings.topic_prefix + RISK_REBUILDS.name
        self._window_us = settings.dashboard_windows_us()[0]
        self._portfolios: dict[str, PortfolioRisk] = {}
        self._touched: set[int] = set()
        """Partitions in which something may stand otherwise than the dashboard has it."""
        self._states = StateTable(app, writer, RISK_STATE)
        self._states.on_recover(self._recover)
        self._told: set[str] = set()
        """Steps of alerts that are in the log, though no state says so."""
        self._one_at_a_time = asyncio.Lock()
        finish_before_stopping(app, self._one_at_a_time)

    async def take(self, messages: list[Message]) -> None:
        """Measure and judge; when this returns, Kafka has all that follows from it."""
        async with self._one_at_a_time:
            round_ = self._round(self._portfolios)
            rebuilds = []
            for number, message in enumerate(messages):
                if message.topic == self._rebuilds_topic:
                    rebuilds.append(message)
                else:
                    round_.take(message)
                if number % _TURN_RECORDS == 0:
                    await asyncio.sleep(0)  # others, and what arrives, have a turn
            await self._publish(round_)
            for message in rebuilds:
                await self._take_over(message)

    async def look_at_the_clock(self) -> None:
        """See whose data is stale, and tell the dashboard how things stand."""
        async with self._one_at_a_time:
            round_ = self._round(self._portfolios)
            round_.tick(time.time_ns() // 1000)
            await self._publish(round_)
            await self._writer.send_all(standing(self._portfolios.values(), self._touched))
            self._touched.clear()

    async def _publish(self, round_: Round) -> None:
        await self._writer.send_each(round_.events(self._told))
        await self._writer.delete(RISK_OPEN, round_.closed_alerts())
        rows = {
            portfolio_id.encode(): (risk.source.partition, risk.pack())
            for portfolio_id, risk in round_.changed.items()
        }
        await self._states.write(rows)
        self._touched.update(partition for partition, _ in rows.values())

    async def _take_over(self, message: Message) -> None:
        """Go on from a rebuilt partition: its states, and what was read here and not yet there."""
        done = decode_message(message, RebuildDone)
        if isinstance(done, DeadLetter):
            await self._writer.send_all([done])
            return
        source = ProducerSettings(
            bootstrap_servers=self._settings.bootstrap_servers,
            topic_prefix=self._settings.topic_prefix,
        )
        prefix = self._settings.written_prefix(done.version)
        rebuilt = source.model_copy(update={"topic_prefix": prefix})
        states = await reader.read_table(RISK_STATE, rebuilt)
        group = f"{prefix}tapewire"
        rest = await reader.read_uncommitted(_FOLDED, done.partition, group, source)
        read = self._read_up_to(done.partition)
        portfolios = {
            state.portfolio_id: PortfolioRisk.unpack(state, self._config, self._returns_topic)
            for state in states.values()
            if isinstance(state, PortfolioState) and state.partition == done.partition
        }
        round_ = self._round(portfolios)
        for one in rest:
            if one.offset <= read[one.topic]:
                round_.take(one)
        round_.take_over(self._portfolios, done.version)
        await self._publish(round_)
        self._portfolios.update(portfolios)
        logger.info("%d portfolios go on as version %s has them", len(portfolios), done.version)

    def _read_up_to(self, partition: int) -> dict[str, int]:
        """The last record of each topic that is in the portfolios of a partition."""
        here = [one for one in self._portfolios.values() if one.source.partition == partition]
        offsets = (
            (PORTFOLIO_RETURNS, [one.position.offset for one in here]),
            (RISK_LIMITS, [one.limits_offset for one in here]),
            (RISK_ACKS, [one.acks_offset for one in here]),
        )
        prefix = self._settings.topic_prefix
        return {prefix + topic.name: max(some, default=-1) for topic, some in offsets}

    async def _recover(self) -> None:
        consumer: Any = self._app.consumer
        # A round that goes on meanwhile would go on from a state without its own beginning.
        async with self._one_at_a_time:
            self._portfolios.clear()
            here = self._writer.partitions(PORTFOLIO_RETURNS)
            for key, kept in self._states.recovered(PortfolioState):
                state = kept
                if state.partition < 0:  # the first version of a state did not say
                    home = consumer.key_partition(self._returns_topic, key)
                    state = replace(state, partition=home)
                if state.partition in here:
                    risk = PortfolioRisk.unpack(state, self._config, self._returns_topic)
                    self._portfolios[state.portfolio_id] = risk
            self._told = await self._last_told()
        logger.info("recovered %d portfolios", len(self._portfolios))
        await consumer.rewind()

    async def _last_told(self) -> set[str]:
        """The steps of alerts that a worker may have told, and not lived to acknowledge."""
        settings = ProducerSettings(
            bootstrap_servers=self._settings.bootstrap_servers,
            topic_prefix=self._settings.written_prefix(),
        )
        last = await reader.read_newest(RISK_ALERTS, settings, _LAST_ALERTS)
        return {one.transition_id for one in last if isinstance(one, RiskAlert)}

    def _round(self, portfolios: dict[str, PortfolioRisk]) -> Round:
        return Round(portfolios, self._config, self._returns_topic, self._window_us)
