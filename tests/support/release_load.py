"""Publishes events of all kinds, a day after another, until SIGTERM; then prints the next day.

Each day has a return of each of some portfolios, one report of each call of the reporter API, a
message in a chat room, an update of a user, and a trade. Every tenth day also sets the limits of a
portfolio, writes a tree of books anew, and asks the agents. A release that is being upgraded runs
this file, too, so it uses only what has always been there. The argument is the first day.
"""

import asyncio
import signal
import sys

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.broadcaster import SSEBroadcaster
from producers.returns import ReturnsPublisher
from schemas.events import (
    AgentCommand,
    Book,
    ChatEvent,
    ChatEventKind,
    Holding,
    Return,
    RiskLimit,
    RiskLimits,
    Trade,
    TradeBatch,
)
from schemas.topics import RISK_BOOKS

DAY_US = 86_400_000_000
PORTFOLIOS = tuple(f"pf-{number}" for number in range(12))
PAUSE_S = 0.1
RUN_DAYS = 20
"""How many days a training and a backtest have."""
SYMBOL = "LOAD"
TRADES_FROM_US = 1_600_000_020_000_000
"""The time of the first trade, at the begin of a minute."""
TRADE_US = 10_000_000
LOAD = "load"
"""The type of the entity of alerts, and of updates of the dashboard; the name of the chat room, of
the user and of the top book."""
TENTH = 10
"""Limits, books and questions come each time so many days are over."""
LIMITED = PORTFOLIOS[0]
VAR_LIMITS = (1.0, 0.001)
"""The limits of the portfolio by turns: the first is never reached, the second always."""
QUESTION = "what is 6 * 7?"


def return_of(number: int, day: int) -> float:
    """Return the value of a portfolio's day."""
    return ((day * 37 + number * 11) % 41 - 20) / 1_000


def limits_on(day: int) -> RiskLimits:
    """Return the limits of the portfolio from a day on."""
    limit = VAR_LIMITS[day // TENTH % 2]
    limits = [RiskLimit("var_95", limit)]
    return RiskLimits(
        portfolio_id=LIMITED, limits=limits, set_by=str(day), event_time_us=day * DAY_US
    )


def books_on(day: int) -> list[Book]:
    """Return the tree of two books as it is from a day on, the upper one first."""
    books = {LOAD: PORTFOLIOS[:2], "desk": PORTFOLIOS[2:5]}
    return [
        Book(
            root=LOAD,
            book_id=book_id,
            parent=None if book_id == LOAD else LOAD,
            holdings=[Holding(name, 100.0 + day, 10.0, day * DAY_US) for name in names],
            nav=100_000.0,
            event_time_us=day * DAY_US,
        )
        for book_id, names in books.items()
    ]


def run_id_on(day: int) -> str:
    """Return the id of the agents' run that a day begins."""
    return f"load-{day}"


async def publish_tenth(publisher: Publisher, day: int) -> None:
    """Publish the limits, the books and the question of a day."""
    await publisher.publish(limits_on(day))
    home = await publisher.partition_for(RISK_BOOKS, LOAD.encode())
    for book in books_on(day):
        await publisher.publish(book, partition=home)
    question = AgentCommand(run_id=run_id_on(day), message=QUESTION, event_time_us=now_us())
    await publisher.publish(question)


async def publish_day(publisher: Publisher, broadcaster: SSEBroadcaster, day: int) -> None:
    """Publish the events of a day, each of which names the day."""
    run, step = divmod(day, RUN_DAYS)
    progress = 100.0 * step / (RUN_DAYS - 1)
    status = "completed" if step == RUN_DAYS - 1 else "running"
    await broadcaster.send_training_progress(f"load-{run}", progress, status, str(day))
    await broadcaster.send_backtest_progress(f"load-{run}", progress, status, str(day))
    alert = ("var_exceeded", "low", str(day), "var", 0.2, 0.1, LOAD, f"load-{day}")
    await broadcaster.send_risk_alert(*alert)
    await broadcaster.send_dashboard_update({"day": day}, LOAD)
    await broadcaster.send_user_update(LOAD, {"day": day})
    message = ChatEvent(
        room=LOAD,
        kind=ChatEventKind.MESSAGE,
        user=LOAD,
        message=str(day),
        event_time_us=now_us(),
    )
    await publisher.publish(message)
    time_us = TRADES_FROM_US + day * TRADE_US
    trade = Trade(time_us=time_us, price=100.0 + day % 7, amount=1.0)
    batch = TradeBatch(symbol=SYMBOL, first=day, trades=[trade], watermark_us=time_us)
    await publisher.publish(batch)
    if day % TENTH == 0:
        await publish_tenth(publisher, day)


async def run(day: int) -> int:
    """Publish days until SIGTERM; return the day after the last one."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Publisher(ProducerSettings()) as publisher, SSEBroadcaster() as broadcaster:
        returns = ReturnsPublisher(publisher)
        while not stop.is_set():
            await returns.send(
                [
                    Return(name, day * DAY_US, return_of(number, day))
                    for number, name in enumerate(PORTFOLIOS)
                ]
            )
            await publish_day(publisher, broadcaster, day)
            day += 1
            await asyncio.sleep(PAUSE_S)
    return day


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(run(int(sys.argv[1])))}\n")
