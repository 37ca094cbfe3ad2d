"""A pool of processes that render pieces of the log, so that the loop does not have to.

Rendering an event takes about 8 us, most of what a replay costs. A client that reads 200,000 events
from before the window would take seconds of the loop's time, a millisecond at a time; so large
pieces are rendered beside it. If no process can do it, the loop does.
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
from importlib import import_module

from schemas.gate import AHEAD_US
from sse_edge.cache.window import Entry
from sse_edge.errors import Unframable
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import Frame, render_value

logger = logging.getLogger(__name__)

_PlainFrame = tuple[str, bytes, bool, str | None] | None
"""The fields of a `Frame`, as they come back from a process."""

PART = 250
"""Records that are handed over at a time; fewer are rendered sooner than handed over."""


class RenderPool:
    """A pool of processes that start when they are first needed."""

    def __init__(self, count: int, ahead_us: float = AHEAD_US) -> None:
        """Make a pool that has started no process.

        Args:
            count: the number of processes.
            ahead_us: how far ahead of its time in the log an event may be, in microseconds.
        """
        self._count = count
        self._ahead_us = ahead_us
        self._pool: ProcessPoolExecutor | None = None

    def render(self, channel: Channel, entries: Sequence[Entry]) -> Sequence[asyncio.Future[None]]:
        """Begin to render entries; those that cannot be rendered are left to the loop.

        Returns:
            For each `PART` of the entries, a future that is done when they are rendered; empty if
            the loop has to render all of them.
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
        records = [(entry.record.value, entry.record.timestamp_ms) for entry in part]

        def set_frames(rendered: asyncio.Future[list[_PlainFrame]]) -> None:
            try:
                for entry, frame in zip(part, rendered.result(), strict=True):
                    if frame is not None:
                        entry.set_frame(channel, Frame(*frame))
            except asyncio.CancelledError:  # the node ends
                pass
            except BrokenProcessPool as error:
                logger.warning("the render pool broke; the loop renders from now on: %s", error)
                self._count = 0
            finally:
                done.set_result(None)

        try:
            module = channel.render.__module__
            rendering = loop.run_in_executor(
                pool, render_values, module, channel.key, records, self._ahead_us
            )
        except BrokenProcessPool:
            self._count = 0
            done.set_result(None)
        else:
            rendering.add_done_callback(set_frames)
        return done

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def render_values(
    module: str,
    channel: str,
    records: Sequence[tuple[bytes | None, int]],
    ahead_us: float = AHEAD_US,
) -> list[_PlainFrame]:
    """Render values, in a process of the pool.

    Args:
        module: the module that renders the channel; importing it adds a channel of another package.
        channel: the channel's key.
        records: each value, with its time in the log in milliseconds.
        ahead_us: how far ahead of its time in the log an event may be, in microseconds.

    Returns:
        For each value, its frame; None for a value that cannot be rendered.
    """
    import_module(module)
    frames: list[_PlainFrame] = []
    for value, timestamp_ms in records:
        try:
            frame = render_value(CHANNELS.by_key(channel), value, timestamp_ms, ahead_us)
        except Unframable:
            frame = None
        frames.append(None if frame is None else (frame.event, frame.body, frame.ends, frame.owner))
    return frames


def _live_with_parent() -> None:
    """Leave signals to the parent process, and exit when it exits, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
