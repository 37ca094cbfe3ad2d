"""Clients of aiokafka that leave no errors and no tasks behind, whatever ends them.

aiokafka's producer keeps futures that say when a batch is taken and how a transaction ends. If its
sender fails, for example because another producer has the transactional id, the futures fail as
well, even if nobody waits for them. asyncio logs such an error with a traceback when the future is
freed. The tasks of single requests go on after the sender's end: they fail unseen, or wait forever.
So these futures and tasks are read here when they are done, and the tasks end with the sender. The
future of a record is left to the caller that has sent it.

A client whose `stop` fails or is interrupted goes on in the background: a producer sends, and a
consumer fetches and stays in its group. So such a client is cut off: its tasks are cancelled, and
its connections closed. A client whose start is interrupted closes its first connection, too.
"""

import asyncio
from traceback import walk_tb
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender
from aiokafka.producer.transaction_manager import TransactionManager


class TidyProducer(AIOKafkaProducer):
    """An idempotent or transactional producer, with parts that are read when they fail."""

    def __init__(self, **options: Any) -> None:
        """Make a producer.

        Args:
            options: aiokafka's; `enable_idempotence` or `transactional_id` is among them.
        """
        super().__init__(**options)
        # It has no settings for its parts, and makes them of these values.
        manager: Any = self._txn_manager
        accumulator: Any = self._message_accumulator
        sender: Any = self._sender
        self._txn_manager: Any = _Transactions(
            manager.transactional_id, manager.transaction_timeout_ms
        )
        self._message_accumulator: Any = _Accumulator(
            accumulator._cluster,
            accumulator._batch_size,
            accumulator._compression_type,
            accumulator._batch_ttl,
            txn_manager=self._txn_manager,
            linger_ms=accumulator._linger_time * 1000,
        )
        self._sender: Any = _TidySender(
            self.client,
            acks=sender._acks,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=sender._retry_backoff * 1000,
            request_timeout_ms=sender._request_timeout_ms,
        )

    def cut_off(self) -> None:
        """End the tasks and connections, and fail what was not sent.

        Records that were sent later would come after those of the producer that takes its place.
        """
        self._sender.cut_off()
        self._message_accumulator.fail_all(
            KafkaConnectionError("the producer was stopped before Kafka had the record")
        )
        _disconnect(self.client)


def close_if_interrupted(connections: AIOKafkaClient) -> None:
    """Let a client close its first connection if its start is interrupted.

    aiokafka has that connection in a local variable only, until it has metadata.
    """
    bootstrap = connections.bootstrap

    async def bootstrap_or_close() -> None:
        try:
            await bootstrap()
        except BaseException as error:
            for frame, _ in walk_tb(error.__traceback__):
                if (made := frame.f_locals.get("bootstrap_conn")) is not None:
                    made.close()
            raise

    connections.bootstrap = bootstrap_or_close  # type: ignore[method-assign]  # there is no other way


def read_errors(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Look at the errors of a client's tasks, before it is stopped and forgets them."""
    for task in _tasks_of(client):
        _read_when_done(task)


def cut_off(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """End a client's tasks and connections; a group misses its member after the session's time."""
    if isinstance(client, TidyProducer):
        client.cut_off()
    elif isinstance(client, AIOKafkaConsumer):
        for task in _tasks_of(client):
            task.cancel()
        _disconnect(client._client)


def _tasks_of(client: AIOKafkaConsumer | AIOKafkaProducer) -> list[asyncio.Task[Any]]:
    """Return the tasks of a consumer, which depend on whether it has started; none of others."""
    fetcher: Any = getattr(client, "_fetcher", None)
    coordinator: Any = getattr(client, "_coordinator", None)
    tasks = [
        getattr(fetcher, "_fetch_task", None),
        *getattr(fetcher, "_pending_tasks", ()),
        getattr(coordinator, "_coordination_task", None),
        getattr(coordinator, "_heartbeat_task", None),
        getattr(coordinator, "_commit_refresh_task", None),
        getattr(coordinator, "_reset_committed_task", None),
    ]
    return [task for task in tasks if task is not None]


def _disconnect(connections: Any) -> None:
    if connections._sync_task is not None:
        connections._sync_task.cancel()
    for connection in connections._conns.values():
        connection.close()


class _Transactions(TransactionManager):
    """A producer's transactions."""

    def begin_transaction(self) -> None:
        super().begin_transaction()
        _read_when_done(self._transaction_waiter)

    def aborting_transaction(self) -> None:
        super().aborting_transaction()
        _read_when_done(self._transaction_waiter)

    def add_offsets_to_txn(self, offsets: Any, group_id: str) -> Any:
        added = super().add_offsets_to_txn(offsets, group_id)
        _read_when_done(added)
        return added

    def fatal_error(self, exc: BaseException) -> None:
        if self._transaction_waiter is None:  # there was no transaction yet, or never will be
            self._transaction_waiter = asyncio.get_running_loop().create_future()
        super().fatal_error(exc)
        _read_when_done(self._transaction_waiter)


class _Accumulator(MessageAccumulator):
    """The batches of a producer that wait or are on their way."""

    def _append_batch(self, builder: Any, tp: Any) -> Any:
        batch: Any = super()._append_batch(builder, tp)
        _read_when_done(batch.future)
        _read_when_done(batch._drain_waiter)
        return batch

    def reenqueue(self, batch: Any) -> None:
        if batch.future.done():  # it has failed with all others while its request was on its way
            return
        super().reenqueue(batch)
        _read_when_done(batch._drain_waiter)


class _TidySender(Sender):
    """The task that sends a producer's batches, and the tasks of single requests."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._requests: set[asyncio.Task[Any]] = set()

    def cut_off(self) -> None:
        """End all tasks; what they have not sent, they send no more."""
        if self.sender_task is not None:
            self.sender_task.cancel()
        # A request that was made just now is known after its first step.
        asyncio.get_running_loop().call_soon(self._end_requests)

    async def _sender_routine(self) -> None:
        try:
            await super()._sender_routine()
        finally:
            self._end_requests()

    async def _send_produce_req(self, node_id: Any, batches: Any) -> None:
        self._add(asyncio.current_task())
        await super()._send_produce_req(node_id, batches)

    def _maybe_do_transactional_request(self) -> Any:
        task = super()._maybe_do_transactional_request()
        self._add(task)
        return task

    def _add(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)
            _read_when_done(task)

    def _end_requests(self) -> None:
        for task in self._requests:
            task.cancel()


def _read_when_done(future: Any) -> None:
    """Look at a future's error, so that asyncio does not log it where nobody waits."""
    future.add_done_callback(_read)


def _read(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
