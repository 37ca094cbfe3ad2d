"""The demo: replays real history at a chosen speed, with training runs and backtests beside it.

Returns have the dates of the data. After the last day, the replay begins again as its next lap,
which begins the histories of the portfolios again. A restart continues where the log ends: the last
returns in Kafka are of the last replayed day. The returns of an interrupted day are sent again;
processors recognize the repeat. It can run for years: a lap is a number of 32 bits, and 40 days a
second are 400,000 laps a year.

Somebody else may write a higher lap of a portfolio, after which processors take no lower one. So a
lap that begins is higher than all that the processors' states know.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import count, groupby, islice
from time import monotonic

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.reader import read_newest, read_table
from kafka_io.settings import ProducerSettings
from producers.backtesting.crossover import Crossover, backtest
from producers.broadcaster import BlockingBroadcaster
from producers.demo.notice import describe
from producers.demo.position import Position, find_position
from producers.market.prices import (
    PORTFOLIOS,
    Prices,
    TradingDay,
    laps,
    load_bars,
    load_prices,
    trading_days,
)
from producers.returns import ReturnsPublisher
from producers.training.digits import train
from schemas.events import Bar, PortfolioState, ReturnBatch, RunStatus
from schemas.gate import paced_max
from schemas.keys import encode_key
from schemas.topics import PORTFOLIO_RETURNS, RISK_STATE

logger = logging.getLogger(__name__)

TICK_S = 0.05
"""The seconds between two sends; the returns of a tick are sent together."""

BEHIND_MAX_S = 60.0
"""A replay that is further behind than so many seconds goes on at its speed, and makes up for
nothing."""

NEWEST = 50
"""The last records of a partition among which the demo's own are looked for."""

LOOK_S = 60.0
"""The states are read at the beginning of a lap, and no more often than this."""

STEP_S = 1.0
"""The pause between two progress reports of a run in seconds, for demonstrations."""

_CROSSOVERS = (
    Crossover("AAPL", 20, 100),
    Crossover("IBM", 50, 200),
    Crossover("MSFT", 10, 50),
    Crossover("GOOG", 20, 100),
)


async def run(settings: ProducerSettings, *, speed: float, stop: asyncio.Event) -> None:
    """Replay and run until `stop` is set.

    Args:
        settings: where Kafka is.
        speed: trading days a second.
        stop: set to end the demo.

    Raises:
        Unsent: Kafka does not acknowledge within the settings' patience.
    """
    prices, bars = load_prices(), load_bars()
    halt = threading.Event()
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_replay(settings, prices, speed, stop))
            both.create_task(asyncio.to_thread(_runs, settings, bars, halt))
            await stop.wait()
            halt.set()
    finally:
        halt.set()


async def _replay(
    settings: ProducerSettings, prices: Prices, speed: float, stop: asyncio.Event
) -> None:
    trading = trading_days(prices)
    logger.info("%s", describe(speed))
    async with Publisher(settings) as publisher:
        days = laps(trading, await _find_position(settings, trading, publisher))
        returns = ReturnsPublisher(publisher)
        began = looked = monotonic()
        sent = skipped = 0
        while not stop.is_set():
            due = int((monotonic() - began) * speed) - sent
            if due > speed * BEHIND_MAX_S:  # it was paused, such as with the machine
                began, sent, due = monotonic(), 0, 0
            for number, of_lap in groupby(islice(days, due), lambda replayed: replayed.lap):
                replayed = [item.day for item in of_lap]
                if replayed[0] is trading[0]:
                    if monotonic() - looked >= LOOK_S:
                        known = await _last_lap(settings, publisher.tenant or "")
                        skipped, looked = max(skipped, known + 1 - number), monotonic()
                    logger.info("lap %d begins, on %s", number + skipped, replayed[0].day)
                values = [value for day in replayed for value in day.at_close()]
                await returns.send(values, lap=number + skipped)
            sent += due
            try:
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
            except TimeoutError:
                continue


async def _find_position(
    settings: ProducerSettings, trading: Sequence[TradingDay], publisher: Publisher
) -> Position | None:
    """Return where the log ends; None for the beginning."""
    tenant = publisher.tenant or ""
    newest = await read_newest(PORTFOLIO_RETURNS, settings, count=NEWEST, tenant=tenant)
    partitions = {
        name: await publisher.partition_for(PORTFOLIO_RETURNS, encode_key(name, publisher.tenant))
        for name in PORTFOLIOS
    }
    most = paced_max(now_us())
    batches = [batch for batch in newest if isinstance(batch, ReturnBatch) and batch.lap <= most]
    position = find_position(batches, trading, partitions.__getitem__)
    # A state takes nothing of an earlier lap, nor of its own where the log has lost the returns.
    last = await _last_lap(settings, tenant)
    if last >= 0 and (position is None or position.lap < last):
        return Position(last, date.max)
    return position


async def _last_lap(settings: ProducerSettings, tenant: str) -> int:
    """Return the highest lap that the states of the portfolios know; -1 without states."""
    most = paced_max(now_us())
    states = await read_table(RISK_STATE, settings, tenant)
    return max(
        (
            state.lap
            for state in states.values()
            if isinstance(state, PortfolioState)
            and state.portfolio_id in PORTFOLIOS
            and state.lap <= most  # else no producer could follow it
        ),
        default=-1,
    )


def _runs(
    settings: ProducerSettings, bars: Mapping[str, Sequence[Bar]], halt: threading.Event
) -> None:
    """Train, then backtest, and repeat with other parameters."""

    def pause() -> None:
        if halt.wait(STEP_S):
            raise _Halted

    with BlockingBroadcaster(settings) as reporter:
        for turn in count():
            name = f"{int(time.time()):x}"
            task_id = f"digits-{name}"
            try:
                train(reporter, task_id, seed=turn, pause=pause)
            except _Halted:
                _report_stop(reporter.send_training_progress, task_id)
                break
            strategy = _CROSSOVERS[turn % len(_CROSSOVERS)]
            backtest_id = f"{strategy.symbol.lower()}-crossover-{name}"
            try:
                backtest(reporter, backtest_id, strategy, bars[strategy.symbol], pause=pause)
            except _Halted:
                _report_stop(reporter.send_backtest_progress, backtest_id)
                break


def _report_stop(send: Callable[[str, float, str, str], object], run_id: str) -> None:
    send(run_id, 0.0, RunStatus.FAILED, "stopped before its end, with the demo")


class _Halted(Exception):
    """The demo ends, and the present run with it."""
