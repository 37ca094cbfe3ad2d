"""Processes that write a lake, which tests kill, stop and let go on."""

import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import cast

from analytics.sinks.address import open_sink
from analytics.sinks.base import Lane, Tables
from tests.support.lake_log import TABLE, write_step

STEP_ROWS = 7
"""The rows of a lane in each step."""


def context() -> ForkServerContext:
    """Return where processes come from: a server that has read all libraries already."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(
        [
            "tests.support.lake_writer",
            "analytics.sinks.delta",
            "analytics.sinks.iceberg",
            "analytics.sinks.parquet",
        ]
    )
    return found


def follow(address: str, lanes: Sequence[Lane], begun: Event | None = None) -> None:
    """Write the next rows of lanes, for ever; `begun` is set before the first ones."""
    sink = open_sink(address)
    if begun is not None:
        begun.set()
    while True:
        write_step(sink, lanes, STEP_ROWS)


def compact(address: str, begun: Event | None = None) -> None:
    """Compact the table, for ever; `begun` is set before the first time."""
    sink = cast("Tables", open_sink(address))
    if begun is not None:
        begun.set()
    while True:
        if TABLE in sink.tables():
            sink.compact(TABLE)


@contextmanager
def started(process: BaseProcess) -> Generator[BaseProcess]:
    """Start a process, and kill it at the end as a power cut would."""
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def stop(process: BaseProcess) -> None:
    """Stop a process where it is, without its knowledge."""
    os.kill(cast("int", process.pid), signal.SIGSTOP)


def wake(process: BaseProcess) -> None:
    """Let a stopped process go on."""
    os.kill(cast("int", process.pid), signal.SIGCONT)
