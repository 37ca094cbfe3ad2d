"""`python -m stream_processors`: run one worker. More workers, with other ids, share the work."""

import gc
import logging
import os
import sys

import faust
from mode.loop import use as use_loop

from kafka_io.client import check_framing, check_security
from kafka_io.errors import InvalidSetting
from kafka_io.log_lines import configure_logging
from kafka_io.tracing import configure_tracing, stop_tracing
from schemas.codec import write_as
from stream_processors.app import build_app
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.thresholds import InvalidRule
from stream_processors.settings import ProcessorSettings

_GC_THRESHOLDS = (50_000, 20, 1_000)
"""Rare collections: portfolios and buffers are many objects without cycles, and slow to search."""


def main() -> None:
    """Run a worker until SIGTERM or Ctrl-C; exit with an explanation if a setting is invalid."""
    os.umask(0o077)  # what it writes is for its user only
    try:
        settings = ProcessorSettings()
        check_security()
        check_framing()
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    configure_logging(settings.log_level, settings.log_format)
    write_as(settings.write_as_release)
    if settings.log_level != "DEBUG":
        # Faust formats its debug records at any level, which takes a tenth of the time or more.
        logging.disable(logging.DEBUG)
    # It warns of each record that a broker refuses while it verifies a transaction.
    logging.getLogger("aiokafka.producer.sender").setLevel(logging.ERROR)
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        configure_tracing("processors")
        app = build_app(settings)
    except (InvalidRule, InvalidInput, InvalidSetting) as error:
        sys.exit(f"a setting is invalid: {error}")
    worker = faust.Worker(
        app, loglevel=settings.log_level, redirect_stdouts=False, override_logging=False
    )
    try:
        worker.execute_from_commandline()
    finally:
        stop_tracing()


if __name__ == "__main__":
    if sys.platform != "win32":
        use_loop("uvloop")
    main()
