"""Writes the events of a partition's commands, for the one worker that has the partition.

Each event is a transaction of an id that belongs to the partition. A worker that takes a partition
over opens this id first, and so fences the worker that had it before. Only then it reads what has
been written of a command.

A worker can be paused between any two steps. So it asks the group after it has opened the id
whether it still has the partition: if it has, every later owner will open the id after it; if not,
it has fenced a rightful owner, and writes nothing. The rightful owner starts the commands again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from kafka_io import tracing
from kafka_io.counts import COUNTS
from kafka_io.errors import Fenced, RecordRefused, TransactionFailed, WorkStopped
from kafka_io.publisher import outgoing_record
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord, TransactionalWriter, open_writer
from schemas.events import Event
from schemas.topics import topic_of

logger = logging.getLogger(__name__)

_OPEN_S = 20.0
_TRANSACTION_S = 60.0
"""How long a transaction may stay open. A successor ends one that a lost worker has left."""
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class CommandWriter:
    """The writer of the events of a partition's commands. It writes one event at a time."""

    def __init__(
        self,
        settings: ProducerSettings,
        transactional_id: str,
        group: str,
        is_owner: Callable[[], Awaitable[bool]],
    ) -> None:
        """Make a writer that is not open yet.

        Args:
            settings: where Kafka is.
            transactional_id: the id of the command's partition.
            group: the consumer group that shares the commands.
            is_owner: asks the group whether this worker has had the partition all the time.
        """
        self._settings = settings
        self._transactional_id = transactional_id
        self._group = group
        self._is_owner = is_owner
        self._writer: TransactionalWriter | None = None
        self._connection = AsyncExitStack()
        self._is_stopped = False
        self._limit: asyncio.Timeout | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Fence the workers that had the partition before, unless that is done.

        Raises:
            WorkStopped: another worker has the partition.
            TransactionFailed: Kafka does not answer.
        """
        async with self._turn:
            if self._writer is None:
                await self._open()

    async def _open(self) -> None:
        self._writer = await self._connection.enter_async_context(
            open_writer(
                self._settings.bootstrap_servers,
                self._transactional_id,
                self._group,
                timeout_s=_TRANSACTION_S,
                within_s=_OPEN_S,
            )
        )
        if not await self._is_owner():
            await self._close()
            raise WorkStopped("another worker has the command")

    async def publish(self, event: Event, tenant: str | None = None) -> None:
        """Write an event; wait for Kafka as long as this worker has the command.

        Args:
            event: the event.
            tenant: the command's tenant; None for none, whatever the settings say.

        Raises:
            InvalidReport: the event does not fit its schema, or exceeds 1 MiB.
            AccessDenied: the ACLs do not allow it.
            RecordRefused: Kafka will never take the event; the next one can be written.
            WorkStopped: another worker has the command, or this one stops.
        """
        try:
            with tracing.sending(self._settings.topic_prefix + topic_of(event).name):
                record = outgoing_record(event, self._settings, tenant=tenant)
                async with self._turn:
                    await self._commit(record)
        except Fenced as error:
            raise WorkStopped(f"another worker has the command: {error}") from error
        except TimeoutError as error:
            raise WorkStopped("this worker stops, or has lost the command") from error

    async def _commit(self, record: OutgoingRecord) -> None:
        failures = 0
        try:
            async with asyncio.timeout(None) as self._limit:
                while not self._is_stopped:
                    try:
                        if self._writer is None:
                            await self._open()
                        assert self._writer is not None
                        await self._writer.commit([record], {})
                        COUNTS.published[record.topic] += 1
                    except TransactionFailed as error:
                        logger.warning("an event waits for Kafka: %s", error)
                        await self._close()
                        await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                        failures += 1
                    else:
                        return
        except RecordRefused:
            await self._close()  # its transaction stays open, and the next writer aborts it
            raise
        finally:
            self._limit = None
        raise WorkStopped("this worker stops, or has lost the command")

    def stop(self) -> None:
        """Write nothing more; a call that waits for Kafka ends."""
        self._is_stopped = True
        if self._limit is not None:
            self._limit.reschedule(0)

    async def close(self) -> None:
        """Close the connection to Kafka; the next event opens it again."""
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        self._writer = None
        await self._connection.aclose()
