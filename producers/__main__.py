"""`python -m producers`: the demo, or a trainer, as a part of a running system."""

import argparse
import asyncio
import logging
import signal

import sdnotify

from producers import demo, trainer
from producers.settings import ProducerSettings, TrainerSettings


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m producers", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("demo", "trainer"), default="demo")
    parser.add_argument(
        "--speed", type=float, default=40.0, help="trading days that the demo replays a second"
    )
    told = parser.parse_args()
    speed: float = told.speed
    if not speed > 0:
        parser.error(f"--speed is {speed}; it must be more than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if told.part == "trainer":
        asyncio.run(_train())
    else:
        asyncio.run(_replay(speed))


async def _train() -> None:
    stop = _until_told()
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=waiting for commands")
    await trainer.run(ProducerSettings(source="/producers/trainer"), TrainerSettings(), stop)


async def _replay(speed: float) -> None:
    stop = _until_told()
    sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS=replaying {speed:g} trading days a second")
    await demo.run(ProducerSettings(source="/producers/demo"), speed=speed, stop=stop)


def _until_told() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for told in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(told, stop.set)
    return stop


if __name__ == "__main__":
    main()
