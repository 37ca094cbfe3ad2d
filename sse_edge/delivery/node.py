"""A node: the state that the connections of one process share.

It owns the tail and the registry of open sessions, sweeps once a second, drains before a shutdown,
and reads the gauges. Broadcast groups are in `groups`, the start of a connection is in `start`, and
the limits are in `admission`.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import NamedTuple, Protocol, cast

from prometheus_client.metrics_core import Metric

from kafka_io.part_metrics import part_families
from schemas.topics import Topic
from sse_edge.cache.catch_up import CatchUp, Piece
from sse_edge.cache.render_pool import RenderPool
from sse_edge.cache.tail import Tail
from sse_edge.cache.topic_tail import FAR_AWAY
from sse_edge.cursor import CursorCodec
from sse_edge.delivery.admission import ConnectionLimits, Slot, SocketBudget
from sse_edge.delivery.broadcast import Subscriber
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.delivery.feed import Feed
from sse_edge.delivery.groups import Groups
from sse_edge.delivery.memory import MemoryBudget, container_limit
from sse_edge.delivery.start import Gap, Resolver, gap_at
from sse_edge.errors import OffsetOutOfRange, TooManyConnections, UnavailableReason
from sse_edge.log.protocol import Log
from sse_edge.metrics.node_metrics import Gauges, NodeMetrics
from sse_edge.settings import EdgeSettings
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.stream import ChannelSelection, Stream
from sse_edge.transport import Transport

logger = logging.getLogger(__name__)

_SWEEP_S = 1.0
_YIELD_EVERY = 200
"""The sweep yields to the loop after this many groups and connections."""


class Session(Protocol):
    """An open response: it counts against the limits and leaves when the node drains."""

    stream: Stream
    address: str
    slot: Slot | None
    """Its place, which was taken for it; None if it is to take one when it begins."""

    @property
    def client_id(self) -> str:
        """The client's name for itself."""
        ...

    @property
    def user(self) -> str | None:
        """The user of the client's token, as a text that no other user has; None without one."""
        ...

    @property
    def tenant(self) -> str | None:
        """The tenant of the client's token; empty for none, None without a token."""
        ...

    def leave(self) -> None:
        """End the stream at an event's boundary."""
        ...


class Client(Session, Subscriber, Protocol):
    """A connection that reads the log, as the sweep and the gauges see it."""

    is_catching_up: bool

    @property
    def depth(self) -> int:
        """How many records it is behind the ends of its windows."""
        ...


@dataclass(frozen=True, slots=True)
class OpenSession:
    """An open session, as an operator sees it."""

    number: int
    """Its number on this node; later sessions have higher ones."""
    since_us: int
    """When it began, in microseconds since 1970 UTC."""
    session: Session
    behind: int = 0
    """How many records it is behind the ends of its windows."""
    is_paused: bool = False
    """Whether written bytes wait for its client to read."""


class FinalEvent(NamedTuple):
    """Where the last event of an entity is in the log."""

    partition: int
    offset: int


class Lookups(Protocol):
    """The two questions that delivery asks of a node's tables."""

    def renewed_until_s(self, challenge: str) -> float | None:
        """Return when the token that answered a challenge expires; None while there is none."""
        ...

    def final_event(
        self, states: Topic, entity: str, tenant: str | None = None
    ) -> FinalEvent | None:
        """Return where the last event of a tenant's entity is; None until the entity has ended."""
        ...


class Node:
    """The state that the connections of one process share."""

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
        self.groups = Groups(tail, settings, self.metrics)
        self.resolver = Resolver(log, tail, settings.topic_prefix, self.groups.group_of)
        self.fair_queue = fair_queue or FairQueue()
        self.each_second: Callable[[], None] = lambda: None
        """Called by each sweep."""
        self.draining = False
        """Whether the node ends its streams and accepts no more."""
        self.sockets = SocketBudget()
        limit_mib = settings.memory_max_mib
        self.memory = MemoryBudget(limit_mib << 20 if limit_mib else container_limit())
        self._limits = ConnectionLimits(
            settings.connections_per_ip_max, settings.connections_per_user_max
        )
        self._render_pool = RenderPool(settings.framers, settings.ahead_s * 1_000_000)
        self._catch_up = CatchUp(log, settings.catch_up_bytes_max, self._render_pool)
        self._sessions: dict[Session, Slot] = {}
        self._opened: dict[Session, OpenSession] = {}
        self._numbers = count(1)
        self._clients: dict[Client, None] = {}
        self._ended: dict[Session, None] = {}
        """Sessions whose stream has ended, and whose client has not left; the oldest first."""
        self._swept = 0
        self._tasks = asyncio.TaskGroup()

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return len(self._sessions)

    @property
    def unavailable_for(self) -> UnavailableReason | None:
        """Why streams cannot be served now; None where they can."""
        return self.refusal or (None if self.tail.connected else UnavailableReason.NO_BROKER)

    @property
    def refusal(self) -> UnavailableReason | None:
        """Why a stream ends at once, however long it waits; None where it need not."""
        if self.draining:
            return UnavailableReason.DRAINING
        has_room = self.sockets.has_room and self.memory.has_room
        return None if has_room else UnavailableReason.FULL

    @property
    def tenants(self) -> set[str]:
        """The tenants that hold connections."""
        return {session.tenant for session in self._sessions if session.tenant}

    def connections_of(self, tenant: str | None) -> int:
        """Return how many connections a tenant holds; "" for those of none, None for all."""
        return sum(_is_of(session, tenant) for session in self._sessions)

    def open_sessions(self, tenant: str | None) -> list[OpenSession]:
        """Return a tenant's sessions, the oldest first; see `connections_of`."""
        return [
            replace(opened, behind=client.depth, is_paused=client.transport.is_paused)
            if (client := self._client(session)) is not None
            else opened
            for session, opened in self._opened.items()
            if _is_of(session, tenant)
        ]

    def _client(self, session: Session) -> Client | None:
        """Return a session that reads the log as such; None for any other."""
        is_client = session in self._clients
        return cast("Client", session) if is_client else None

    def clients(self, tenant: str | None = None) -> Mapping[str, Sequence[str]]:
        """Return the names of a tenant's clients, by channel; see `connections_of`."""
        names: dict[str, list[str]] = {name: [] for name in CHANNELS}
        for session in self._sessions:
            if not _is_of(session, tenant):
                continue
            for source in session.stream.selections:
                names[source.channel.name].append(session.client_id)
        return names

    async def run(self) -> None:
        """Follow the log and sweep, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self.tail.run())
                tasks.create_task(self._sweep())
        finally:
            self._render_pool.close()

    def serve(self, run: Coroutine[None, None, None], transport: Transport) -> asyncio.Task[None]:
        """Run a connection; an error in it ends this connection only.

        Raises:
            RuntimeError: the node has ended.
        """
        guarded = _guarded(run, transport)
        try:
            return self._tasks.create_task(guarded)
        except RuntimeError:
            guarded.close()
            run.close()
            raise

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Run a task beside the connections; an error in it is logged and stops nothing else."""
        try:
            self._tasks.create_task(_guarded(work))
        except RuntimeError:  # the node has ended meanwhile
            work.close()

    def refuse_over_limit(self, address: str, user: str | None = None) -> None:
        """Return if an address, and a user, may open another connection.

        Where a limit is reached, streams that have ended are closed, those that ended first.

        Raises:
            TooManyConnections: the address or the user holds as many as it may.
        """
        while (limit := self._limits.reached(address, user)) is not None:
            if not self._close_ended(limit.counts):
                raise TooManyConnections(limit.message)
        if self.refusal is UnavailableReason.FULL:
            self._close_ended(lambda _address, _user: True)

    def reserve(self, address: str, user: str | None = None) -> Slot:
        """Take a place for a connection of an address and a user.

        Raises:
            TooManyConnections: the address or the user holds as many as it may.
        """
        self.refuse_over_limit(address, user)
        return self._limits.take(address, user)

    @contextmanager
    def admitted(self, session: Session) -> Generator[None]:
        """Register a session while the context lasts: it is counted, and leaves on a drain."""
        self._admit(session)
        try:
            yield
        finally:
            self._dismiss(session)

    @contextmanager
    def connected(self, client: Client) -> Generator[None]:
        """Register a connection while the context lasts: a session that each sweep ticks."""
        self._admit(client)
        self._clients[client] = None
        try:
            yield
        finally:
            del self._clients[client]
            self._dismiss(client)

    @contextmanager
    def ended(self, session: Session) -> Generator[None]:
        """Mark a session as ended while the context lasts: it gives way to other sessions."""
        self._ended[session] = None
        try:
            yield
        finally:
            if session in self._ended:
                del self._ended[session]
            else:  # it has given way to another session
                self.sockets.closing -= 1

    def _close_ended(self, counts: Callable[[str, str | None], bool]) -> bool:
        """Close the oldest ended session of an address and user that count; False without one."""
        for session in self._ended:
            if counts(session.address, session.user):
                del self._ended[session]
                self._dismiss(session)
                self.sockets.closing += 1
                session.leave()
                return True
        return False

    def _admit(self, session: Session) -> None:
        slot = session.slot or self._limits.take(session.address, session.user)
        self._sessions[session] = slot
        self._opened[session] = OpenSession(next(self._numbers), time.time_ns() // 1_000, session)
        if self.draining:  # since the request was accepted
            session.leave()

    def _dismiss(self, session: Session) -> None:
        slot = self._sessions.pop(session, None)
        self._opened.pop(session, None)
        if slot is not None:  # else it has given way to another one
            slot.release()

    def drain(self) -> None:
        """Accept no more connections, and let the open ones leave, spread over `drain_s`."""
        self.draining = True
        loop = asyncio.get_running_loop()
        sessions = list(self._sessions)
        random.shuffle(sessions)
        for index, session in enumerate(sessions):
            part = (index + random.random()) / len(sessions)  # noqa: S311  # spreads load only
            loop.call_later(self.settings.drain_s * part, session.leave)

    def families(self) -> Iterator[Metric]:
        """Return all metrics of this process."""
        cert = self.settings.tls_cert
        yield from self.metrics.families(self.gauges())
        yield from part_families({} if cert is None else {"edge": cert})

    def gauges(self) -> Gauges:
        """Return the present values of the metrics that are gauges."""
        gauges = Gauges()
        streams = Counter(
            (session.stream.label, session.stream.dialect.name) for session in self._sessions
        )
        gauges.connections = {names: float(count) for names, count in streams.items()}
        gauges.ended = len(self._ended)
        gauges.paused = sum(client.transport.is_paused for client in self._clients)
        gauges.catching_up = sum(client.is_catching_up for client in self._clients)
        gauges.depth = sum(client.depth for client in self._clients)
        gauges.reads_waiting = self._catch_up.waiting
        gauges.reads, gauges.read_records = self._catch_up.reads, self._catch_up.records
        gauges.tail_records = self.tail.records
        gauges.draining, gauges.connected = self.draining, self.tail.connected
        gauges.sockets, gauges.sockets_refused = self.sockets.open, self.sockets.refused
        gauges.memory_full = not self.memory.has_room
        gauges.ready = self.unavailable_for is None
        now_ms = time.time() * 1000
        for partition, window in self.tail.windows.items():
            labels = (partition.topic, str(partition.number))
            oldest = window.oldest
            since_ms = (oldest.timestamp_ms if oldest else 0) or now_ms
            age_s = max(0.0, now_ms - since_ms) / 1000
            gauges.window_bytes[labels] = window.bytes
            gauges.window_age_s[labels] = age_s
            gauges.leaders[labels] = partition in self.tail.leaders
            if window.start < FAR_AWAY:
                gauges.log_ends[labels] = window.next_offset
        gauges.stuck_s = {
            (partition.topic, str(partition.number)): age_s
            for partition, age_s in self.tail.stuck_s.items()
        }
        return gauges

    async def _sweep(self) -> None:
        """Tick every connection once a second, and release what no connection uses."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _SWEEP_S
            await asyncio.sleep(_SWEEP_S)
            self.metrics.observe_loop_lag(loop.time() - due_s)
            self.memory.measure()
            self.each_second()
            for group in list(self.groups.subscribed):
                await self._yield_to_loop()
                # Records that no listener asks for notify no group, but cursors must pass them.
                group.deliver_or_close()
            for client in list(self._clients):
                await self._yield_to_loop()
                if client in self._clients:
                    _tick_or_close(client)
            self.groups.release()

    async def _yield_to_loop(self) -> None:
        self._swept += 1
        if self._swept % _YIELD_EVERY == 0:
            await asyncio.sleep(0)

    def has_ended(self, feed: Feed) -> bool:
        """Whether a stream of several entities has delivered the last event of each.

        The stream of one entity ends with its last event, which says so itself.
        """
        source, *others = feed.stream.selections
        states = source.channel.entity_states
        if states is None or others or feed.stream.has_end or not source.entities:
            return False
        numbers = (partition.number for partition in feed.partitions)
        delivered = dict(zip(numbers, feed.horizon, strict=True))
        tenant = feed.stream.tenant
        final_events = [
            self.lookups.final_event(states, entity, tenant) for entity in source.entities
        ]
        return all(
            final is not None and final.offset < delivered.get(final.partition, 0)
            for final in final_events
        )

    def codec(self, stream: Stream) -> CursorCodec:
        """Return the codec of a stream's cursors."""
        return self.groups.codec(stream)

    def topic_name(self, source: ChannelSelection) -> str:
        """Return the name of a source's topic in Kafka."""
        return self.resolver.topic_name(source)

    async def read(self, feed: Feed, index: int, offset: int) -> Piece | Gap:
        """Read a piece of a feed's partition, by its index; the gap where it has no such offset.

        Raises:
            LogUnavailable: Kafka is away.
        """
        partition = feed.partitions[index]
        tail = next(tail for tail in feed.tails if partition in tail.windows)
        # Offsets mean something only within one topic id, and between two losses of the log's end.
        history = (tail.info.topic_id + bytes([len(tail.cuts) % 256]), partition)
        try:
            return await self._catch_up.read(history, offset, feed.channel_of_all(index))
        except OffsetOutOfRange:
            return await gap_at(self.log, partition, offset)


def _is_of(session: Session, tenant: str | None) -> bool:
    return tenant is None or (session.tenant or "") == tenant


def _tick_or_close(client: Client) -> None:
    """Tick a connection; one that fails is closed, and no other."""
    try:
        client.tick()
    except Exception:
        logger.exception("a connection failed and is closed")
        client.leave()


async def _guarded(run: Coroutine[None, None, None], transport: Transport | None = None) -> None:
    try:
        await run
    except Exception:
        logger.exception("a connection failed and is closed")
        if transport is not None:
            transport.end(0.0)
