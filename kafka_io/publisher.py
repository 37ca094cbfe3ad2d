"""Writes events to Kafka, each to the topic that the catalogue names, keyed by its subject.

`publish` returns when Kafka has the event on all in-sync replicas, and the events of one key are in
the log in the order in which they were published.

There is no background task. A caller that waits for its acknowledgement sends the buffer for all
other callers too, one caller at a time. So nothing is in flight that no caller waits for, and
concurrent callers share a batch. A caller returns with its own acknowledgement, however long those
of others take.

A record that Kafka will never take leaves the buffer, and its caller gets `RecordRefused`: one that
is too large for its topic, one whose topic or partition does not exist or is forbidden, one that
the broker's validation refuses. Kafka refuses whole batches, so the records of a refused batch are
sent again one at a time.

A clean broker restart can leave an idempotent producer unusable (aiokafka #1017): it reports a
record as failed although the log has it, and every later send fails. So every failure ends with a
new producer, which sends the unacknowledged events again with the same CloudEvents ids. Readers
recognize the repeat by the id.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError

from kafka_io import client, tracing
from kafka_io.client import (
    MISSING_S,
    ask_for_topics,
    find_partitions,
    forbidden_text,
    is_forbidden,
    known_partitions,
    missing_text,
    partition_of,
)
from kafka_io.clock import now_us
from kafka_io.counts import COUNTS
from kafka_io.errors import BufferFull, InvalidReport, RecordRefused, Unsent
from kafka_io.refusals import Verdict, refusal_text, verdict_of
from kafka_io.security import current_credentials
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord
from schemas.bounds import NAME_CHARS_MAX
from schemas.codec import VALUE_BYTES_MAX, encode, write_as
from schemas.events import Event, Record
from schemas.headers import headers_of
from schemas.instants import EARLIEST_US, LATEST_US
from schemas.topics import Topic, key_of, topic_of

logger = logging.getLogger(__name__)

_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_STOP_S = 2.0
_HEADERS_ROOM_BYTES = 4096
_LOOK_S = 1.0
"""How often it is checked that topics still exist to which events are on their way."""
_POLL_S = 0.2
"""How often a missing topic is asked for while records wait for it."""
_UNREPORTED_MAX = 100
_DOUBTS_MAX = 3
"""How often a record that is sent alone may get an error of unclear meaning."""


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
    """An event in the buffer, until Kafka has acknowledged or refused it."""

    record: OutgoingRecord
    delivery: asyncio.Future[object] | None = None
    position: RecordMetadata | None = None
    refusal: RecordRefused | None = None
    is_suspect: bool = False
    """Whether Kafka has refused a batch with this record, so that it is sent alone."""
    doubts: int = 0
    missing_since_s: float | None = None
    """Since when its topic or partition is not known."""
    callers: int = 0
    """How many callers wait for it while another caller sends the buffer."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is settled, or when one of its callers is to send the buffer."""

    @property
    def is_settled(self) -> bool:
        """Whether Kafka has acknowledged or refused it."""
        return self.position is not None or self.refusal is not None


class Publisher:
    """Writes events to Kafka in order, and reports those that it could not write.

    Use it in `async with`: leaving the block waits until all events are acknowledged.
    """

    def __init__(self, settings: ProducerSettings | None = None, *, is_traced: bool = True) -> None:
        """Make a publisher that is not connected yet.

        Args:
            settings: where Kafka is; None for those of the environment.
            is_traced: whether events get spans, where this process is traced.
        """
        self._settings = settings or ProducerSettings()
        self._is_traced = is_traced
        if self._settings.write_as_release is not None:
            write_as(self._settings.write_as_release)
        current_credentials()  # what cannot be used is refused here, and not at the first event
        self._missing_s = min(MISSING_S, self._settings.patience_s / 2)
        """How long a topic may be unknown before its events are refused."""
        self._waiting: dict[_Entry, None] = {}
        """The unsettled events, in the order in which they were published."""
        self._in_flight: set[_Entry] = set()
        self._suspects: set[_Entry] = set()
        self._looked_s = 0.0
        """When it was last checked that the topics of all events exist."""
        self._failures: list[tuple[_Entry, BaseException]] = []
        """The events that the present producer could not deliver, each with its error."""
        self._changed = asyncio.Event()
        """Set when an event was added, acknowledged or could not be delivered."""
        self._is_driven = False
        """Whether a caller sends the buffer."""
        self._connecting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._stopping: AsyncGenerator[None] | None = None
        """Stops the producer when it is closed."""
        self._last_error: BaseException | None = None
        self._unreported: list[RecordRefused] = []
        """The refusals of events whose callers had gone."""

    @property
    def tenant(self) -> str | None:
        """The tenant of events that are published without one; None for none."""
        return self._settings.tenant or None

    @property
    def unsent(self) -> int:
        """The number of events that Kafka has not acknowledged."""
        return len(self._waiting)

    async def publish(
        self,
        event: Event,
        *,
        partition: int | None = None,
        tenant: str | None = None,
        origin: str | None = None,
    ) -> RecordMetadata:
        """Write an event, and return its position once every in-sync replica has it.

        Args:
            event: the event.
            partition: the partition; None for that of the event's key.
            tenant: the event's tenant; None for the publisher's own, empty for none.
            origin: from where the event was requested; None if nobody needs to know.

        Raises:
            InvalidReport: the event does not fit its schema, or exceeds 1 MiB.
            RecordRefused: Kafka will never take the event; the message says why.
            Unsent: Kafka did not acknowledge within `patience_s`; the event stays in the buffer.
            BufferFull: the buffer stayed full for `patience_s`; the event was not taken.
        """
        tenant = self.tenant if tenant is None else tenant
        topic = self._settings.topic_prefix + topic_of(event).name
        with tracing.sending(topic) if self._is_traced else nullcontext() as span:
            record = outgoing_record(
                event, self._settings, partition=partition, tenant=tenant or None, origin=origin
            )
            metadata = await self._write(record)
            if span is not None:
                span.set_attributes(tracing.position(metadata.partition, metadata.offset))
        return metadata

    async def put(
        self, topic: Topic, key: bytes, row: Record | None, partition: int
    ) -> RecordMetadata:
        """Write a row of a compacted topic, and return its position; None deletes the row.

        Raises:
            RecordRefused: Kafka will never take the row; the message says why.
            Unsent: Kafka did not acknowledge within `patience_s`; it stays in the buffer.
            BufferFull: the buffer stayed full for `patience_s`; it was not taken.
        """
        name = self._settings.topic_prefix + topic.name
        value = None if row is None else encode(row)
        return await self._write(OutgoingRecord(name, key, value, partition))

    async def delete(self, topic: Topic, key: bytes) -> RecordMetadata:
        """Delete the row of a key from a compacted topic, and return the position of the tombstone.

        Raises:
            RecordRefused: Kafka will never take the tombstone; the message says why.
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
                    await self._drive(next(iter(self._waiting)))
                self._waiting[entry] = None
                self._changed.set()
                await self._drive(entry)
        except TimeoutError:
            self._settle_delivered(entry)
            if not entry.is_settled:
                raise self._unsent(is_waiting=entry in self._waiting) from self._last_error
        if entry.refusal is not None:
            self._unreported = [other for other in self._unreported if other is not entry.refusal]
            raise entry.refusal
        assert entry.position is not None
        return entry.position

    async def flush(self) -> None:
        """Wait until Kafka has acknowledged all events.

        Raises:
            RecordRefused: Kafka has refused an event after its call had raised `Unsent`.
            Unsent: it did not within `patience_s`; call again to wait longer.
        """
        try:
            async with asyncio.timeout(self._settings.patience_s):
                while self._waiting:
                    await self._drive(next(reversed(self._waiting)))
        except TimeoutError:
            raise self._unsent(is_waiting=True) from self._last_error
        if self._unreported:
            first, count = self._unreported[0], len(self._unreported)
            self._unreported = []
            raise RecordRefused(f"{count} of the events were not written; the first: {first}")

    async def partition_for(self, topic: Topic, key: bytes) -> int:
        """Return the partition that Kafka's default partitioner gives a key.

        Raises:
            RecordRefused: there is no such topic.
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
            RecordRefused: Kafka has refused an event after its call had raised `Unsent`.
            Unsent: events are unacknowledged; they are lost when the process ends.
        """
        try:
            await self.flush()
        finally:
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
        """Wait until an entry is settled; one waiting caller at a time sends the buffer."""
        while not entry.is_settled:
            if self._is_driven:
                await self._wait_for_turn(entry)
                continue
            self._is_driven = True
            try:
                await self._send_until(entry)
            finally:
                self._is_driven = False
                self._wake_next()

    async def _wait_for_turn(self, entry: _Entry) -> None:
        """Wait until an entry is settled, or until its caller may be the one that sends."""
        entry.callers += 1
        try:
            await entry.woken.wait()
            entry.woken.clear()
        except BaseException:
            entry.callers -= 1
            if not self._is_driven:  # it may have been this one's turn
                self._wake_next()
            raise
        entry.callers -= 1

    def _wake_next(self) -> None:
        waiting = (entry for entry in self._waiting if entry.callers)
        entry = next(waiting, None)
        if entry is not None:
            entry.woken.set()

    async def _send_until(self, entry: _Entry) -> None:
        """Send the buffer until an entry in it is settled; settled entries' callers go on."""
        failures = 0
        while not entry.is_settled:
            try:
                self._changed.clear()
                await self._wait_for_change(await self._send_all())
                await self._judge_failures()
            except ClusterAuthorizationFailedError as error:
                # This client may write to no topic at all.
                for forbidden in tuple(self._waiting):
                    refusal = RecordRefused(forbidden_text(forbidden.record.topic))
                    refusal.__cause__ = error
                    self._refuse(forbidden, refusal)
                await self._drop_producer()
            except (KafkaError, OSError) as error:
                self._last_error = error
                logger.warning("%d events wait for Kafka: %r", len(self._waiting), error)
                await self._drop_producer()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1

    async def _wait_for_change(self, poll_s: float) -> None:
        try:
            async with asyncio.timeout(poll_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _send_all(self) -> float:
        """Send what can be sent now, and return after how many seconds to look again."""
        producer = await self._connected()
        poll_s = _LOOK_S
        now_s = asyncio.get_running_loop().time()
        if len(self._in_flight) < len(self._waiting) or now_s >= self._looked_s + _LOOK_S:
            self._looked_s = now_s
            poll_s = await self._refuse_missing(producer)
            # Those homes to which a suspect is on its way, alone, or has to wait for its turn.
            closed = {
                _home_of(producer, entry.record) for entry in self._suspects & self._in_flight
            }
            for entry in tuple(self._waiting):
                if entry.delivery is not None or entry.missing_since_s is not None:
                    continue
                if self._suspects:
                    home = _home_of(producer, entry.record)
                    if home in closed or (entry.is_suspect and self._is_busy(producer, home)):
                        closed.add(home)
                        continue
                    if entry.is_suspect:
                        closed.add(home)
                await self._send(producer, entry)
        return poll_s

    def _is_busy(self, producer: AIOKafkaProducer, home: tuple[str, int]) -> bool:
        """Return whether an event is on its way to a partition, and could share its batch."""
        return any(_home_of(producer, entry.record) == home for entry in self._in_flight)

    async def _send(self, producer: AIOKafkaProducer, entry: _Entry) -> None:
        record = entry.record
        try:
            delivery: asyncio.Future[object] = await producer.send(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
        except (KafkaError, AssertionError, TypeError, ValueError) as error:
            # Raised before a batch has the record, so that it can be about this one only.
            if isinstance(error, KafkaError) and verdict_of(error) is not Verdict.REFUSED:
                raise
            self._refuse(entry, _refusal(record, error))
            return
        entry.delivery = delivery
        self._in_flight.add(entry)
        delivery.add_done_callback(lambda done: self._delivered(entry, done))

    async def _refuse_missing(self, producer: AIOKafkaProducer) -> float:
        """Note which topics and partitions are not known, and refuse what has waited too long.

        Returns:
            after how many seconds to look again.
        """
        missing = self._missing(producer)
        if missing:
            await ask_for_topics(producer, {entry.record.topic for entry in missing})
            missing = self._missing(producer)
        now_s = asyncio.get_running_loop().time()
        was_in_flight = False
        for entry in self._waiting:
            if entry.missing_since_s is not None and entry not in missing:
                entry.missing_since_s = None
        for entry in missing:
            topic, partition = entry.record.topic, entry.record.partition
            if entry.missing_since_s is None:
                entry.missing_since_s = now_s
            if is_forbidden(producer, topic):
                reason = forbidden_text(topic)
            elif now_s - entry.missing_since_s >= self._missing_s:
                reason = missing_text(producer, topic, partition)
            else:
                continue
            was_in_flight |= entry in self._in_flight
            self._refuse(entry, RecordRefused(reason))
        if was_in_flight:
            # The producer would send it after all if the topic were made again.
            raise KafkaError("a topic has gone while events were on their way to it")
        return _POLL_S if missing else _LOOK_S

    def _missing(self, producer: AIOKafkaProducer) -> dict[_Entry, None]:
        """Return the events whose topic or partition is not known, in order."""
        known: dict[str, set[int]] = {}
        missing: dict[_Entry, None] = {}
        for entry in self._waiting:
            topic, partition = entry.record.topic, entry.record.partition
            if topic not in known:
                known[topic] = known_partitions(producer, topic)
            if not known[topic] or (partition is not None and partition not in known[topic]):
                missing[entry] = None
        return missing

    def _delivered(self, entry: _Entry, delivery: asyncio.Future[object]) -> None:
        """Take note of what has become of a record that was sent."""
        if entry.delivery is delivery:
            self._in_flight.discard(entry)
        if not delivery.cancelled():
            error = delivery.exception()
            if error is None:
                self._settle_delivered(entry, delivery)
            elif entry.delivery is delivery and not entry.is_settled:
                self._failures.append((entry, error))
        self._changed.set()

    def _settle_delivered(
        self, entry: _Entry, delivery: asyncio.Future[object] | None = None
    ) -> None:
        """Note the position of an event that Kafka has acknowledged."""
        delivery = delivery or entry.delivery
        if delivery is None or not _succeeded(delivery) or entry.is_settled:
            return
        self._last_error = None
        metadata = delivery.result()
        names = ("topic", "partition", "offset", "timestamp")
        entry.position = RecordMetadata(*(getattr(metadata, name) for name in names))
        COUNTS.published[entry.record.topic] += 1
        self._settled(entry)

    def _refuse(self, entry: _Entry, refusal: RecordRefused) -> None:
        """Take an event out of the buffer that Kafka will never take."""
        entry.refusal = refusal
        COUNTS.refused[entry.record.topic] += 1
        self._unreported.append(refusal)  # until its caller raises it
        del self._unreported[:-_UNREPORTED_MAX]
        logger.error("an event was not written: %s", refusal)
        self._settled(entry)

    def _settled(self, entry: _Entry) -> None:
        self._waiting.pop(entry, None)
        self._in_flight.discard(entry)
        self._suspects.discard(entry)
        entry.woken.set()
        self._changed.set()

    async def _judge_failures(self) -> None:
        """Refuse what Kafka will never take, and let the rest be sent again by a new producer.

        Raises:
            KafkaError: something else than a record is the reason.
        """
        if not self._failures:
            return
        transient: BaseException | None = None
        for entry, error in self._failures:
            verdict = verdict_of(error)
            if verdict is Verdict.TRANSIENT:
                transient = error
                continue
            if entry.is_suspect:
                entry.doubts += 1
                if verdict is Verdict.REFUSED or entry.doubts >= _DOUBTS_MAX:
                    self._refuse(entry, _refusal(entry.record, error))
            entry.is_suspect = True
            if not entry.is_settled:
                self._suspects.add(entry)
        if transient is not None:
            raise transient
        # An idempotent producer leaves a gap in its sequence where a batch was refused.
        await self._drop_producer()

    async def _partitions(self, topic: str) -> set[int]:
        failures = 0
        while True:
            try:
                return await find_partitions(
                    await self._connected(), topic, within_s=self._missing_s
                )
            except ClusterAuthorizationFailedError as error:
                raise RecordRefused(forbidden_text(topic)) from error
            except (KafkaError, OSError) as error:
                self._last_error = error
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                await client.prepare_wire()
                producer = client.producer(
                    self._settings.bootstrap_servers, linger_ms=self._settings.linger_ms
                )
                self._stopping = _stopping(producer)
                try:
                    await anext(self._stopping)
                    await producer.start()
                except BaseException:
                    await self._stopping.aclose()
                    raise
                self._producer = producer
            return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        try:
            if producer is not None and self._stopping is not None:
                await self._stopping.aclose()
        finally:  # a caller may give up meanwhile, and its events wait for the next producer
            for entry in tuple(self._waiting):
                self._settle_delivered(entry)
                entry.delivery = None
            self._in_flight.clear()
            self._failures.clear()


async def _stopping(producer: AIOKafkaProducer) -> AsyncGenerator[None]:
    """Stop a producer when this is closed, which a loop does at its end at the latest.

    A program may end without closing its publisher; aiokafka would log that as an error.
    """
    try:
        yield
    finally:
        await client.stop(producer, within_s=_STOP_S)


def _home_of(producer: AIOKafkaProducer, record: OutgoingRecord) -> tuple[str, int]:
    """Return the topic and partition of a record; partition -1 for one that is drawn."""
    if record.partition is not None:
        return record.topic, record.partition
    if record.key is None:
        return record.topic, -1
    return record.topic, partition_of(
        record.key, len(known_partitions(producer, record.topic)) or 1
    )


def _refusal(record: OutgoingRecord, error: BaseException) -> RecordRefused:
    refusal = RecordRefused(refusal_text(record.topic, record.size_bytes, error))
    refusal.__cause__ = error
    return refusal


def outgoing_record(
    event: Event,
    settings: ProducerSettings,
    *,
    partition: int | None = None,
    tenant: str | None = None,
    origin: str | None = None,
) -> OutgoingRecord:
    """Return an event as a record to write.

    Args:
        event: the event.
        settings: the prefix of topics, and the event's source.
        partition: the partition; None for that of the event's key.
        tenant: the event's tenant; None for none, whatever the settings say.
        origin: from where the event was requested; None if nobody needs to know.

    Raises:
        InvalidReport: the event does not fit its schema, or exceeds 1 MiB; or the tenant's name is
            no text of 1 to 256 characters.
    """
    _check_tenant(tenant)
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
        tenant=tenant,
        traceparent=tracing.current_traceparent(),
        origin=origin,
    )
    name = settings.topic_prefix + topic_of(event).name
    return OutgoingRecord(name, key_of(event, tenant), value, partition, headers)


def _check_tenant(tenant: str | None) -> None:
    if tenant is None:
        return
    if not 1 <= len(tenant) <= NAME_CHARS_MAX:
        raise InvalidReport(
            f"the name of the tenant has {len(tenant)} characters; it must have 1 to "
            f"{NAME_CHARS_MAX}"
        )
    try:
        tenant.encode()
    except UnicodeEncodeError as error:
        raise InvalidReport(f"the name of the tenant is no text: {error}") from error


def _succeeded(delivery: asyncio.Future[object]) -> bool:
    return delivery.done() and not delivery.cancelled() and delivery.exception() is None
