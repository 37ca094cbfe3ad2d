"""Writes events to Kafka, each to the topic that the catalogue names, keyed by its subject.

`publish` returns when Kafka has the event on all in-sync replicas, and the events of one key are in
the log in the order in which they were published.

There is no background task. A caller that waits for its acknowledgement sends the buffer for all
other callers too, one caller at a time. So nothing is in flight that no caller waits for, and
concurrent callers share a batch.

A clean broker restart can leave an idempotent producer unusable (aiokafka #1017): it reports a
record as failed although the log has it, and every later send fails. So every failure ends with a
new producer, which sends the unacknowledged events again with the same CloudEvents ids. Readers
recognize the repeat by the id.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kafka_io import client
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.errors import BufferFull, InvalidReport, Unsent
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord
from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.events import Event
from schemas.headers import headers_of
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.topics import Topic, key_of, topic_of

logger = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_STOP_S = 2.0
_HEADERS_ROOM_BYTES = 4096


@dataclass(frozen=True, slots=True)
class RecordMetadata:
    """The position of a written event in the log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The broker's time of appending, in milliseconds since 1970 UTC."""


@dataclass(slots=True, eq=False)
class _Entry:
    """An event in the buffer, until Kafka has acknowledged it."""

    record: OutgoingRecord
    delivery: asyncio.Future[object] | None = None
    position: RecordMetadata | None = None


class Publisher:
    """Writes events to Kafka in order, and reports those that it could not write.

    Use it in `async with`: leaving the block waits until all events are acknowledged.
    """

    def __init__(self, settings: ProducerSettings | None = None) -> None:
        self._settings = settings or ProducerSettings()
        self._waiting: deque[_Entry] = deque()
        self._turn = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._last_error: BaseException | None = None

    @property
    def unsent(self) -> int:
        """The number of events that Kafka has not acknowledged."""
        return len(self._waiting)

    async def publish(
        self, event: Event, *, partition: int | None = None, tenant: str | None = None
    ) -> RecordMetadata:
        """Write an event, and return its position once every in-sync replica has it.

        Args:
            event: the event.
            partition: the partition; None for that of the event's key.
            tenant: the event's tenant; None for the settings' tenant.

        Raises:
            InvalidReport: the event does not fit its schema, or exceeds 1 MiB.
            Unsent: Kafka did not acknowledge within `patience_s`; the event stays in the buffer.
            BufferFull: the buffer stayed full for `patience_s`; the event was not taken.
        """
        return await self._write(
            outgoing_record(event, self._settings, partition=partition, tenant=tenant)
        )

    async def delete(self, topic: Topic, key: bytes) -> RecordMetadata:
        """Delete the row of a key from a compacted topic, and return the position of the tombstone.

        Raises:
            Unsent: Kafka did not acknowledge within `patience_s`; it stays in the buffer.
            BufferFull: the buffer stayed full for `patience_s`; it was not taken.
        """
        return await self._write(
            OutgoingRecord(self._settings.topic_prefix + topic.name, key, None)
        )

    async def _write(self, record: OutgoingRecord) -> RecordMetadata:
        entry = _Entry(record)
        try:
            async with asyncio.timeout(self._settings.patience_s):
                while len(self._waiting) >= self._settings.buffer_events_max:
                    await self._drive(self._waiting[0])
                self._waiting.append(entry)
                await self._drive(entry)
        except TimeoutError:
            self._settle_acknowledged()
            if entry.position is None:
                raise self._unsent(is_waiting=entry in self._waiting) from self._last_error
        assert entry.position is not None
        return entry.position

    async def flush(self) -> None:
        """Wait until Kafka has acknowledged all events.

        Raises:
            Unsent: it did not within `patience_s`; call again to wait longer.
        """
        try:
            async with asyncio.timeout(self._settings.patience_s):
                while self._waiting:
                    await self._drive(self._waiting[-1])
        except TimeoutError:
            raise self._unsent(is_waiting=True) from self._last_error

    async def partition_for(self, topic: Topic, key: bytes) -> int:
        """Return the partition that Kafka's default partitioner gives a key.

        Raises:
            Unsent: Kafka did not answer within `patience_s`.
        """
        try:
            async with asyncio.timeout(self._settings.patience_s):
                partitions = await self._partitions(self._settings.topic_prefix + topic.name)
        except TimeoutError:
            raise self._unsent(is_waiting=True) from self._last_error
        return partition_of(key, len(partitions))

    async def close(self) -> None:
        """Flush, and close the connections to Kafka.

        Raises:
            Unsent: events are unacknowledged; they are lost when the process ends.
        """
        try:
            await self.flush()
        finally:
            async with self._turn:
                await self._drop_producer()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _unsent(self, *, is_waiting: bool) -> Unsent:
        reason = f"; last error: {self._last_error!r}" if self._last_error else ""
        message = (
            f"Kafka at {self._settings.bootstrap_servers} has not acknowledged within "
            f"{self._settings.patience_s:g} s: {self.unsent} events are unsent{reason}"
        )
        if is_waiting:
            return Unsent(message, self.unsent)
        return BufferFull(f"{message}; the buffer is full, and one more was not taken", self.unsent)

    async def _drive(self, entry: _Entry) -> None:
        """Wait for an entry's acknowledgement; one waiting caller at a time sends the buffer."""
        while entry.position is None:
            async with self._turn:
                if entry.position is None:
                    await self._send_until(entry)

    async def _send_until(self, entry: _Entry) -> None:
        """Send the buffer until an entry in it is acknowledged; the others' callers go on."""
        failures = 0
        while entry.position is None:
            try:
                await self._send_all()
                await self._settle_until(entry)
            except (KafkaError, OSError) as error:
                self._last_error = error
                logger.warning("%d events wait for Kafka: %r", len(self._waiting), error)
                await self._drop_producer()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
            else:
                self._last_error = None

    async def _send_all(self) -> None:
        producer = await self._connected()
        for entry in tuple(self._waiting):
            if entry.delivery is None:
                record = entry.record
                entry.delivery = await producer.send(
                    record.topic,
                    record.value,
                    record.key,
                    partition=record.partition,
                    headers=list(record.headers),
                )

    async def _settle_until(self, last: _Entry) -> None:
        while self._waiting and last.position is None:
            entry = self._waiting[0]
            if entry.delivery is None:  # it was published while this waited for another
                return
            await asyncio.shield(entry.delivery)
            self._settle_acknowledged()

    def _settle_acknowledged(self) -> None:
        """Note the positions of the events at the buffer's head that Kafka has acknowledged."""
        while self._waiting:
            entry = self._waiting[0]
            if entry.delivery is None or not _succeeded(entry.delivery):
                return
            metadata = entry.delivery.result()
            names = ("topic", "partition", "offset", "timestamp")
            entry.position = RecordMetadata(*(getattr(metadata, name) for name in names))
            self._waiting.popleft()

    async def _partitions(self, topic: str) -> list[int]:
        failures = 0
        while True:
            async with self._turn:
                try:
                    producer = await self._connected()
                    return sorted(await producer.partitions_for(topic))
                except (KafkaError, OSError) as error:
                    self._last_error = error
                    await self._drop_producer()
                    await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                    failures += 1

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = client.producer(
                self._settings.bootstrap_servers, linger_ms=self._settings.linger_ms
            )
            try:
                await producer.start()
            except BaseException:
                await client.stop(producer, within_s=_STOP_S)
                raise
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await client.stop(producer, within_s=_STOP_S)
        for entry in self._waiting:
            if entry.delivery is not None and not _succeeded(entry.delivery):
                entry.delivery = None


def outgoing_record(
    event: Event,
    settings: ProducerSettings,
    *,
    partition: int | None = None,
    tenant: str | None = None,
) -> OutgoingRecord:
    """Return an event as a record to write.

    Args:
        event: the event.
        settings: the prefix of topics, and the event's source and tenant.
        partition: the partition; None for that of the event's key.
        tenant: the event's tenant; None for the settings' tenant.

    Raises:
        InvalidReport: the event does not fit its schema, or exceeds 1 MiB.
    """
    try:
        value = encode(event)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidReport(f"{type(event).__name__} does not fit its schema: {error}") from error
    if len(value) + _HEADERS_ROOM_BYTES > VALUE_BYTES_MAX:
        raise InvalidReport(
            f"{type(event).__name__} has {len(value)} bytes; "
            f"at most {VALUE_BYTES_MAX - _HEADERS_ROOM_BYTES} fit in a record"
        )
    if not EARLIEST_US <= event.event_time_us <= LATEST_US:
        raise InvalidReport(
            f"the time of the {type(event).__name__} is {event.event_time_us}; "
            "it must be microseconds since 1970 UTC"
        )
    headers = headers_of(
        event,
        value,
        settings.source,
        recorded_us=now_us(),
        tenant=tenant or settings.tenant,
        traceparent=_traceparent(),
    )
    name = settings.topic_prefix + topic_of(event).name
    return OutgoingRecord(name, key_of(event), value, partition, headers)


def _traceparent() -> str | None:
    """Return the caller's W3C trace context, if OpenTelemetry traces its program."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


def _succeeded(delivery: asyncio.Future[object]) -> bool:
    return delivery.done() and not delivery.cancelled() and delivery.exception() is None
