"""Adapt Faust to what the agents need: consuming, recovering tables, and sending.

Classes derived from Faust's own mend its start and its rewinds. `process_batches` runs an agent's
loop, `Writer` sends events and rows, and `StateTable` keeps records in a compacted topic.

A record is acknowledged only after Kafka has everything that follows from it. Calculations are done
elsewhere, in modules that do not import Faust.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import faust
from faust.tables.manager import TableManager
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer
from faust.types import TP

from kafka_io.clock import now_us
from schemas.codec import decode, encode
from schemas.events import DeadLetter, Event, Record
from schemas.headers import Headers, headers_of
from schemas.topics import PARTITIONS, Topic, key_of, topic_of
from stream_processors.messages import Message
from stream_processors.settings import ProcessorSettings

SOURCE = "/stream_processors"

S = TypeVar("S", bound=Record)


_FETCH_WAIT_S = 0.2
"""How long a broker may hold a fetch back, and so the longest wait of a rewind for a fetch."""

_FINISH_S = 5.0


async def process_batches(
    stream: Any,
    process: Callable[[Sequence[Message]], Awaitable[None]],
    *,
    records_max: int,
    within_s: float,
) -> None:
    """Process a stream in batches, and acknowledge each batch when it has been processed.

    Args:
        stream: Faust's stream of an agent.
        process: handles the messages of a batch; returns when Kafka has all results.
        records_max: the most records in a batch.
        within_s: how long to wait for a batch to fill.
    """
    async for events in stream.noack_take(records_max, within=within_s):
        await process([event.message for event in events])
        for event in events:
            # Never suspends, so no commit comes between two records of a batch: records that were
            # tallied together must be read again together.
            await stream.ack(event)


class PromptTables(TableManager):
    """Starts to recover at once, since all tables are known when the app is built.

    Faust waits a second for more tables to be declared.
    """

    async def on_start(self) -> None:
        """Start the recovery."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class _PromptThread(AIOKafkaConsumerThread):
    """Limits how long a broker holds a fetch back.

    At Faust's 1.5 s a worker that has recovered and sought its offsets would wait as long for the
    fetch that is still pending at the old offsets.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = int(_FETCH_WAIT_S * 1000)  # noqa: SLF001  # no setting
        return consumer


class RewindingConsumer(Consumer):
    """Seeks back to the committed offsets while no fetch is pending.

    Before it recovers its tables, Faust fetches from all partitions and drops the records. It then
    seeks back, perhaps while a fetch is still pending. Records of such a fetch, delivered after the
    seek, move Faust's read offset past everything that it is about to read, which it then drops
    silently, as read before.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._no_fetch_pending = asyncio.Event()
        self._no_fetch_pending.set()

    async def rewind(self) -> None:
        """Pause, and seek to the committed offsets; Faust resumes the flow when it is ready."""
        self.stop_flow()
        await self._no_fetch_pending.wait()
        await self.perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets, or to the beginning of a partition without one.

        Faust would keep its offset in such a partition: a worker that was killed in its first
        second, and started again, would never read the records that Faust dropped.
        """
        if not self.assignment():  # more workers than partitions: aiokafka would raise an error
            return {}
        committed: Mapping[TP, int] = await super().seek_to_committed()
        unread = {partition: 0 for partition, offset in committed.items() if not offset}
        await self.seek_wait(unread)
        return committed

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Fetch, and deliver the records."""
        try:
            async for record in super().getmany(min(timeout, _FETCH_WAIT_S)):
                yield record
        finally:
            self._no_fetch_pending.set()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _PromptThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        self._no_fetch_pending.clear()
        # A copy, since Faust empties its set during the fetch, and an empty set means all.
        return await super()._getmany(active_partitions and set(active_partitions), timeout)


class IdempotentProducer(Producer):
    """Retries unacknowledged records without writing them twice.

    After a broker's clean stop that lasts long, the producer may be unusable (aiokafka #1017):
    every send fails, so the worker stops, and its successor continues at the committed offsets.
    """

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


def finish_before_stopping(app: faust.App, lock: asyncio.Lock) -> None:
    """Let the batch that is being processed finish before the worker stops, and start no other.

    A batch that was cut short may have sent events that are in no state yet. A successor with other
    settings would judge the same records again, with other results.

    Args:
        app: the worker's app.
        lock: held while a batch is processed.
    """

    @app.on_before_shutdown.connect(weak=False)
    async def finish(*_: object, **__: object) -> None:
        with suppress(TimeoutError):  # Kafka is unreachable; unacknowledged records are read again
            async with asyncio.timeout(_FINISH_S):
                await lock.acquire()


class Writer:
    """Sends events to their topics, and waits for Kafka's acknowledgement."""

    def __init__(self, app: faust.App, settings: ProcessorSettings) -> None:
        self._read_prefix = settings.topic_prefix
        self._written_prefix = settings.written_prefix()
        self._app = app

    def partitions(self, topic: Topic) -> frozenset[int]:
        """Return the partitions of a topic that are assigned to this worker now."""
        name = self._read_prefix + topic.name
        assigned: Iterable[TP] = self._app.consumer.assignment()
        return frozenset(tp.partition for tp in assigned if tp.topic == name)

    def topic(self, *topics: Topic, **options: Any) -> Any:
        """Return a Faust topic of raw bytes that reads topics of the catalogue."""
        return self._topic([self._read_prefix + topic.name for topic in topics], **options)

    def own_topic(self, topic: Topic, **options: Any) -> Any:
        """Return a Faust topic of raw bytes that this worker also writes, as for a changelog."""
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
        """Send events in order; returns when all are acknowledged."""
        await self.send_each((event, None) for event in events)

    async def send_each(self, events: Iterable[tuple[Event, str | None]]) -> None:
        """Send events, each with its tenant, in order; returns when all are acknowledged."""
        pending = [await self._send(event, tenant) for event, tenant in events]
        for acknowledged in pending:
            await acknowledged

    async def delete(self, topic: Topic, keys: Iterable[str]) -> None:
        """Write tombstones to a compacted topic; returns when all are acknowledged."""
        pending = [await self.put(topic, key.encode(), None) for key in keys]
        for acknowledged in pending:
            await acknowledged

    async def _send(self, event: Event, tenant: str | None) -> Awaitable[object]:
        value = encode(event)
        headers = headers_of(event, value, SOURCE, recorded_us=now_us(), tenant=tenant)
        # A dead letter has the key of the record that it is about.
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
        """Hand a record to the producer; return an awaitable of its acknowledgement.

        The record goes past Faust's topics and tables, whose bookkeeping would double its cost.
        """
        producer = await self._app.maybe_start_producer()
        name = self._written_prefix + topic.name
        acknowledged: Awaitable[object] = await producer.send(
            name, key, value, partition, timestamp=None, headers=headers
        )
        return acknowledged


class StateTable:
    """A table of records, and the compacted topic that keeps it."""

    def __init__(self, app: faust.App, writer: Writer, topic: Topic) -> None:
        self._writer, self._topic = writer, topic
        self._table = app.Table(
            topic.name.replace(".", "_"),
            partitions=PARTITIONS,
            key_type=bytes,
            value_type=bytes,
            # The options with which Faust makes a changelog itself: not acknowledged, and with room
            # for the recovery to read ahead.
            changelog_topic=writer.own_topic(
                topic, acks=False, internal=True, allow_empty=True, maxsize=131_072
            ),
        )
        self._app = app

    def on_recover(self, recover: Callable[[], Awaitable[None]]) -> None:
        """Call a function when the table is recovered; the worker stops if it raises an error."""

        @self._table.on_recover
        async def recovered() -> None:
            try:
                await recover()
            except Exception as error:
                # Faust would log the error and continue without the state.
                await self._app.crash(error)
                raise

    def recovered(self, kind: type[S]) -> Iterable[tuple[bytes, S]]:
        """Yield the key and record of every row of a kind, of partitions of other workers too."""
        for key, value in self._table.data.items():
            record = decode(value)
            if isinstance(record, kind):
                yield key, record

    async def write(self, rows: Mapping[bytes, tuple[int, Record | None]]) -> None:
        """Write rows; returns when all are acknowledged.

        Args:
            rows: by key, the partition and the record; None deletes the row.
        """
        pending = []
        for key, (partition, record) in rows.items():
            value = None if record is None else encode(record)
            pending.append(await self._writer.put(self._topic, key, value, partition))
            if value is None:
                self._table.data.pop(key, None)
            else:
                self._table.data[key] = value
        for acknowledged in pending:
            await acknowledged
