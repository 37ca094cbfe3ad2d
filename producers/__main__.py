"""`python -m producers [PART]`: runs the demo, or a worker of commands."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping

from kafka_io.client import check_framing, check_security
from kafka_io.counts import COUNTS
from kafka_io.errors import AccessDenied, InvalidSetting
from kafka_io.log_lines import configure_logging
from kafka_io.part_metrics import dead_letter_family, serve_metrics
from kafka_io.readiness import notify_ready
from kafka_io.settings import MetricsSettings, ProducerSettings
from kafka_io.topic_admin import wait_until_answered
from kafka_io.tracing import configure_tracing, stop_tracing
from producers.errors import NoTrades, UnknownAgent
from producers.settings import (
    BacktesterSettings,
    MarketSettings,
    OrchestratorSettings,
    TrainerSettings,
)
from schemas.codec import write_as

# Each part imports its own modules: a backtester runs where scikit-learn is not installed, and the
# market where NumPy is not.


async def _demo(stop: asyncio.Event, speed: float) -> None:
    from producers.demo import replay  # noqa: PLC0415  # see above

    await _until_kafka_answers("the demo", stop)
    _ready(f"replaying {speed:g} trading days a second")
    await replay.run(ProducerSettings(source="/producers/demo"), speed=speed, stop=stop)


async def _trainer(stop: asyncio.Event, _: float) -> None:
    from producers.training import trainer  # noqa: PLC0415  # see above

    _ready("waiting for commands")
    await trainer.run(ProducerSettings(source="/producers/trainer"), TrainerSettings(), stop)


async def _backtester(stop: asyncio.Event, _: float) -> None:
    from producers.backtesting import backtester  # noqa: PLC0415  # see above

    _ready("waiting for jobs")
    settings = ProducerSettings(source="/producers/backtester")
    await backtester.run(settings, BacktesterSettings(), stop)


async def _orchestrator(stop: asyncio.Event, _: float) -> None:
    from producers.agents import agents, orchestrator  # noqa: PLC0415  # see above

    settings = ProducerSettings(source="/producers/orchestrator")
    orchestrator_settings = OrchestratorSettings()
    try:
        available = agents.configured(settings, orchestrator_settings)
    except UnknownAgent as error:
        sys.exit(f"TAPEWIRE_AGENTS or TAPEWIRE_AGENT_NAMES: {error}")
    _ready("waiting for messages")
    await orchestrator.run(settings, orchestrator_settings, available, stop)


async def _market(stop: asyncio.Event, _: float) -> None:
    from producers.market import trades  # noqa: PLC0415  # see above

    await _until_kafka_answers("the market", stop)
    _ready("writing trades")
    settings = ProducerSettings(source="/producers/market")
    try:
        await trades.run(settings, MarketSettings().trades_jar, stop)
    except NoTrades as error:
        sys.exit(f"TAPEWIRE_TRADES_JAR: {error}")


_PARTS: Mapping[str, Callable[[asyncio.Event, float], Coroutine[None, None, None]]] = {
    "demo": _demo,
    "trainer": _trainer,
    "backtester": _backtester,
    "orchestrator": _orchestrator,
    "market": _market,
}
"""The parts by name. Each runs until the event is set; the number is the speed of the demo."""


def main() -> None:
    """Run a part until SIGTERM or Ctrl-C; exit with an explanation if a setting is invalid."""
    parser = argparse.ArgumentParser(prog="python -m producers", description=__doc__)
    parser.add_argument("part", nargs="?", choices=_PARTS, default="demo")
    parser.add_argument(
        "--speed", type=float, default=40.0, help="trading days that the demo replays a second"
    )
    arguments = parser.parse_args()
    speed: float = arguments.speed
    if not speed > 0:
        parser.error(f"--speed is {speed}; it must be more than 0")
    os.umask(0o077)  # models and logs are for this user only
    try:
        settings = ProducerSettings()
        configure_logging(settings.log_level, settings.log_format)
        write_as(settings.write_as_release)
        check_security()
        check_framing()
        configure_tracing(arguments.part)
        serve_metrics(MetricsSettings(), lambda: [dead_letter_family(COUNTS.dead_letters)])
        asyncio.run(_run(arguments.part, speed))
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    except AccessDenied as error:
        sys.exit(f"this part stops: {error}")
    finally:
        stop_tracing()


async def _run(part: str, speed: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    await _PARTS[part](stop, speed)


async def _until_kafka_answers(name: str, stop: asyncio.Event) -> None:
    """Wait where a part begins with reading; those that wait for commands do so by themselves."""
    await wait_until_answered(ProducerSettings().bootstrap_servers, name, stop)


def _ready(status: str) -> None:
    notify_ready(status)


if __name__ == "__main__":
    main()
