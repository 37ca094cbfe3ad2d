"""Publishes a return of each of some portfolios, day after day, until SIGTERM; then the last day.

A release that is being upgraded runs this file, too, so it uses only what has always been there.
"""

import asyncio
import signal
import sys

from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.returns import ReturnsPublisher
from schemas.events import Return

DAY_US = 86_400_000_000
PORTFOLIOS = tuple(f"pf-{number}" for number in range(12))
PAUSE_S = 0.1


def return_of(number: int, day: int) -> float:
    """Return the value of a portfolio's day."""
    return ((day * 37 + number * 11) % 41 - 20) / 1_000


async def run() -> int:
    """Publish until SIGTERM; return the number of days."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    days = 0
    async with Publisher(ProducerSettings()) as publisher:
        returns = ReturnsPublisher(publisher)
        while not stop.is_set():
            await returns.send(
                [
                    Return(name, days * DAY_US, return_of(number, days))
                    for number, name in enumerate(PORTFOLIOS)
                ]
            )
            days += 1
            await asyncio.sleep(PAUSE_S)
    return days


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(run())}\n")
