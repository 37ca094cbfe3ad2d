"""Commands from Kafka, shared by a group of workers: exactly one of them does each command.

A command is acknowledged when its work has ended, and skipped if its events show that it has ended
before. Work takes longer than Kafka waits for a poll, so the worker pauses its partitions meanwhile
and keeps polling.

A worker keeps the partition of its command when the group divides the partitions anew. One that
loses the partition nonetheless, since the group took it for lost, stops the work; so does one that
is asked to stop. The partition's new owner starts the work again. It learns from the committed
offset's metadata how often the command was begun, and how often it was handed over by workers that
were asked to stop. A worker commits this before it decodes the command, so it counts even if the
command kills the worker at once.

A worker that has lost a partition and does not know it, since it was paused, cannot write: see
`kafka_io.command_writer`.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from kafka_io import client
from kafka_io.assignor import Claim, ClaimAssignor
from kafka_io.clock import append_time_ms, now_us
from kafka_io.command_writer import CommandWriter
from kafka_io.dead_letters import dead_letter, log_time_us
from kafka_io.errors import (
    AccessDenied,
    ProducerError,
    RecordRefused,
    TransactionFailed,
    WorkStopped,
)
from kafka_io.reader import KeyFollower, as_consumed, follow_key
from kafka_io.refusals import denial_of
from kafka_io.settings import ProducerSettings
from kafka_io.solitude import Solitude
from schemas.errors import Refused
from schemas.events import DeadLetter, DeadLetterReason, Event, Record
from schemas.gate import admit
from schemas.headers import fault_of_tenant, tenant_in
from schemas.keys import fault_of_key
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_POLL_MS = 500
_KEEPALIVE_S = 0.5
"""How often a worker polls Kafka while it works on a command."""
_SESSION_MS = 10_000
_BEFORE_MS = 60_000
"""The first event of a command may be written a little before the command."""
_REBALANCE_S = 60.0
_RETRY_S = 1.0
_NOT_OF_CONTENT = (MemoryError, OSError, KafkaError, ProducerError)
"""Errors that another command would meet as well."""
_NO_GENERATION = -2
"""Right before no generation of a group."""

_LOST_MAX = 3
"""The lost workers after which a command is given up. Its work writes the end; a command of which
even that has killed a worker is set aside unread."""
_ATTEMPTS = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,9}))?")

Message = ConsumerRecord[bytes, bytes]


class Attempts(NamedTuple):
    """The number of earlier attempts at a command, and how they ended."""

    handovers: int = 0
    """Attempts that ended since their workers were asked to stop, or could not reach Kafka."""
    begun: int = 0
    """All attempts."""

    @property
    def lost(self) -> int:
        """Attempts whose workers were lost."""
        return max(0, self.begun - self.handovers)

    @property
    def text(self) -> str:
        """The metadata of the command's offset."""
        return f"{self.handovers}/{self.begun}"

    @classmethod
    def parse(cls, text: str) -> "Attempts":
        """Return what the metadata of an offset says; earlier versions count handovers only."""
        found = _ATTEMPTS.fullmatch(text)
        return cls() if found is None else cls(int(found[1]), int(found[2] or found[1]))


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command, and the events of earlier attempts at it."""

    command: Record
    events: Sequence[Record]
    """The events that lost workers have written of it, in order."""
    tenant: str | None
    """The tenant of the command, which its events and results are of; None for none."""
    earlier: Attempts
    """The earlier attempts at it."""
    is_cancelled: Callable[[], bool]
    """Whether a client has cancelled the command."""
    publish: Callable[[Event], None]
    """Writes an event of the command, in the work's thread; raises `WorkStopped` if the work must
    end, `InvalidReport` if the event does not fit its schema, and `RecordRefused` if Kafka will
    never take it."""
    is_stopped: Callable[[], bool] = lambda: False
    """Whether the work must end: `publish` would raise `WorkStopped`."""

    def lost_before(self, attempt: int) -> int:
        """Return how many earlier attempts ended with the loss of their worker.

        Args:
            attempt: the number of this attempt by the events, which some attempts did not live to
                write.
        """
        return max(self.earlier.lost, attempt - 1 - self.earlier.handovers)


Work = Callable[[ReceivedCommand], None]
"""Does a command in a thread, until it has ended or a call of `publish` raises `WorkStopped`."""


class CommandGroup:
    """A worker's share of a topic of commands."""

    def __init__(
        self,
        commands: Topic,
        events: Topic,
        settings: ProducerSettings,
        cancels: Callable[[Record], bool] = lambda _: False,
        solitude: Solitude | None = None,
    ) -> None:
        """Share commands with all workers of the same topic.

        Args:
            commands: the topic of the commands.
            events: the topic of the events that the work writes, with the same keys.
            settings: where Kafka is.
            cancels: whether an event cancels its command.
            solitude: what this process runs, if several groups share it; a command on which two
                workers were lost is alone in it.
        """
        self._solitude = solitude or Solitude()
        self._cancels = cancels
        self._commands = commands
        self._topic = settings.topic_prefix + commands.name
        self._events = events
        self._settings = settings
        self._group = f"{settings.topic_prefix}tapewire-{commands.name}"

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Do commands, one at a time, until `stop` is set; then stop the present one.

        Raises:
            AccessDenied: the ACLs do not allow to share or to end commands.
        """
        while not stop.is_set():
            try:
                await self._run(work, stop)
            except (KafkaError, OSError, TransactionFailed, RecordRefused) as error:
                denial = denial_of(error)
                if denial is not None:
                    raise AccessDenied(denial) from error
                # Even the end of a command can be refused, while its topic is missing or forbidden.
                logger.warning("commands wait for Kafka: %r", error)
                await asyncio.sleep(_RETRY_S)

    async def _run(self, work: Work, stop: asyncio.Event) -> None:
        share = _Share(self._settings.bootstrap_servers, self._group)
        consumer = share.consumer
        try:
            consumer.subscribe([self._topic], listener=share)
            await consumer.start()
            while not stop.is_set():
                message = await share.next()
                if message is not None:
                    await self._handle(message, work, share, stop)
        finally:
            await client.stop(consumer)

    def _admit(self, message: Message, earlier: Attempts) -> Record | DeadLetter:
        """Return a message's command, or the dead letter about it."""
        received = as_consumed(message)
        if earlier.lost > _LOST_MAX:
            text = f"{earlier.lost} workers were lost on it, the last one while it gave it up"
            return dead_letter(received, DeadLetterReason.FAILED, text)
        fault = fault_of_tenant(message.headers)
        if fault is not None:
            return dead_letter(received, DeadLetterReason.INVALID, fault)
        fault = fault_of_key(message.key, tenant_in(message.headers))
        if fault is not None:
            return dead_letter(received, DeadLetterReason.FOREIGN, fault)
        try:
            return admit(
                message.value,
                self._commands.record,
                logged_us=log_time_us(received),
                ahead_us=self._settings.ahead_s * 1_000_000,
            )
        except Refused as error:
            return dead_letter(received, error.reason, str(error))

    async def _handle(
        self, message: Message, work: Work, share: "_Share", stop: asyncio.Event
    ) -> None:
        """Do a command, alone in this process if it may be what has ended two workers."""
        partition = TopicPartition(message.topic, message.partition)
        tenure = share.begin(partition)
        try:
            earlier = await share.attempts(partition)
            async with self._solitude.entered(is_alone=earlier.lost >= _LOST_MAX - 1):
                await self._attempt(message, earlier, tenure, work, share, stop)
        finally:
            share.end()

    async def _attempt(
        self,
        message: Message,
        earlier: Attempts,
        tenure: int,
        work: Work,
        share: "_Share",
        stop: asyncio.Event,
    ) -> None:
        """Do a command, unless it has ended before, and acknowledge it.

        Args:
            message: the command.
            earlier: the earlier attempts at it.
            tenure: that of the command's partition.
            work: does commands.
            share: the partitions of this worker.
            stop: set when the worker must end.
        """
        partition = TopicPartition(message.topic, message.partition)
        attempts = earlier._replace(begun=earlier.begun + 1)
        new_writer = partial(
            CommandWriter,
            self._settings,
            f"{self._group}-{partition.partition}",
            self._group,
            partial(share.has_kept, partition, message.offset, attempts, tenure),
        )
        writer = new_writer()
        # A time that lies ahead is the producer's mistake: the events of the command are older.
        sent_ms = min(append_time_ms(message.timestamp), now_us() // 1000)
        key, since_ms = message.key or b"", max(0, sent_ms - _BEFORE_MS)
        try:
            await writer.open()  # before reading, so that nobody else writes after it
            command = self._admit(message, earlier)
            if isinstance(command, DeadLetter):
                await writer.publish(command)
                await share.acknowledge(partition, message.offset)
                return
            async with follow_key(self._events, key, since_ms, self._settings) as follower:
                events = await follower.poll()
                # Else the worker that ended it was lost before it could acknowledge the command.
                if not any(getattr(event, "ends", False) for event in events):
                    tenant = tenant_in(message.headers)
                    job = _Job(command, events, tenant, earlier, writer)
                    failure = await self._do(job, work, follower, share, partition, tenure, stop)
                    if failure is not None:
                        await writer.close()
                        writer = new_writer()  # the other one has stopped with the work
                        await self._set_aside(message, failure, writer)
        except WorkStopped as error:
            logger.info("stopped in the middle of offset %d: %s", message.offset, error)
            if stop.is_set():
                await share.hand_over(partition, message.offset, attempts)
            share.refetch(partition, message.offset)
        except (KafkaError, OSError, TransactionFailed, RecordRefused):
            if not share.has_lost(partition, tenure):  # else its next owner counts
                await share.hand_over(partition, message.offset, attempts)
            raise
        else:
            await share.acknowledge(partition, message.offset)
        finally:
            await writer.close()

    async def _do(
        self,
        job: "_Job",
        work: Work,
        follower: KeyFollower,
        share: "_Share",
        partition: TopicPartition,
        tenure: int,
        stop: asyncio.Event,
    ) -> Exception | None:
        """Let a thread work on a command until it has ended or must stop.

        Returns:
            The error that the work has ended with; None if it has ended well.

        Raises:
            WorkStopped: the worker stops or has lost the partition.
            KafkaError: this worker is no member of the group; the work has been stopped.
        """
        job.see(job.events, self._cancels)
        working = asyncio.get_running_loop().run_in_executor(None, work, job.received)
        try:
            while not working.done():
                await share.keep_alive()
                if stop.is_set() or share.has_lost(partition, tenure):
                    job.stop()
                try:
                    job.see(await follower.poll(), self._cancels)
                except (KafkaError, OSError) as error:
                    logger.warning("the events of %s cannot be read now: %r", job.command, error)
                await asyncio.wait([working], timeout=_KEEPALIVE_S)
        finally:
            job.stop()
            await asyncio.wait([working])
        failure = working.exception()
        if failure is None or (
            isinstance(failure, Exception) and not isinstance(failure, _NOT_OF_CONTENT)
        ):
            return failure
        raise failure

    async def _set_aside(self, message: Message, error: Exception, writer: CommandWriter) -> None:
        """Write a dead letter about a command that made its work fail.

        Without it, the command would end one worker after the other.
        """
        received = as_consumed(message)
        text = f"{type(error).__name__}: {error}"
        logger.error("a command made its work fail, and is set aside", exc_info=error)
        await writer.publish(dead_letter(received, DeadLetterReason.FAILED, text))


class _Job:
    """A command in progress: what its thread may ask and write."""

    def __init__(
        self,
        command: Record,
        events: Sequence[Record],
        tenant: str | None,
        attempts: Attempts,
        writer: CommandWriter,
    ) -> None:
        self.command = command
        self.events = events
        self._tenant = tenant
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._cancelled = threading.Event()
        self._stopped = threading.Event()
        self.received = ReceivedCommand(
            command,
            events,
            tenant,
            attempts,
            self._cancelled.is_set,
            self._publish,
            self._stopped.is_set,
        )

    def see(self, events: Sequence[Record], cancels: Callable[[Record], bool]) -> None:
        """Note whether an event cancels the command."""
        if any(map(cancels, events)):
            self._cancelled.set()

    def stop(self) -> None:
        """Let the thread write nothing more."""
        self._stopped.set()
        self._writer.stop()

    def _publish(self, event: Event) -> None:
        """Write an event from the command's thread."""
        if self._loop.is_closed():
            raise WorkStopped("this worker has stopped")
        call = self._writer.publish(event, self._tenant)
        try:
            asyncio.run_coroutine_threadsafe(call, self._loop).result()
        except CancelledError as error:  # the worker's loop ends
            raise WorkStopped("this worker stops") from error


class _Share(ConsumerRebalanceListener):
    """The partitions that a worker owns now, and the messages that it has fetched of them."""

    def __init__(self, bootstrap_servers: str, group: str) -> None:
        self.consumer = client.consumer(
            bootstrap_servers,
            group_id=group,
            auto_offset_reset="earliest",
            max_poll_records=1,
            session_timeout_ms=_SESSION_MS,
            partition_assignment_strategy=(ClaimAssignor(self._claim),),
        )
        self._fetched: list[Message] = []
        self._working: TopicPartition | None = None
        self._tenures: dict[TopicPartition, int] = {}
        """How often each partition may have been another worker's."""
        self._generation = _NO_GENERATION
        """The generation of the group that gave this worker its partitions."""
        self._is_rebalancing = False
        self._assigned = asyncio.Event()

    async def next(self) -> Message | None:
        """Return the next command; None if there is none now."""
        if not self._fetched:
            self.consumer.resume(*self.consumer.paused())
            await self._poll(_POLL_MS)
        return self._fetched.pop(0) if self._fetched else None

    async def keep_alive(self) -> None:
        """Poll Kafka without fetching messages."""
        self.consumer.pause(*self.consumer.assignment())
        await self._poll(0)

    async def _poll(self, within_ms: int) -> None:
        found = await self.consumer.getmany(timeout_ms=within_ms)
        for messages in found.values():
            self._fetched += messages

    def begin(self, partition: TopicPartition) -> int:
        """Work on a command of a partition.

        Returns:
            the tenure: a number that changes when another worker may have had the partition.
        """
        self._working = partition
        return self._tenures.setdefault(partition, 0)

    def end(self) -> None:
        """Work on no command."""
        self._working = None

    def has_lost(self, partition: TopicPartition, tenure: int) -> bool:
        """Return whether another worker may have had a partition since a tenure.

        During a rebalance the worker does not know it yet, and goes on.
        """
        return not self._is_rebalancing and not (
            self._owns(partition) and self._tenures[partition] == tenure
        )

    async def has_kept(
        self, partition: TopicPartition, offset: int, attempts: Attempts, tenure: int
    ) -> bool:
        """Ask the group whether this worker has a partition, and has had it since a tenure.

        The group refuses a commit, even of what is committed already, to a worker that is no member
        any more or does not know of a rebalance.
        """
        with suppress(TimeoutError, IllegalStateError):
            async with asyncio.timeout(_REBALANCE_S):
                while not self.has_lost(partition, tenure):
                    assigned = self._assigned
                    try:
                        # The group of a worker that was away may be empty, and take any commit.
                        if self._is_rebalancing or self._generation != self._generation_now():
                            await assigned.wait()
                        else:
                            await self._commit(partition, offset, attempts.text)
                            return True
                    except CommitFailedError:
                        await assigned.wait()
        return False

    def refetch(self, partition: TopicPartition, offset: int) -> None:
        """Fetch a command again if the partition is still this worker's."""
        if self._owns(partition):
            self._forget({partition})
            self.consumer.seek(partition, offset)

    async def acknowledge(self, partition: TopicPartition, offset: int) -> None:
        """Commit a command."""
        await self._commit(partition, offset + 1, "")

    async def hand_over(self, partition: TopicPartition, offset: int, attempts: Attempts) -> None:
        """Commit that the next command of a partition was handed over, if this worker has it."""
        handed_over = attempts._replace(handovers=attempts.handovers + 1)
        try:
            await self._commit(partition, offset, handed_over.text)
        except (KafkaError, OSError) as error:
            logger.info("the command is taken for one of a lost worker: %r", error)

    async def attempts(self, partition: TopicPartition) -> Attempts:
        """Return what became of earlier attempts at the next command of a partition."""
        committed = await self._coordinator().fetch_committed_offsets([partition])
        found = committed.get(partition)
        return Attempts() if found is None else Attempts.parse(found.metadata)

    async def _commit(self, partition: TopicPartition, offset: int, metadata: str) -> None:
        await self.consumer.commit({partition: OffsetAndMetadata(offset, metadata)})

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Forget the messages of partitions that other workers may get."""
        self._forget(revoked)
        self._is_rebalancing = True

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Learn which partitions this worker has kept; aiokafka goes to committed offsets."""
        generation = self._generation_now()
        # In the generation right after the last one, nobody else can have had what is assigned now.
        kept = set(assigned) if generation == self._generation + 1 else set[TopicPartition]()
        for partition in self._tenures.keys() - kept:
            self._tenures[partition] += 1
        self._generation = generation
        self._is_rebalancing = False
        self._assigned.set()
        self._assigned = asyncio.Event()

    def _claim(self) -> Claim | None:
        """Return what this worker works on, for the group."""
        if self._working is None or not self._owns(self._working):
            return None
        return Claim(self._working.topic, self._working.partition, self._generation)

    def _owns(self, partition: TopicPartition) -> bool:
        return partition in self.consumer.assignment()

    def _generation_now(self) -> int:
        generation: int = self._coordinator().generation
        return generation

    def _coordinator(self) -> Any:
        return self.consumer._coordinator  # noqa: SLF001  # there is no other way to a generation

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self._fetched = [
            message
            for message in self._fetched
            if TopicPartition(message.topic, message.partition) not in partitions
        ]
