"""Faust, as far as the agents need it: from where a consumer reads on, tables, and what is sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import faust
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer
from faust.types import TP

from schemas.codec import decode, encode
from schemas.events import DeadLetter, Event, Record
from schemas.headers import Headers, headers_of
from schemas.topics import PARTITIONS, Topic, key_of, topic_of
from stream_processors.settings import ProcessorSettings

SOURCE = "/stream_processors"

S = TypeVar("S", bound=Record)


_FETCH_WAIT_S = 0.2
"""How long a fetch waits for records, and so, at most, a rewind for a fetch."""

_FINISH_S = 5.0


class PromptTables(TableManager):
    """Begins to recover at once: all tables are known when the app is built.

    Faust waits a second for more.
    """

    async def on_start(self) -> None:
        """Recover."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class _PromptThread(AIOKafkaConsumerThread):
    """Lets a broker hold a fetch back for a short while only.

    At Faust's one and a half seconds a worker that has recovered, and sought its place, waits as
    long for the fetch that is under way from elsewhere.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = int(_FETCH_WAIT_S * 1000)  # noqa: SLF001  # no setting
        return consumer


class RewindingConsumer(Consumer):
    """Goes back to what was committed with nothing under way from further on.

    Before it recovers its tables Faust fetches from all partitions, and throws away. It then seeks
    back while a fetch may still be under way. Records of such a fetch, delivered after the seek,
    move the place that it has read up to past everything that it is about to read: it drops that
    without a word, as read before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nothing_under_way = asyncio.Event()
        self._nothing_under_way.set()

    async def rewind(self) -> None:
        """Stop the flow, and stand where was committed; Faust resumes the flow when it is ready."""
        self.stop_flow()
        await self._nothing_under_way.wait()
        await self.perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets, or to the beginning.

        Faust stays where it is in a partition that nothing was committed for: a worker killed in
        its first second, and started again, would never see what was thrown away.
        """
        if not self.assignment():  # a worker too many: aiokafka would take it for a mistake
            return {}
        committed: Mapping[TP, int] = await super().seek_to_committed()
        await self.seek_wait({one: 0 for one, offset in committed.items() if not offset})
        return committed

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetch, and deliver."""
        try:
            async for one in super().getmany(min(timeout, _FETCH_WAIT_S)):
                yield one
        finally:
            self._nothing_under_way.set()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _PromptThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        self._nothing_under_way.clear()
        # The set is Faust's own, which it empties under the fetch; an empty one means all.
        return await super()._getmany(active_partitions and set(active_partitions), timeout)


class IdempotentProducer(Producer):
    """Sends again what was not acknowledged without its being in the log twice.

    After a clean stop of a broker that lasts it may be of no use any more (aiokafka #1017): every
    send fails, and so the worker, whose successor goes on from what was committed.
    """

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


def finish_before_stopping(app: faust.App, one_at_a_time: asyncio.Lock) -> None:
    """Have a round that is under way when the worker is stopped end, and begin no other.

    Cut short, it may have told what no state knows of: a successor with other settings would judge
    the same records again, and tell otherwise.
    """

    @app.on_before_shutdown.connect(weak=False)
    async def finish(*_: object, **__: object) -> None:
        with suppress(TimeoutError):  # Kafka is away: what is not acknowledged is read again
            async with asyncio.timeout(_FINISH_S):
                await one_at_a_time.acquire()


class Writer:
    """Sends events to their topics, and waits until Kafka has them."""

    def __init__(self, app: faust.App, settings: ProcessorSettings) -> None:
        self._read_prefix = settings.topic_prefix
        self._written_prefix = settings.written_prefix()
        self._app = app

    def partitions(self, topic: Topic) -> frozenset[int]:
        """Those of a topic that this worker reads now."""
        name = self._read_prefix + topic.name
        assigned: Iterable[TP] = self._app.consumer.assignment()
        return frozenset(one.partition for one in assigned if one.topic == name)

    def topic(self, *topics: Topic, **options: Any) -> Any:
        """The catalogue's topics as one of Faust's, of raw bytes: to be read."""
        return self._topic([self._read_prefix + topic.name for topic in topics], **options)

    def own_topic(self, topic: Topic, **options: Any) -> Any:
        """One that the worker writes itself, too."""
        return self._topic([self._written_prefix + topic.name], **options)

    def _topic(self, names: list[str], **options: Any) -> Any:
        return self._app.topic(
            *names,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            **options,
        )

    async def send_all(self, events: Iterable[Event]) -> None:
        """Send events in order; when this returns, all are acknowledged."""
        await self.send_each((event, None) for event in events)

    async def send_each(self, events: Iterable[tuple[Event, str | None]]) -> None:
        """As `send_all`, each with the tenant whose it is."""
        for delivered in [await self._send(*one) for one in events]:
            await delivered

    async def forget(self, topic: Topic, keys: Iterable[str]) -> None:
        """Have a compacted topic keep nothing of what is over; returns when it is acknowledged."""
        for delivered in [await self.put(topic, one.encode(), None) for one in keys]:
            await delivered

    async def _send(self, event: Event, tenant: str | None) -> Awaitable[object]:
        value = encode(event)
        now_us = time.time_ns() // 1000
        headers = headers_of(event, value, SOURCE, recorded_us=now_us, tenant=tenant)
        # A letter lies where the record that it is about would lie.
        key = event.key if isinstance(event, DeadLetter) else key_of(event)
        return await self.put(topic_of(event), key, value, headers=headers)

    async def put(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> Awaitable[object]:
        """Hand a record to the producer; what is returned ends when it is acknowledged.

        Past Faust's topics and tables, whose bookkeeping for a record costs as much again.
        """
        producer = await self._app.maybe_start_producer()
        name = self._written_prefix + topic.name
        delivered: Awaitable[object] = await producer.send(
            name, key, value, partition, timestamp=None, headers=headers
        )
        return delivered


class States:
    """A table of records, and the compacted topic that keeps it."""

    def __init__(self, app: faust.App, writer: Writer, topic: Topic) -> None:
        self._writer, self._topic = writer, topic
        self._table = app.Table(
            topic.name.replace(".", "_"),
            partitions=PARTITIONS,
            key_type=bytes,
            value_type=bytes,
            # As Faust makes its own: not acknowledged, and with room for recovery to run ahead.
            changelog_topic=writer.own_topic(
                topic, acks=False, internal=True, allow_empty=True, maxsize=131_072
            ),
        )
        self._app = app

    def on_recover(self, recover: Callable[[], Awaitable[None]]) -> None:
        """Have something done when the table is whole again; where it fails, the worker stops."""

        @self._table.on_recover
        async def recovered() -> None:
            try:
                await recover()
            except Exception as error:
                # Faust would go on without, and nobody would hear of it.
                await self._app.crash(error)
                raise

    def recovered(self, kind: type[S]) -> Iterable[tuple[bytes, S]]:
        """Every record of a kind, by its key; of partitions that are another worker's now, too."""
        for key, value in self._table.data.items():
            record = decode(value)
            if isinstance(record, kind):
                yield key, record

    async def keep(self, rows: Mapping[bytes, tuple[int, Record | None]]) -> None:
        """Write records, each to its partition; when this returns, all are acknowledged."""
        written = []
        for key, (partition, record) in rows.items():
            value = None if record is None else encode(record)
            written.append(await self._writer.put(self._topic, key, value, partition))
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value
        for delivered in written:
            await delivered
