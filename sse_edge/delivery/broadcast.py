"""A broadcast group: the caught-up connections of one feed, which all need the same bytes next.

A caught-up connection does no work of its own. When records arrive, the group takes them from the
feed once and writes the same bytes to every transport. A subscriber whose transport is paused keeps
its position, leaves the group, and joins again once it has caught up. There are no queues.

The pacer decides when a group delivers: at once while delivering leaves enough of a core to other
work, gathered while it does not. A write costs mostly the kernel's time, and a larger write costs
hardly more. The group of a single subscriber never waits: its next event seldom comes within the
wait.
"""

import asyncio
import logging
import time
from typing import Protocol

from kafka_io.counts import COUNTS
from kafka_io.stage_times import Stage
from sse_edge.compression import Gzip, SharedGzip
from sse_edge.delivery.feed import Delivery, Feed
from sse_edge.delivery.history import Position
from sse_edge.metrics.node_metrics import StreamMetrics
from sse_edge.transport import Chunk, Transport

logger = logging.getLogger(__name__)

_GATHER_S_MAX = 0.05
"""How much gathering may add to an event's latency; a person does not notice it."""
_BURST_S = 0.02
"""How much time delivering may take at once beyond its share of a core."""
_SLICE_S = 0.01
"""After delivering for this long, the pacer yields to the loop."""
_HELD_MAX = 64
"""How many writes to single subscribers wait for each other, which takes about a millisecond.

In a row they take less CPU time than between the rendering of events: probably, the first one wakes
the process that reads, and the others find it awake.
"""


class Subscriber(Protocol):
    """A connection, as its broadcast group sees it."""

    transport: Transport
    gzip: Gzip | None

    def wake(self) -> None:
        """Resume the connection's own work: the group cannot serve it further."""
        ...

    def tick(self) -> None:
        """Write a checkpoint or a heartbeat if one is due."""
        ...

    def finish(self) -> None:
        """Stop reading: the stream has ended, and its last event is written."""
        ...

    def leave(self) -> None:
        """End the stream at an event's boundary."""
        ...


class BroadcastGroup:
    """The subscribers that are at their feed's horizon."""

    def __init__(
        self, feed: Feed, pacer: "Pacer", metrics: StreamMetrics, checkpoint_records: int
    ) -> None:
        """Make a group without subscribers.

        Args:
            feed: where the bytes come from.
            pacer: decides when to deliver.
            metrics: counts what was written.
            checkpoint_records: after this many records without an event, subscribers are ticked.
        """
        self.feed = feed
        self._checkpoint_records = checkpoint_records
        self._unsent_records = 0
        self.last_sent: Position = feed.horizon
        """The position after the last event that was written."""
        self.last_sent_s = 0.0
        """When it was written, by the loop's clock."""
        self._pacer = pacer
        self._metrics = metrics
        self._shared = SharedGzip()
        self._subscribers: dict[Subscriber, Transport] = {}
        self._early: set[Subscriber] = set()
        """Subscribers ahead of this node's tail, whose cursor is of a node that was faster."""
        self._dropped: dict[Subscriber, Position] = {}
        """Positions of subscribers that were dropped and have not left yet."""

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._subscribers

    def notify(self) -> None:
        """Deliver soon: a record of this feed has arrived."""
        if self._subscribers or self._early:
            self._pacer.schedule(self)

    def take(self, position: Position, *, newest_only: bool = False) -> Delivery:
        """Return what a connection at a position needs next; nothing at the horizon or beyond."""
        if position == self.feed.horizon and not self._subscribers:
            self.feed.advance()
        if newest_only and position != self.feed.horizon:
            return self.feed.take_newest(position)
        return self.feed.take(position)

    def join(self, subscriber: Subscriber, position: Position) -> None:
        """Add a subscriber that has taken everything up to the horizon."""
        if position == self.feed.horizon:
            self._subscribers[subscriber] = subscriber.transport
            if subscriber.gzip is not None:
                subscriber.gzip.join(self._shared)
        else:
            self._early.add(subscriber)
        if self.feed.ends != self.feed.horizon:
            self._pacer.schedule(self)

    def leave(self, subscriber: Subscriber) -> Position | None:
        """Remove a subscriber; return its position, or None if the group has not moved it."""
        self._early.discard(subscriber)
        if self._subscribers.pop(subscriber, None) is None:
            return self._dropped.pop(subscriber, None)
        if subscriber.gzip is not None:
            subscriber.gzip.leave(self._shared)
        return self.feed.horizon

    def deliver_or_close(self) -> None:
        """Write what has arrived; a group that fails is closed, and no other."""
        try:
            self.deliver()
        except Exception:
            logger.exception("a broadcast group failed; its %d clients are closed", len(self))
            for subscriber in (*self._subscribers, *self._early):
                subscriber.leave()

    def deliver(self) -> None:
        """Write what has arrived."""
        feed = self.feed
        if feed.replaced:
            for subscriber in (*self._subscribers, *self._early):
                subscriber.wake()
            return
        is_alone = feed.is_narrow and len(self._subscribers) == 1 and not self._early
        if not (is_alone and self._deliver_one()):
            self._deliver_all()

    def _deliver_all(self) -> None:
        feed = self.feed
        before = feed.horizon
        delivery = feed.advance()
        if delivery.behind:
            # The window has evicted what comes next: each subscriber reads the log for itself.
            for subscriber in tuple(self._subscribers):
                self._drop(subscriber, before)
        elif delivery.events:
            self._write(delivery, before)
        self._track(delivery)
        if delivery.ended:
            for subscriber in self._subscribers:
                subscriber.finish()
        elif feed.ends != feed.horizon:
            self._pacer.schedule(self)
        if self._early:
            for subscriber in self._early:
                subscriber.wake()
            self._early.clear()

    def _deliver_one(self) -> bool:
        """Deliver at most one event to the only subscriber; False if there is more to do."""
        ((subscriber, transport),) = self._subscribers.items()
        if transport.is_paused or subscriber.gzip is not None:
            return False
        (before,) = self.feed.horizon
        step = self.feed.advance_by_one()
        if step is None:
            return False
        block, record = step
        (reached,) = self.feed.horizon
        if record is None:
            self._pass(reached - before)
            return True
        self._pacer.write(subscriber, Chunk(block))
        metrics = self._metrics
        metrics.events += 1
        metrics.bytes += len(block)
        if record.timestamp_ms:
            metrics.observe_lag(time.time() - record.timestamp_ms / 1000, 1)
        sent = record.offset + 1
        self.last_sent, self.last_sent_s = (sent,), self._pacer.now_s()
        self._unsent_records = 0
        self._pass(reached - sent)
        return True

    def _track(self, delivery: Delivery) -> None:
        """Remember the last event; tick the subscribers if many records went by without one."""
        if delivery.events:
            self.last_sent, self.last_sent_s = delivery.last_sent, self._pacer.now_s()
            self._unsent_records = 0
        self._pass(sum(delivery.position) - sum(delivery.last_sent))

    def _pass(self, records: int) -> None:
        """Count records without an event; tick the subscribers after many of them."""
        self._unsent_records += records
        if self._unsent_records >= self._checkpoint_records:
            self._unsent_records = 0
            self._pacer.flush()  # a tick may write, too
            for subscriber in self._subscribers:
                subscriber.tick()

    def write_alone(self, subscriber: Subscriber, chunk: Chunk) -> int:
        """Write to one connection what the others do not get; return the number of bytes."""
        joined = subscriber in self._subscribers
        if subscriber.gzip is not None:
            if joined:
                subscriber.gzip.leave(self._shared)
            chunk = Chunk(subscriber.gzip.encode(chunk.data))
            if joined:
                subscriber.gzip.join(self._shared)
        subscriber.transport.write(chunk)
        return len(chunk.data)

    def _write(self, delivery: Delivery, before: Position) -> None:
        paused = [
            subscriber for subscriber, transport in self._subscribers.items() if transport.is_paused
        ]
        for subscriber in paused:
            self._drop(subscriber, before)
        plain = delivery.chunk
        zipped: Chunk | None = None
        size = 0
        count = len(self._subscribers)
        for subscriber, transport in self._subscribers.items():
            chunk = plain
            if subscriber.gzip is not None:
                chunk = zipped = zipped or Chunk(self._shared.encode(delivery.data))
            size += len(chunk.data)
            if count == 1:
                self._pacer.write(subscriber, chunk)
            else:
                transport.write(chunk)
        now_ms = time.time() * 1000
        metrics = self._metrics
        metrics.events += delivery.events * count
        metrics.bytes += size
        for appended_ms in delivery.timestamps_ms:
            if appended_ms:
                metrics.observe_lag((now_ms - appended_ms) / 1000, count)
        if delivery.traced is not None and count:
            lag_s = (now_ms - delivery.traced.timestamp_ms) / 1000
            self._metrics.observe_trace(lag_s, delivery.traced.traceparent)

    def _drop(self, subscriber: Subscriber, position: Position) -> None:
        del self._subscribers[subscriber]
        if subscriber.gzip is not None:
            subscriber.gzip.leave(self._shared)
        self._dropped[subscriber] = position
        subscriber.wake()


class Pacer:
    """Decides when the groups of a node deliver."""

    def __init__(self, share_max: float) -> None:
        """Make a pacer without groups.

        Args:
            share_max: the share of a core's time that delivering to groups of several subscribers
                may take before it gathers events, above 0.
        """
        self._share_max = share_max
        self._alone: dict[BroadcastGroup, None] = {}
        """The groups of single subscribers that are due."""
        self._alone_since_s = 0.0
        """When the first of them was scheduled, by the loop's clock."""
        self._is_alone_scheduled = False
        self._held: list[tuple[Subscriber, Chunk]] | None = None
        """Writes to single subscribers that are done in a row; None outside of such a delivery."""
        self._due: dict[BroadcastGroup, None] = {}
        """The other groups that are due."""
        self._due_since_s = 0.0
        """When the first of them was scheduled."""
        self._round: list[BroadcastGroup] = []
        """The groups left in the present round, the next one last."""
        self._round_since_s = 0.0
        """When the first of the round was scheduled."""
        self._is_scheduled = False
        self._not_before_s = 0.0
        self._busy_s = 0.0
        """The time of a core that the present round has taken."""
        self._paid_until_s = 0.0
        """Until when delivering has used up its share."""

    def now_s(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    def write(self, subscriber: Subscriber, chunk: Chunk) -> None:
        """Write to the only subscriber of a group, in a row with the writes to others."""
        if self._held is None:
            subscriber.transport.write(chunk)
        else:
            self._held.append((subscriber, chunk))

    def flush(self) -> None:
        """Do the writes that were held; a subscriber whose write fails is closed, and no other."""
        held = self._held
        if not held:
            return
        self._held = []
        for subscriber, chunk in held:
            try:
                subscriber.transport.write(chunk)
            except Exception:
                logger.exception("a write failed; its client is closed")
                subscriber.leave()

    def schedule(self, group: BroadcastGroup) -> None:
        """Let a group deliver: at once, or with what arrives in the next milliseconds."""
        if len(group) == 1:
            if not self._alone:
                self._alone_since_s = self.now_s()
            self._alone[group] = None
            if not self._is_alone_scheduled:
                self._is_alone_scheduled = True
                asyncio.get_running_loop().call_soon(self._deliver_alone)
            return
        loop = asyncio.get_running_loop()
        if not self._due:
            self._due_since_s = loop.time()
        self._due[group] = None
        if self._is_scheduled:
            return
        self._is_scheduled = True
        if loop.time() >= self._not_before_s:
            loop.call_soon(self._deliver)
        else:
            loop.call_at(self._not_before_s, self._deliver)

    def _deliver_alone(self) -> None:
        """Let groups of single subscribers deliver, for one slice of time."""
        ends_s = time.perf_counter() + _SLICE_S
        due, self._alone, since_s = list(self._alone), {}, self._alone_since_s
        done = 0
        self._held = []
        for group in due:
            group.deliver_or_close()
            done += 1
            if len(self._held) >= _HELD_MAX:
                self.flush()
            if time.perf_counter() > ends_s:
                break
        self.flush()
        self._held = None
        _observe(since_s)
        if done < len(due):
            self._alone = dict.fromkeys(due[done:]) | self._alone
            self._alone_since_s = since_s
        self._is_alone_scheduled = bool(self._alone)
        if self._alone:
            asyncio.get_running_loop().call_soon(self._deliver_alone)

    def _deliver(self) -> None:
        """Let groups that are due deliver, for one slice of time."""
        began_s = time.perf_counter()  # the loop's own time stands still within a callback
        if not self._round:
            self._round, self._due = list(reversed(self._due)), {}
            self._round_since_s = self._due_since_s
            self._busy_s = 0.0
        # Not the time of day: while other processes have the core, there is nothing to make up for.
        used_s = time.thread_time()
        while self._round and time.perf_counter() - began_s < _SLICE_S:
            self._round.pop().deliver_or_close()
        self._busy_s += time.thread_time() - used_s
        loop = asyncio.get_running_loop()
        if self._round:
            loop.call_soon(self._deliver)
            return
        _observe(self._round_since_s)
        now_s = loop.time()
        paid_until_s = max(now_s, self._paid_until_s) + self._busy_s / self._share_max
        # What an overload has taken beyond its share is not held against later events.
        self._paid_until_s = min(paid_until_s, now_s + _GATHER_S_MAX + _BURST_S)
        self._not_before_s = self._paid_until_s - _BURST_S
        if self._due:
            loop.call_at(self._not_before_s, self._deliver)
        else:
            self._is_scheduled = False


def _observe(since_s: float) -> None:
    """Note how long events have taken from their arrival to the sockets, at most."""
    now_s = asyncio.get_running_loop().time()
    COUNTS.stages.observe(Stage.EDGE_TO_SOCKET, now_s - since_s)
