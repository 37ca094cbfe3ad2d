"""The Kafka of stream tasks: the group's consumer, a writer for each number, and the readers."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from kafka_io.errors import TransactionFailed, Unread
from kafka_io.group import OffsetConsumer
from kafka_io.reader import find_offset_after, read_between, read_offsets, read_rows
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from kafka_io.topic_checks import find_differences
from kafka_io.transactions import TransactionalWriter, open_writer
from schemas.events import ProcessorPositions, Record
from schemas.topics import PROCESSOR_POSITIONS, TOPIC_GROWTHS, Topic, TopicPartition
from stream_processors.errors import TopicGrown, TopicUnfit
from stream_processors.growths import Growths, grown_text, partitions_of
from stream_processors.log_marks import RecordMark, find_cut, mark_of, saved_mark
from stream_processors.settings import ProcessorSettings
from stream_processors.stream_task import LogState, Recovered
from stream_processors.tenant_keys import old_rows

logger = logging.getLogger(__name__)

GROUP = "tapewire"
BOOKS_GROUP = "tapewire-books"
"""The group of the worker of a rebuild that measures books."""
"""The group of the processors, without the prefix of topics."""
SESSION_TIMEOUT_S = 10.0
_OPEN_S = 20.0
_MOVE_S = 300.0
"""How long the transaction may take that moves the states of a partition number."""
_ADMIN_S = 10.0
_RECOVERIES_AT_ONCE = 3
_SILENT_S = 30.0
"""How long a broker that has not answered is asked for nothing new: until the others have replaced
it. One that is cut off from them still takes itself for the leader that it was."""


def positions_key(group: str, number: int) -> bytes:
    """Return the key of the row that says how far a group has read a partition number."""
    return (str(number) if group == GROUP else f"{group}/{number}").encode()


class TaskKafka:
    """Connects the stream tasks of a worker to Kafka."""

    def __init__(
        self,
        settings: ProcessorSettings,
        consumer: OffsetConsumer,
        inputs: Mapping[str, Topic],
        states: Sequence[Topic],
        count: int,
        group: str = GROUP,
    ) -> None:
        """Use a consumer.

        Args:
            settings: where Kafka is, and the prefixes of topics.
            consumer: fetches the inputs.
            inputs: the topics to read, by their names in Kafka.
            states: the compacted topics of the processors.
            count: the partitions that each topic of portfolios has.
            group: the group of the workers, without the prefix of topics.
        """
        self._settings = settings
        self._consumer = consumer
        self._inputs = inputs
        self._group = f"{settings.written_prefix()}{group}"
        self._positions_key = partial(positions_key, group)
        prefix = settings.written_prefix()
        self._states = {prefix + topic.name: topic for topic in states}
        self._positions = prefix + PROCESSOR_POSITIONS.name
        self._count = count
        self._admin = TopicAdmin(settings.bootstrap_servers, timeout_s=_ADMIN_S)
        self._slots = asyncio.Semaphore(_RECOVERIES_AT_ONCE)
        self._silent_until_s: dict[str, float] = {}
        """The brokers that have not answered, by address, and until when they are not asked."""

    @property
    def _servers(self) -> str:
        """Brokers to begin with: one that is silent would hold each new client up for seconds."""
        known = self._consumer.servers or self._settings.bootstrap_servers
        now_s, until_s = time.monotonic(), self._silent_until_s
        answering = [server for server in known.split(",") if until_s.get(server, 0.0) <= now_s]
        return ",".join(answering) or known

    @property
    def _reader(self) -> ProducerSettings:
        return ProducerSettings(bootstrap_servers=self._servers)

    @asynccontextmanager
    async def open_writer(self, number: int) -> AsyncGenerator[TransactionalWriter]:
        """Become the writer of a partition number, and fence the earlier ones."""
        async with open_writer(
            self._servers,
            f"{self._group}-{number}",
            self._group,
            timeout_s=SESSION_TIMEOUT_S,
            within_s=_OPEN_S,
        ) as writer:
            try:
                yield writer
            except TransactionFailed:
                until_s = time.monotonic() + _SILENT_S
                self._silent_until_s |= dict.fromkeys(writer.unanswered, until_s)
                raise

    def open_mover(self, number: int) -> AbstractAsyncContextManager[TransactionalWriter]:
        """Become the writer of a partition number, for a transaction that moves its states."""
        return open_writer(
            self._servers,
            f"{self._group}-{number}",
            self._group,
            timeout_s=_MOVE_S,
            within_s=_OPEN_S,
        )

    async def recover(self, number: int, marks: Mapping[str, Sequence[RecordMark]]) -> Recovered:
        """Read the rows and offsets of a partition number.

        Raises:
            TopicGrown: the topics have grown since this process started.
            TopicUnfit: an earlier release has written states of tenants.
        """
        inputs, states = (
            self._with_number(self._inputs, number),
            self._with_number(self._states, number),
        )
        async with self._slots:
            # Read after the earlier writers are fenced: none of them can move the states any more.
            settings = self._settings
            growths = await read_growths(self._servers, settings.topic_prefix)
            if settings.rebuild_version:
                growths = growths.past()
            else:
                growths.check(number, self._count)
            offsets = await read_offsets(list(inputs), number, self._group, self._reader)
            rows = await read_rows(
                {**states, self._positions: PROCESSOR_POSITIONS}, number, self._reader
            )
            admin = TopicAdmin(self._servers, timeout_s=_ADMIN_S)
            identities = await asyncio.to_thread(admin.describe, list(inputs))
            partitions = [(topic, number) for topic in inputs]
            ends = await asyncio.to_thread(admin.ends, partitions)
        check_keys(rows)
        saved = rows[self._positions].get(self._positions_key(number))
        positions = saved.positions if isinstance(saved, ProcessorPositions) else ()
        known = {position.topic: position for position in positions}
        logs = {}
        for name, topic in inputs.items():
            end = ends.get((name, number))
            if end is None:
                raise Unread(f"{name}/{number} has no leader that answers")
            topic_id = identities[name].topic_id.hex() if name in identities else ""
            log = LogState(topic_id, end.leader_epoch, offsets[name].begin, end.offset)
            position = known.get(topic.name)
            if position is None or position.topic_id != topic_id:
                logs[topic.name] = log
                continue
            if end.leader_epoch < position.leader_epoch:
                # A former leader that cannot reach the others may end before what was read.
                raise Unread(
                    f"{name}/{number} was answered by the leader of epoch {end.leader_epoch}, "
                    f"which epoch {position.leader_epoch} has replaced"
                )
            if position.leader_epoch != log.leader_epoch:
                last = saved_mark(position)
                of_topic = sorted({*marks.get(topic.name, ()), *(() if last is None else (last,))})
                reused = await self.find_reused(TopicPartition(name, number), of_topic)
                log = log._replace(reused=reused)
            logs[topic.name] = log
        return Recovered(
            rows={topic.name: rows[name] for name, topic in states.items()},
            saved=saved if isinstance(saved, ProcessorPositions) else None,
            committed={topic.name: offsets[name].committed for name, topic in inputs.items()},
            logs=logs,
            growths=growths,
        )

    async def find_reused(self, where: TopicPartition, marks: Sequence[RecordMark]) -> int | None:
        """Return the first offset that a partition has given to another record; None if none.

        The log appends what is new after what it has lost, so the first new record is the first one
        with a later time. While there is none, it is the log's end.
        """
        if not marks:
            return None
        end = (await self._consumer.read_ends([where]))[where]
        offsets = range(marks[0].offset, marks[-1].offset + 1)
        records = await read_between(*where, offsets, self._reader)
        cut = find_cut(marks, {record.offset: mark_of(record) for record in records}, end)
        if cut is None:
            return None
        after = await find_offset_after(*where, cut.append_ms, self._reader)
        return min(cut.offset, end if after is None else after)

    async def read_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition."""
        return await self._consumer.read_ends(partitions)

    async def leader_epochs(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        """Return the leader epochs of partitions, without those that have no leader."""
        epochs = await asyncio.to_thread(self._admin.leader_epochs, partitions)
        if partitions and not epochs:  # as a client would say that knows only dead brokers
            self._admin = TopicAdmin(self._servers, timeout_s=_ADMIN_S)
        return {TopicPartition(*where): epoch for where, epoch in epochs.items()}

    def _with_number(self, topics: Mapping[str, Topic], number: int) -> Mapping[str, Topic]:
        return {
            name: topic
            for name, topic in topics.items()
            if number < partitions_of(topic, self._count)
        }

    def start_fetching(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Fetch partitions from these offsets on."""
        self._consumer.start_fetching(offsets)


def check_keys(rows: Mapping[str, Mapping[bytes, Record]]) -> None:
    """Check that the states of tenants have keys that name them.

    Args:
        rows: the rows of states, by the topic's full name and by key.

    Raises:
        TopicUnfit: a state has the key that an earlier release gave it.
    """
    for name, of_topic in rows.items():
        for key, _, tenant in old_rows(of_topic):
            raise TopicUnfit(
                f"{name} has states of tenants under keys without the tenant, such as {key!r} of "
                f"{tenant!r}, as earlier releases wrote them; stop all processors and producers, "
                "run `tapewire topics rekey`, and start them again"
            )


async def read_growths(bootstrap_servers: str, topic_prefix: str) -> Growths:
    """Return the growths of a system's topics.

    Args:
        bootstrap_servers: Kafka's addresses, `host:port` with commas between.
        topic_prefix: the prefix of the system's topics.

    Returns:
        The growths; none where the topic of growths does not exist.

    Raises:
        Unread: Kafka does not answer.
    """
    topic = topic_prefix + TOPIC_GROWTHS.name
    admin = TopicAdmin(bootstrap_servers, timeout_s=_ADMIN_S)
    if not await asyncio.to_thread(admin.describe, [topic]):
        return Growths()
    reader = ProducerSettings(bootstrap_servers=bootstrap_servers)
    try:
        rows = await read_rows({topic: TOPIC_GROWTHS}, 0, reader)
    except TimeoutError as error:
        raise Unread(f"{topic} has not been read in time") from error
    return Growths(rows[topic].values())


async def check_topics(
    settings: ProcessorSettings, topics: Mapping[str, Topic], count: int
) -> None:
    """Check that topics have the partitions and settings without which results would be wrong.

    Args:
        settings: where Kafka is.
        topics: the topics, by their names in Kafka.
        count: the partitions that each topic of portfolios has.

    Raises:
        TopicGrown: a topic has more partitions than its states are partitioned by.
        TopicUnfit: a topic has fewer, or settings by which results would be lost or wrong.
        Unread: Kafka does not answer.
    """
    admin = TopicAdmin(settings.bootstrap_servers, timeout_s=_ADMIN_S)
    found = await asyncio.to_thread(admin.found, list(topics))
    expected = {name: (topic, partitions_of(topic, count)) for name, topic in topics.items()}
    differences = find_differences(settings.bootstrap_servers, expected, found)
    for difference in differences:
        if not difference.is_harmful:
            for line in str(difference).splitlines():
                logger.warning("%s", line)
    harmful = [str(difference) for difference in differences if difference.is_harmful]
    if harmful:
        raise TopicUnfit("\n".join(harmful))
    for name, topic in found.items():
        if topic.partitions != expected[name][1]:
            raise TopicGrown(grown_text(name, topics[name], count))
