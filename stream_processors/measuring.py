"""The agent that measures: returns become measures and alerts, by limits that may change.

People acknowledge the alerts; a clock finds portfolios that nothing is heard of any more.
"""

import asyncio
import logging
import time
from typing import Any

import faust

from schemas.events import PortfolioState
from schemas.topics import PORTFOLIO_RETURNS, RISK_ACKS, RISK_LIMITS, RISK_STATE, RISK_WANTED
from stream_processors.risk import PortfolioRisk
from stream_processors.rounds import Round, standing
from stream_processors.settings import ProcessorSettings
from stream_processors.transport import States, Writer

log = logging.getLogger(__name__)

_LOOK_AT_CLOCK_S = 1.0
_TURN_RECORDS = 8


def add_risk(app: faust.App, settings: ProcessorSettings, writer: Writer) -> None:
    """Add the measuring of returns to a worker."""
    config = settings.risk()
    returns_topic = settings.topic_prefix + PORTFOLIO_RETURNS.name
    portfolios: dict[str, PortfolioRisk] = {}
    states = States(app, writer, RISK_STATE)

    one_at_a_time = asyncio.Lock()

    @states.on_recover
    async def recover() -> None:
        # A round that goes on meanwhile would go on from a state without its own beginning.
        async with one_at_a_time:
            portfolios.clear()
            for _, state in states.recovered():
                assert isinstance(state, PortfolioState)
                portfolios[state.portfolio_id] = PortfolioRisk.unpack(state, config, returns_topic)
        log.info("recovered %d portfolios", len(portfolios))
        consumer: Any = app.consumer
        await consumer.rewind()

    window_us = settings.dashboard_windows_us()[0]
    touched: set[int] = set()
    """Partitions in which something may stand otherwise than the dashboard has it."""

    async def publish(round_: "Round") -> None:
        await writer.send_each(round_.events(), round_.closed_alerts())
        rows = {
            portfolio_id.encode(): (risk.source.partition, risk.pack())
            for portfolio_id, risk in round_.changed.items()
        }
        await states.keep(rows)
        touched.update(partition for partition, _ in rows.values())

    read = writer.topic(PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)

    @app.agent(read, name="measure_returns")
    async def measure_returns(stream: Any) -> None:
        async for events in stream.noack_take(
            settings.batch_records_max, within=settings.batch_within_s
        ):
            async with one_at_a_time:
                round_ = Round(portfolios, config, returns_topic, window_us)
                for number, event in enumerate(events):
                    round_.take(event)
                    if number % _TURN_RECORDS == 0:
                        await asyncio.sleep(0)  # others, and what arrives, have a turn
                await publish(round_)
                for event in events:
                    await stream.ack(event)

    @app.timer(_LOOK_AT_CLOCK_S)
    async def look_at_the_clock() -> None:
        async with one_at_a_time:
            round_ = Round(portfolios, config, returns_topic, window_us)
            round_.tick(time.time_ns() // 1000)
            await publish(round_)
            await writer.send_all(standing(portfolios.values(), touched))
            touched.clear()
