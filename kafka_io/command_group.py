"""Commands from Kafka, shared by a group of workers: each is done, to its end, by one of them.

A command is acknowledged when its work has ended, and passed where its story has ended already.
Work takes longer than Kafka waits for a sign of life, so its partitions are paused meanwhile, and
asked for nothing. Who loses a partition in the middle of its work stops it; whoever has the
partition now begins again.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from kafka_io.reader import follow_key
from kafka_io.settings import ProducerSettings
from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import Record
from schemas.headers import tenant_in
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_POLL_MS = 500
_KEEP_S = 0.5
"""How often Kafka gets a sign of life while a command is worked on."""
_SESSION_MS = 10_000
_BEFORE_MS = 60_000
"""A story's first event may be written a little before its command."""
_AGAIN_S = 1.0

Message = ConsumerRecord[bytes, bytes]


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command, and what was told of its work by those who were lost on it."""

    command: Record
    told: Sequence[Record]
    tenant: str | None
    """Whose it is."""
    cancelled: Callable[[], bool]
    """Whether it is not wanted any more."""


Work = Callable[[ReceivedCommand, Callable[[], bool]], None]
"""Does what a command asks for, in a thread, until the function says that it is to stop."""


class CommandGroup:
    """A worker's share of a topic of commands."""

    def __init__(
        self,
        commands: Topic,
        events: Topic,
        settings: ProducerSettings,
        cancels: Callable[[Record], bool] = lambda _: False,
    ) -> None:
        """Share commands with all workers of the same topics.

        Args:
            commands: where they come from.
            events: where their work is told of, under the same keys.
            settings: how to reach Kafka.
            cancels: whether an event says that its work is not wanted any more.
        """
        self._cancels = cancels
        self._commands = commands
        self._topic = settings.topic_prefix + commands.name
        self._events = events
        self._settings = settings
        self._group = f"{settings.topic_prefix}tapewire-{commands.name}"

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Do commands, one at a time, until `stop` is set; then the present one is stopped."""
        while not stop.is_set():
            try:
                await self._run(work, stop)
            except (KafkaError, OSError) as error:
                logger.warning("commands wait for Kafka: %r", error)
                await asyncio.sleep(_AGAIN_S)

    async def _run(self, work: Work, stop: asyncio.Event) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap_servers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=1,
            session_timeout_ms=_SESSION_MS,
        )
        share = _Share(consumer)
        consumer.subscribe([self._topic], listener=share)
        async with consumer:
            while not stop.is_set():
                message = await share.next()
                if message is not None:
                    await self._do(message, work, share, stop)

    def _command(self, message: Message) -> Record | None:
        """What a message asks for; None where it asks for nothing that can be done."""
        try:
            command = decode(message.value)
        except Undecodable as error:
            wrong = str(error)
        else:
            if isinstance(command, self._commands.record):
                return command
            wrong = f"expected a {self._commands.record.__name__}, found {type(command).__name__}"
        place = (message.topic, message.partition, message.offset)
        logger.warning("%s/%d offset %d is skipped: %s", *place, wrong)
        return None

    async def _do(self, message: Message, work: Work, share: "_Share", stop: asyncio.Event) -> None:
        where = TopicPartition(message.topic, message.partition)
        command = self._command(message)
        if command is None:
            await share.done(where, message.offset)
            return
        halted, cancelled = threading.Event(), threading.Event()
        key, since_ms = message.key or b"", message.timestamp - _BEFORE_MS
        async with follow_key(self._events, key, since_ms, self._settings) as story:
            told = await story.news()
            if any(getattr(event, "ends", False) for event in told):
                # Whoever ended it was lost before it could say that it had.
                await share.done(where, message.offset)
                return
            if any(map(self._cancels, told)):
                cancelled.set()
            taken = ReceivedCommand(command, told, tenant_in(message.headers), cancelled.is_set)
            loop = asyncio.get_running_loop()
            working = loop.run_in_executor(None, work, taken, halted.is_set)
            while not working.done():
                await share.keep()
                if stop.is_set() or not share.has(where):
                    halted.set()
                if any(map(self._cancels, await story.news())):
                    cancelled.set()
                await asyncio.wait([working], timeout=_KEEP_S)
        if halted.is_set():
            logger.info("stopped in the middle of %s: %r", command, working.exception())
            return
        working.result()
        await share.done(where, message.offset)


class _Share(ConsumerRebalanceListener):
    """The partitions that a worker has now, and what it was given of them."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._given: list[Message] = []

    async def next(self) -> Message | None:
        """The next command; None where there is none for the moment."""
        if not self._given:
            self._consumer.resume(*self._consumer.paused())
            await self._poll(_POLL_MS)
        return self._given.pop(0) if self._given else None

    async def keep(self) -> None:
        """Keep what one has, and take in nothing."""
        self._consumer.pause(*self._consumer.assignment())
        await self._poll(0)

    async def _poll(self, within_ms: int) -> None:
        found = await self._consumer.getmany(timeout_ms=within_ms)
        for messages in found.values():
            self._given += messages

    def has(self, partition: TopicPartition) -> bool:
        """Whether a partition is still one's own."""
        return partition in self._consumer.assignment()

    async def done(self, partition: TopicPartition, offset: int) -> None:
        """Acknowledge a command."""
        await self._consumer.commit({partition: offset + 1})

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Forget what was given of partitions that others have now."""
        gone = set(revoked)
        self._given = [
            one for one in self._given if TopicPartition(one.topic, one.partition) not in gone
        ]

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Begin where the last one stopped, as the group's offsets have it."""
