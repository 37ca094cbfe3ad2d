"""`python -m producers [PART]`: runs the demo, or a worker of commands."""

import argparse
import asyncio
import logging
import signal
import sys

import sdnotify

from kafka_io.settings import ProducerSettings
from producers.agents import agents, orchestrator
from producers.backtesting import backtester
from producers.demo import replay as demo
from producers.errors import NoTrades, UnknownAgent
from producers.market import trades as market
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)
from producers.training import trainer


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m producers", description=__doc__)
    parser.add_argument(
        "part",
        nargs="?",
        choices=("demo", "trainer", "backtester", "orchestrator", "market"),
        default="demo",
    )
    parser.add_argument(
        "--speed", type=float, default=40.0, help="trading days that the demo replays a second"
    )
    arguments = parser.parse_args()
    speed: float = arguments.speed
    if not speed > 0:
        parser.error(f"--speed is {speed}; it must be more than 0")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    match arguments.part:
        case "trainer":
            asyncio.run(_train())
        case "backtester":
            asyncio.run(_backtest())
        case "orchestrator":
            asyncio.run(_answer())
        case "market":
            asyncio.run(_trade())
        case _:
            asyncio.run(_replay(speed))


async def _train() -> None:
    stop = _stop_on_signal()
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=waiting for commands")
    await trainer.run(ProducerSettings(source="/producers/trainer"), TrainerSettings(), stop)


async def _backtest() -> None:
    stop = _stop_on_signal()
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=waiting for jobs")
    settings = ProducerSettings(source="/producers/backtester")
    await backtester.run(settings, BacktesterSettings(), stop)


async def _answer() -> None:
    stop = _stop_on_signal()
    settings = ProducerSettings(source="/producers/orchestrator")
    added = [name.strip() for name in OrchestratorSettings().agents.split(",") if name.strip()]
    try:
        available = agents.agents(settings, added)
    except UnknownAgent as error:
        sys.exit(f"TAPEWIRE_AGENTS: {error}")
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=waiting for messages")
    await orchestrator.run(settings, available, stop)


async def _trade() -> None:
    stop = _stop_on_signal()
    sdnotify.SystemdNotifier().notify("READY=1\nSTATUS=writing trades")
    try:
        await market.run(
            ProducerSettings(source="/producers/market"), MarketSettings().trades_jar, stop
        )
    except NoTrades as error:
        sys.exit(f"TAPEWIRE_TRADES_JAR: {error}")


async def _replay(speed: float) -> None:
    stop = _stop_on_signal()
    sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS=replaying {speed:g} trading days a second")
    await demo.run(ProducerSettings(source="/producers/demo"), speed=speed, stop=stop)


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    return stop


if __name__ == "__main__":
    main()
