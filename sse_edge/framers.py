"""Framers: processes that word pieces of the log, so that the loop does not have to.

Wording an event takes some eight microseconds, most of what a replay costs. A client that reads
two hundred thousand events from before the window would hold the loop for seconds, a millisecond
at a time; so large pieces are worded beside it. Where no process can do it, the loop does.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from sse_edge.errors import Unframable
from sse_edge.stream import CHANNELS, Channel, Frame, frame_of_value
from sse_edge.window import Entry

log = logging.getLogger(__name__)

_WORTHWHILE = 250
"""Fewer records are worded sooner than handed over."""
_PART = 500


class Framers:
    """A pool of processes; they start when they are first needed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    async def frame(self, channel: Channel, entries: Sequence[Entry]) -> None:
        """Give entries their frames, but for those that cannot be worded."""
        if self._count == 0 or len(entries) < _WORTHWHILE:
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_live_with_parent)
        loop, pool = asyncio.get_running_loop(), self._pool
        try:
            asked = []
            for first in range(0, len(entries), _PART):
                part = entries[first : first + _PART]
                records = [(one.record.value, one.record.timestamp_ms) for one in part]
                asked.append((part, loop.run_in_executor(pool, frames_of, channel.name, records)))
            for part, framed in asked:
                for entry, frame in zip(part, await framed, strict=True):
                    if frame is not None:
                        entry.set_frame(Frame(*frame))
        except BrokenProcessPool as error:
            log.warning("events are worded in the loop from now on: %s", error)
            self._count = 0

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def frames_of(
    channel: str, records: Sequence[tuple[bytes | None, int]]
) -> list[tuple[str, bytes, bool] | None]:
    """The frames of values with their times in the log; None for what cannot be worded."""
    framed: list[tuple[str, bytes, bool] | None] = []
    for value, timestamp_ms in records:
        try:
            frame = frame_of_value(CHANNELS[channel], value, timestamp_ms)
        except Unframable:
            frame = None
        framed.append(None if frame is None else (frame.event, frame.body, frame.ends))
    return framed


def _live_with_parent() -> None:
    """Leave signals to the parent, and end when it does, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
