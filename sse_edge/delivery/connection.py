"""A connection: one client, and a cursor that catches up, then lives. No gap and no repeat.

    resolve ──▶ take what is behind the horizon ──▶ nothing more: join the audience, and be told
                  │            ▲                                     │
                  ▼            │                                     ▼
        before the window: read the log              the socket is full, the topic is another one:
        piece by piece, beside the loop              leave it, and go on by oneself from there

There is no queue: a position in each partition is all there is, and it moves only with what has
been handed to the socket. A slow client keeps its position; nobody else notices. Reading the log
goes on beside the loop, a piece for each partition at a time, so that heartbeats and the other
partitions do not wait for Kafka.

Every event carries the cursor after it. Opening, ping, gap and error events carry none.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.instants import to_rfc3339
from sse_edge.cache.catch_up import Piece
from sse_edge.cache.tail import FAR_AWAY
from sse_edge.caller import NAME_BYTES, Caller, owned_id
from sse_edge.compression import Gzip
from sse_edge.cursor import Cursor
from sse_edge.delivery.broadcast import BroadcastGroup
from sse_edge.delivery.feed import Taken
from sse_edge.delivery.history import Position
from sse_edge.delivery.node import FromEdge, FromOffsets, FromTime, Gap, Node, Start
from sse_edge.errors import LogUnavailable
from sse_edge.frame import block, checkpoint
from sse_edge.settings import EdgeSettings
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.stream import Stream
from sse_edge.transport import Chunk, Transport

_RETRY_READ_S = 0.5
_LAST_MOMENT_S = 1.5
"""A stream is looked at once a second, and is over when its token is."""
_SLICE = 500
"""How many records that were read are told at a time: a millisecond."""

_REASONS = {
    "no_broker": "Kafka does not answer; come back a little later",
    "draining": "this node is on its way out; come back, to another one",
}


class SlowClientPolicy(StrEnum):
    """What becomes of a client that does not read what waits for it."""

    PAUSE = "pause"
    """It keeps its place, and gets everything when it reads on."""
    CONFLATE = "conflate"
    """It gets the newest event of each key when it reads on."""
    CLOSE = "close"
    """Its stream ends after a while; it comes back where it was."""


class _Read(NamedTuple):
    offset: int
    task: asyncio.Task[Piece | Gap]


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What a client asks for beside the stream itself."""

    client_id: str
    start: Start
    close_on_gap: bool = False
    named_checkpoints: bool = False
    slow: SlowClientPolicy = SlowClientPolicy.PAUSE
    gzip: bool = False
    prelude: bytes = b""
    """Blocks that come after the opening event; they have no ids."""
    caller: Caller | None = None
    """Who asks, by a token."""


class Connection:
    """Runs one client's stream from its opening event to its end."""

    __slots__ = (
        "_attention",
        "_began_s",
        "_challenge",
        "_conflates",
        "_expires_s",
        "_group",
        "_has_ended",
        "_is_called",
        "_is_leaving",
        "_last_s",
        "_moved_s",
        "_node",
        "_options",
        "_position",
        "_stalled_s",
        "_told",
        "address",
        "gzip",
        "is_catching_up",
        "stream",
        "transport",
    )

    def __init__(
        self,
        node: Node,
        stream: Stream,
        options: ConnectionOptions,
        transport: Transport,
        address: str,
    ) -> None:
        self.stream = stream
        self.transport = transport
        self.address = address
        self.gzip = Gzip() if options.gzip else None
        self.is_catching_up = False
        """Whether it reads the log for itself."""
        self._node = node
        self._options = options
        self._group: BroadcastGroup | None = None
        self._position: Position = ()
        self._told: Position = ()
        """What the client's cursor stands for, but for what its audience has told it since."""
        self._began_s = self._last_s = self._moved_s = _now_s()
        """When it began, when something was last written, and when its cursor last moved."""
        self._stalled_s: float | None = None
        """Since when the socket has taken nothing of what waits for the client."""
        self._attention: asyncio.Future[None] | None = None
        caller = options.caller
        self._expires_s = None if caller is None else caller.expires_s
        self._challenge: str | None = None
        """What the client is asked for a fresh token by."""
        self._is_called = self._is_leaving = self._has_ended = self._conflates = False

    @property
    def client_id(self) -> str:
        """What the client calls itself."""
        return self._options.client_id

    @property
    def subject(self) -> str | None:
        """Who it is, by its token."""
        caller = self._options.caller
        return None if caller is None else caller.subject

    @property
    def depth(self) -> int:
        """How many records it is behind its windows' ends."""
        if self._group is None or not self.is_catching_up:
            return 0
        ends = zip(self._group.feed.ends, self._position, strict=True)
        return sum(max(0, end - at) for end, at in ends if end < FAR_AWAY)

    async def run(self) -> None:
        """Serve until the stream's end or a drain; losing the client comes as a cancellation."""
        if self._node.draining:
            self._write(self._unavailable("draining"))
        else:
            self._write(self._opening())
            with self._node.admitted(self):
                await self._serve()
        if self.gzip is not None:
            self.transport.write(Chunk(self.gzip.end()))
        self.transport.end(self._node.settings.slow_close_s)

    def called(self) -> None:
        """Hear that something is to be seen to."""
        self._is_called = True
        if self._attention is not None and not self._attention.done():
            self._attention.set_result(None)

    def finish(self) -> None:
        """Hear that the stream has ended, and everything been told."""
        self._has_ended = True
        self.called()

    def leave(self) -> None:
        """End the stream, at an event's boundary."""
        self._is_leaving = True
        self.called()

    def tick(self) -> None:
        """Say something where it is time to; let go of a client that does not listen."""
        settings, dialect, now_s = self._node.settings, self.stream.dialect, _now_s()
        if dialect.lasts_s is not None and now_s - self._began_s >= dialect.lasts_s:
            self.leave()
        if self._expires_s is not None:
            self._see_to_the_token(self._expires_s)
        if self.transport.is_paused:
            self._see_to_a_full_wire(now_s)
            return
        self._stalled_s = None
        group = self._group
        if group is None or self._is_called:
            return  # where it stands is about to be seen to
        told, told_s, position = self._told, self._moved_s, self._position
        if self in group:
            position = group.feed.horizon
            told, told_s = max(told, group.told, key=sum), max(told_s, group.told_s)
            if self._node.is_over(group.feed):
                self._write(checkpoint(group.feed.cursor(position, ended=True)))
                self.finish()
                return
        unseen = sum(position) - sum(told)
        is_due = unseen >= settings.checkpoint_records or now_s - told_s >= settings.checkpoint_s
        if unseen > 0 and is_due:
            self._write(self._cursor_block(position))
        elif now_s - max(self._last_s, told_s) >= (dialect.heartbeat_s or settings.ping_s):
            self._write(dialect.beat(self._client_info, _now()))
            self._last_s = now_s

    def _see_to_the_token(self, expires_s: float) -> None:
        if self._challenge is not None:
            renewed_until_s = self._node.lookups.renewed_until_s(self._challenge)
            if renewed_until_s is not None:
                self._expires_s = expires_s = renewed_until_s
                self._challenge = None
        good_for_s = expires_s - time.time()
        if good_for_s <= _LAST_MOMENT_S:
            self.leave()
        elif good_for_s <= self._node.settings.challenge_s and self._challenge is None:
            self._challenge = owned_id(secrets.token_bytes(NAME_BYTES), self._options.caller)
            self._write(
                self._notice(
                    "challenge",
                    {"url": f"/api/v1/sse/renew/{self._challenge}", "seconds": int(good_for_s)},
                )
            )

    def _see_to_a_full_wire(self, now_s: float) -> None:
        self._stalled_s = self._stalled_s or now_s
        bound_s = self._node.settings.slow_close_s
        is_over = self._has_ended or now_s - self._stalled_s < bound_s
        if self._options.slow is SlowClientPolicy.CLOSE and not is_over:
            self._has_ended = True
            self._node.metrics.slow_closes += 1
            # What waits for it are whole events: if it reads them, it is at a cursor.
            self.transport.end(bound_s)

    async def _serve(self) -> None:
        settings, start = self._node.settings, self._options.start
        try:
            async with asyncio.timeout(settings.broker_patience_s):
                group, position, gaps = await self._node.resolve(self.stream, start)
        except (TimeoutError, LogUnavailable):
            self._write(self._unavailable("no_broker"))
            return
        self._node.metrics.opened[_outcome(start, gaps)] += 1
        self._go_to(group, position)
        try:
            going = self._begin(gaps, knows_position=isinstance(start, Cursor) and not gaps)
            while going:
                going = await self._step()
        finally:
            self._node.desert(self, self._current)
            self._group = None

    async def _step(self) -> bool:
        """Do what comes next; whether to go on."""
        group = self._current
        if self._has_ended or self._is_leaving:
            self._say_goodbye()
            return False
        if group.feed.replaced:
            return await self._find_again()
        if self.transport.is_paused:
            await self._wait_until_drained()
            return True
        if self._position != group.feed.horizon:
            await self._node.fair_queue.slot()
        taken = group.take(self._position, newest_only=self._conflates)
        self._tell(taken)
        if taken.ended:
            return False
        if taken.behind:
            return await self._catch_up()
        if not taken.moved:
            self._conflates = False
            await self._attend()
        return True

    def _say_goodbye(self) -> None:
        """Let the client come back to where it was, a little later than others."""
        if not self._has_ended:
            self._node.metrics.drained += self._node.draining
            self._write(self._cursor_block(self._position, retry_ms(self._node.settings)))

    async def _wait_until_drained(self) -> None:
        """Wait until the client has read what waits for it."""
        self._conflates = self._options.slow is SlowClientPolicy.CONFLATE
        await self.transport.drained()

    @property
    def _current(self) -> BroadcastGroup:
        assert self._group is not None
        return self._group

    def _go_to(self, group: BroadcastGroup, position: Position) -> None:
        """Read with others from now on."""
        if self._group is not None:
            self._node.desert(self, self._group)
        self._group = group
        self._node.attend(self, group)
        self._position = position

    def _begin(self, gaps: Sequence[Gap], *, knows_position: bool = False) -> bool:
        """Tell gaps, and where the client is; whether the stream goes on."""
        self._told = self._position
        if gaps:
            self._node.metrics.gaps.update(gap.reason for gap in gaps)
            self._write(self._gap_block(gaps))
            if self._options.close_on_gap:
                return False
        if not knows_position:
            # So that one who is lost before the first event comes back to here, not to "latest".
            self._write(self._cursor_block(self._position))
        return True

    def _tell(self, taken: Taken) -> None:
        """Write what was taken, and a checkpoint where much of it was not for the client."""
        if taken.merged:
            self._node.metrics.merged += taken.merged
            self._write(self._notice("conflated", {"merged": taken.merged}))
        if taken.events:
            size = self._write(taken.data)
            metrics = self._node.metrics.of(self.stream.name)
            metrics.events += taken.events
            metrics.bytes += size
            self._told = taken.told
            self._moved_s = self._last_s
        self._position = taken.position
        unseen = sum(taken.position) - sum(self._told)
        if unseen >= self._node.settings.checkpoint_records and not taken.ended:
            self._write(self._cursor_block(taken.position))

    async def _attend(self) -> None:
        """Be told, until there is something that the audience does not do."""
        group = self._current
        if self._is_called:
            self._is_called = False
            return
        group.join(self, self._position)
        self._attention = asyncio.get_running_loop().create_future()
        try:
            await self._attention
        finally:
            self._attention, self._is_called = None, False
            stands = group.leave(self)
            if stands is not None:
                self._position = stands
                if sum(group.told) > sum(self._told):
                    self._told, self._moved_s = min(group.told, stands, key=sum), group.told_s

    async def _catch_up(self) -> bool:
        """Read what lies before the windows, until they are reached; whether to go on."""
        reads: dict[int, _Read] = {}
        self.is_catching_up = True
        try:
            async with asyncio.TaskGroup() as tasks:
                going, feed = True, self._current.feed
                while going and not (self._is_leaving or feed.replaced):
                    if self.transport.is_paused:
                        await self._wait_until_drained()
                        continue
                    taken = self._current.take(self._position, newest_only=self._conflates)
                    self._tell(taken)
                    going = not taken.ended
                    if going and not taken.behind:
                        break
                    came = False
                    for at in taken.behind:
                        read = reads.get(at)
                        if read is None or read.offset != self._position[at]:
                            reads[at] = self._begin_read(tasks, at, self._position[at])
                        elif read.task.done():
                            came = True
                            found = reads.pop(at).task.result()
                            if isinstance(found, Piece) and not feed.covers(at, found.next_offset):
                                # What comes next is read while this is told.
                                reads[at] = self._begin_read(tasks, at, found.next_offset)
                            going = going and await self._take_in(at, found)
                    if going and not came and not taken.moved:
                        await self._attend()
                for read in reads.values():
                    read.task.cancel()
        finally:
            self.is_catching_up = False
        return going

    def _begin_read(self, tasks: asyncio.TaskGroup, at: int, offset: int) -> _Read:
        return _Read(offset, tasks.create_task(self._read(at, offset)))

    async def _take_in(self, at: int, found: Piece | Gap) -> bool:
        """Tell what a read brought, a slice at a time; whether to go on."""
        if isinstance(found, Gap):
            position = self._position
            self._position = (*position[:at], found.to_offset, *position[at + 1 :])
            return self._begin([found])
        feed, entries = self._current.feed, found.entries
        for first in range(0, max(1, len(entries)), _SLICE):
            rest = entries[first + _SLICE :]
            upto = rest[0].record.offset if rest else found.next_offset
            if self.transport.is_paused:
                await self._wait_until_drained()
            await found.rendered(min(first + _SLICE, len(entries)))
            await self._node.fair_queue.slot()
            taken = feed.take_read(
                self._position,
                at,
                entries[first : first + _SLICE],
                upto,
                newest_only=self._conflates,
            )
            self._tell(taken)
            if taken.ended:
                return False
        return True

    async def _read(self, at: int, offset: int) -> Piece | Gap:
        """A piece of the log, or the gap that is there instead."""
        found: Piece | Gap = Piece((), offset)
        try:
            found = await self._node.read(self._current.feed, at, offset)
        except LogUnavailable:
            await asyncio.sleep(_RETRY_READ_S)
        self.called()
        return found

    async def _find_again(self) -> bool:
        """Go on where the topics are not what they were: as a client with our cursor would."""
        feed = self._current.feed
        try:
            found = await self._node.resolve(self.stream, feed.as_cursor(self._position), feed)
        except LogUnavailable:
            await asyncio.sleep(_RETRY_READ_S)
            return True
        group, position, gaps = found
        self._go_to(group, position)
        return self._begin(gaps)

    def _write(self, data: bytes) -> int:
        """Hand bytes to the socket; how many."""
        self._last_s = _now_s()
        if self._group is not None:
            return self._group.write_alone(self, data)
        if self.gzip is not None:
            data = self.gzip.encode(data)
        self.transport.write(Chunk(data))
        return len(data)

    def _opening(self) -> bytes:
        opening = self.stream.dialect.open(self._client_info, _now(), retry_ms(self._node.settings))
        return opening + self._options.prelude

    def _cursor_block(self, position: Position, retry: int | None = None) -> bytes:
        self._told, self._moved_s = position, _now_s()
        named = self._options.named_checkpoints
        return checkpoint(self._current.feed.cursor(position), named=named, retry_ms=retry)

    def _gap_block(self, gaps: Sequence[Gap]) -> bytes:
        reasons: dict[str, list[dict[str, object]]] = {}
        prefix = self._node.settings.topic_prefix
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
            self._notice("gap", {"reason": reason, "partitions": partitions})
            for reason, partitions in reasons.items()
        )

    def _unavailable(self, reason: str) -> bytes:
        """What a client is told that cannot be served now, in a stream that ends at once."""
        data = {"reason": reason, "message": _REASONS[reason]}
        return self._notice("error", data, retry_ms=retry_ms(self._node.settings))

    def _notice(
        self, event: str, data: Mapping[str, object], *, retry_ms: int | None = None
    ) -> bytes:
        said = self.stream.dialect.notice(self._client_info, event, data, _now())
        return block(*said, retry_ms=retry_ms)

    @property
    def _client_info(self) -> ClientInfo:
        return ClientInfo(self._options.client_id, self.stream.name, self.stream.entities)


def retry_ms(settings: EdgeSettings) -> int:
    """When a client should come back: another time for each, so that they do not come at once."""
    return round(random.uniform(settings.retry_ms, 2 * settings.retry_ms))  # noqa: S311


def _outcome(start: Start, gaps: Sequence[Gap]) -> str:
    match start:
        case Cursor():
            return "gap" if gaps else "exact"
        case FromTime():
            return "time"
        case FromOffsets():
            return "story"
        case FromEdge():
            return start.value


def _now() -> str:
    return to_rfc3339(time.time_ns() // 1000)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
