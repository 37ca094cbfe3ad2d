"""A stream task: one partition number of all topics, from its recovery to its loss. Pure asyncio.

    take over ──▶ recover ──▶ round ──▶ round ──▶ ... ──▶ stop
        ▲                        │
        └──── a commit failed ───┘

A task becomes the one writer of its transactional id, which fences the number's earlier writers.
Only then it reads the committed offsets and the rows of the state, so nothing that it reads can
change any more. Each round is one transaction: the events and rows that follow from its messages,
and the offsets after them. After a failed commit the task starts again from what is committed.

So states, events and offsets in the log are always those of a run without faults up to the
committed offsets, also after workers were killed, paused or replaced.

A record passes the gate before processors see it. If a processor fails nevertheless, its half-done
round is dropped, and the task starts again with a round for each message. The message that fails by
itself is set aside: a dead letter is written about it, and the task goes on after it. The same
becomes of a message that ends the whole process, again and again: see `deaths`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple, Protocol

from opentelemetry.trace import Tracer

from kafka_io.counts import COUNTS
from kafka_io.dead_letters import Message, dead_letter
from kafka_io.errors import Fenced, RecordRefused, TransactionFailed, Unread
from kafka_io.stage_times import Stage
from kafka_io.transactions import OutgoingRecord
from schemas.codec import encode
from schemas.events import (
    DeadLetter,
    DeadLetterReason,
    GapReason,
    InputGap,
    ProcessorPositions,
    TopicPosition,
)
from schemas.topics import PROCESSOR_POSITIONS, Topic, TopicPartition
from stream_processors.bulkhead import Bulkhead, ProcessorFailed, failing_with
from stream_processors.deaths import DEATHS_MAX, Deaths, Note, Place
from stream_processors.errors import TopicsCopied
from stream_processors.growths import Growths, Placement
from stream_processors.input_queue import InputQueue
from stream_processors.isolation import Isolation
from stream_processors.log_marks import RecordMark, Trail, are_copies, mark_of, saved_mark
from stream_processors.messages import Admitted
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Gate, Processor, Round, Rows
from stream_processors.round_spans import RoundSpans

logger = logging.getLogger(__name__)

_SLICE = 1_024
"""The most messages that are processed before the round's end is considered. A return costs less
where several of its portfolio are processed together, and producers may send each by itself."""
_SLICE_BYTES = 64 << 10
_ROUND_BYTES_MAX = 8 << 20
"""The bytes of messages after which a round ends, so that few large ones take little memory."""
_WAITING_BYTES_MAX = 16 << 20
"""The bytes of messages that may wait in memory before no more are fetched."""
_HURRY_S = 0.5
"""The longest that a round that should end may take up messages that wait already. A round writes a
row for each state that changed, so short rounds make a backlog longer."""
_HURRY_SHARE = 2.0
"""How much of the time that the last round took to end this is: so at most a third of the time is
spent on ends of rounds, and alerts wait less where ends are quick."""
_SAME_TIME_S = 0.002
"""Longer than the unit of times in the log, a millisecond."""
_ENDS_S = 2.0
_CLOCKS_US = 1_000_000
"""How far this machine's clock may be ahead of those of brokers."""
_IDLE_COMMIT_S = 1.0
"""How long offsets without output wait for their commit."""
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0)
_FENCED_S = 3.0
"""How long a fenced task waits for news of its group before it takes over again."""
_COMMIT_S = (10.0, 20.0, 40.0)
"""How long a transaction waits for its answers: the first, and after each that had none. Kafka may
have aborted it by then, and a new writer asks other brokers who leads now. A slow Kafka is given
more time, or nothing would ever be committed."""
_END_S = 2.0
"""How long a task that ends may take to say so."""


class LogState(NamedTuple):
    """A partition as the log has it now."""

    topic_id: str
    """32 hexadecimal digits; empty if it is unknown."""
    leader_epoch: int
    """-1 if it is unknown."""
    begin: int
    end: int
    reused: int | None = None
    """The first offset that the log has given to another record than it was read with; None if it
    has not."""


class Recovered(NamedTuple):
    """The rows and offsets that the log holds of a partition number."""

    rows: Rows
    saved: ProcessorPositions | None
    """The positions of the last round; None before the first one."""
    committed: Mapping[str, int | None]
    """The group's offset of each input, by the topic's name in the catalogue."""
    logs: Mapping[str, LogState]
    """The partition of each input, by the topic's name in the catalogue."""
    growths: Growths = Growths()


class Writer(Protocol):
    """The one writer of a task's transactional id."""

    @property
    def epoch(self) -> int:
        """The epoch of the writer; a later writer of the id has a higher one."""
        ...

    async def commit(
        self, records: Sequence[OutgoingRecord], offsets: Mapping[TopicPartition, int]
    ) -> None:
        """Write records and offsets in one transaction.

        Raises:
            Fenced: there is a later writer.
            TransactionFailed: Kafka did not confirm.
        """
        ...


class Kafka(Protocol):
    """The calls to Kafka that a task needs."""

    def open_writer(self, number: int) -> AbstractAsyncContextManager[Writer]:
        """Become the writer of a partition number, and fence the earlier ones.

        Raises:
            TransactionFailed: Kafka does not answer.
        """
        ...

    async def recover(self, number: int, marks: Mapping[str, Sequence[RecordMark]]) -> Recovered:
        """Read the rows and offsets of a partition number.

        Args:
            number: the partition number.
            marks: the records that were processed lately, by the topic's name in the catalogue.

        Raises:
            Unread, TimeoutError: Kafka does not answer.
        """
        ...

    async def find_reused(self, where: TopicPartition, marks: Sequence[RecordMark]) -> int | None:
        """Return the first offset that a partition has given to another record; None if none.

        It is the log's end where the log has lost records and got no others yet.

        Raises:
            Unread, TimeoutError: Kafka does not answer.
        """
        ...

    async def read_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset after the last record of each partition.

        Records of open transactions count: they may precede what was read of other partitions.

        Raises:
            Unread, TimeoutError: Kafka does not answer.
        """
        ...

    def start_fetching(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Fetch partitions from these offsets on."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Where a task begins to read, and what is wrong with the log."""

    offsets: Mapping[str, int]
    row_limits: Mapping[str, int]
    """The offsets that those in rows are below; a higher one is of a record that is gone."""
    gaps: Sequence[InputGap] = ()
    """The records that are missing."""
    faults: Sequence[str] = ()
    """Sentences for the log file."""


def resolve_start(number: int, recovered: Recovered, now_us: int) -> Start:
    """Return where to read on. Pure.

    The committed offset and the saved position are of one transaction. If they differ, somebody has
    changed one of them; reading again from the lower one loses nothing.

    Without a saved position the rows are of 0.1.0, which wrote them before it committed. So a row
    may be ahead of the committed offset: its key's records up to the row's offset are in it.

    Raises:
        TopicsCopied: the positions were saved in another cluster.
    """
    gaps: list[InputGap] = []

    def miss(topic: str, reason: GapReason, from_offset: int, to_offset: int) -> None:
        gaps.append(
            InputGap(
                topic=topic,
                partition=number,
                reason=reason,
                from_offset=from_offset,
                to_offset=to_offset,
                event_time_us=now_us,
            )
        )

    saved = {} if recovered.saved is None else {at.topic: at for at in recovered.saved.positions}
    if are_copies(saved.values(), {topic: log.topic_id for topic, log in recovered.logs.items()}):
        raise TopicsCopied(
            f"none of the topics of partition number {number} has the id that it had when states "
            "were saved, so the topics were copied from another cluster, and the offsets in the "
            "states mean nothing here; run `tapewire rebuild NAME`, which finds the records in the "
            "copies that were processed, and start the processors again"
        )
    offsets, row_limits, faults = {}, {}, []
    for topic, log in recovered.logs.items():
        where = f"{topic}/{number}"
        known, committed = saved.get(topic), recovered.committed.get(topic)
        if known is not None and known.topic_id and log.topic_id not in ("", known.topic_id):
            faults.append(f"{where} was made anew, so it is read from its beginning")
            miss(topic, GapReason.TOPIC_RECREATED, known.next_offset, log.begin)
            offsets[topic] = row_limits[topic] = log.begin
            continue
        candidates = [
            offset
            for offset in (committed, None if known is None else known.next_offset)
            if offset is not None
        ]
        offset = min(candidates, default=log.begin)
        if len(set(candidates)) > 1:
            faults.append(f"{where} has the offsets {sorted(candidates)}; the lower one holds")
        if log.reused is not None and log.reused < log.end:
            faults.append(
                f"{where} has lost its records from {log.reused} to {offset}, and has given their "
                "offsets to others, which are read now"
            )
            miss(topic, GapReason.FUTURE, offset, log.reused)
            offset = min(offset, log.reused)
        elif offset > log.end:
            faults.append(f"{where} has lost its records from {log.end} to {offset}")
            miss(topic, GapReason.FUTURE, offset, log.end)
        elif candidates and offset < log.begin:
            faults.append(f"{where} has deleted its records from {offset} to {log.begin} unread")
            miss(topic, GapReason.EXPIRED, offset, log.begin)
        offsets[topic] = min(max(offset, log.begin), log.end)
        end = log.end if log.reused is None else log.reused
        ahead = end if known is None else min(known.row_limit, end)
        row_limits[topic] = max(offsets[topic], ahead)
    return Start(offsets, row_limits, gaps, faults)


@dataclass(frozen=True, slots=True)
class Process:
    """The name, the settings and the isolation that all tasks of a process share."""

    name: str
    """Names this process, and no other one, also after a restart."""
    written_prefix: str
    """The prefix of the topics that are written."""
    messages_max: int
    """The most messages in a round."""
    now_us: Callable[[], int]
    """The clock."""
    positions_key: Callable[[int], bytes] = lambda number: str(number).encode()
    """Returns the key of the row that says how far a partition number was read."""
    isolation: Isolation = field(default_factory=Isolation)
    """Lets one task handle a message alone."""
    tracer: Tracer | None = None
    """Makes the spans of rounds; None if nothing is traced."""
    group: str = ""
    """The group that reads, for spans."""


class StreamTask:
    """The processing of one partition number."""

    def __init__(  # noqa: PLR0915  # one statement for each thing that it knows
        self,
        number: int,
        topics: Mapping[str, str],
        processors: Sequence[Processor],
        kafka: Kafka,
        gate: Gate,
        metrics: WorkerMetrics,
        process: Process,
    ) -> None:
        """Make a task that is not running yet.

        Args:
            number: the partition number.
            topics: the inputs' names in Kafka, with their names in the catalogue.
            processors: the processors of all inputs.
            kafka: the consumer, the writers and the readers of states.
            gate: admits messages, or makes dead letters of them.
            metrics: counts what happens.
            process: what all tasks of this process share.
        """
        self.number = number
        self.partitions = tuple(TopicPartition(topic, number) for topic in topics)
        self.is_fetching = False
        """Whether the task takes messages, which it does not before it has recovered."""
        self.starts = 0
        """How often it began to fetch; messages of an earlier start are not for it."""
        self.recovered = asyncio.Event()
        self._topics = topics
        self._processors = processors
        self._by_topic = {
            name: [p for p in processors if catalogue in {t.name for t in p.inputs}]
            for name, catalogue in topics.items()
        }
        self._inputs: Mapping[str, Topic] = {
            topic.name: topic for processor in processors for topic in processor.inputs
        }
        self._kafka = kafka
        self._gate = gate
        self._metrics = metrics
        self._process = process
        self._queue = InputQueue(
            *(
                [
                    TopicPartition(name, number)
                    for topic in processor.merged
                    for name, catalogue in topics.items()
                    if catalogue == topic.name
                ]
                for processor in processors
            )
        )
        self._arrived = asyncio.Event()
        self._received: dict[TopicPartition, int] = {}
        """The offset up to which each partition was fetched and added."""
        self._next: dict[TopicPartition, int] = {}
        """The offset after the last processed message of each partition."""
        self._committed: dict[TopicPartition, int] = {}
        self._logs: dict[str, LogState] = {}
        self._row_limits: Mapping[str, int] = {}
        self._placement = Placement(Growths(), {})
        self._trails: dict[TopicPartition, Trail] = {}
        self._last: dict[TopicPartition, Message] = {}
        """The last message of each partition in the present round."""
        self._spans = RoundSpans(process.tracer, number, process.group)
        self._bulkhead = Bulkhead()
        self._deaths = Deaths(process.name, process.messages_max)
        self._saved: Sequence[TopicPosition] = ()
        """The positions that Kafka has."""
        self._gaps: Sequence[InputGap] = ()
        """The missing records that the first round after a recovery reports."""
        self._ticked_s: dict[str, float] = {}
        self._progress_s = 0.0
        self._ending_s = 0.0
        """How long the last round took from its last message to the end of its commit."""
        self._interruption: Exception | None = None
        self._alone = AsyncExitStack()
        """Keeps other tasks of this process from handling messages."""
        self._is_alone = False
        """Whether it does. It lasts as long as the row may name a message that is handled alone."""
        self.is_committing = False
        """Whether a transaction is under way, which should end before the task is cancelled."""
        self._unanswered = 0
        """How many transactions in a row had no answer in time."""

    @property
    def committed(self) -> Mapping[TopicPartition, int]:
        """The offset after the last record of each partition that is done."""
        return dict(self._committed)

    @property
    def has_room(self) -> bool:
        """Whether more messages should be fetched for the task."""
        if self._interruption is not None:  # what came now would be dropped
            return False
        # If nothing can be taken, what is missing is in Kafka.
        return self.is_fetching and (self._queue.size < _WAITING_BYTES_MAX or not self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether no message waits, not even for the position of another partition."""
        return self.is_fetching and self._queue.is_empty

    def add(self, where: TopicPartition, messages: Sequence[Message], next_offset: int) -> None:
        """Add fetched messages of one partition, in order, and the offset after them."""
        self._received[where] = next_offset
        was_ready = bool(self._queue)
        self._queue.add(where, messages, next_offset)
        if messages or bool(self._queue) > was_ready:
            self._arrived.set()

    def refetch(self) -> None:
        """Fetch again what was fetched and not added."""
        if self.is_fetching:
            self._kafka.start_fetching(self._received)

    def stop(self) -> None:
        """End the task after the transaction that is under way, if any."""
        self._interrupt(_Stopped())

    def restart(self, reason: str) -> None:
        """Start again from what is committed."""
        self._interrupt(Unread(reason))

    def _interrupt(self, error: Exception) -> None:
        self._interruption = error
        self._arrived.set()

    async def run(self) -> None:
        """Process until cancelled; after a failure start again from what is committed.

        Raises:
            Exception: a processor failed, and not because of a message; its worker must stop.
        """
        try:
            await self._run()
        finally:
            await self._share()

    async def _run(self) -> None:
        failures, pause_s = 0, 0.0
        while True:
            try:
                async with self._kafka.open_writer(self.number) as writer:
                    await self._recover()
                    failures = 0
                    try:
                        await self._work(writer)
                    except _Stopped:
                        await self._end(writer)
                        raise
            except _Stopped:
                return
            except Fenced as error:
                self._metrics.fenced += 1
                await self._share()
                logger.warning("partition number %d: %s", self.number, error)
                pause_s = _FENCED_S
            except ProcessorFailed as failure:
                self._metrics.failures += 1
                self._bulkhead.isolate(failure, self._next)
                pause_s = 0.0
            except (TransactionFailed, RecordRefused, Unread, TimeoutError) as error:
                logger.warning("partition number %d starts again: %s", self.number, error)
                pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
            finally:
                self._stop_fetching()
            await asyncio.sleep(pause_s)

    @property
    def is_busy(self) -> bool:
        """Whether the task should have the time to end in order."""
        return self.is_committing or self.is_fetching or self._is_alone

    def _stop_fetching(self) -> None:
        self._spans.failed()
        self.is_fetching = False
        self._queue.restart({})
        for processor in self._processors:
            processor.forget(self.number)

    async def _recover(self) -> None:
        began_s = _now_s()
        if not isinstance(self._interruption, _Stopped):
            self._interruption = None
        marks = {self._topics[where.topic]: trail.marks for where, trail in self._trails.items()}
        found = await self._kafka.recover(self.number, marks)
        start = resolve_start(self.number, found, self._process.now_us())
        for fault in start.faults:
            self._metrics.log_faults += 1
            logger.error("%s", fault)
        for processor in self._processors:
            rows = {topic.name: found.rows.get(topic.name, {}) for topic in processor.states}
            limits = {topic.name: start.row_limits[topic.name] for topic in processor.inputs}
            processor.recover(self.number, rows, limits)
        topic_ids = {catalogue: log.topic_id for catalogue, log in found.logs.items()}
        self._placement = Placement(found.growths, topic_ids)
        self._gaps = start.gaps
        self._logs = dict(found.logs)
        self._row_limits = start.row_limits
        self._last.clear()
        saved = {} if found.saved is None else {at.topic: at for at in found.saved.positions}
        self._trails = {}
        for name, catalogue in self._topics.items():
            is_in_log = found.logs[catalogue].reused is None
            mark = saved_mark(saved.get(catalogue)) if is_in_log else None
            self._trails[TopicPartition(name, self.number)] = Trail(mark)
        self._next = {
            TopicPartition(name, self.number): start.offsets[catalogue]
            for name, catalogue in self._topics.items()
        }
        self._committed = {
            TopicPartition(name, self.number): found.committed.get(catalogue) or 0
            for name, catalogue in self._topics.items()
        }
        self._received = dict(self._next)
        self._queue.restart(self._received)
        self._saved = () if found.saved is None else found.saved.positions
        await self._recover_deaths(found, start)
        self._kafka.start_fetching(self._received)
        self.starts += 1
        self.is_fetching = True
        self.recovered.set()
        self._metrics.recovery_s.append(_now_s() - began_s)
        logger.info("recovered partition number %d in %.2f s", self.number, _now_s() - began_s)

    async def _recover_deaths(self, found: Recovered, start: Start) -> None:
        """Learn where earlier processes have died, and which message to set aside for it."""
        note = Note.of(found.saved)
        if start.faults:  # an offset may be that of another record now
            note = note._replace(zones=(), handled=None)
        ends = {catalogue: log.end for catalogue, log in found.logs.items()}
        self._deaths.recover(note, start.offsets, ends)
        if note.handled is None:
            await self._share()
        lethal = self._deaths.lethal
        if lethal is not None:
            topic = next(name for name, catalogue in self._topics.items() if catalogue == lethal[0])
            self._bulkhead.set_aside(
                TopicPartition(topic, self.number),
                lethal.offset,
                f"{DEATHS_MAX} processes in a row have died here, by a signal or for memory; the "
                "last two handled this record alone",
            )

    async def _work(self, writer: Writer) -> None:
        self._ticked_s = {p.name: _now_s() for p in self._processors if p.tick_s is not None}
        self._progress_s = _now_s()
        while True:
            this_round = Round(self.number, self._process.written_prefix, self._gate)
            gaps, self._gaps = self._gaps, ()
            for gap in gaps:
                for processor in self._processors:
                    processor.report_gap(gap, this_round)
            messages_read: list[Message] = []
            busy = await self._fill(writer, this_round, messages_read)
            filled_s = _now_s()
            async with self._handling():
                with failing_with(messages_read):
                    for processor in busy:
                        await processor.finish(this_round)
            try:
                await self._commit(writer, this_round)
            except RecordRefused as error:
                if messages_read:  # what follows from one of them is not taken by Kafka
                    raise ProcessorFailed(error, tuple(messages_read)) from error
                raise
            self._ending_s = _now_s() - filled_s
            if this_round.taken_s is not None:
                COUNTS.stages.observe(Stage.PROCESSOR_TO_LOG, _now_s() - this_round.taken_s)
            self._metrics.observe_round(messages_read, this_round.letters)
            await self._share()

    async def _fill(
        self,
        writer: Writer,
        this_round: Round,
        messages_read: list[Message],
    ) -> Iterable[Processor]:
        """Process messages until the round must end, has waited long enough, or is large.

        Args:
            writer: writes where this process is about to read.
            this_round: takes what follows from the messages.
            messages_read: takes the messages.

        Returns:
            The processors that had messages or a tick.
        """
        busy: dict[str, Processor] = {}
        end_s, hurry_s = float("inf"), float("inf")
        is_careful = self._bulkhead.is_careful(self._next)
        messages_max = 1 if is_careful else self._deaths.messages_max(self._offsets())
        size = 0
        while len(messages_read) < messages_max and size < _ROUND_BYTES_MAX:
            if this_round.must_end and _now_s() >= hurry_s:
                break
            self._raise_interruption()
            await self._learn_ends()
            head = self._queue.head
            if head is not None:
                is_suspect = self._is_suspect(head)
                if is_suspect and messages_read:
                    break
                if not messages_read:
                    await self._announce(writer, is_suspect=is_suspect)
                is_alone = is_careful or is_suspect
                messages = self._take(1 if is_alone else messages_max - len(messages_read))
                messages_read += messages
                size += sum(len(message.value or b"") for message in messages)
                self._spans.read(messages, this_round)
                _sample(messages, this_round)
                end_s = min(end_s, _now_s() + self._linger_s(messages))
                hurry_s = min(hurry_s, _now_s() + min(_HURRY_S, _HURRY_SHARE * self._ending_s))
                async with self._handling():
                    with failing_with(messages_read):
                        await self._dispatch(messages, this_round, busy)
                if is_alone:  # a tick in this round could fail for a reason of its own
                    break
            async with self._handling():
                await self._tick(this_round, busy)
            if not self._queue:
                if this_round.must_end or _now_s() >= end_s:
                    break
                if not messages_read and self._has_uncommitted():
                    break
                await self._wait_until(min(end_s, self._next_tick_s(), _now_s() + _IDLE_COMMIT_S))
        return busy.values()

    async def _learn_ends(self) -> None:
        """Ask for the ends of merged partitions, if messages wait for one another."""
        unknown = self._queue.unknown()
        if not unknown:
            return
        arrivals = self._queue.arrivals
        # What has the same time in the log as the last message is in the log by then.
        await asyncio.sleep(_SAME_TIME_S)
        starts = self.starts
        try:
            async with asyncio.timeout(_ENDS_S):
                ends = await self._kafka.read_ends(unknown)
        except (Unread, TimeoutError) as error:
            logger.info("partition number %d waits for ends of logs: %s", self.number, error)
            return
        if self.starts == starts:
            self._queue.learn(ends, arrivals)

    async def _read_until_us(self) -> int | None:
        """Return a time of the log such that all merged messages before were processed.

        A message that the log gets after the question for its ends has a later time. None if some
        wait here or in Kafka.
        """
        starts, now_us = self.starts, self._process.now_us()
        if not self._queue.is_empty:
            return None
        try:
            async with asyncio.timeout(_ENDS_S):
                ends = await self._kafka.read_ends(self._queue.merged)
        except (Unread, TimeoutError) as error:
            logger.info("partition number %d waits for the time: %s", self.number, error)
            return None
        is_read = self.starts == starts and self._queue.has_reached(ends)
        return now_us - _CLOCKS_US if is_read else None

    def _raise_interruption(self) -> None:
        if self._interruption is not None:
            error, self._interruption = self._interruption, None
            raise error

    def _is_suspect(self, message: Message) -> bool:
        return self._deaths.is_suspect(Place(self._topics[message.topic], message.offset))

    def _is_lethal(self, message: Message) -> bool:
        lethal = self._deaths.lethal
        return lethal == Place(self._topics[message.topic], message.offset)

    def _handling(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which messages are handled."""
        return nullcontext() if self._is_alone else self._process.isolation.shared()

    async def _announce(self, writer: Writer, *, is_suspect: bool) -> None:
        """Let Kafka know that this process reads on, and what it is about to handle alone.

        Else nobody could tell afterwards where it has died. Once it is known, it costs nothing.
        """
        handled = None
        if is_suspect:
            if not self._is_alone:
                await self._alone.enter_async_context(self._process.isolation.alone())
                self._is_alone = True
            message = self._queue.head
            assert message is not None
            handled = Place(self._topics[message.topic], message.offset)
        offsets = self._offsets()
        note = self._deaths.note(offsets, handled)
        if note != self._deaths.written:
            await self._write(writer, self._row(writer, self._saved, note))
            self._deaths.wrote(note, offsets)
        if not is_suspect:
            await self._share()

    async def _share(self) -> None:
        """Let other tasks of this process handle messages again."""
        if self._is_alone:
            self._is_alone = False
            await self._alone.aclose()

    async def _end(self, writer: Writer) -> None:
        """Let Kafka know that this process has not died, if it knows that it reads."""
        note = self._deaths.last_note()
        if note is None:
            return
        try:
            async with asyncio.timeout(_END_S):
                await self._write(writer, self._row(writer, self._saved, note))
        except (Fenced, TransactionFailed, RecordRefused, TimeoutError) as error:
            logger.info(
                "the end of partition number %d is taken for a death: %s", *(self.number, error)
            )

    def _offsets(self) -> dict[str, int]:
        """Return the next offset of each input, by the topic's name in the catalogue."""
        return {self._topics[where.topic]: offset for where, offset in self._next.items()}

    def _take(self, messages_max: int) -> list[Message]:
        messages: list[Message] = []
        size = 0
        messages_max = min(messages_max, _SLICE)
        while len(messages) < messages_max and size < _SLICE_BYTES:
            head = self._queue.head
            if head is None or (messages and self._is_suspect(head)):
                break
            most = 1 if self._deaths.has_suspects else messages_max - len(messages)
            run = self._queue.pop_run(most, _SLICE_BYTES - size)
            messages += run
            size += sum(len(message.value or b"") for message in run)
            last = run[-1]
            where = TopicPartition(last.topic, last.partition)
            self._next[where] = last.offset + 1
            self._last[where] = last
        return messages

    def _linger_s(self, messages: Sequence[Message]) -> float:
        topics = {message.topic for message in messages}
        return min(
            (p.linger_s for topic in topics for p in self._by_topic[topic]), default=_IDLE_COMMIT_S
        )

    async def _dispatch(
        self, messages: Sequence[Message], this_round: Round, busy: dict[str, Processor]
    ) -> None:
        """Give each processor the messages of its topics, in the order of their arrival."""
        for topic, of_topic in groupby(messages, key=lambda message: message.topic):
            input_topic = self._inputs[self._topics[topic]]
            found: Sequence[Message] = list(of_topic)
            if not self._is_lethal(found[0]):  # which nothing may look into
                found = self._placement.place(found, input_topic, this_round)
            processors = self._by_topic[topic]
            busy |= {processor.name: processor for processor in processors}
            admitted = []
            for message in found:
                result = self._admit(message, this_round)
                if isinstance(result, Admitted):
                    admitted.append(result)
                elif result is not None:
                    for processor in processors:
                        await processor.refuse(message, this_round)
            for processor in processors if admitted else ():
                await processor.process(admitted, this_round)
        await asyncio.sleep(0)  # lets the consumer and the other tasks run

    def _admit(self, message: Message, this_round: Round) -> Admitted | DeadLetter | None:
        """Return a message that has passed the gate, or its dead letter; send what letter it has.

        None for a tombstone.
        """
        error = self._bulkhead.error_of(message)
        if error is None:
            result = self._gate.admit(message)
        else:
            result = dead_letter(message, DeadLetterReason.FAILED, error)
        letter = result.letter if isinstance(result, Admitted) else result
        if letter is not None:
            self._metrics.refused[self._topics[message.topic], letter.reason] += 1
            this_round.send(letter)
        return result

    async def _tick(self, this_round: Round, busy: dict[str, Processor]) -> None:
        for processor in self._processors:
            if processor.tick_s is not None:
                ticked_s = self._ticked_s[processor.name]
                if _now_s() >= ticked_s + processor.tick_s_of(self.number):
                    self._ticked_s[processor.name] = _now_s()
                    now_us = self._process.now_us()
                    if not processor.needs_tick(self.number, now_us):
                        continue
                    before = len(this_round)
                    busy[processor.name] = processor
                    if processor.needs_time(self.number, now_us):
                        this_round.read_until_us = await self._read_until_us()
                    await processor.tick(this_round)
                    this_round.must_end |= len(this_round) > before

    def _next_tick_s(self) -> float:
        return min(
            (
                self._ticked_s[p.name] + p.tick_s_of(self.number)
                for p in self._processors
                if p.tick_s is not None
            ),
            default=float("inf"),
        )

    async def _wait_until(self, at_s: float) -> None:
        self._arrived.clear()
        if self._interruption is not None:
            return
        try:
            async with asyncio.timeout_at(max(at_s, _now_s() + 0.001)):
                await self._arrived.wait()
        except TimeoutError:
            return

    def _has_uncommitted(self) -> bool:
        """Whether offsets have waited for their commit for a while.

        Markers of transactions move the position of a partition without a message.
        """
        if _now_s() - self._progress_s < _IDLE_COMMIT_S or not self._queue.is_empty:
            return False
        self._progress_s = _now_s()
        self._next |= self._received  # nothing waits, so all that was added is processed
        return self._changed_offsets() != {}

    def _changed_offsets(self) -> dict[TopicPartition, int]:
        return {
            where: offset
            for where, offset in self._next.items()
            if offset != self._committed[where]
        }

    async def _commit(self, writer: Writer, this_round: Round) -> None:
        changed = self._changed_offsets()
        if not changed and not len(this_round):
            return
        began_s = _now_s()
        marks = {where: mark_of(message) for where, message in self._last.items()}
        self._last.clear()
        positions = self._positions(marks)
        offsets = self._offsets()
        note = self._deaths.note(offsets)
        row = self._row(writer, positions, note)
        await self._write(writer, *this_round.records, row, offsets=changed)
        self._saved = positions
        self._deaths.wrote(note, offsets)
        self._committed |= changed
        self._bulkhead.forget_before(self._committed)
        for where, mark in marks.items():
            self._trails[where].add(mark)
        self._progress_s = _now_s()
        self._metrics.observe_transaction(_now_s() - began_s, len(this_round))
        self._spans.committed(len(this_round))

    async def _write(
        self,
        writer: Writer,
        *records: OutgoingRecord,
        offsets: Mapping[TopicPartition, int] = MappingProxyType({}),
    ) -> None:
        """Commit a transaction.

        Raises:
            Fenced, RecordRefused, TransactionFailed: see `Writer.commit`.
        """
        self.is_committing = True
        within_s = _COMMIT_S[min(self._unanswered, len(_COMMIT_S) - 1)]
        try:
            async with asyncio.timeout(within_s):
                await writer.commit(records, offsets)
            self._unanswered = 0
        except TimeoutError as error:
            self._unanswered += 1
            raise TransactionFailed(f"no answer within {within_s:g} s") from error
        finally:
            self.is_committing = False

    def _row(
        self, writer: Writer, positions: Sequence[TopicPosition], note: Note
    ) -> OutgoingRecord:
        handled = note.handled or Place("", -1)
        row = ProcessorPositions(
            partition=self.number,
            epoch=writer.epoch,
            positions=positions,
            event_time_us=self._process.now_us(),
            worker=note.worker,
            zones=note.zones,
            handled_topic=handled.topic,
            handled_offset=handled.offset,
        )
        topic = self._process.written_prefix + PROCESSOR_POSITIONS.name
        key = self._process.positions_key(self.number)
        return OutgoingRecord(topic, key, encode(row), self.number)

    def _positions(self, marks: Mapping[TopicPartition, RecordMark]) -> Sequence[TopicPosition]:
        positions = []
        for name, catalogue in self._topics.items():
            where = TopicPartition(name, self.number)
            log = self._logs[catalogue]
            next_offset, row_limit = self._next[where], self._row_limits[catalogue]
            position = TopicPosition(
                catalogue,
                log.topic_id,
                log.leader_epoch,
                next_offset,
                row_limit if row_limit > next_offset else 0,
            )
            last = marks.get(where) or self._trails[where].last
            if last is not None:
                position = position._replace(
                    last_offset=last.offset,
                    last_append_ms=last.append_ms,
                    last_crc32=last.crc32,
                )
            positions.append(position)
        return positions

    async def see_leaders(self, epochs: Mapping[TopicPartition, int]) -> None:
        """Compare partitions that have a new leader with what was processed of them.

        A log loses its end only where another leader begins. If one has, the task starts again.

        Args:
            epochs: the present leader epochs, without those of partitions that have no leader.
        """
        starts = self.starts
        for where in self.partitions:
            epoch, known = epochs.get(where, -1), self._logs[self._topics[where.topic]]
            if -1 in (epoch, known.leader_epoch):
                continue
            if epoch != known.leader_epoch:
                reused = await self._kafka.find_reused(where, self._trails[where].marks)
                if self.starts != starts or not self.is_fetching:
                    return
                if reused is not None:
                    self.restart(f"{where.topic}/{where.partition} has lost its end")
                    return
                self._logs[self._topics[where.topic]] = known._replace(leader_epoch=epoch)
            self._trails[where].confirm()


class _Stopped(Exception):
    """The task has been asked to end."""


def _sample(messages: Sequence[Message], this_round: Round) -> None:
    """Note how long the first message of a round has taken until here."""
    if this_round.taken_s is not None:
        return
    this_round.taken_s, message = _now_s(), messages[0]
    COUNTS.stages.observe_record(
        Stage.LOG_TO_PROCESSOR, message.timestamp, message.headers or (), time.time()
    )


def _now_s() -> float:
    return asyncio.get_running_loop().time()
