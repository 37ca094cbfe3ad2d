"""Repeat the growths of the topics of portfolios in a rebuild.

For each growth, the partition numbers that existed before it are processed up to the offsets at
which their states moved, and the rebuilt states move likewise. Then the worker of the rebuild goes
on with the partitions of today, as after a growth. `stream_processors.growths` decides where a
record belongs.
"""

import asyncio
import logging
from collections.abc import Sequence

from kafka_io.group import AssignedConsumer
from kafka_io.reader import OffsetRange, read_offsets
from kafka_io.settings import ProducerSettings
from schemas.events import TopicGrowth
from schemas.topics import RISK_STATE, TopicPartition
from stream_processors.growths import Growths, copied_records, moves_of, moving_records
from stream_processors.kafka_adapter import TaskKafka
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Processor
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import Tasks
from stream_processors.worker import Worker

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5


async def repeat_growths(
    settings: ProcessorSettings,
    processors: Sequence[Processor],
    growths: Growths,
    metrics: WorkerMetrics,
) -> None:
    """Process what was before each growth, and move the states as it did.

    Args:
        settings: those of a rebuild.
        processors: the processors of the process.
        growths: the growths of the topics; all are done.
        metrics: counts what happens.

    Raises:
        GrowthRefused: a state is in a partition that Kafka's own partitioner does not give its key.
        ProducerError, TimeoutError: Kafka does not answer.
    """
    for growth in growths.done:
        logger.info("up to the growth to %d partitions", growth.new_count)
        tasks = Tasks(settings, processors, growth.old_count, metrics)
        repeated = _Repeated(settings, growths, growth, tasks)
        await repeated.run()


def has_reached(offsets: OffsetRange, start: int) -> bool:
    """Return whether all is processed that a partition still has before an offset. Pure.

    Args:
        offsets: those of the partition. Its beginning may be deleted, and its end be lost.
        start: the offset at which the states moved.
    """
    return max(offsets.committed or 0, offsets.begin) >= min(start, offsets.end)


class _Repeated:
    """A growth that is repeated."""

    def __init__(
        self, settings: ProcessorSettings, growths: Growths, growth: TopicGrowth, tasks: Tasks
    ) -> None:
        self._settings = settings
        self._growths = growths
        self._growth = growth
        self._tasks = tasks
        self._group = f"{settings.written_prefix()}tapewire"
        self._reader = ProducerSettings(bootstrap_servers=settings.bootstrap_servers)

    async def run(self) -> None:
        """Process the earlier partition numbers up to the growth, and move their states."""
        count, tasks = self._growth.old_count, self._tasks
        partitions = [
            TopicPartition(name, number) for name in tasks.inputs for number in range(count)
        ]
        async with AssignedConsumer(self._settings.bootstrap_servers, partitions) as consumer:
            kafka = tasks.kafka(consumer)
            worker = Worker(consumer, tasks.inputs, count, tasks.make(kafka), kafka.leader_epochs)
            try:
                async with asyncio.TaskGroup() as group:
                    running = group.create_task(worker.run())
                    while not await self._is_reached():  # noqa: ASYNC110  # Kafka notifies nobody
                        await asyncio.sleep(_LOOK_EVERY_S)
                    await worker.stop()
                    running.cancel()
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            for number in range(count):
                await self._move(kafka, number)

    async def _is_reached(self) -> bool:
        """Return whether all is processed that was before the growth."""
        inputs = self._tasks.inputs
        for number in range(self._growth.old_count):
            offsets = await read_offsets(list(inputs), number, self._group, self._reader)
            for name, topic in inputs.items():
                found = offsets[name]
                start = self._growths.start_of(self._growth, number, topic.name, "")
                if not has_reached(found, start):
                    return False
        return True

    async def _move(self, kafka: TaskKafka, number: int) -> None:
        """Move the states of a partition number that belong to new ones, in one transaction."""
        async with kafka.open_mover(number) as writer:
            rows = (await kafka.recover(number, {})).rows[RISK_STATE.name]
            moves = moves_of(rows, number, self._growth)
            name = self._settings.written_prefix() + RISK_STATE.name
            copies = copied_records(name, number, rows, self._growth)
            await writer.commit([*moving_records(name, number, moves), *copies], {})
        logger.info("partition %d: %d of %d portfolios have moved", number, len(moves), len(rows))
