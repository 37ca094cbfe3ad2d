"""A connection: one client and its cursor, which first catches up and then follows the live end.

    resolve ──▶ take what lies before the horizon ──▶ nothing left: join the broadcast group
                  │            ▲                                     │
                  ▼            │                                     ▼
        before the window: read the log           the transport is paused, or a topic is replaced:
        piece by piece, beside the loop           leave the group, and continue alone from there

After its last event, a stream of some dialects stays open: the connection reads nothing more, sends
heartbeats, and gives way to other connections.

There is no queue. A connection is a position in each partition, and the position moves only with
what was handed to the transport; a slow client keeps its position and delays no other. Reads of the
log run beside the loop, one piece for each partition at a time, so that heartbeats and the other
partitions do not wait for Kafka.

Every event carries the cursor after it. Opening, heartbeat, gap and error events carry none.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from opentelemetry.trace import Span, StatusCode

from sse_edge.cache.catch_up import Piece
from sse_edge.cache.topic_tail import FAR_AWAY
from sse_edge.caller import tenant_of, user_of
from sse_edge.compression import Gzip
from sse_edge.cursor import Cursor
from sse_edge.delivery import control_events
from sse_edge.delivery.admission import Slot
from sse_edge.delivery.broadcast import BroadcastGroup
from sse_edge.delivery.feed import Delivery
from sse_edge.delivery.history import Position
from sse_edge.delivery.node import Node
from sse_edge.delivery.options import ConnectionOptions, SlowClientPolicy
from sse_edge.delivery.partition_reads import PartitionReads
from sse_edge.delivery.start import FromEdge, FromOffsets, FromTime, Gap, Start
from sse_edge.delivery.token_renewal import TokenRenewal
from sse_edge.errors import LogUnavailable, UnavailableReason
from sse_edge.failure_log import log_failure
from sse_edge.frame import checkpoint
from sse_edge.metrics.node_metrics import StreamStart
from sse_edge.streams.dialect import ClientInfo
from sse_edge.streams.stream import Stream
from sse_edge.transport import Chunk, Transport

_RETRY_READ_S = 0.5
_TOKEN_MARGIN_S = 1.5
"""A stream ends this long before its token expires: it is ticked only once a second."""
_SLICE = 500
"""How many records that were read are delivered before a yield to the loop: about 1 ms of work."""


class Connection:
    """Serves one client's stream from its opening event to its end."""

    __slots__ = (
        "_began_s",
        "_conflates",
        "_cursor_moved_s",
        "_group",
        "_has_ended",
        "_is_closed",
        "_is_leaving",
        "_is_open",
        "_is_resting",
        "_is_woken",
        "_last_seen_s",
        "_last_sent",
        "_node",
        "_options",
        "_position",
        "_stalled_s",
        "_token",
        "_wakeup",
        "address",
        "gzip",
        "is_catching_up",
        "slot",
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
        slot: Slot | None = None,
    ) -> None:
        self.slot = slot
        self.stream = stream
        self.transport = transport
        self.address = address
        self.gzip = Gzip() if options.gzip else None
        self.is_catching_up = False
        """Whether it reads the log for itself, since it lies behind the windows."""
        self._node = node
        self._options = options
        self._group: BroadcastGroup | None = None
        self._position: Position = ()
        self._last_sent: Position = ()
        """The position of the client's cursor, without what its group has sent since."""
        self._began_s = self._last_seen_s = self._cursor_moved_s = _now_s()
        """When the stream began, when its client last got what resets the heartbeat, and when its
        cursor last moved."""
        self._stalled_s: float | None = None
        """Since when the transport is paused; None while it is not."""
        self._wakeup: asyncio.Future[None] | None = None
        self._token = None if options.caller is None else TokenRenewal(options.caller)
        self._has_ended = False
        """Whether the last event of the stream is written."""
        self._is_closed = False
        """Whether the transport was ended, since the client is slow."""
        self._is_open = False
        """Whether the opening event is written."""
        self._is_resting = False
        """Whether the ended stream stays open."""
        self._is_woken = self._is_leaving = self._conflates = False

    @property
    def client_id(self) -> str:
        """The client's name for itself."""
        return self._options.client_id

    @property
    def user(self) -> str | None:
        """The user of the client's token, as a text that no other user has; None without one."""
        return user_of(self._options.caller)

    @property
    def tenant(self) -> str | None:
        """The tenant of the client's token; empty for none, None without a token."""
        return tenant_of(self._options.caller)

    @property
    def depth(self) -> int:
        """How many records it is behind the ends of its windows."""
        if self._group is None or not self.is_catching_up:
            return 0
        ends = zip(self._group.feed.ends, self._position, strict=True)
        return sum(max(0, end - offset) for end, offset in ends if end < FAR_AWAY)

    async def run(self) -> None:
        """Serve until the stream ends or the node drains; cancelled when the client is lost."""
        reason = self._node.refusal
        if reason is not None:
            self._write(self._unavailable(reason, "the node takes no streams"))
        else:
            with self._node.connected(self):
                await self._serve()
                if self._has_ended and self._options.stays_open_s:
                    await self._rest()
        if self.gzip is not None:
            self.transport.write(Chunk(self.gzip.end()))
        self.transport.end(self._node.settings.slow_close_s)

    def wake(self) -> None:
        """Resume the connection's own work."""
        self._is_woken = True
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def finish(self) -> None:
        """Stop reading: the stream has ended, and its last event is written."""
        self._has_ended = True
        self.wake()

    def leave(self) -> None:
        """End the stream at an event's boundary."""
        self._is_leaving = True
        self.wake()

    def tick(self) -> None:
        """Write a checkpoint or a heartbeat if one is due; close a stream whose time is up."""
        settings, dialect, now_s = self._node.settings, self.stream.dialect, _now_s()
        if dialect.lasts_s is not None and now_s - self._began_s >= dialect.lasts_s:
            self.leave()
        if not self._is_open:
            return
        if self._token is not None:
            self._check_token(self._token)
        if self.transport.is_paused:
            self._check_stalled(now_s)
            return
        self._stalled_s = None
        if self._is_resting:
            self._beat_if_due(now_s, self._last_seen_s)
            return
        group = self._group
        if group is None or self._is_woken:
            return  # its position is about to change
        last_sent, position = self._last_sent, self._position
        seen_s, moved_s = self._last_seen_s, self._cursor_moved_s
        if self in group:
            position = group.feed.horizon
            last_sent = max(last_sent, group.last_sent, key=sum)
            seen_s, moved_s = max(seen_s, group.last_sent_s), max(moved_s, group.last_sent_s)
            if self._node.has_ended(group.feed):
                self._write(checkpoint(group.feed.cursor(position, ended=True)))
                self.finish()
                return
        unsent = sum(position) - sum(last_sent)
        is_due = unsent >= settings.checkpoint_records or now_s - moved_s >= settings.checkpoint_s
        if unsent > 0 and is_due:
            self._write_cursor(position)
            seen_s = max(seen_s, self._last_seen_s)
        self._beat_if_due(now_s, seen_s)

    def _beat_if_due(self, now_s: float, silent_since_s: float) -> None:
        if now_s - silent_since_s >= self._heartbeat_s:
            dialect = self.stream.dialect
            self._write(control_events.heartbeat(dialect, self._client_info))

    @property
    def _heartbeat_s(self) -> float:
        """The seconds of silence after which a heartbeat is due."""
        own_s = self.stream.dialect.heartbeat_s or self._node.settings.ping_s
        return self._options.heartbeat_s or own_s

    def _check_token(self, token: TokenRenewal) -> None:
        valid_for_s = token.valid_for_s(self._node.lookups)
        if valid_for_s <= _TOKEN_MARGIN_S:
            self._node.metrics.expired_tokens += not self._is_leaving
            self.leave()
        elif valid_for_s <= self._node.settings.challenge_s and not token.is_challenged:
            self._write(self._notice("challenge", token.challenge(valid_for_s)))

    def _check_stalled(self, now_s: float) -> None:
        self._stalled_s = self._stalled_s or now_s
        bound_s = self._node.settings.slow_close_s
        may_stay = self._has_ended or self._is_closed or now_s - self._stalled_s < bound_s
        if self._options.slow is SlowClientPolicy.CLOSE and not may_stay:
            self._is_closed = True
            self._node.metrics.slow_closes += 1
            # Whole events wait for the client: if it reads them, it is at a cursor.
            self.transport.end(bound_s)

    async def _serve(self) -> None:
        start = self._options.start
        with self._options.opening as span:
            resolved = await self._resolve(start)
            if span is not None:
                self._describe(span, None if resolved is None else _outcome(start, resolved[2]))
        if resolved is None:
            return
        group, position, gaps = resolved
        self._node.metrics.opened[_outcome(start, gaps)] += 1
        self._move_to(group, position)
        try:
            knows_position = isinstance(start, Cursor) and not gaps
            is_open = self._write_start(gaps, knows_position=knows_position)
            in_turn = self._node.fair_queue.goes_on()
            while is_open:
                is_open = await self._step(in_turn=in_turn)
                in_turn = False
        finally:
            self._node.groups.unsubscribe(self, self._current)
            self._group = None

    async def _resolve(self, start: Start) -> tuple[BroadcastGroup, Position, Sequence[Gap]] | None:
        """Return where the stream starts; None, with a notice to the client, if Kafka is silent.

        The opening event is written when the start is known, and not before: clients take it for a
        promise that they get whatever is sent from then on.
        """
        try:
            async with asyncio.timeout(self._node.settings.broker_patience_s):
                resolved = await self._node.resolver.resolve(self.stream, start)
        except (TimeoutError, LogUnavailable) as error:
            detail = str(error) or "Kafka does not say in time where it starts"
            self._open()
            self._write(self._unavailable(UnavailableReason.NO_BROKER, detail))
            return None
        self._open()
        return resolved

    def _open(self) -> None:
        """Write the opening event."""
        self._write(self._opening())
        self._is_open = True

    def _describe(self, span: Span, outcome: StreamStart | None) -> None:
        span.set_attribute("tapewire.stream", self.stream.name)
        if outcome is None:
            span.set_attribute("error.type", str(UnavailableReason.NO_BROKER))
            span.set_status(StatusCode.ERROR)
        else:
            span.set_attribute("tapewire.stream.start", str(outcome))

    async def _step(self, *, in_turn: bool) -> bool:
        """Do what is next; return whether the stream stays open.

        Args:
            in_turn: whether it is the connection's turn in the fair queue already.
        """
        group = self._current
        if self._has_ended or self._is_leaving or self._is_closed:
            self._write_goodbye()
            return False
        if group.feed.replaced:
            return await self._resolve_again()
        if self.transport.is_paused:
            await self._wait_until_drained()
            return True
        if self._position != group.feed.horizon and not in_turn:
            await self._node.fair_queue.slot()
        delivery = group.take(self._position, newest_only=self._conflates)
        self._deliver(delivery)
        if delivery.ended:
            return False
        if delivery.behind:
            return await self._catch_up()
        if not delivery.moved:
            self._conflates = False
            await self._wait_in_group()
        return True

    def _write_goodbye(self) -> None:
        """Write the cursor, and a time to reconnect that differs from client to client."""
        if not (self._has_ended or self._is_closed):
            self._node.metrics.drained += self._node.draining
            self._write_cursor(self._position, control_events.retry_ms(self._node.settings))

    async def _rest(self) -> None:
        """Keep the ended stream open, until its client leaves, it gives way or its time is up."""
        self._is_resting, self._last_seen_s = True, _now_s()
        with self._node.ended(self), suppress(TimeoutError):
            async with asyncio.timeout(self._options.stays_open_s):
                while not self._is_leaving:
                    await self._woken()

    async def _woken(self) -> None:
        """Wait until the connection is woken."""
        self._wakeup = asyncio.get_running_loop().create_future()
        try:
            await self._wakeup
        finally:
            self._wakeup, self._is_woken = None, False

    async def _wait_until_drained(self) -> None:
        self._conflates = self._options.slow is SlowClientPolicy.CONFLATE
        await self.transport.drained()

    @property
    def _current(self) -> BroadcastGroup:
        assert self._group is not None
        return self._group

    def _move_to(self, group: BroadcastGroup, position: Position) -> None:
        """Read in another group from now on."""
        if self._group is not None:
            self._node.groups.unsubscribe(self, self._group)
        self._group = group
        self._node.groups.subscribe(self, group)
        self._position = position

    def _write_start(self, gaps: Sequence[Gap], *, knows_position: bool = False) -> bool:
        """Write the gaps and the cursor of the position; return whether the stream stays open."""
        self._last_sent = self._position
        if gaps:
            self._node.metrics.gaps.update(gap.reason for gap in gaps)
            self._write(self._gap_events(gaps))
            if self._options.close_on_gap:
                return False
        if not knows_position:
            # A client that is lost before the first event resumes here, and not at the new end.
            self._write_cursor(self._position)
        return True

    def _deliver(self, delivery: Delivery) -> None:
        """Write a delivery, and a checkpoint if it passed many records without an event."""
        if delivery.merged:
            self._node.metrics.merged += delivery.merged
            self._write(self._notice("conflated", {"merged": delivery.merged}))
        if delivery.events:
            size = self._write_chunk(delivery.chunk)
            metrics = self._node.metrics.of(self.stream.label, self.stream.tenant)
            metrics.events += delivery.events
            metrics.bytes += size
            self._last_sent = delivery.last_sent
            self._cursor_moved_s = self._last_seen_s
        self._position = delivery.position
        self._has_ended = self._has_ended or delivery.ended
        unsent = sum(delivery.position) - sum(self._last_sent)
        if unsent >= self._node.settings.checkpoint_records and not delivery.ended:
            self._write_cursor(delivery.position)

    async def _wait_in_group(self) -> None:
        """Let the group write, until the connection is woken."""
        group = self._current
        if self._is_woken:
            self._is_woken = False
            return
        group.join(self, self._position)
        try:
            await self._woken()
        finally:
            position = group.leave(self)
            if position is not None:
                self._position = position
                self._last_seen_s = max(self._last_seen_s, group.last_sent_s)
                if sum(group.last_sent) > sum(self._last_sent):
                    self._last_sent = min(group.last_sent, position, key=sum)
                    self._cursor_moved_s = group.last_sent_s

    async def _catch_up(self) -> bool:
        """Read what lies before the windows; return whether the stream stays open."""
        self.is_catching_up = True
        try:
            async with asyncio.TaskGroup() as tasks:
                reads = PartitionReads(tasks, self._read)
                is_open = await self._read_up_to_windows(reads)
                reads.cancel()
        finally:
            self.is_catching_up = False
        return is_open

    async def _read_up_to_windows(self, reads: PartitionReads) -> bool:
        feed = self._current.feed
        while not (self._is_leaving or feed.replaced):
            if self.transport.is_paused:
                await self._wait_until_drained()
                continue
            delivery = self._current.take(self._position, newest_only=self._conflates)
            self._deliver(delivery)
            if delivery.ended:
                return False
            if not delivery.behind:
                break
            has_read = False
            for index in delivery.behind:
                result = reads.result(index, self._position[index])
                if result is None:
                    continue
                has_read = True
                if isinstance(result, Piece) and not feed.covers(index, result.next_offset):
                    # The next piece is read while this one is delivered.
                    reads.begin(index, result.next_offset)
                if not await self._deliver_read(index, result):
                    return False
            if not has_read and not delivery.moved:
                await self._wait_in_group()
        return True

    async def _deliver_read(self, index: int, result: Piece | Gap) -> bool:
        """Deliver what a read brought, slice by slice; return whether the stream stays open."""
        if isinstance(result, Gap):
            position = self._position
            self._position = (*position[:index], result.to_offset, *position[index + 1 :])
            return self._write_start([result])
        feed, entries = self._current.feed, result.entries
        for first in range(0, max(1, len(entries)), _SLICE):
            rest = entries[first + _SLICE :]
            until = rest[0].record.offset if rest else result.next_offset
            if self.transport.is_paused:
                await self._wait_until_drained()
            await result.rendered(min(first + _SLICE, len(entries)))
            await self._node.fair_queue.slot()
            delivery = feed.take_read(
                self._position,
                index,
                entries[first : first + _SLICE],
                until,
                newest_only=self._conflates,
            )
            self._deliver(delivery)
            if delivery.ended:
                return False
        return True

    async def _read(self, index: int, offset: int) -> Piece | Gap:
        """Read a piece, or the gap in its place; an empty piece if Kafka is away."""
        result: Piece | Gap = Piece((), offset)
        try:
            result = await self._node.read(self._current.feed, index, offset)
        except LogUnavailable:
            await asyncio.sleep(_RETRY_READ_S)
        self.wake()
        return result

    async def _resolve_again(self) -> bool:
        """Continue after a topic was replaced, as a client with this connection's cursor would."""
        feed = self._current.feed
        cursor = feed.as_cursor(self._position)
        try:
            group, position, gaps = await self._node.resolver.resolve(self.stream, cursor, feed)
        except LogUnavailable:
            await asyncio.sleep(_RETRY_READ_S)
            return True
        self._move_to(group, position)
        return self._write_start(gaps)

    def _write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self._write_chunk(Chunk(data))

    def _write_chunk(self, chunk: Chunk) -> int:
        """Hand bytes to the transport; return how many."""
        self._last_seen_s = _now_s()
        if self._group is not None:
            return self._group.write_alone(self, chunk)
        if self.gzip is not None:
            chunk = Chunk(self.gzip.encode(chunk.data))
        self.transport.write(chunk)
        return len(chunk.data)

    def _opening(self) -> bytes:
        settings, dialect = self._node.settings, self.stream.dialect
        opening = control_events.opening(dialect, self._client_info, settings)
        return opening + self._options.prelude

    def _write_cursor(self, position: Position, retry_ms: int | None = None) -> None:
        """Write a checkpoint at a position."""
        self._last_sent, self._cursor_moved_s = position, _now_s()
        named, seen_s = self._options.named_checkpoints, self._last_seen_s
        cursor = self._current.feed.cursor(position)
        self._write(checkpoint(cursor, named=named, retry_ms=retry_ms))
        if self.stream.dialect.heartbeat is not None and not named:
            # The connection is not silent, but a client that waits for heartbeats has seen nothing.
            self._last_seen_s = seen_s

    def _gap_events(self, gaps: Sequence[Gap]) -> bytes:
        prefix = self._node.settings.topic_prefix
        return control_events.gap_events(self.stream.dialect, self._client_info, gaps, prefix)

    def _unavailable(self, reason: UnavailableReason, detail: str) -> bytes:
        settings, dialect = self._node.settings, self.stream.dialect
        failure_id = log_failure(
            reason, f"to the stream {self.stream.name} of {self.address}", detail
        )
        return control_events.unavailable(dialect, self._client_info, reason, settings, failure_id)

    def _notice(self, event: str, data: Mapping[str, object]) -> bytes:
        return control_events.notice(self.stream.dialect, self._client_info, event, data)

    @property
    def _client_info(self) -> ClientInfo:
        return ClientInfo(self._options.client_id, self.stream.name, self.stream.entities)


def _outcome(start: Start, gaps: Sequence[Gap]) -> StreamStart:
    match start:
        case Cursor():
            return StreamStart.GAP if gaps else StreamStart.EXACT
        case FromTime():
            return StreamStart.TIME
        case FromOffsets():
            return StreamStart.OFFSETS
        case FromEdge():
            return StreamStart(start.value)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
