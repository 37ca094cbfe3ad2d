"""`python -m stream_processors.notifications`: run one notifier; more share the routes."""

import asyncio
import logging
import os
import signal
import sys

from kafka_io.client import check_framing, check_security
from kafka_io.errors import InvalidSetting, ProducerError
from kafka_io.log_lines import configure_logging
from kafka_io.tracing import configure_tracing, stop_tracing
from schemas.codec import write_as
from stream_processors.errors import WorkerError
from stream_processors.notifications.app import run
from stream_processors.notifications.settings import NotifierSettings

logger = logging.getLogger(__name__)


def main() -> None:
    """Run a notifier until SIGTERM or Ctrl-C; exit with an explanation if a setting is invalid."""
    os.umask(0o077)  # what it writes is for its user only
    try:
        settings = NotifierSettings()
        check_security()
        check_framing()
        configure_tracing("notifier")
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    configure_logging(settings.log_level, settings.log_format)
    write_as(settings.write_as_release)
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    try:
        asyncio.run(_run(settings))
    except (WorkerError, ProducerError) as error:
        logger.critical("this notifier stops: %s", error)
        sys.exit(1)
    finally:
        stop_tracing()


async def _run(settings: NotifierSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, stop.set)
    await run(settings, stop)


if __name__ == "__main__":
    main()
