"""Grow the topics of portfolios: more partitions, and each portfolio's state where it belongs then.

    begun ──▶ partitions added ──▶ settled ──▶ number 0 moved ──▶ ... ──▶ done

All processors are stopped meanwhile; producers and edges keep running. When the partitions are
added, each producer learns of them at a time of its own. So this process reads the earlier
partition numbers as a worker would, with the states as they are, until all producers know the new
partitions and their earlier records are processed. Then it moves the states that belong to new
partitions, each number in one transaction with a row that says so and from which offsets on the new
count holds. The new partitions are read by the workers that start afterwards. So each portfolio's
records are processed in the order in which its producer has written them.

Each step is in `topic.growths` before the next one begins, or changes nothing when it is repeated.
So the command can be run again after a crash at any point. `stream_processors.growths` decides
where a record belongs.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from kafka_io.clock import now_us
from kafka_io.group import AssignedConsumer
from kafka_io.operators import operator
from kafka_io.publisher import Publisher
from kafka_io.reader import OffsetRange, read_offsets, read_rows
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.transactions import OutgoingRecord
from schemas.events import PortfolioState, TopicGrowth, TopicPosition
from schemas.topics import PROCESSOR_POSITIONS, RISK_STATE, TOPIC_GROWTHS, TopicPartition
from stream_processors.errors import GrowthRefused
from stream_processors.growths import (
    GROWING,
    Growths,
    copied_records,
    moves_of,
    moving_records,
    partitions_of,
)
from stream_processors.kafka_adapter import (
    SESSION_TIMEOUT_S,
    TaskKafka,
    check_keys,
    read_growths,
)
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Round
from stream_processors.settings import ProcessorSettings
from stream_processors.stream_task import Recovered, resolve_start
from stream_processors.tasks import Tasks, processors_of
from stream_processors.windowing.tallies import gauge_tally
from stream_processors.worker import Worker

Say = Callable[[str], None]

_STOPPED_WITHIN_S = SESSION_TIMEOUT_S + 5.0
"""How long the group may still list members that have been stopped."""
_LEADERS_S = 30.0
_LOOK_EVERY_S = 0.5

_INPUTS = tuple(topic for topic in GROWING if topic not in (RISK_STATE, PROCESSOR_POSITIONS))
_NO_PORTFOLIOS: Mapping[str, float] = {"portfolios": 0, "portfolios_over_limit": 0}


async def grow(settings: ProcessorSettings, new_count: int, *, settle_s: float, say: Say) -> None:
    """Grow the topics of portfolios, or finish a growth that was interrupted.

    Args:
        settings: those of the processors.
        new_count: the partitions that each topic will have; a multiple of those that it has.
        settle_s: how long producers may take to learn of new partitions.
        say: prints a line.

    Raises:
        GrowthRefused: processors are running, or the topics cannot have so many partitions.
        ProducerError, TimeoutError: Kafka does not answer; run it again.
        WorkerError: the records before the growth could not be processed; run it again.
    """
    growing = _Growing(settings, new_count, settle_s, say)
    await growing.run()


def plan(growths: Growths, new_count: int) -> TopicGrowth | None:
    """Return the growth to begin or to finish; None if the topics have grown already.

    Raises:
        GrowthRefused: another growth is unfinished, or the count is no multiple of the present one.
    """
    unfinished = growths.unfinished
    if unfinished is not None and unfinished.new_count != new_count:
        raise GrowthRefused(
            f"the growth to {unfinished.new_count} partitions is not finished; run "
            f"`tapewire topics grow {unfinished.new_count}` first"
        )
    if unfinished is not None:
        return unfinished
    if new_count == growths.count:
        return None
    if new_count < growths.count or new_count % growths.count:
        raise GrowthRefused(
            f"{new_count} is not a multiple of {growths.count}, the partitions that the topics of "
            f"portfolios have; give a multiple, as in `tapewire topics grow {2 * growths.count}`"
        )
    return TopicGrowth(old_count=growths.count, new_count=new_count, event_time_us=now_us())


def check_counts(found: Mapping[str, int], growths: Growths, new_count: int) -> None:
    """Check that the topics have partitions by whose counts their keys can be followed.

    Args:
        found: the partitions of each topic, by its full name.
        growths: the growths so far.
        new_count: the partitions that each topic will have.

    Raises:
        GrowthRefused: a topic has other partitions than before or after a growth.
    """
    counts = {growths.count, new_count, *(growth.old_count for growth in growths.done)}
    for name, count in found.items():
        if count in counts:
            continue
        if count > growths.count and count % growths.count == 0:
            raise GrowthRefused(
                f"{name} has {count} partitions already; run `tapewire topics grow {count}` first"
            )
        raise GrowthRefused(
            f"{name} has {count} partitions, which is not a multiple of {growths.count}: its keys "
            "have changed their partitions in a way that cannot be followed; move its data to a "
            "new topic"
        )


class _Growing:
    """One run of the command."""

    def __init__(
        self, settings: ProcessorSettings, new_count: int, settle_s: float, say: Say
    ) -> None:
        self._settings = settings
        self._new_count = new_count
        self._settle_s = settle_s
        self._say = say
        self._group = f"{settings.topic_prefix}tapewire"
        self._admin = TopicAdmin(settings.bootstrap_servers)
        self._clients = ProducerSettings(
            bootstrap_servers=settings.bootstrap_servers, topic_prefix=settings.topic_prefix
        )
        self._names = [settings.topic_prefix + topic.name for topic in GROWING]

    async def run(self) -> None:
        """Grow the topics."""
        settings = self._settings
        growths = await read_growths(settings.bootstrap_servers, settings.topic_prefix)
        growth = plan(growths, self._new_count)
        await self._check_that_processors_are_stopped()
        check_counts(await self._counts(), growths, self._new_count)
        if growth is None:
            await self._add_partitions()
            self._say(f"the topics of portfolios have {self._new_count} partitions")
            return
        if growths.unfinished is None:
            await self._check_states(growth)
            await self._write(growth)
        self._say(
            f"the topics of portfolios grow from {growth.old_count} to {growth.new_count} "
            "partitions"
        )
        await self._add_partitions()
        numbers = [n for n in range(growth.old_count) if not growths.has_moved(n)]
        async with self._old_tasks(growth.old_count, numbers) as kafka:
            for number in numbers:
                await self._move(kafka, growth, number)
        await self._write(replace(growth, is_done=True))
        self._say("done; start the processors again")

    async def _check_that_processors_are_stopped(self) -> None:
        """Wait for the group to be empty.

        Raises:
            GrowthRefused: it has members.
        """
        deadline_s = _now_s() + _STOPPED_WITHIN_S
        while members := await asyncio.to_thread(self._admin.members_of, self._group):
            if _now_s() > deadline_s:
                raise GrowthRefused(
                    f"processors are running: {', '.join(sorted(members))}; stop all of them, and "
                    "run this again"
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _counts(self) -> Mapping[str, int]:
        """Return the partitions of each topic.

        Raises:
            GrowthRefused: a topic does not exist.
        """
        needed = [*self._names, self._settings.topic_prefix + TOPIC_GROWTHS.name]
        found = await asyncio.to_thread(self._admin.describe, needed)
        for name in needed:
            if name not in found:
                raise GrowthRefused(f"there is no topic {name}; `tapewire topics create` makes it")
        return {name: found[name].partitions for name in self._names}

    async def _check_states(self, growth: TopicGrowth) -> None:
        """Check that each state is where Kafka's partitioner puts it, and has a key of today."""
        states = {
            self._settings.topic_prefix + topic.name: topic
            for processor in processors_of(self._settings)
            for topic in processor.states
        }
        for number in range(growth.old_count):
            present = {
                name: topic
                for name, topic in states.items()
                if number < partitions_of(topic, growth.old_count)
            }
            rows = await read_rows(present, number, self._clients)
            check_keys(rows)  # else neither this command nor `topics rekey` could finish
            moves_of(rows[self._settings.topic_prefix + RISK_STATE.name], number, growth)

    async def _write(self, growth: TopicGrowth) -> None:
        async with Publisher(self._clients) as publisher:
            await publisher.publish(growth, origin=operator())

    async def _add_partitions(self) -> None:
        """Add the partitions that are missing, and wait until each has a leader."""
        counts = await self._counts()
        missing = [name for name in self._names if counts[name] < self._new_count]
        await asyncio.to_thread(self._admin.add_partitions, missing, self._new_count)
        async with asyncio.timeout(_LEADERS_S):
            while await self._is_adding():  # noqa: ASYNC110  # Kafka notifies nobody of leaders
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _is_adding(self) -> bool:
        if min((await self._counts()).values()) < self._new_count:
            return True
        return bool(await asyncio.to_thread(self._admin.unanswered, self._names))

    @asynccontextmanager
    async def _old_tasks(self, count: int, numbers: Sequence[int]) -> AsyncGenerator[TaskKafka]:
        """Process the records of partition numbers until all producers know the new partitions.

        In the block, the tasks have stopped, and all that was written before has been processed.
        """
        tasks = Tasks(self._settings, processors_of(self._settings), count, WorkerMetrics())
        partitions = [
            TopicPartition(name, number)
            for name, topic in tasks.inputs.items()
            for number in numbers
            if number < partitions_of(topic, count)
        ]
        async with AssignedConsumer(self._settings.bootstrap_servers, partitions) as consumer:
            kafka = tasks.kafka(consumer)
            if numbers:
                worker = Worker(
                    consumer, tasks.inputs, count, tasks.make(kafka), kafka.leader_epochs
                )
                await self._run_until_settled(worker, numbers)
            yield kafka

    async def _run_until_settled(self, worker: Worker, numbers: Sequence[int]) -> None:
        self._say(
            f"producers may take {self._settle_s:g} s to know the new partitions; their returns "
            "are measured meanwhile"
        )
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(worker.run())
                await self._settle(numbers)
                await worker.stop()
                running.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _settle(self, numbers: Sequence[int]) -> None:
        """Return when producers know the new partitions, and their earlier records are read."""
        await asyncio.sleep(self._settle_s)
        ends = {where: found.end for where, found in (await self._offsets(numbers)).items()}
        while True:
            present = await self._offsets(numbers)
            left = sum(
                max(0, end - max(present[where].begin, present[where].committed or 0))
                for where, end in ends.items()
            )
            if not left:
                return
            self._say(f"{left} records to read")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _offsets(self, numbers: Sequence[int]) -> Mapping[TopicPartition, OffsetRange]:
        """Return the offsets of partition numbers of the topics that portfolios are measured by."""
        names = [self._settings.topic_prefix + topic.name for topic in _INPUTS]
        found: dict[TopicPartition, OffsetRange] = {}
        for number in numbers:
            offsets = await read_offsets(names, number, self._group, self._clients)
            found |= {TopicPartition(name, number): offsets[name] for name in names}
        return found

    async def _move(self, kafka: TaskKafka, growth: TopicGrowth, number: int) -> None:
        """Move the states of a partition number that belong to new ones, in one transaction."""
        async with kafka.open_mover(number) as writer:
            found = await kafka.recover(number, {})
            for fault in resolve_start(number, found, now_us()).faults:
                self._say(fault)
            moves = moves_of(found.rows[RISK_STATE.name], number, growth)
            await writer.commit(self._records(growth, number, found, moves), {})
        rows = found.rows[RISK_STATE.name].values()
        present = sum(isinstance(row, PortfolioState) for row in rows)
        self._say(f"partition {number}: {len(moves)} of {present} portfolios have moved")

    def _records(
        self,
        growth: TopicGrowth,
        number: int,
        found: Recovered,
        moves: Mapping[bytes, PortfolioState],
    ) -> Sequence[OutgoingRecord]:
        """Return the records that move the states of a partition number."""
        this_round = Round(number, self._settings.topic_prefix)
        offsets = resolve_start(number, found, now_us()).offsets
        positions = [
            TopicPosition(
                topic.name,
                found.logs[topic.name].topic_id,
                found.logs[topic.name].leader_epoch,
                offsets[topic.name],
            )
            for topic in _INPUTS
        ]
        this_round.send(replace(growth, partition=number, positions=positions))
        rows = found.rows[RISK_STATE.name]
        tenants = Counter(row.tenant for row in rows.values() if isinstance(row, PortfolioState))
        tenants.subtract(state.tenant for state in moves.values())
        for tenant in [tenant for tenant, count in tenants.items() if not count]:
            # Nothing else would tell the tenant's dashboard that the partition has no portfolios.
            source = TopicPartition(RISK_STATE.name, number)
            this_round.send(gauge_tally(source, tenant, _NO_PORTFOLIOS), tenant)
        name = self._settings.topic_prefix + RISK_STATE.name
        return [
            *this_round.records,
            *moving_records(name, number, moves),
            *copied_records(name, number, rows, growth),
        ]


def _now_s() -> float:
    return asyncio.get_running_loop().time()
