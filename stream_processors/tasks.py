"""The processors of a system, and the stream task of each partition number.

A partition number is processed by the processors all of whose inputs have it: topics may differ in
their numbers of partitions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import uuid4

from kafka_io.clock import now_us
from kafka_io.group import OffsetConsumer
from kafka_io.tracing import current_tracer
from schemas.topics import Topic
from stream_processors.agents.books import Books
from stream_processors.agents.candles import Candles
from stream_processors.agents.dashboard import EventTallies, WindowTotals
from stream_processors.agents.lifecycle import lifecycles
from stream_processors.agents.risk import Risk
from stream_processors.gate import RecordGate
from stream_processors.growths import partitions_of
from stream_processors.kafka_adapter import GROUP, TaskKafka, positions_key
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Processor
from stream_processors.settings import ProcessorSettings
from stream_processors.stream_task import Process, StreamTask


def processors_of(settings: ProcessorSettings) -> Sequence[Processor]:
    """Return the processors of a worker; one that rebuilds only measures."""
    if settings.rebuild_version:
        return (Books(settings) if settings.rebuild_books else Risk(settings),)
    return (
        Risk(settings),
        Books(settings),
        *lifecycles(),
        Candles(settings),
        EventTallies(settings),
        WindowTotals(settings),
    )


class Tasks:
    """Makes the stream tasks of a process."""

    def __init__(
        self,
        settings: ProcessorSettings,
        processors: Sequence[Processor],
        count: int,
        metrics: WorkerMetrics,
        group: str = GROUP,
    ) -> None:
        """Describe the tasks.

        Args:
            settings: where Kafka is, and the prefixes of topics.
            processors: the processors of the process.
            count: the partitions that each topic of portfolios has.
            metrics: counts what happens.
            group: the group of the workers, without the prefix of topics.
        """
        self._settings = settings
        self._group = group
        self._processors = processors
        self._count = count
        self._metrics = metrics
        self.inputs: Mapping[str, Topic] = {
            settings.topic_prefix + topic.name: topic
            for processor in processors
            for topic in processor.inputs
        }
        """The topics to read, by their names in Kafka."""
        self.states: Sequence[Topic] = [
            topic for processor in processors for topic in processor.states
        ]
        """The compacted topics of the processors."""
        metrics.expect(self.inputs)

    @property
    def topics(self) -> Mapping[str, Topic]:
        """The topics to read and the states, by their names in Kafka."""
        prefix = self._settings.written_prefix()
        return {**self.inputs, **{prefix + topic.name: topic for topic in self.states}}

    def kafka(self, consumer: OffsetConsumer) -> TaskKafka:
        """Return the connection of all tasks, which fetch through a consumer."""
        return TaskKafka(
            self._settings, consumer, self.inputs, self.states, self._count, self._group
        )

    def make(self, kafka: TaskKafka) -> Callable[[int], StreamTask]:
        """Return what makes the task of a partition number."""
        gate = RecordGate(
            self.inputs,
            lambda topic: partitions_of(topic, self._count),
            self._settings.ahead_us(),
        )
        process = Process(
            uuid4().hex,
            self._settings.written_prefix(),
            self._settings.batch_records_max,
            now_us,
            positions_key=partial(positions_key, self._group),
            tracer=current_tracer(),
            group=self._settings.written_prefix() + self._group,
        )

        def make_task(number: int) -> StreamTask:
            processors = [
                processor
                for processor in self._processors
                if all(number < partitions_of(topic, self._count) for topic in processor.inputs)
            ]
            read = {topic.name for processor in processors for topic in processor.inputs}
            return StreamTask(
                number,
                {name: topic.name for name, topic in self.inputs.items() if topic.name in read},
                processors,
                kafka,
                gate,
                self._metrics,
                process,
            )

        return make_task
