"""A pool of processes that unpack and render pieces of the log, so that the loop does not have to.

Rendering an event takes about 7 us, and unpacking its record 2 us, most of what a replay costs. A
client that reads 200,000 events from before the window would take seconds of the loop's time, a
millisecond at a time; so large pieces are unpacked and rendered beside it. A process gets record
batches as the broker has sent them, and returns columns, which the loop makes entries of. If no
process can do it, the loop does.
"""

import asyncio
import fcntl
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from importlib import import_module
from itertools import repeat
from typing import Any, NamedTuple

from kafka_io.batches import Packed, unpack
from schemas.codec import MARKER
from schemas.gate import AHEAD_US
from sse_edge.cache.window import Entry, RepeatFilter
from sse_edge.errors import Unframable
from sse_edge.log.conversion import records_of
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import Frame, render_value

logger = logging.getLogger(__name__)

_PlainFrame = tuple[str, bytes, bool, str | None] | None
"""The fields of a `Frame`, as they come back from a process."""

PART = 250
"""Records that are handed over at a time; fewer are rendered sooner than handed over."""
_UNPACKED = 1_000
"""Entries that the loop makes at a time, in a millisecond."""
_PIPE_BYTES = 1 << 20
"""The most that Linux allows without a privilege."""
_COLLECTED = 100_000
"""After how many new objects a process looks for cycles."""


class Unpacked(NamedTuple):
    """The records that a process has unpacked and rendered."""

    partition: Partition
    next_offset: int
    columns: Sequence[bytes]
    """For each `_UNPACKED` records, their fields and frames by columns, pickled."""

    async def entries(self, channel: Channel, repeats: RepeatFilter) -> Sequence[Entry]:
        """Return the records as entries, with the frames that the process could render.

        Args:
            channel: the channel that they were rendered for.
            repeats: knows the records before them.
        """
        entries: list[Entry] = []
        for pickled in self.columns:
            await asyncio.sleep(0)
            frames, *columns = pickle.loads(pickled)  # noqa: S301  # of our own process
            fields = zip(repeat(self.partition), *columns, strict=False)
            for record, frame in zip(map(Record._make, fields), frames, strict=True):
                entry = Entry(record, is_repeat=repeats.is_repeat(record))
                if frame is not None:
                    entry.set_frame(channel, Frame._make(frame))
                entries.append(entry)
        return entries


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
        pool = self._processes()
        return [
            self._begin(pool, channel, entries[first : first + PART])
            for first in range(0, len(entries), PART)
        ]

    @property
    def has_processes(self) -> bool:
        """Whether there are processes, or will be when they are needed."""
        return self._count > 0

    def unpack(self, channel: Channel, packed: Packed) -> "asyncio.Future[Unpacked | None]":
        """Begin to unpack record batches, and to render the records.

        Returns:
            A future of what was unpacked; of None if this has to be done by a consumer, which
            resolves schemas of others and says what is wrong with a batch.

        Raises:
            BrokenProcessPool: there are no processes any more.
        """
        module = channel.render.__module__
        unpacked = asyncio.get_running_loop().run_in_executor(
            self._processes(), unpack_and_render, module, channel.key, packed, self._ahead_us
        )
        # Nobody may ask for it any more, and asyncio logs an error that nobody has seen.
        unpacked.add_done_callback(lambda done: done.cancelled() or done.exception())
        return unpacked

    def note_break(self, error: BrokenProcessPool) -> None:
        """Leave everything to the loop from now on."""
        if self._count:
            logger.warning("the render pool broke; the loop renders from now on: %s", error)
        self._count = 0

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, initializer=_begin_process)
            _widen_pipes(self._pool)
        return self._pool

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
                self.note_break(error)
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
    rendered, frames = CHANNELS.by_key(channel), list[_PlainFrame]()
    for value, timestamp_ms in records:
        try:
            frame = render_value(rendered, value, timestamp_ms, ahead_us)
        except Unframable:
            frame = None
        frames.append(None if frame is None else (frame.event, frame.body, frame.ends, frame.owner))
    return frames


def unpack_and_render(
    module: str, channel: str, packed: Packed, ahead_us: float = AHEAD_US
) -> Unpacked | None:
    """Unpack record batches and render their records, in a process of the pool.

    Args:
        module: the module that renders the channel; see `render_values`.
        channel: the channel's key.
        packed: the batches.
        ahead_us: how far ahead of its time in the log an event may be, in microseconds.

    Returns:
        None if a value is in another framing, or a batch cannot be unpacked.
    """
    partition = Partition(packed.topic, packed.number)
    try:
        found, next_offset = unpack(packed)
    except Exception:  # noqa: BLE001  # a consumer meets the same fault, and says what it is
        return None
    records = records_of(partition, found)
    if any(record.value and record.value[0] != MARKER[0] for record in records):
        return None
    columns = [
        _columns(module, channel, records[first : first + _UNPACKED], ahead_us)
        for first in range(0, len(records), _UNPACKED)
    ]
    return Unpacked(partition, next_offset, columns)


def _columns(module: str, channel: str, records: Sequence[Record], ahead_us: float) -> bytes:
    """Return the frames of records and their fields but the partition, pickled by columns."""
    values = [(record.value, record.timestamp_ms) for record in records]
    frames = render_values(module, channel, values, ahead_us)
    _, offsets, timestamps_ms, keys, *others = zip(*records, strict=True)
    # One object for equal keys is pickled once.
    known: dict[bytes | None, bytes | None] = {}
    shared = [known.setdefault(key, key) for key in keys]
    columns: list[Any] = [frames, offsets, timestamps_ms, shared, *others]
    return pickle.dumps(columns, pickle.HIGHEST_PROTOCOL)


def _widen_pipes(pool: Any) -> None:
    """Let a whole piece fit into the pipes of a pool, where the system can do this.

    A process that returns a piece would wait for the loop's process at every 64 KiB.
    """
    with suppress(AttributeError, OSError):  # another system, another Python, or a lower limit
        for queue in (pool._call_queue, pool._result_queue):  # noqa: SLF001  # they have no names outside
            fcntl.fcntl(queue._writer.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # noqa: SLF001  # as above


def _begin_process() -> None:
    """Leave signals to the parent process, and exit when it exits, even if it is killed."""
    # A piece is thousands of objects without cycles, which the collector would look at many times.
    gc.set_threshold(_COLLECTED)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
