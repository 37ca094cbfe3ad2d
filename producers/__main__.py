"""`python -m producers`: the demo, as a part of a running system."""

import argparse
import asyncio
import logging
import signal

import sdnotify

from producers.demo import run
from producers.settings import ProducerSettings


def main() -> None:
    """Replay and run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m producers", description=__doc__)
    parser.add_argument("--speed", type=float, default=40.0, help="trading days a second")
    speed: float = parser.parse_args().speed
    if not speed > 0:
        parser.error(f"--speed is {speed}; it must be more than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(_until_told(speed))


async def _until_told(speed: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for told in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(told, stop.set)
    sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS=replaying {speed:g} trading days a second")
    await run(ProducerSettings(source="/producers/demo"), speed=speed, stop=stop)


if __name__ == "__main__":
    main()
