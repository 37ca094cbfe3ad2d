"""A connection: one client, and a cursor that catches up, then lives. No gap and no repeat.

    resolve ──▶ take from the windows ──▶ write ──▶ nothing new: wait for the bell
                  │            ▲
                  ▼ a partition's position lies before its window
                read a bounded piece of the log, beside the loop

There is no queue: a position in each partition is all there is, and it moves only with what has
been handed to the socket. A slow client's writes wait, and so its position stays; nobody else
notices. Reading the log goes on beside the loop, a piece for each partition at a time, so that
heartbeats and the other partitions do not wait for Kafka.

Every event carries the cursor after it. Opening, ping, gap and error events carry none.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from schemas.instants import to_rfc3339
from sse_edge import mystocks
from sse_edge.cursor import Cursor
from sse_edge.errors import LogUnavailable
from sse_edge.feed import Feed, Position, Taken
from sse_edge.frame import block, checkpoint, envelope
from sse_edge.hub import Gap, Hub, Start
from sse_edge.record import Batch, Partition
from sse_edge.settings import EdgeSettings
from sse_edge.stream import Stream
from sse_edge.window import Entry, RepeatFilter

Write = Callable[[bytes], Awaitable[None]]
"""Hands bytes to the socket, and returns when it will take more."""

_RETRY_READ_S = 0.5

_REASONS = {
    "no_broker": "Kafka does not answer; come back a little later",
    "draining": "this node is on its way out; come back, to another one",
}


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client asks for beside the stream itself."""

    client_id: str
    start: Start
    close_on_gap: bool = False
    named_checkpoints: bool = False


class Connection:
    """Runs one client's stream from its opening event to its end."""

    def __init__(self, hub: Hub, stream: Stream, wishes: Wishes, write: Write) -> None:
        self._hub = hub
        self._settings = hub.settings
        self._stream = stream
        self._wishes = wishes
        self._write = write
        self._wake = asyncio.Event()
        self._reads: dict[Partition, asyncio.Task[_Read]] = {}
        self._repeats: dict[Partition, RepeatFilter] = {}
        self._told: Position = ()
        """What the client's cursor stands for."""
        self._last_event_s = self._last_id_s = _now_s()
        self._leave_at_s = inf
        self._is_leaving = False

    async def run(self) -> None:
        """Serve until the stream's end or a drain; losing the client comes as a cancellation."""
        await self._write(self._opening())
        try:
            async with asyncio.timeout(self._settings.broker_patience_s):
                feed, position, gaps = await self._hub.resolve(self._stream, self._wishes.start)
        except (TimeoutError, LogUnavailable):
            await self._write(unavailable("no_broker", retry_ms(self._settings)))
            return
        topics = [self._hub.topic_name(source) for source in self._stream.sources]
        with self._hub.tail.waking(topics, self._wake), self._hub.leaving(self._leave_by):
            async with asyncio.TaskGroup() as reads:
                await self._serve(feed, position, gaps, reads)
                self._stop_reading()

    async def _serve(
        self, feed: Feed, position: Position, gaps: Sequence[Gap], reads: asyncio.TaskGroup
    ) -> None:
        resumes = isinstance(self._wishes.start, Cursor) and not gaps
        going = await self._begin(feed, position, gaps, knows_position=resumes)
        while going:
            self._wake.clear()
            if feed.replaced:
                self._stop_reading()
                feed, position, gaps = await self._found_again(feed, position)
                going = await self._begin(feed, position, gaps)
                continue
            taken = feed.take(position)
            position = await self._tell(feed, taken)
            going = not taken.ended
            for at in taken.behind:
                position, stays = await self._catch_up(feed, position, at, reads)
                going = going and stays
            if going and (self._is_leaving or _now_s() >= self._leave_at_s):
                await self._write(self._cursor_block(feed, position, retry_ms(self._settings)))
                return
            if going and not taken.moved:
                await self._wait(feed, position)

    async def _begin(
        self, feed: Feed, position: Position, gaps: Sequence[Gap], *, knows_position: bool = False
    ) -> bool:
        """Tell gaps, and where the client is; whether the stream goes on."""
        if gaps:
            await self._write(self._gap_block(gaps))
            if self._wishes.close_on_gap:
                return False
        if not knows_position:
            # So that one who is lost before the first event comes back to here, not to "latest".
            await self._write(self._cursor_block(feed, position))
        self._told = position
        return True

    async def _tell(self, feed: Feed, taken: Taken) -> Position:
        """Write what was taken, and a checkpoint where much of it was not for the client."""
        if taken.events:
            await self._write(taken.data)
            self._told = taken.told
            self._last_event_s = self._last_id_s = _now_s()
        unseen = sum(taken.position) - sum(self._told)
        if unseen >= self._settings.checkpoint_records and not taken.ended:
            await self._write(self._cursor_block(feed, taken.position))
        return taken.position

    async def _catch_up(
        self, feed: Feed, position: Position, at: int, reads: asyncio.TaskGroup
    ) -> tuple[Position, bool]:
        """Take in what a read brought, or begin one; the position, and whether to go on."""
        partition = feed.partitions[at]
        read = self._reads.get(partition)
        if read is None:
            read = reads.create_task(self._read(partition, position[at]))
            self._reads[partition] = read
        if not read.done():
            return position, True
        del self._reads[partition]
        self._wake.set()  # whatever it brought, this partition is to be looked at again
        match read.result():
            case Batch(records, next_offset):
                repeats = self._repeats.setdefault(partition, RepeatFilter())
                entries = [Entry(record, repeats.is_repeat(record)) for record in records]
                taken = feed.take_read(position, at, entries, next_offset)
                return await self._tell(feed, taken), not taken.ended
            case Gap() as gap:
                position = (*position[:at], gap.to_offset, *position[at + 1 :])
                return position, await self._begin(feed, position, [gap])
            case None:
                return position, True

    async def _read(self, partition: Partition, offset: int) -> "_Read":
        """A piece of the log, or the gap that is there instead; None where nothing came yet."""
        try:
            found = await self._hub.read(partition, offset)
        except LogUnavailable:
            found = None
        if found is None:
            await asyncio.sleep(_RETRY_READ_S)
        self._wake.set()
        return found

    async def _found_again(
        self, feed: Feed, position: Position
    ) -> tuple[Feed, Position, Sequence[Gap]]:
        """Go on where the topics are not what they were: as a client with our cursor would."""
        while True:
            try:
                return await self._hub.resolve(self._stream, feed.as_cursor(position))
            except LogUnavailable:
                await self._wait(feed, position, at_most_s=_RETRY_READ_S)

    async def _wait(self, feed: Feed, position: Position, at_most_s: float = inf) -> None:
        """Wait for the bell, and say something when it is time to."""
        ping_at = self._last_event_s + self._settings.ping_s
        moved = position != self._told
        checkpoint_at = self._last_id_s + self._settings.checkpoint_s if moved else inf
        due = min(ping_at, checkpoint_at, self._leave_at_s, _now_s() + at_most_s)
        try:
            async with asyncio.timeout_at(due):
                await self._wake.wait()
        except TimeoutError:
            # What was due is due: a timer may fire a clock tick before its time.
            if due == checkpoint_at:
                await self._write(self._cursor_block(feed, position))
            if due == ping_at:
                await self._write(_ping())
                self._last_event_s = _now_s()
            self._is_leaving = due == self._leave_at_s

    def _opening(self) -> bytes:
        data = mystocks.connected(self._wishes.client_id, self._stream.name)
        return _enveloped("connected", data, retry_ms=retry_ms(self._settings))

    def _cursor_block(self, feed: Feed, position: Position, retry: int | None = None) -> bytes:
        self._told = position
        self._last_id_s = _now_s()
        named = self._wishes.named_checkpoints
        return checkpoint(feed.cursor(position), named=named, retry_ms=retry)

    def _gap_block(self, gaps: Sequence[Gap]) -> bytes:
        reasons: dict[str, list[dict[str, object]]] = {}
        prefix = self._settings.topic_prefix
        for gap in gaps:
            reasons.setdefault(gap.reason, []).append(
                {
                    "topic": gap.partition.topic.removeprefix(prefix),
                    "partition": gap.partition.number,
                    "from_offset": gap.from_offset,
                    "to_offset": gap.to_offset,
                }
            )
        return b"".join(
            _enveloped("gap", {"reason": reason, "partitions": partitions})
            for reason, partitions in reasons.items()
        )

    def _leave_by(self, at_s: float) -> None:
        self._leave_at_s = at_s
        self._wake.set()

    def _stop_reading(self) -> None:
        for read in self._reads.values():
            read.cancel()
        self._reads.clear()
        self._repeats.clear()


_Read = Batch | Gap | None


def unavailable(reason: str, retry: int) -> bytes:
    """What a client is told that cannot be served now, in a stream that ends at once."""
    return _enveloped("error", {"reason": reason, "message": _REASONS[reason]}, retry_ms=retry)


def retry_ms(settings: EdgeSettings) -> int:
    """When a client should come back: another time for each, so that they do not come at once."""
    return round(random.uniform(settings.retry_ms, 2 * settings.retry_ms))  # noqa: S311


def _ping() -> bytes:
    timestamp = to_rfc3339(time.time_ns() // 1000)
    return block(mystocks.HEARTBEAT, {"event": "ping", "data": {"timestamp": timestamp}})


def _enveloped(event: str, data: Mapping[str, object], *, retry_ms: int | None = None) -> bytes:
    timestamp = to_rfc3339(time.time_ns() // 1000)
    return block(event, envelope(event, data, timestamp), retry_ms=retry_ms)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
