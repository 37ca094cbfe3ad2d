"""Transactions: records, and the offsets of what they follow from, are written all or not at all.

A transactional id has one writer at a time. Opening a writer completes or aborts what an earlier
writer of the id has begun, and fences that writer: none of its later records are accepted. So a
process that was paused, and does not know that another one has its work, can write nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, InvalidProducerEpoch, KafkaError, ProducerFenced

from kafka_io import client
from kafka_io.client import find_partitions, missing_text
from kafka_io.errors import AccessDenied, Fenced, RecordRefused, TransactionFailed
from kafka_io.refusals import TOO_LARGE, Verdict, denial_of, refusal_text, verdict_of
from schemas.topics import TopicPartition

logger = logging.getLogger(__name__)

_STOP_S = 2.0

_UNBATCHED: set[str] = set()
"""The topics that have refused a batch of this process as too large; their records are sent one at
a time. A topic's limit is one of batches, and may be lower than what a round writes to it."""


class OutgoingRecord(NamedTuple):
    """A record to write."""

    topic: str
    """The topic's full name."""
    key: bytes | None
    value: bytes | None
    """None deletes the key's row of a compacted topic."""
    partition: int | None = None
    """None for the partition of the key."""
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def size_bytes(self) -> int:
        """The size of the key, the value and the headers."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


class TransactionalWriter:
    """The one writer of a transactional id."""

    def __init__(self, producer: AIOKafkaProducer, group: str) -> None:
        self._producer = producer
        self._group = group

    @property
    def epoch(self) -> int:
        """The producer's epoch; each later writer of the id has a higher one."""
        manager: Any = self._producer._txn_manager  # noqa: SLF001  # the epoch is shown nowhere else
        epoch: int = manager.producer_epoch
        return epoch

    @property
    def unanswered(self) -> set[str]:
        """The addresses of the brokers that owe an answer, `host:port`."""
        return client.unanswered(self._producer)

    async def commit(
        self, records: Sequence[OutgoingRecord], offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Write records, and commit the group's offsets, in one transaction.

        Args:
            records: the records, in order.
            offsets: the next offset of each partition that the records follow from, by partition.

        Raises:
            AccessDenied: the ACLs do not allow it; nothing was written.
            Fenced: another writer has opened the id; nothing was written.
            RecordRefused: Kafka will never take one of the records; nothing was written, and this
                writer is at its end.
            TransactionFailed: Kafka did not confirm. The transaction may have been committed, so
                the committed offsets must be read again, through a new writer.
        """
        producer = self._producer
        try:
            await producer.begin_transaction()
            sent = [(record, await self._send(record)) for record in records]
            if offsets:
                at = {aiokafka.TopicPartition(*where): offset for where, offset in offsets.items()}
                await producer.send_offsets_to_transaction(at, self._group)
            counts = Counter(record.topic for record in records)
            for record, delivery in sent:
                is_alone = record.topic in _UNBATCHED or counts[record.topic] == 1
                await self._until_delivered(delivery)
                await _delivered(record, delivery, is_alone=is_alone)
            await producer.commit_transaction()
        except RecordRefused as error:
            _raise_if_denied(error)
            raise
        except (KafkaError, IllegalOperation, OSError, AssertionError) as error:
            # After an error in the background, aiokafka says only that its state forbids the call.
            reason = self._background_error() or error
            if isinstance(reason, ProducerFenced | InvalidProducerEpoch):
                raise Fenced(f"another worker writes in this one's place: {reason!r}") from error
            _raise_if_denied(reason)
            raise TransactionFailed(f"a transaction was not confirmed: {reason!r}") from error

    async def _send(self, record: OutgoingRecord) -> "asyncio.Future[Any]":
        """Send a record, and return what becomes of it.

        Raises:
            RecordRefused: its topic or partition does not exist, or it is larger than a request.
        """
        producer = self._producer
        partitions = await find_partitions(producer, record.topic)
        if record.partition is not None and record.partition not in partitions:
            raise RecordRefused(missing_text(producer, record.topic, record.partition))
        try:
            delivery: asyncio.Future[Any] = await producer.send(
                record.topic,
                record.value,
                record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
        except TOO_LARGE as error:
            raise RecordRefused(refusal_text(record.topic, record.size_bytes, error)) from error
        # Where one delivery fails, nothing waits for the others, and asyncio would log each.
        delivery.add_done_callback(_retrieve)
        if record.topic in _UNBATCHED:
            await self._until_delivered(delivery)
            await _delivered(record, delivery, is_alone=True)
        return delivery

    async def _until_delivered(self, delivery: "asyncio.Future[Any]") -> None:
        """Wait until a record is delivered or refused, or the transaction has failed.

        aiokafka settles no record of a transaction that the ACLs do not allow.
        """
        manager: Any = self._producer._txn_manager  # noqa: SLF001  # as below
        ended: asyncio.Future[None] | None = manager.wait_for_transaction_end()
        if ended is None or delivery.done():
            return
        await asyncio.wait({delivery, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not delivery.done():
            ended.result()

    def _background_error(self) -> BaseException | None:
        """Return what has ended the transaction between two calls, if anything."""
        manager: Any = self._producer._txn_manager  # noqa: SLF001  # the error is shown nowhere else
        ended: asyncio.Future[None] | None = manager.wait_for_transaction_end()
        if ended is None or not ended.done() or ended.cancelled():
            return None
        return ended.exception()


def _raise_if_denied(error: BaseException) -> None:
    """Raise `AccessDenied` if an error is about a missing ACL."""
    denial = denial_of(error, "WRITE")
    if denial is not None:
        raise AccessDenied(denial) from error


def _retrieve(delivery: "asyncio.Future[Any]") -> None:
    """Look at what became of a delivery."""
    if not delivery.cancelled():
        delivery.exception()


async def _delivered(
    record: OutgoingRecord, delivery: "asyncio.Future[Any]", *, is_alone: bool
) -> None:
    """Wait until Kafka has a record.

    Args:
        record: the record.
        delivery: what becomes of it.
        is_alone: whether its batch has no other record.

    Raises:
        RecordRefused: Kafka will never take it, or another record of its batch.
        KafkaError: it was not delivered.
    """
    try:
        await delivery
    except KafkaError as error:
        if verdict_of(error) is not Verdict.REFUSED:
            raise
        if isinstance(error, TOO_LARGE) and not is_alone:
            # A batch can be too large of which each record fits.
            _UNBATCHED.add(record.topic)
            raise
        raise RecordRefused(refusal_text(record.topic, record.size_bytes, error)) from error


@asynccontextmanager
async def open_writer(
    bootstrap_servers: str, transactional_id: str, group: str, *, timeout_s: float, within_s: float
) -> AsyncGenerator[TransactionalWriter]:
    """Become the writer of a transactional id, and fence its earlier writers.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        transactional_id: the id.
        group: the consumer group whose offsets the transactions commit.
        timeout_s: how long a transaction may stay open; then Kafka aborts it.
        within_s: how long to wait for Kafka.

    Raises:
        AccessDenied: the ACLs do not allow to write under the id.
        InvalidSetting: the schema registry does not have the schemas to write with.
        TransactionFailed: Kafka, or the schema registry, does not answer in time.
    """
    producer = client.transactional_producer(
        bootstrap_servers, transactional_id, timeout_s=timeout_s
    )
    try:
        try:
            async with asyncio.timeout(within_s):
                await client.prepare_wire()
                await producer.start()
        except (KafkaError, OSError, AssertionError) as error:
            _raise_if_denied(error)
            raise TransactionFailed(f"no writer of {transactional_id}: {error!r}") from error
        yield TransactionalWriter(producer, group)
    finally:
        await client.stop(producer, within_s=_STOP_S)
