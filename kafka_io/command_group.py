"""Commands from Kafka, shared by a group of workers: exactly one of them does each command.

A command is acknowledged when its work has ended, and skipped if its events show that it has ended
before. Work takes longer than Kafka waits for a poll, so the worker pauses its partitions meanwhile
and keeps polling. A worker that loses a partition stops the work on its command; the partition's
new owner starts the work again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from kafka_io import client
from kafka_io.reader import follow_key
from kafka_io.settings import ProducerSettings
from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import Record
from schemas.headers import tenant_in
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_POLL_MS = 500
_KEEPALIVE_S = 0.5
"""How often a worker polls Kafka while it works on a command."""
_SESSION_MS = 10_000
_BEFORE_MS = 60_000
"""The first event of a command may be written a little before the command."""
_RETRY_S = 1.0

Message = ConsumerRecord[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command, and the events of earlier attempts at it."""

    command: Record
    events: Sequence[Record]
    """The events that lost workers have written of it, in order."""
    tenant: str | None
    is_cancelled: Callable[[], bool]
    """Whether a client has cancelled the command."""


Work = Callable[[ReceivedCommand, Callable[[], bool]], None]
"""Does a command in a thread, until it has ended or until the function returns true."""


class CommandGroup:
    """A worker's share of a topic of commands."""

    def __init__(
        self,
        commands: Topic,
        events: Topic,
        settings: ProducerSettings,
        cancels: Callable[[Record], bool] = lambda _: False,
    ) -> None:
        """Share commands with all workers of the same topic.

        Args:
            commands: the topic of the commands.
            events: the topic of the events that the work writes, with the same keys.
            settings: where Kafka is.
            cancels: whether an event cancels its command.
        """
        self._cancels = cancels
        self._commands = commands
        self._topic = settings.topic_prefix + commands.name
        self._events = events
        self._settings = settings
        self._group = f"{settings.topic_prefix}tapewire-{commands.name}"

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Do commands, one at a time, until `stop` is set; then stop the present one."""
        while not stop.is_set():
            try:
                await self._run(work, stop)
            except (KafkaError, OSError) as error:
                logger.warning("commands wait for Kafka: %r", error)
                await asyncio.sleep(_RETRY_S)

    async def _run(self, work: Work, stop: asyncio.Event) -> None:
        consumer = client.consumer(
            self._settings.bootstrap_servers,
            group_id=self._group,
            auto_offset_reset="earliest",
            max_poll_records=1,
            session_timeout_ms=_SESSION_MS,
        )
        share = _Share(consumer)
        consumer.subscribe([self._topic], listener=share)
        try:
            await consumer.start()
            while not stop.is_set():
                message = await share.next()
                if message is not None:
                    await self._handle(message, work, share, stop)
        finally:
            await client.stop(consumer)

    def _decode(self, message: Message) -> Record | None:
        """Return a message's command; None for one that cannot be done, which is logged."""
        try:
            command = decode(message.value)
        except Undecodable as error:
            reason = str(error)
        else:
            if isinstance(command, self._commands.record):
                return command
            reason = f"expected a {self._commands.record.__name__}, found {type(command).__name__}"
        position = (message.topic, message.partition, message.offset)
        logger.warning("%s/%d offset %d is skipped: %s", *position, reason)
        return None

    async def _handle(
        self, message: Message, work: Work, share: "_Share", stop: asyncio.Event
    ) -> None:
        partition = TopicPartition(message.topic, message.partition)
        command = self._decode(message)
        if command is None:
            await share.acknowledge(partition, message.offset)
            return
        halted, cancelled = threading.Event(), threading.Event()
        key, since_ms = message.key or b"", message.timestamp - _BEFORE_MS
        async with follow_key(self._events, key, since_ms, self._settings) as follower:
            events = await follower.poll()
            if any(getattr(event, "ends", False) for event in events):
                # The worker that ended it was lost before it could acknowledge the command.
                await share.acknowledge(partition, message.offset)
                return
            if any(map(self._cancels, events)):
                cancelled.set()
            received = ReceivedCommand(
                command, events, tenant_in(message.headers), cancelled.is_set
            )
            loop = asyncio.get_running_loop()
            working = loop.run_in_executor(None, work, received, halted.is_set)
            while not working.done():
                await share.keep_alive()
                if stop.is_set() or not share.owns(partition):
                    halted.set()
                if any(map(self._cancels, await follower.poll())):
                    cancelled.set()
                await asyncio.wait([working], timeout=_KEEPALIVE_S)
        if halted.is_set():
            logger.info("stopped in the middle of %s: %r", command, working.exception())
            return
        working.result()
        await share.acknowledge(partition, message.offset)


class _Share(ConsumerRebalanceListener):
    """The partitions that a worker owns now, and the messages that it has fetched of them."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._fetched: list[Message] = []

    async def next(self) -> Message | None:
        """Return the next command; None if there is none now."""
        if not self._fetched:
            self._consumer.resume(*self._consumer.paused())
            await self._poll(_POLL_MS)
        return self._fetched.pop(0) if self._fetched else None

    async def keep_alive(self) -> None:
        """Poll Kafka without fetching messages."""
        self._consumer.pause(*self._consumer.assignment())
        await self._poll(0)

    async def _poll(self, within_ms: int) -> None:
        found = await self._consumer.getmany(timeout_ms=within_ms)
        for messages in found.values():
            self._fetched += messages

    def owns(self, partition: TopicPartition) -> bool:
        """Return whether a partition is still assigned to this worker."""
        return partition in self._consumer.assignment()

    async def acknowledge(self, partition: TopicPartition, offset: int) -> None:
        """Commit a command."""
        await self._consumer.commit({partition: offset + 1})

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Forget the messages of partitions that other workers own now."""
        gone = set(revoked)
        self._fetched = [
            message
            for message in self._fetched
            if TopicPartition(message.topic, message.partition) not in gone
        ]

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Do nothing: aiokafka continues at the committed offsets."""
