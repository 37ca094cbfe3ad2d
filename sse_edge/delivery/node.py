"""The hub: a node's tail, feeds and connections, and where a connection begins.

A connection begins at the cursor that its client kept, at one end of the log, or at a time. What
the cursor asks for and the log cannot give any more is a gap, which the client is told.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import NamedTuple, Protocol

from schemas.topics import Topic
from sse_edge.cache.catch_up import CatchUp, Piece
from sse_edge.cache.render_pool import RenderPool
from sse_edge.cache.tail import FAR_AWAY, Cut, Tail, TopicTail
from sse_edge.cursor import Cursor, CursorCodec, TopicPosition
from sse_edge.delivery.broadcast import BroadcastGroup, Pacer
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.history import Position
from sse_edge.errors import OffsetOutOfRange, TooManyConnections, Unframable
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record
from sse_edge.metrics.node_metrics import Gauges, NodeMetrics
from sse_edge.settings import EdgeSettings
from sse_edge.streams.stream import CHANNELS, Channel, Frame, Source, Stream, render
from sse_edge.transport import Transport

logger = logging.getLogger(__name__)

_SWEEP_S = 1.0
_BREATH = 200
_LEADER_S = 0.2
_HISTORIES_MAX = 8
"""Streams of everybody's events have one; more of them than this are somebody's experiment."""

_Name = tuple[str, tuple[Partition, ...]]


class FromEdge(StrEnum):
    """An end of the log."""

    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class FromTime:
    """A moment, by the log's own clock."""

    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class FromOffsets:
    """Certain records: by partition number the first to read; of other partitions what comes."""

    offsets: Mapping[int, int]


Start = Cursor | FromEdge | FromTime | FromOffsets
"""Where a client wants to begin."""


class GapReason(StrEnum):
    """Why events that a cursor asks for cannot be had."""

    EXPIRED = "expired"
    TOPIC_RECREATED = "topic_recreated"
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a partition that a client asked for and does not get."""

    reason: GapReason
    partition: Partition
    from_offset: int
    to_offset: int


class Client(Protocol):
    """A connection, as far as the hub deals with it."""

    stream: Stream
    address: str
    transport: Transport
    is_catching_up: bool

    @property
    def client_id(self) -> str:
        """What the client calls itself."""
        ...

    @property
    def subject(self) -> str | None:
        """Who it is, by its token."""
        ...

    @property
    def depth(self) -> int:
        """How many records it is behind its windows' ends."""
        ...

    def tick(self) -> None:
        """See whether it is time to say something."""
        ...

    def leave(self) -> None:
        """End the stream, at an event's boundary."""
        ...


class FinalEvent(NamedTuple):
    """Where the last event of an entity is in the log."""

    partition: int
    offset: int


class Lookups(Protocol):
    """The two questions that delivery asks of a node's tables."""

    def renewed_until_s(self, challenge: str) -> float | None:
        """Return when the token that answered a challenge expires; None while there is none."""
        ...

    def final_event(self, states: Topic, entity: str) -> FinalEvent | None:
        """Return where an entity's last event is; None until the entity has ended."""
        ...


class _Attended(NamedTuple):
    clients: set[Client]
    listeners: ExitStack


class Node:
    """What the connections of one node share."""

    def __init__(
        self,
        log: Log,
        settings: EdgeSettings,
        tail: Tail,
        lookups: Lookups,
        fair_queue: FairQueue | None = None,
    ) -> None:
        self.log = log
        self.settings = settings
        self.metrics = NodeMetrics()
        self.tail = tail
        self.lookups = lookups
        self.fair_queue = fair_queue or FairQueue()
        self.each_second: Callable[[], None] = lambda: None
        """What else is to be done now and then."""
        self.draining = False
        """Whether the node is on its way out."""
        self._render_pool = RenderPool(settings.framers)
        self._catch_up = CatchUp(log, settings.catch_up_bytes_max, self._render_pool)
        self._pacer = Pacer()
        self._groups: dict[_Name, BroadcastGroup] = {}
        self._attended: dict[BroadcastGroup, _Attended] = {}
        self._clients: dict[Client, None] = {}
        self._per_address: Counter[str] = Counter()
        self._per_user: Counter[str] = Counter()
        self._breaths = 0
        self._tasks = asyncio.TaskGroup()

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    @property
    def unavailable_for(self) -> str | None:
        """Why streams cannot be served now; None where they can."""
        if self.draining:
            return "draining"
        return None if self.tail.connected else "no_broker"

    @property
    def clients(self) -> Mapping[str, Sequence[str]]:
        """Who is connected, by channel."""
        found: dict[str, list[str]] = {name: [] for name in CHANNELS}
        for client in self._clients:
            for source in client.stream.sources:
                found[source.channel.name].append(client.client_id)
        return found

    async def run(self) -> None:
        """Follow the log, and see to what time brings, for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self.tail.run())
                tasks.create_task(self._sweep())
        finally:
            self._render_pool.close()

    def serve(self, run: Coroutine[None, None, None], transport: Transport) -> asyncio.Task[None]:
        """Run a connection; should it fail, that is the end of it, and of nobody else."""
        return self._tasks.create_task(_guarded(run, transport))

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside the connections; a failure of it is told, and stops nothing."""
        try:
            self._tasks.create_task(_guarded(work))
        except RuntimeError:  # the node has ended meanwhile
            work.close()

    def refuse_over_limit(self, address: str, subject: str | None = None) -> None:
        """See whether an address, and a user, may open one more.

        Raises:
            TooManyConnections: it holds as many as it may.
        """
        limit = self.settings.connections_per_user_max
        if subject is not None and self._per_user[subject] >= limit:
            raise TooManyConnections(f"you hold {limit} connections; no more are allowed")
        limit = self.settings.connections_per_ip_max
        if self._per_address[address] >= limit:
            raise TooManyConnections(f"{address} holds {limit} connections; no more are allowed")

    @contextmanager
    def admitted(self, client: Client) -> Generator[None]:
        """Count a connection while it lasts, and tell it of time and drains."""
        subject = client.subject
        self._per_address[client.address] += 1
        if subject is not None:
            self._per_user[subject] += 1
        self._clients[client] = None
        if self.draining:  # since it was let in
            client.leave()
        try:
            yield
        finally:
            del self._clients[client]
            self._per_address[client.address] -= 1
            if not self._per_address[client.address]:
                del self._per_address[client.address]
            if subject is not None:
                self._per_user[subject] -= 1
                if not self._per_user[subject]:
                    del self._per_user[subject]

    def attend(self, client: Client, group: BroadcastGroup) -> None:
        """Keep an audience for a client; it hears the bells from the first one on."""
        attended = self._attended.get(group)
        if attended is None:
            attended = self._attended[group] = _Attended(set(), ExitStack())
            feed = group.feed
            for tail, keys in zip(feed.tails, feed.stream.keys, strict=True):
                subscribed = self.tail.subscribed(tail.info.name, keys, group.notify)
                attended.listeners.enter_context(subscribed)
        attended.clients.add(client)

    def desert(self, client: Client, group: BroadcastGroup) -> None:
        """Keep it for the client no longer."""
        attended = self._attended[group]
        attended.clients.discard(client)
        if not attended.clients:
            attended.listeners.close()
            del self._attended[group]

    def drain(self) -> None:
        """Take no more connections, and let those that there are leave, spread over `drain_s`."""
        self.draining = True
        loop = asyncio.get_running_loop()
        clients = list(self._clients)
        random.shuffle(clients)
        for place, client in enumerate(clients):
            part = (place + random.random()) / len(clients)  # noqa: S311
            loop.call_later(self.settings.drain_s * part, client.leave)

    def gauges(self) -> Gauges:
        """What is so now, for the metrics."""
        found = Gauges()
        streams = Counter(
            (client.stream.name, client.stream.dialect.name) for client in self._clients
        )
        found.connections = {names: float(count) for names, count in streams.items()}
        found.paused = sum(client.transport.is_paused for client in self._clients)
        found.catching_up = sum(client.is_catching_up for client in self._clients)
        found.depth = sum(client.depth for client in self._clients)
        found.reads_waiting = self._catch_up.waiting
        found.reads, found.read_records = self._catch_up.reads, self._catch_up.records
        found.tail_records = self.tail.records
        found.draining, found.connected = self.draining, self.tail.connected
        now_ms = time.time() * 1000
        for partition, window in self.tail.windows.items():
            labels = (partition.topic, str(partition.number))
            oldest = window.oldest
            age_s = 0.0 if oldest is None else (now_ms - oldest.timestamp_ms) / 1000
            found.window_bytes[labels] = window.bytes
            found.window_age_s[labels] = age_s
            found.leaders[labels] = partition in self.tail.leaders
        return found

    async def _sweep(self) -> None:
        """Give everybody a look at the clock, and let go of what is not used."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.each_second()
            for group in list(self._attended):
                await self._breathe()
                # Records that are nobody's here ring no bell, but cursors have to pass them.
                group.tell()
            for client in list(self._clients):
                await self._breathe()
                if client in self._clients:
                    client.tick()
            self._groups = {
                name: one for name, one in self._groups.items() if one in self._attended
            }
            self.tail.release({one for kept in self._attended for one in kept.feed.partitions})

    async def _breathe(self) -> None:
        """Let others have the loop, now and then."""
        self._breaths += 1
        if self._breaths % _BREATH == 0:
            await asyncio.sleep(0)

    def is_over(self, feed: Feed) -> bool:
        """Whether a stream of several entities has delivered the last event of each.

        The stream of one entity ends with its last event, which says so itself.
        """
        source, *others = feed.stream.sources
        states = source.channel.entity_states
        if states is None or others or feed.stream.has_end or not source.entities:
            return False
        numbers = (partition.number for partition in feed.partitions)
        delivered = dict(zip(numbers, feed.horizon, strict=True))
        final_events = [self.lookups.final_event(states, entity) for entity in source.entities]
        return all(
            final is not None and final.offset < delivered.get(final.partition, 0)
            for final in final_events
        )

    def codec(self, stream: Stream) -> CursorCodec:
        """How cursors of a stream are written."""
        secret = self.settings.cursor_secret
        key = b"" if secret is None else secret.get_secret_value().encode()
        return CursorCodec(stream.identity, len(stream.sources), key, stream.cursor_prefix)

    def topic_name(self, source: Source) -> str:
        """A source's topic, as Kafka knows it."""
        return self.settings.topic_prefix + source.channel.topic.name

    async def resolve(
        self, stream: Stream, start: Start, was: Feed | None = None
    ) -> tuple[BroadcastGroup, Position, Sequence[Gap]]:
        """Find where a connection begins, for every partition it reads.

        Args:
            stream: what it reads.
            start: where it wants to begin.
            was: what it read up to now, where `start` is its position there.

        Raises:
            LogUnavailable: Kafka is away, and had to be asked.
        """
        tails, partitions = await self._followed(stream, start)
        group = self._group(stream, tails, partitions)
        feed = group.feed
        match start:
            case FromEdge.LATEST:
                return group, feed.horizon if len(group) else feed.ends, ()
            case FromEdge.EARLIEST:
                begins = await self.log.begin_offsets(feed.partitions)
                return group, tuple(begins[one] for one in feed.partitions), ()
            case FromTime(timestamp_ms):
                found = await self.log.offsets_at(feed.partitions, timestamp_ms)
                return group, tuple(found[one] for one in feed.partitions), ()
            case FromOffsets(offsets):
                begins = await self.log.begin_offsets(feed.partitions)
                ends = zip(feed.partitions, feed.ends, strict=True)
                return (
                    group,
                    tuple(max(begins[one], offsets.get(one.number, end)) for one, end in ends),
                    (),
                )
            case Cursor():
                position, gaps = await self._at_cursor(feed, tails, partitions, start, was)
                return group, position, gaps

    async def _followed(
        self, stream: Stream, start: Start
    ) -> tuple[list[TopicTail], list[list[Partition]]]:
        """A stream's topics, and the partitions to read of each, with windows for them."""
        tails = [await self.tail.topic(self.topic_name(source)) for source in stream.sources]
        if isinstance(start, Cursor) and _knows_more(start, tails):
            # It comes from a node that has seen a topic change before this one has.
            await self.tail.look_again()
        while True:
            tails = [await self.tail.topic(self.topic_name(source)) for source in stream.sources]
            partitions = self._partitions(stream, tails, start)
            for tail, ones in zip(tails, partitions, strict=True):
                await self.tail.follow(tail, ones)
            if any(tail.replaced for tail in tails):
                continue
            if start is not FromEdge.LATEST or not _is_leaderless(tails, partitions):
                break
            # Its end is nowhere, until it has a leader again.
            await asyncio.sleep(_LEADER_S)
            await self.tail.look_again()
        return tails, partitions

    async def read(self, feed: Feed, at: int, offset: int) -> Piece | Gap:
        """A piece of the log of a feed's `at`-th partition, or the gap that is there instead.

        Raises:
            LogUnavailable: Kafka is away.
        """
        partition = feed.partitions[at]
        tail = next(one for one in feed.tails if partition in one.windows)
        place = (tail.info.topic_id + bytes([len(tail.cuts) % 256]), partition)
        try:
            return await self._catch_up.read(place, offset, feed.channel_of_all(at))
        except OffsetOutOfRange:
            return await self._gap_at(partition, offset)

    async def _gap_at(self, partition: Partition, offset: int) -> Gap:
        begin = (await self.log.begin_offsets([partition]))[partition]
        if offset < begin:
            return Gap(GapReason.EXPIRED, partition, offset, begin)
        end = (await self.log.end_offsets([partition]))[partition]
        return Gap(GapReason.FUTURE, partition, offset, min(offset, end))

    def _partitions(
        self, stream: Stream, tails: Sequence[TopicTail], start: Start
    ) -> list[list[Partition]]:
        """For each source, the partitions to read: its entities', or all."""
        read = []
        for place, (keys, tail) in enumerate(zip(stream.keys, tails, strict=True)):
            count = tail.info.partitions
            numbers = {self.log.partition_of(key, count) for key in keys} or set(range(count))
            if isinstance(start, Cursor):
                # Before partitions were added, an entity's events went to another one.
                known = {number for number, _ in start.topics[place].offsets}
                numbers |= {number for number in known if number < count}
            elif isinstance(start, FromOffsets):
                numbers |= set(start.offsets)
            read.append([Partition(tail.info.name, number) for number in sorted(numbers)])
        return read

    def _group(
        self,
        stream: Stream,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
    ) -> BroadcastGroup:
        name = (stream.identity, tuple(chain.from_iterable(partitions)))
        group = self._groups.get(name)
        if group is not None and not group.feed.replaced:
            return group
        settings = self.settings
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
        metrics = self.metrics.of(stream.name)
        group = BroadcastGroup(feed, self._pacer, metrics, settings.checkpoint_records)
        self._groups[name] = group
        return group

    def _render(self, channel: Channel, record: Record) -> Frame | None:
        """Word a record; one that cannot be is counted, and holds up nobody."""
        try:
            return render(channel, record)
        except Unframable as error:
            topic = record.partition.topic
            self.metrics.skipped[topic] += 1
            logger.warning(
                "%s/%d offset %d is skipped: %s",
                topic,
                record.partition.number,
                record.offset,
                error,
            )
            return None

    async def _at_cursor(
        self,
        feed: Feed,
        tails: Sequence[TopicTail],
        partitions: Sequence[Sequence[Partition]],
        cursor: Cursor,
        was: Feed | None,
    ) -> tuple[Position, Sequence[Gap]]:
        wanted: dict[Partition, int] = {}
        gaps: list[Gap] = []
        for tail, ones, known in zip(tails, partitions, cursor.topics, strict=True):
            if known.incarnation == tail.incarnation:
                at = dict(known.offsets)
                wanted |= {one: at.get(one.number, 0) for one in ones}
                gaps += [
                    Gap(GapReason.FUTURE, Partition(tail.info.name, number), offset, 0)
                    for number, offset in known.offsets
                    if number >= tail.info.partitions
                ]
            else:
                again, lost = await self._from_the_new_beginning(ones, known)
                wanted |= again
                gaps += lost
        if was is not None:
            for cut in _cuts_since(was, tails):
                if wanted.get(cut.partition, 0) > cut.offset:
                    gaps.append(
                        Gap(GapReason.FUTURE, cut.partition, wanted[cut.partition], cut.offset)
                    )
                    wanted[cut.partition] = cut.offset
        ahead = [
            one for one, end in zip(feed.partitions, feed.ends, strict=True) if wanted[one] > end
        ]
        if ahead:
            # Another node may be ahead of this one's tail; nobody is ahead of the log.
            ends = await self.log.end_offsets(ahead)
            for one in ahead:
                if wanted[one] > ends[one]:
                    gaps.append(Gap(GapReason.FUTURE, one, wanted[one], ends[one]))
                    wanted[one] = ends[one]
        return tuple(wanted[one] for one in feed.partitions), gaps

    async def _from_the_new_beginning(
        self, partitions: Sequence[Partition], known: TopicPosition
    ) -> tuple[Mapping[Partition, int], list[Gap]]:
        begins = await self.log.begin_offsets(partitions)
        at = dict(known.offsets)
        gaps = [
            Gap(GapReason.TOPIC_RECREATED, one, at.get(one.number, 0), begins[one])
            for one in partitions
        ]
        return begins, gaps


async def _guarded(run: Coroutine[None, None, None], transport: Transport | None = None) -> None:
    try:
        await run
    except Exception:
        logger.exception("a connection has failed, and ends")
        if transport is not None:
            transport.end(0.0)


def _cuts_since(was: Feed, tails: Sequence[TopicTail]) -> Iterator[Cut]:
    """Where the log lost its end since a feed was made."""
    for before, now in zip(was.tails, tails, strict=True):
        if before.incarnation == now.incarnation:
            yield from now.cuts[len(before.cuts) :]


def _is_leaderless(tails: Sequence[TopicTail], partitions: Sequence[Sequence[Partition]]) -> bool:
    return any(
        tail.windows[one].start == FAR_AWAY
        for tail, ones in zip(tails, partitions, strict=True)
        for one in ones
    )


def _knows_more(cursor: Cursor, tails: Sequence[TopicTail]) -> bool:
    """Whether a cursor names an incarnation or a partition that a topic is not known to have."""
    return any(
        known.incarnation != tail.incarnation
        or any(number >= tail.info.partitions for number, _ in known.offsets)
        for known, tail in zip(cursor.topics, tails, strict=True)
    )
