"""A worker: the member of a group that runs a stream task for each of its partition numbers.

The group gives the same partition number of all topics to the same worker. When it takes numbers
away, their tasks finish the transaction that they are in and stop; when it gives numbers, new tasks
take them over. Each assignment has a generation; nothing of an earlier one has an effect.

A worker exits, with the reason, where it cannot do its work: a task that does not recover, a topic
with more partitions than its states are partitioned by, or another worker with its name.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol

from kafka_io.errors import OffsetLost, Unread
from kafka_io.group import FetchedRecords, Listener
from schemas.topics import Topic, TopicPartition
from stream_processors.errors import NameTaken, RecoveryStuck, TopicGrown
from stream_processors.growths import grown_text, partitions_of
from stream_processors.stream_task import StreamTask

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_IDLE_POLL_S = 1.0
"""How long a fetch lasts while no message waits. A new one ends it; without one, this is how often
tasks learn of markers of transactions, which move the position of a partition."""
_FINISH_S = 5.0
"""How long a task may take to finish its transaction before its number goes to another worker."""
_LEADERS_S = 2.0
RECOVERY_S = 30.0
"""How long a recovery may take without progress."""


LeaderEpochs = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
"""Returns the leader epochs of partitions, without those that have no leader."""


class Consumer(Protocol):
    """The group's consumer."""

    async def join(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group; the listener hears what it assigns."""
        ...

    async def fetch(
        self, partitions: Sequence[TopicPartition], within_s: float
    ) -> Mapping[TopicPartition, FetchedRecords]:
        """Return the next messages of some partitions, and how far each has been read.

        Raises:
            OffsetLost: the log does not have a position any more.
        """
        ...


class _Running(NamedTuple):
    task: StreamTask
    running: asyncio.Task[None]


class Worker:
    """A member of the group, and its tasks."""

    def __init__(
        self,
        consumer: Consumer,
        inputs: Mapping[str, Topic],
        count: int,
        make_task: Callable[[int], StreamTask],
        leader_epochs: LeaderEpochs,
        when_ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Make a worker that has not joined yet.

        Args:
            consumer: the group's consumer.
            inputs: the topics to read, by their names in Kafka.
            count: the partitions that each topic of portfolios has.
            make_task: makes the task of a partition number.
            leader_epochs: asks Kafka for the leader epochs of partitions.
            when_ready: called when all tasks of an assignment have recovered.
        """
        self._consumer = consumer
        self._inputs = inputs
        self._count = count
        self._make_task = make_task
        self._leader_epochs = leader_epochs
        self._when_ready = when_ready
        self._tasks: dict[int, _Running] = {}
        self._generation = 0
        self._changed = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group = asyncio.TaskGroup()

    @property
    def numbers(self) -> frozenset[int]:
        """The partition numbers of this worker."""
        return frozenset(self._tasks)

    @property
    def committed(self) -> Mapping[TopicPartition, int]:
        """The offset after the last record of each partition that is done; any thread may ask."""
        tasks = [task for task, _ in list(self._tasks.values())]
        return {where: offset for task in tasks for where, offset in task.committed.items()}

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            TopicGrown: a topic has more partitions than its states are partitioned by.
            NameTaken: another worker has the same name.
            RecoveryStuck: a task has not recovered in time.
            Unread: the group's consumer cannot go on.
            Exception: a processor failed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self._consumer.join(list(self._inputs), self)
                group.create_task(self._fetch())
                group.create_task(self._watch_leaders())
                await self._failed
        except ExceptionGroup as errors:  # of which each would have ended the worker
            raise errors.exceptions[0] from None
        finally:
            self._tasks.clear()

    async def stop(self) -> None:
        """Finish the transactions that are under way, and stop all tasks."""
        self._generation += 1
        await self._stop(self.numbers)

    async def revoked(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop the tasks of these partition numbers."""
        self._generation += 1
        await self._stop(frozenset(where.partition for where in partitions))

    async def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Start a task for each partition number."""
        self._generation += 1
        numbers = {where.partition for where in partitions}
        for where in sorted(partitions):
            topic = self._inputs[where.topic]
            if where.partition >= partitions_of(topic, self._count):
                self._fail(TopicGrown(grown_text(where.topic, topic, self._count)))
                return
        await self._stop(self.numbers - numbers)
        started = []
        for number in sorted(numbers - self.numbers):
            task = self._make_task(number)
            running = self._group.create_task(self._guard(task))
            self._tasks[number] = _Running(task, running)
            started.append(task)
        self._group.create_task(self._watch(self._generation, started))
        self._changed.set()

    def replaced(self) -> None:
        """End the worker, since another one has its name."""
        self._fail(
            NameTaken(
                "another worker has this one's name, and they replace each other; give each worker "
                "a TAPEWIRE_WORKER_ID of its own, and each system a TAPEWIRE_TOPIC_PREFIX"
            )
        )

    def _fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _guard(self, task: StreamTask) -> None:
        try:
            await task.run()
        except Exception as error:
            logger.exception("partition number %d failed; this worker stops", task.number)
            self._fail(error)

    async def _watch(self, generation: int, tasks: Sequence[StreamTask]) -> None:
        """Say when all tasks of a generation have recovered, or fail."""
        for task in tasks:
            try:
                async with asyncio.timeout(RECOVERY_S):
                    await task.recovered.wait()
            except TimeoutError:
                if generation == self._generation:
                    self._fail(
                        RecoveryStuck(
                            f"partition number {task.number} has not recovered within "
                            f"{RECOVERY_S:g} s; is Kafka away?"
                        )
                    )
                return
        if generation == self._generation:
            self._changed.set()
            self._when_ready()

    async def _stop(self, numbers: Iterable[int]) -> None:
        stopped = [self._tasks.pop(number) for number in numbers if number in self._tasks]
        for task, running in stopped:
            task.stop()
            if not task.is_busy:
                running.cancel()
        if not stopped:
            return
        _, late = await asyncio.wait([running for _, running in stopped], timeout=_FINISH_S)
        for running in late:
            running.cancel()
        if late:
            await asyncio.wait(late)

    async def _watch_leaders(self) -> None:
        """Let the tasks know of new leaders, which may not have all that was processed."""
        while True:
            await asyncio.sleep(_LEADERS_S)
            tasks = [task for task, _ in self._tasks.values() if task.is_fetching]
            partitions = [where for task in tasks for where in task.partitions]
            if not partitions:  # the worker stands by
                continue
            try:
                epochs = await self._leader_epochs(partitions)
                for task in tasks:
                    if task.is_fetching:
                        await task.see_leaders(epochs)
            except (Unread, TimeoutError) as error:
                logger.info("the leaders of partitions are not known now: %s", error)

    async def _fetch(self) -> None:
        while True:
            tasks = {number: task for number, (task, _) in self._tasks.items() if task.has_room}
            if not tasks:
                self._changed.clear()
                await self._consumer.fetch([], 0)  # keeps the membership; fails if it has ended
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._changed.wait()
                continue
            starts = {number: (task, task.starts) for number, task in tasks.items()}
            partitions = [where for task in tasks.values() for where in task.partitions]
            is_idle = len(tasks) == len(self._tasks) and all(t.is_idle for t in tasks.values())
            try:
                batches = await self._consumer.fetch(
                    partitions, _IDLE_POLL_S if is_idle else _POLL_S
                )
            except OffsetLost as error:
                logger.warning("%s", error)
                for number in {number for _, number in error.partitions} & tasks.keys():
                    tasks[number].restart(str(error))
                continue
            for where, fetched in batches.items():
                self._pass_on(where, fetched, starts[where.partition])

    def _pass_on(self, where: TopicPartition, fetched: FetchedRecords, start: object) -> None:
        """Give fetched messages to their task, if they were fetched for its present start.

        The fetch may have begun before the task was replaced or started again. Nobody can tell then
        from which offset the messages were fetched, so the task fetches them again.
        """
        running = self._tasks.get(where.partition)
        if running is None or not running.task.is_fetching:
            return
        if (running.task, running.task.starts) == start:
            running.task.add(where, fetched.records, fetched.next_offset)
        else:
            running.task.refetch()
