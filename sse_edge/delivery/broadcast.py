"""An audience: the connections of a feed that are caught up, and so need the same bytes next.

Who is caught up has no work of its own: when something comes, the audience takes it from the feed
once and hands it to every wire. A member whose wire is full keeps its position and leaves; it comes
back when it has caught up. Nothing is kept for anybody.

When to tell is the pacer's affair: at once where it is quiet, gathered where it is busy, since
what a write costs, in any language, is the kernel's, and a larger one costs hardly more.
"""

import asyncio
import time
from typing import Protocol

from sse_edge.compression import Gzip, SharedGzip
from sse_edge.delivery.feed import Feed, Taken
from sse_edge.delivery.history import Position
from sse_edge.metrics.node_metrics import StreamMetrics
from sse_edge.transport import Chunk, Transport

_GATHER_S_MAX = 0.05
"""What gathering may add to an event's way; a person does not notice it."""
_GATHER_PER_BUSY = 1.0
"""How long it is gathered for each second that telling took: half of the time is for all else."""
_WRITE_S = 10e-6
"""What a write takes, nearly all of it in the kernel, after the loop's callbacks are done."""
_SLICE_S = 0.01
"""After so much telling at a time, others have their turn."""


class Subscriber(Protocol):
    """A connection that can be caught up."""

    transport: Transport
    gzip: Gzip | None

    def called(self) -> None:
        """Hear that something is to be done that the audience does not do."""
        ...

    def tick(self) -> None:
        """See whether it is time to say something."""
        ...

    def finish(self) -> None:
        """Hear that the stream has ended, and everything been told."""
        ...


class BroadcastGroup:
    """Those who are at the feed's horizon."""

    def __init__(
        self, feed: Feed, pacer: "Pacer", metrics: StreamMetrics, checkpoint_records: int
    ) -> None:
        """Gather whoever reads a feed.

        Args:
            feed: what is told.
            pacer: decides when.
            metrics: counts what was told.
            checkpoint_records: after how many that were not told members see to their cursors.
        """
        self.feed = feed
        self._checkpoint_records = checkpoint_records
        self._unseen = 0
        self.told: Position = feed.horizon
        """Where the last event that was told stands: the members' cursor, or a later one."""
        self.told_s = 0.0
        """When it was told."""
        self._pacer = pacer
        self._metrics = metrics
        self._shared = SharedGzip()
        self._subscribers: dict[Subscriber, Transport] = {}
        self._early: set[Subscriber] = set()
        """Those who know more than this node does, since another one was faster."""
        self._fallen: dict[Subscriber, Position] = {}
        """Those who are not at the horizon any more, and do not know it yet."""

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, subscriber: Subscriber) -> bool:
        return subscriber in self._subscribers

    def notify(self) -> None:
        """Hear that something has come for this feed."""
        if self._subscribers or self._early:
            self._pacer.tell_soon(self)

    def take(self, position: Position, *, newest_only: bool = False) -> Taken:
        """What a connection needs next; nothing where it is at the horizon, or beyond."""
        if position == self.feed.horizon and not self._subscribers:
            self.feed.advance()
        if newest_only and position != self.feed.horizon:
            return self.feed.take_newest(position)
        return self.feed.take(position)

    def join(self, subscriber: Subscriber, position: Position) -> None:
        """Let somebody in who has taken everything."""
        if position == self.feed.horizon:
            self._subscribers[subscriber] = subscriber.transport
            if subscriber.gzip is not None:
                subscriber.gzip.join(self._shared)
        else:
            self._early.add(subscriber)
        if self.feed.ends != self.feed.horizon:
            self._pacer.tell_soon(self)

    def leave(self, subscriber: Subscriber) -> Position | None:
        """Let somebody go; where it stands, or None where it has not moved."""
        self._early.discard(subscriber)
        if self._subscribers.pop(subscriber, None) is None:
            return self._fallen.pop(subscriber, None)
        if subscriber.gzip is not None:
            subscriber.gzip.leave(self._shared)
        return self.feed.horizon

    def tell(self) -> int:
        """Tell what has come; to how many."""
        feed = self.feed
        if feed.replaced:
            self._call_all()
            return 0
        before = feed.horizon
        taken = feed.advance()
        if taken.behind:
            # The window has let go of what they need next: each reads the log for itself.
            for subscriber in tuple(self._subscribers):
                self._drop(subscriber, before)
        elif taken.events:
            self._write(taken, before)
        self._pass(taken)
        if taken.ended:
            for subscriber in self._subscribers:
                subscriber.finish()
        elif feed.ends != feed.horizon:
            self._pacer.tell_soon(self)
        for subscriber in self._early:
            subscriber.called()
        self._early.clear()
        return len(self._subscribers) if taken.events else 0

    def _pass(self, taken: Taken) -> None:
        """Remember what was told, and see to cursors where much was not."""
        if taken.events:
            self.told, self.told_s = taken.told, self._pacer.now_s()
            self._unseen = 0
        self._unseen += sum(taken.position) - sum(taken.told)
        if self._unseen >= self._checkpoint_records:
            self._unseen = 0
            for subscriber in self._subscribers:
                subscriber.tick()

    def write_alone(self, subscriber: Subscriber, data: bytes) -> int:
        """Write to one member what the others do not get; how many bytes that were."""
        joined = subscriber in self._subscribers
        if subscriber.gzip is not None:
            if joined:
                subscriber.gzip.leave(self._shared)
            data = subscriber.gzip.encode(data)
            if joined:
                subscriber.gzip.join(self._shared)
        subscriber.transport.write(Chunk(data))
        return len(data)

    def _write(self, taken: Taken, before: Position) -> None:
        for subscriber in [
            one for one, transport in self._subscribers.items() if transport.is_paused
        ]:
            self._drop(subscriber, before)
        plain: Chunk | None = None
        zipped: Chunk | None = None
        size = 0
        for subscriber, transport in self._subscribers.items():
            if subscriber.gzip is None:
                plain = plain or Chunk(taken.data)
                transport.write(plain)
                size += len(plain.data)
            else:
                zipped = zipped or Chunk(self._shared.encode(taken.data))
                transport.write(zipped)
                size += len(zipped.data)
        count = len(self._subscribers)
        now_ms = time.time() * 1000
        self._metrics.events += taken.events * count
        self._metrics.bytes += size
        self._metrics.saw_lags(((now_ms - one) / 1000 for one in taken.stamps_ms), count)

    def _drop(self, subscriber: Subscriber, position: Position) -> None:
        del self._subscribers[subscriber]
        if subscriber.gzip is not None:
            subscriber.gzip.leave(self._shared)
        self._fallen[subscriber] = position
        subscriber.called()

    def _call_all(self) -> None:
        for subscriber in (*self._subscribers, *self._early):
            subscriber.called()


class Pacer:
    """Decides when audiences are told."""

    def __init__(self) -> None:
        self._due: dict[BroadcastGroup, None] = {}
        self._round: list[BroadcastGroup] = []
        """Those of the round that is under way, the next one last."""
        self._is_set = False
        self._not_before_s = 0.0
        self._busy_s = 0.0

    def now_s(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def tell_soon(self, group: BroadcastGroup) -> None:
        """Tell an audience: at once, or with what comes in the next milliseconds."""
        self._due[group] = None
        if self._is_set:
            return
        self._is_set = True
        loop = asyncio.get_running_loop()
        if loop.time() >= self._not_before_s:
            loop.call_soon(self._tell)
        else:
            loop.call_at(self._not_before_s, self._tell)

    def _tell(self) -> None:
        """Tell those that are due, for a slice of time."""
        began_s = time.perf_counter()  # the loop's own time stands still within a callback
        if not self._round:
            self._round, self._due = list(reversed(self._due)), {}
            self._busy_s = 0.0
        writes = 0
        while self._round and time.perf_counter() - began_s < _SLICE_S:
            writes += self._round.pop().tell()
        self._busy_s += time.perf_counter() - began_s + writes * _WRITE_S
        loop = asyncio.get_running_loop()
        if self._round:
            loop.call_soon(self._tell)
            return
        self._not_before_s = loop.time() + min(_GATHER_S_MAX, _GATHER_PER_BUSY * self._busy_s)
        if self._due:
            loop.call_at(self._not_before_s, self._tell)
        else:
            self._is_set = False
