"""Commands from Kafka, shared by a group of workers: exactly one of them does each command.

A command is acknowledged when its work has ended, and skipped if its events show that it has ended
before. Work takes longer than Kafka waits for a poll, so the worker keeps polling meanwhile, and
pauses partitions of which it has fetched enough.

A worker may do several commands at once, of one partition as well, so one that takes long holds up
no other one. The offset that it commits is that of the oldest command that is not done; the
metadata of the offset says which later ones are (`kafka_io.command_window`). The tenants take
turns.

A worker keeps the partitions of its commands when the group divides the partitions anew. One that
loses a partition nonetheless, since the group took it for lost, stops the work; so does one that
is asked to stop. The partition's new owner starts the work again. It learns from the committed
offset's metadata how often each command was begun, and how often it was handed over by workers that
were asked to stop. A worker commits this before it decodes the command, so it counts even if the
command kills the worker at once. A process that dies takes all of its commands along, so a command
on which two workers were lost is done while this one does no other.

A worker that has lost a partition and does not know it, since it was paused, cannot write: see
`kafka_io.command_writer`.
"""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata

from kafka_io import client, tracing
from kafka_io.assignor import Claim, ClaimAssignor
from kafka_io.clock import append_time_ms, now_us
from kafka_io.command_window import Attempts, CommandWindow
from kafka_io.command_writer import CommandWriter
from kafka_io.counts import COUNTS, CommandOutcome
from kafka_io.dead_letters import dead_letter, log_time_us
from kafka_io.errors import (
    AccessDenied,
    ProducerError,
    RecordRefused,
    TransactionFailed,
    WorkStopped,
)
from kafka_io.idle_fetches import wait_longer_when_idle
from kafka_io.log_lines import about
from kafka_io.reader import KeyFollower, as_consumed, follow_key
from kafka_io.refusals import denial_of
from kafka_io.settings import ProducerSettings
from kafka_io.software import member_client_id
from kafka_io.solitude import Solitude
from schemas.errors import Refused
from schemas.events import DeadLetter, DeadLetterReason, Event, Record
from schemas.gate import admit
from schemas.headers import fault_of_tenant, tenant_in
from schemas.keys import fault_of_key
from schemas.topics import Topic

logger = logging.getLogger(__name__)

_POLL_MS = 5_000
"""How long a poll waits for commands. It ends early when the worker must stop."""
_FULL_POLL_MS = 500
"""How long it waits beside a partition of which there are enough, which may have room meanwhile."""
_LOOK_S = 0.5
"""How often a worker looks whether a command must stop, and how long it waits for room at most."""
_RECORDS_MAX = 100
"""The most commands of a poll, for a worker that does several at once."""
_QUEUED_A_COMMAND = 3
"""The commands of a partition that wait in a worker, for each that it does at once beyond one."""
_FREE_OF_TENANTS = 4
"""A tenant leaves others the turns that remain if all are divided by this."""
_READS_AT_ONCE = 8
"""How many commands' earlier events are read at once."""
_SESSION_MS = 10_000
_BEFORE_MS = 60_000
"""The first event of a command may be written a little before the command."""
_REBALANCE_S = 60.0
_RETRY_S = 1.0
_NOT_OF_CONTENT = (MemoryError, OSError, KafkaError, ProducerError)
"""Errors that another command would meet as well."""
_NO_GENERATION = -2
"""Right before no generation of a group."""

_ATTEMPTS_MAX = 1_000_000
"""The most attempts at a command that are believed."""
_LOST_MAX = 3
"""The lost workers after which a command is given up. Its work writes the end; a command of which
even that has killed a worker is set aside unread."""
Message = ConsumerRecord[bytes, bytes]


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


def next_attempt(begun: Iterable[int]) -> int:
    """Return the number of the next attempt at a command.

    Args:
        begun: the numbers of attempts in the events of the command. Others may have written them,
            so those that no worker reaches do not count.
    """
    return 1 + max((attempt for attempt in begun if attempt <= _ATTEMPTS_MAX), default=0)


Work = Callable[[ReceivedCommand], None]
"""Does a command in a thread, until it has ended or a call of `publish` raises `WorkStopped`."""


class CommandGroup:
    """A worker's share of a topic of commands."""

    def __init__(
        self,
        commands: Topic,
        events: Topic,
        settings: ProducerSettings,
        cancels: Callable[[Record], bool] | None = None,
        at_once: int = 1,
    ) -> None:
        """Share commands with all workers of the same topic.

        Args:
            commands: the topic of the commands.
            events: the topic of the events that the work writes, with the same keys.
            settings: where Kafka is.
            cancels: whether an event cancels its command; None if none does.
            at_once: how many commands are done at once, each in a thread.
        """
        self._cancels = cancels
        self._at_once = at_once
        self._commands = commands
        self._topic = settings.topic_prefix + commands.name
        self._events = events
        self._settings = settings
        self._group = f"{settings.topic_prefix}tapewire-{commands.name}"

    async def run(self, work: Work, stop: asyncio.Event) -> None:
        """Do commands until `stop` is set; then stop those in progress.

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
        share = _Share(self._settings, self._group, self._at_once)
        consumer = share.consumer
        try:
            consumer.subscribe([self._topic], listener=share)
            await consumer.start()
            wait_longer_when_idle(consumer)
            self._begin_counts(share)
            with ThreadPoolExecutor(self._at_once, "commands") as threads:
                session = _Session(self, work, share, stop, threads)
                await session.run()
        finally:
            await client.stop(consumer)

    def _begin_counts(self, share: "_Share") -> None:
        """Show what is counted from now on: a counter that begins at 1 has no increase."""
        COUNTS.lags[self._topic] = share.lags
        COUNTS.running[self._topic] += 0
        for outcome in CommandOutcome:
            COUNTS.commands[self._topic, outcome] += 0
        for reason in DeadLetterReason:
            COUNTS.dead_letters[self._topic, reason] += 0

    @property
    def may_cancel(self) -> bool:
        """Whether events may cancel a command."""
        return self._cancels is not None

    def look(self, job: "_Job", events: Sequence[Record]) -> None:
        """Note whether an event cancels a command in progress."""
        if self._cancels is not None and any(map(self._cancels, events)):
            job.cancel()

    def follow(self, message: Message) -> AbstractAsyncContextManager[KeyFollower]:
        """Follow the events of a message's command."""
        # A time that lies ahead is the producer's mistake: the events of the command are older.
        sent_ms = min(append_time_ms(message.timestamp), now_us() // 1000)
        since_ms = max(0, sent_ms - _BEFORE_MS)
        return follow_key(self._events, message.key or b"", since_ms, self._settings)

    def admit(self, message: Message, earlier: Attempts) -> Record | DeadLetter:
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


class _Session:
    """The commands that a worker does while it is a member of the group."""

    def __init__(
        self,
        group: CommandGroup,
        work: Work,
        share: "_Share",
        stop: asyncio.Event,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._group = group
        self._work = work
        self._share = share
        self._stop = stop
        self._threads = threads
        self._solitude = Solitude()
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)
        self._failure: Exception | None = None
        """The first error that ended a command without settling it."""

    @property
    def _is_over(self) -> bool:
        return self._failure is not None or self._stop.is_set()

    async def run(self) -> None:
        """Do commands until the worker must stop, or Kafka fails.

        Raises:
            KafkaError: and what else ended a command without settling it.
        """
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._end_poll_at_stop())
            try:
                while not self._is_over:
                    await self._share.poll()
                    self._begin(tasks)
            except (KafkaError, OSError) as error:  # the commands in progress stop first
                self._failure = self._failure or error
            finally:
                stopping.cancel()
        if self._failure is not None:
            raise self._failure

    async def _end_poll_at_stop(self) -> None:
        await self._stop.wait()
        self._share.end_poll()

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        """Begin as many commands as may be in progress."""
        while not self._is_over and (command := self._share.take()) is not None:
            tasks.create_task(self._handle(*command, tasks))

    async def _handle(self, part: "_Part", message: Message, tasks: asyncio.TaskGroup) -> None:
        """Do a command, alone in this process if it may be what has ended two workers."""
        lost = part.window.attempts(message.offset).lost
        try:
            async with self._solitude.entered(is_alone=lost >= _LOST_MAX - 1):
                if not self._is_over and not self._share.has_lost(part):
                    await self._attempt(part, message)
        except (KafkaError, ProducerError, OSError) as error:
            self._failure = self._failure or error
            self._share.end_poll()
        finally:
            self._share.release(part, message)
            self._begin(tasks)
            if part.running == 0:
                await part.writer.close()

    async def _attempt(self, part: "_Part", message: Message) -> None:
        """Do a command, unless it has ended before, and acknowledge it."""
        share, window, offset = self._share, part.window, message.offset
        earlier = window.begin(offset)
        part.touch()
        outcome = CommandOutcome.STOPPED
        COUNTS.running[message.topic] += 1
        try:
            await part.writer.open()  # before reading, so that nobody else writes after it
            await share.keep(part)
            with tracing.processing(message.topic, message.partition, offset, message.headers):
                outcome = await self._settle(part, message, earlier)
        except WorkStopped as error:
            logger.info(
                "stopped in the middle of offset %d: %s",
                *(offset, error),
                extra=about(message.topic, message.partition, offset),
            )
            if self._is_over:
                await self._hand_over(part, offset)
            else:
                share.drop(part)
        except (KafkaError, OSError, TransactionFailed, RecordRefused):
            await self._hand_over(part, offset)
            raise
        else:
            window.finish(offset)
            part.touch()
            await share.has_kept(part)  # else the events or the dead letter of the command tell
        finally:
            COUNTS.running[message.topic] -= 1
            COUNTS.commands[message.topic, outcome] += 1

    async def _hand_over(self, part: "_Part", offset: int) -> None:
        """Commit that a command is handed over, if this worker has it."""
        if self._share.has_lost(part):
            return  # its next owner counts
        part.window.hand_over(offset)
        part.touch()
        try:
            await self._share.commit(part)
        except (KafkaError, OSError) as error:
            logger.info("the command is taken for one of a lost worker: %r", error)

    async def _settle(self, part: "_Part", message: Message, earlier: Attempts) -> CommandOutcome:
        """Do a command, or write a dead letter about it."""
        group, writer = self._group, part.writer
        command = group.admit(message, earlier)
        if isinstance(command, DeadLetter):
            await self._bury(command, writer)
            return CommandOutcome.SET_ASIDE
        async with AsyncExitStack() as following:
            async with self._reads:
                follower = await following.enter_async_context(group.follow(message))
                events = await follower.poll()
            # Else the worker that ended it was lost before it could acknowledge the command.
            if any(getattr(event, "ends", False) for event in events):
                return CommandOutcome.DONE
            if not group.may_cancel:
                await following.aclose()
            job = _Job(command, events, tenant_in(message.headers), earlier, writer)
            failure = await self._do(job, follower, part)
        if failure is None:
            return CommandOutcome.DONE
        await self._set_aside(message, failure, writer)
        return CommandOutcome.SET_ASIDE

    async def _do(self, job: "_Job", follower: KeyFollower, part: "_Part") -> Exception | None:
        """Let a thread work on a command until it has ended or must stop.

        Returns:
            The error that the work has ended with; None if it has ended well.

        Raises:
            WorkStopped: the worker stops or has lost the partition.
            KafkaError: the work met it.
        """
        group = self._group
        group.look(job, job.events)
        loop = asyncio.get_running_loop()
        # The events that the thread writes follow from the command's span.
        context = copy_context()
        working = loop.run_in_executor(self._threads, lambda: context.run(self._work, job.received))
        try:
            while not working.done():
                if self._is_over or self._share.has_lost(part):
                    job.stop()
                    part.writer.stop()
                elif group.may_cancel:
                    try:
                        group.look(job, await follower.poll())
                    except (KafkaError, OSError) as error:
                        logger.warning("the events of %s cannot be read: %r", job.command, error)
                await asyncio.wait([working], timeout=_LOOK_S)
        finally:
            job.stop()
            if not working.done():
                part.writer.stop()
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
        logger.error(
            "a command made its work fail, and is set aside",
            exc_info=error,
            extra=about(message.topic, message.partition, message.offset),
        )
        await self._bury(dead_letter(received, DeadLetterReason.FAILED, text), writer)

    @staticmethod
    async def _bury(letter: DeadLetter, writer: CommandWriter) -> None:
        """Write a dead letter, and count it."""
        await writer.publish(letter)
        COUNTS.dead_letters[letter.topic, letter.reason] += 1


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

    def cancel(self) -> None:
        """Note that a client has cancelled the command."""
        self._cancelled.set()

    def stop(self) -> None:
        """Let the thread write nothing more."""
        self._stopped.set()

    def _publish(self, event: Event) -> None:
        """Write an event from the command's thread."""
        if self._loop.is_closed() or self._stopped.is_set():
            raise WorkStopped("this worker stops, or has lost the command")
        call = self._writer.publish(event, self._tenant)
        try:
            asyncio.run_coroutine_threadsafe(call, self._loop).result()
        except CancelledError as error:  # the worker's loop ends
            raise WorkStopped("this worker stops") from error


class _Part:
    """A partition, as long as no other worker can have had it."""

    def __init__(self, partition: TopicPartition, window: CommandWindow) -> None:
        self.partition = partition
        self.window = window
        self.queued = 0
        """The fetched commands that are not begun."""
        self.running = 0
        self.writer: CommandWriter
        self.changes = 0
        """How often the window has changed."""
        self.committed = 0
        """The changes that Kafka knows."""
        self.committing = asyncio.Lock()

    def touch(self) -> None:
        """Note that the window has changed, and must be committed."""
        self.changes += 1


class _Share(ConsumerRebalanceListener):
    """The partitions that a worker owns now, and the commands that it has fetched of them."""

    def __init__(self, settings: ProducerSettings, group: str, at_once: int) -> None:
        self.consumer = client.consumer(
            settings.bootstrap_servers,
            client_id=member_client_id(),
            group_id=group,
            auto_offset_reset="earliest",
            max_poll_records=1 if at_once == 1 else _RECORDS_MAX,
            session_timeout_ms=_SESSION_MS,
            partition_assignment_strategy=(ClaimAssignor(self._claims),),
        )
        self._settings = settings
        self._group = group
        self._at_once = at_once
        self._queued_max = 1 + _QUEUED_A_COMMAND * (at_once - 1)
        self._tenant_max = at_once - at_once // _FREE_OF_TENANTS
        self._parts: dict[TopicPartition, _Part] = {}
        self._queues: dict[str | None, deque[tuple[_Part, Message]]] = {}
        """The fetched commands of each tenant that are not begun."""
        self._running: Counter[str | None] = Counter()
        self._has_room = asyncio.Event()
        self._polling: asyncio.Timeout | None = None
        """Ends the present poll; None between two polls."""
        self._rebalances = 0
        self._generation = _NO_GENERATION
        """The generation of the group that gave this worker its partitions."""
        self._is_rebalancing = False
        self._assigned = asyncio.Event()

    def lags(self) -> Mapping[tuple[str, int], int]:
        """Return how many commands of each partition are not done; any thread may ask."""
        parts = dict(self._parts)
        ends = {where: self.consumer.highwater(where) for where in self.consumer.assignment()}
        return {
            (where.topic, where.partition): max(0, (end or 0) - parts[where].window.oldest)
            if where in parts
            else 0  # nothing was fetched of it since it was assigned
            for where, end in ends.items()
        }

    async def poll(self) -> None:
        """Fetch commands for some time, but not of partitions of which there are enough."""
        owned = self.consumer.assignment()
        full = {where for where in owned if self._is_full(where)}
        self.consumer.pause(*full)
        self.consumer.resume(*(self.consumer.paused() - full))
        if owned and full == owned:
            self._has_room.clear()
            await self._take_over(await self.consumer.getmany(timeout_ms=0))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._has_room.wait()
        else:
            found: Mapping[TopicPartition, Sequence[Message]] = {}
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(None) as self._polling:
                        found = await self.consumer.getmany(
                            timeout_ms=_FULL_POLL_MS if full else _POLL_MS
                        )
            finally:
                self._polling = None
            await self._take_over(found)

    def end_poll(self) -> None:
        """End the present poll, if any, before its time."""
        if self._polling is not None and not self._polling.expired():
            self._polling.reschedule(0)

    async def _take_over(self, found: Mapping[TopicPartition, Sequence[Message]]) -> None:
        """Queue fetched commands."""
        rebalances = self._rebalances
        for partition, messages in found.items():
            part = self._parts.get(partition) or await self._load(partition)
            if rebalances != self._rebalances or not self._owns(partition):
                return  # the present owner of the partitions fetches the commands again
            self._parts[partition] = part
            for message in messages:
                if part.window.fetched(message.offset):
                    part.queued += 1
                    queue = self._queues.setdefault(tenant_in(message.headers), deque())
                    queue.append((part, message))

    async def _load(self, partition: TopicPartition) -> _Part:
        """Return a partition as its last worker has left it."""
        # That of the fetch that has brought commands. A request would wait for the fetch under way.
        end = self.consumer.last_stable_offset(partition)
        committed = await self._coordinator().fetch_committed_offsets([partition])
        found = committed.get(partition)
        if found is not None and end is not None and found.offset > end:
            logger.error(
                "%s/%d has lost its commands from %d to %d; it is read from its beginning",
                *(*partition, end, found.offset),
            )
            found = None
        window = CommandWindow(0) if found is None else CommandWindow(found.offset, found.metadata)
        part = _Part(partition, window)
        part.writer = CommandWriter(
            self._settings,
            f"{self._group}-{partition.partition}",
            self._group,
            partial(self.has_kept, part, is_anew=True),
        )
        return part

    def take(self) -> tuple[_Part, Message] | None:
        """Return the command to begin next; None if there is none, or enough are in progress.

        The tenant with the fewest commands in progress is next. One tenant never takes all turns.
        """
        if self._running.total() >= self._at_once:
            return None
        tenants = [
            tenant
            for tenant in self._queues
            if tenant is None or self._running[tenant] < self._tenant_max
        ]
        if not tenants:
            return None
        tenant = min(tenants, key=self._running.__getitem__)
        part, message = self._queues[tenant].popleft()
        self._prune()
        self._running[tenant] += 1
        part.window.take(message.offset)
        part.queued -= 1
        part.running += 1
        return part, message

    def release(self, part: _Part, message: Message) -> None:
        """Note that a command is no longer in progress."""
        part.running -= 1
        tenant = tenant_in(message.headers)
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        self._has_room.set()

    def has_lost(self, part: _Part) -> bool:
        """Return whether another worker may have had a partition.

        During a rebalance the worker does not know it yet, and goes on.
        """
        if self._parts.get(part.partition) is not part:
            return True
        return not self._is_rebalancing and not self._owns(part.partition)

    async def has_kept(self, part: _Part, *, is_anew: bool = False) -> bool:
        """Commit what became of a partition's commands, if this worker has had it all the time.

        The group refuses a commit, even of what is committed already, to a worker that is no member
        any more or does not know of a rebalance.

        Args:
            part: the partition.
            is_anew: whether to ask the group even if there is nothing to commit.
        """
        if is_anew:
            part.touch()
        changes = part.changes
        with suppress(TimeoutError, IllegalStateError):
            async with asyncio.timeout(_REBALANCE_S):
                while not self.has_lost(part):
                    assigned = self._assigned
                    try:
                        # The group of a worker that was away may be empty, and take any commit.
                        if self._is_rebalancing or self._generation != self._generation_now():
                            await assigned.wait()
                            continue
                        await self.commit(part, changes)
                    except CommitFailedError:
                        await assigned.wait()
                    else:
                        return True
        return False

    async def keep(self, part: _Part) -> None:
        """Commit what became of a partition's commands.

        Raises:
            WorkStopped: another worker may have had the partition.
        """
        if not await self.has_kept(part):
            raise WorkStopped("another worker has the command")

    async def commit(self, part: _Part, changes: int | None = None) -> None:
        """Commit what became of a partition's commands.

        Args:
            part: the partition.
            changes: the changes to commit, and later ones; None for all.
        """
        changes = part.changes if changes is None else changes
        async with part.committing:
            if part.committed < changes:
                known = part.changes
                offset, metadata = part.window.committable
                await self.consumer.commit({part.partition: OffsetAndMetadata(offset, metadata)})
                part.committed = known

    def drop(self, part: _Part) -> None:
        """Begin the commands of a partition again, if it is still this worker's."""
        if self._parts.get(part.partition) is part:
            del self._parts[part.partition]
            self._forget({part.partition})
            if self._owns(part.partition):
                self.consumer.seek(part.partition, part.window.oldest)

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Forget the commands of partitions that other workers may get."""
        self._rebalances += 1
        self._forget(revoked)
        self._is_rebalancing = True

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Learn which partitions this worker has kept; aiokafka goes to committed offsets."""
        self._rebalances += 1
        generation = self._generation_now()
        # In the generation right after the last one, nobody else can have had what is assigned now.
        kept = set(assigned) if generation == self._generation + 1 else set[TopicPartition]()
        self._forget(self._parts.keys())  # the commands are fetched again
        for partition in self._parts.keys() - kept:
            del self._parts[partition]
        self._generation = generation
        self._is_rebalancing = False
        self._assigned.set()
        self._assigned = asyncio.Event()

    def _claims(self) -> Sequence[Claim]:
        """Return what this worker works on, for the group."""
        return [
            Claim(where.topic, where.partition, self._generation)
            for where, part in self._parts.items()
            if part.running and self._owns(where)
        ]

    def _is_full(self, partition: TopicPartition) -> bool:
        part = self._parts.get(partition)
        return part is not None and (part.queued >= self._queued_max or part.window.is_full)

    def _owns(self, partition: TopicPartition) -> bool:
        return partition in self.consumer.assignment()

    def _generation_now(self) -> int:
        generation: int = self._coordinator().generation
        return generation

    def _coordinator(self) -> Any:
        return self.consumer._coordinator  # noqa: SLF001  # there is no other way to a generation

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        """Remove the commands of partitions from the queues."""
        for tenant, queue in self._queues.items():
            self._queues[tenant] = deque(
                (part, message) for part, message in queue if part.partition not in partitions
            )
        self._prune()
        for partition in partitions:
            if (part := self._parts.get(partition)) is not None:
                part.queued = 0

    def _prune(self) -> None:
        """Remove queues that are empty."""
        self._queues = {tenant: queue for tenant, queue in self._queues.items() if queue}
