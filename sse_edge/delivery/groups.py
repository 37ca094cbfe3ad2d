"""The broadcast groups of a node: one for each stream and its partitions, while it has clients.

A group is made when a connection resolves its start, and notified of its records from the first
subscription on. A sweep of the node drops the groups without clients.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import NamedTuple

from schemas.run_ids import Owner
from sse_edge.cache.tail import Listener, Tail
from sse_edge.cache.topic_tail import TopicTail
from sse_edge.cursor import CursorCodec, CursorKeys
from sse_edge.delivery.broadcast import BroadcastGroup, Pacer
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.skips import Skips
from sse_edge.errors import Unframable
from sse_edge.log.record import Partition, Record
from sse_edge.metrics.node_metrics import NodeMetrics
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import Channel
from sse_edge.streams.render import Frame, render
from sse_edge.streams.stream import Stream

_CODECS_MAX = 64
"""The codecs that are kept for the next client of their stream."""
_HISTORIES_MAX = 8
"""Each group of a whole topic has a history, up to this number; rarer filters go without one."""

_GroupKey = tuple[str, Owner | None, tuple[frozenset[bytes], ...], tuple[Partition, ...], bool, str]


class _Subscription(NamedTuple):
    subscribers: set[object]
    listeners: ExitStack


class Groups:
    """The registry of broadcast groups."""

    def __init__(self, tail: Tail, settings: EdgeSettings, metrics: NodeMetrics) -> None:
        self._tail = tail
        self._settings = settings
        self._metrics = metrics
        self._cursor_keys = _cursor_keys(settings)
        self._pacer = Pacer(settings.broadcast_share_max)
        self._skips = Skips()
        self._codecs: dict[tuple[str, str], CursorCodec] = {}
        self._groups: dict[_GroupKey, BroadcastGroup] = {}
        self._subscriptions: dict[BroadcastGroup, _Subscription] = {}

    @property
    def subscribed(self) -> Iterable[BroadcastGroup]:
        """The groups that have clients."""
        return self._subscriptions

    def subscribe(self, subscriber: object, group: BroadcastGroup) -> None:
        """Keep a group for a client, and notify the group of its records from the first on."""
        subscription = self._subscriptions.get(group)
        if subscription is None:
            subscription = self._subscriptions[group] = _Subscription(set(), ExitStack())
            feed = group.feed
            for tail, keys in zip(feed.tails, feed.stream.keys, strict=True):
                listening = self._tail.subscribed(tail.info.name, keys, group.notify)
                subscription.listeners.enter_context(listening)
        subscription.subscribers.add(subscriber)

    def unsubscribe(self, subscriber: object, group: BroadcastGroup) -> None:
        """Keep a group for a client no longer; the last client takes the listeners with it."""
        subscription = self._subscriptions[group]
        subscription.subscribers.discard(subscriber)
        if not subscription.subscribers:
            subscription.listeners.close()
            del self._subscriptions[group]

    @contextmanager
    def listening(self, group: BroadcastGroup, listener: Listener) -> Generator[None]:
        """Keep a group while the context lasts, and call a listener for each of its records."""
        feed, holder = group.feed, object()
        with ExitStack() as listeners:
            for tail, keys in zip(feed.tails, feed.stream.keys, strict=True):
                listeners.enter_context(self._tail.subscribed(tail.info.name, keys, listener))
            self.subscribe(holder, group)
            try:
                yield
            finally:
                self.unsubscribe(holder, group)

    def release(self) -> None:
        """Drop the groups without clients, and let the tail release what no group reads."""
        self._groups = {
            key: group for key, group in self._groups.items() if group in self._subscriptions
        }
        self._tail.release(
            {partition for group in self._subscriptions for partition in group.feed.partitions}
        )

    def group_of(
        self,
        stream: Stream,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
    ) -> BroadcastGroup:
        """Return the group of a stream over the given partitions of each source's topic."""
        of_partitions = tuple(chain.from_iterable(partitions))
        key = (
            stream.identity,
            stream.owner,
            stream.keys,
            of_partitions,
            stream.with_traceparent,
            stream.dialect.name,
        )
        group = self._groups.get(key)
        if group is not None and not group.feed.replaced:
            return group
        settings = self._settings
        has_room = len(self._groups) < _HISTORIES_MAX
        feed = Feed(
            stream,
            tails,
            partitions,
            self.codec(stream),
            self._render,
            write_bytes_max=settings.write_bytes_max,
            history_bytes_max=settings.history_bytes_max // _HISTORIES_MAX if has_room else 0,
        )
        metrics = self._metrics.of(stream.label, stream.tenant)
        group = BroadcastGroup(feed, self._pacer, metrics, settings.checkpoint_records)
        self._groups[key] = group
        return group

    def codec(self, stream: Stream) -> CursorCodec:
        """Return the codec of a stream's cursors."""
        key = (stream.identity, stream.cursor_prefix)
        codec = self._codecs.get(key)
        if codec is None:
            codec = CursorCodec(
                stream.identity,
                len(stream.selections),
                prefix=stream.cursor_prefix,
                keys=self._cursor_keys,
            )
            if len(self._codecs) >= _CODECS_MAX:
                del self._codecs[next(iter(self._codecs))]
            self._codecs[key] = codec
        return codec

    def _render(self, channel: Channel, record: Record) -> Frame | None:
        """Render a record; one that cannot be rendered is counted and skipped."""
        try:
            return render(channel, record, self._settings.ahead_s * 1_000_000)
        except Unframable as error:
            if self._skips.is_first(record, error.reason):
                self._metrics.skipped[record.partition.topic, error.reason] += 1
                self._skips.log(record, error)
            return None


def _cursor_keys(settings: EdgeSettings) -> CursorKeys:
    own, coming = settings.cursor_secret, settings.cursor_secret_next
    others = [*settings.cursor_secrets_before, *([] if coming is None else [coming])]
    return CursorKeys.of(
        b"" if own is None else own.get_secret_value().encode(),
        [secret.get_secret_value().encode() for secret in others],
        accepts_unsigned=settings.cursor_unsigned,
    )
