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

from sse_edge.cache.window import Entry
from sse_edge.errors import Unframable
from sse_edge.streams.stream import BY_KEY, Channel, Frame, render_value

logger = logging.getLogger(__name__)

_Framed = tuple[str, bytes, bool] | None

PART = 250
"""Records that are handed over at a time; fewer are worded sooner than handed over."""


class RenderPool:
    """A pool of processes; they start when they are first needed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def frame(self, channel: Channel, entries: Sequence[Entry]) -> Sequence[asyncio.Future[None]]:
        """Give entries their frames, but for those that cannot be worded.

        Returns:
            for each `PART` of the entries, what is done when they have them; none, where the loop
            has to word them.
        """
        if self._count == 0 or len(entries) < PART:
            return ()
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_live_with_parent)
        return [
            self._begin(self._pool, channel, entries[first : first + PART])
            for first in range(0, len(entries), PART)
        ]

    def _begin(
        self, pool: ProcessPoolExecutor, channel: Channel, part: Sequence[Entry]
    ) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        records = [(one.record.value, one.record.timestamp_ms) for one in part]

        def take(answer: asyncio.Future[list[_Framed]]) -> None:
            try:
                for entry, frame in zip(part, answer.result(), strict=True):
                    if frame is not None:
                        entry.set_frame(channel, Frame(*frame))
            except asyncio.CancelledError:  # the node ends
                pass
            except BrokenProcessPool as error:
                logger.warning("events are worded in the loop from now on: %s", error)
                self._count = 0
            finally:
                done.set_result(None)

        try:
            asked = loop.run_in_executor(pool, render_values, channel.key, records)
        except BrokenProcessPool:
            self._count = 0
            done.set_result(None)
        else:
            asked.add_done_callback(take)
        return done

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def render_values(channel: str, records: Sequence[tuple[bytes | None, int]]) -> list[_Framed]:
    """The frames of values with their times in the log; None for what cannot be worded."""
    framed: list[_Framed] = []
    for value, timestamp_ms in records:
        try:
            frame = render_value(BY_KEY[channel], value, timestamp_ms)
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
