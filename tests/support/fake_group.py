"""A cluster and a consumer group in memory, for workers on virtual time.

It keeps Kafka's promises about transactions: a writer that was replaced is fenced, a transaction is
applied as a whole or not at all, and the offsets are part of it. A member can be frozen, as a
process by SIGSTOP: its calls then take until it thaws, and the group goes on without it.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

from kafka_io.dead_letters import Message
from kafka_io.errors import Fenced, OffsetLost, TransactionFailed, Unread
from kafka_io.group import FetchedRecords
from kafka_io.transactions import OutgoingRecord
from schemas.codec import decode
from schemas.events import CandleState, DeadLetter, InputGap, ProcessorPositions, UserUpdate
from schemas.topics import (
    DEAD_LETTERS,
    MARKET_FORMING,
    MARKET_TRADES,
    PARTITIONS,
    PROCESSOR_POSITIONS,
    USER_UPDATES,
    Topic,
    TopicPartition,
)
from stream_processors.log_marks import RecordMark, find_cut, mark_of, saved_mark
from stream_processors.messages import Admitted, admitted
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Processor, Round, Rows
from stream_processors.stream_task import LogState, Process, Recovered, StreamTask
from stream_processors.worker import Worker
from tests.support.messages import FakeMessage

INPUT, STATES, OUTPUT = MARKET_TRADES, MARKET_FORMING, USER_UPDATES
NUMBERS = 3


class RunningTotals(Processor):
    """Adds numbers up by key: each message causes one event with the key's total so far."""

    def __init__(self, linger_s: float = 0.02, tick_s: float | None = None) -> None:
        super().__init__("totals", (INPUT,), (STATES,), linger_s=linger_s, tick_s=tick_s)
        self._totals: dict[int, dict[str, int]] = {}
        self.recoveries = 0
        self.gaps: list[InputGap] = []

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        del row_limits
        self.recoveries += 1
        self._totals[number] = {
            row.symbol: row.next
            for row in rows[STATES.name].values()
            if isinstance(row, CandleState)
        }

    def report_gap(self, gap: InputGap, this_round: Round) -> None:
        del this_round
        self.gaps.append(gap)

    def forget(self, number: int) -> None:
        self._totals.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        totals = self._totals[this_round.number]
        for message in messages:
            key = (message.key or b"").decode()
            totals[key] = totals.get(key, 0) + int(message.value or b"0")
            text = f'"{message.offset}:{totals[key]}"'
            this_round.send(
                UserUpdate(user_id=key, kind="update", data=text, event_time_us=message.offset)
            )
            state = total_row(key, totals[key], message.offset)
            this_round.put(STATES, key.encode(), state)


def total_row(key: str, total: int, offset: int) -> CandleState:
    """Return the row of a key's total after the message at an offset."""
    return CandleState(symbol=key, next=total, watermark_us=offset, forming=[])


class FakeGate:
    """Admits every message; its processor reads the value itself."""

    def admit(self, message: Message) -> Admitted:
        return admitted(message, total_row("", 0, 0))


class FakeCluster:
    """Topics, committed offsets and the epochs of transactional ids."""

    def __init__(self, seed: int = 0, slowest_s: float = 0.02) -> None:
        self.dice = Random(seed)
        self.slowest_s = slowest_s
        self.hiccups_s: Sequence[float] = (0, 0, 0, 1.0)
        """Delays of a fetch, before and after it is done."""
        self.inputs: dict[int, list[FakeMessage]] = {number: [] for number in range(NUMBERS)}
        self.begins = dict.fromkeys(range(NUMBERS), 0)
        self.topic_id = "00" * 16
        self.leader_epoch = 0
        self.appended_ms = 0
        """The broker's clock, which only moves when it appends a message."""
        self.outputs: list[tuple[int, OutgoingRecord]] = []
        """The committed events, each with its partition number."""
        self.rows: dict[tuple[str, int], dict[bytes, Any]] = defaultdict(dict)
        self.committed: dict[tuple[str, int], int] = {}
        self.epochs: dict[int, int] = defaultdict(int)
        self.failures = 0
        """How many of the next commits fail, after they were applied or before."""
        self.is_away = False
        self.answers_after_s: list[float] = []
        """How long each of the next commits waits for its answer."""
        self.processes = 0
        self.writes = 0
        """The transactions that were tried."""

    def append(self, number: int, key: str, value: int, traceparent: str | None = None) -> None:
        """Append a number to an input partition."""
        log = self.inputs[number]
        offset = log[-1].offset + 1 if log else self.begins[number]
        text = str(value).encode()
        self.appended_ms += 1
        at_s = self.appended_ms / 1000
        headers = None if traceparent is None else [("traceparent", traceparent.encode())]
        log.append(FakeMessage(INPUT.name, number, offset, key.encode(), text, headers, at_s))

    def tear(self, number: int, end: int) -> None:
        """Let a partition lose its messages from an offset on, as a broker without power does."""
        log = self.inputs[number]
        self.inputs[number] = [message for message in log if message.offset < end]
        self.leader_epoch += 1

    def recreate(self) -> None:
        """Delete the input topic, and make it again."""
        self.topic_id = "11" * 16
        self.inputs = {number: [] for number in range(NUMBERS)}

    def end(self, number: int) -> int:
        log = self.inputs[number]
        return log[-1].offset + 1 if log else self.begins[number]

    async def done(self) -> None:
        """Wait until everything was processed."""
        async with asyncio.timeout(600):
            while not self.is_done:  # noqa: ASYNC110  # in virtual time
                await asyncio.sleep(0.1)

    @property
    def is_done(self) -> bool:
        """Whether everything was processed."""
        return all(
            self.committed.get((INPUT.name, number), 0) >= self.end(number)
            for number in range(NUMBERS)
        )


class FakeMember:
    """One worker of the group, with its own connection to the cluster."""

    def __init__(self, cluster: FakeCluster, processor: Processor | None = None) -> None:
        self.cluster = cluster
        self.processor = processor or RunningTotals()
        cluster.processes += 1
        self.process = Process(f"process {cluster.processes}", "", 20, lambda: 0)
        self.metrics = WorkerMetrics()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.listener: Any = None
        self.joined = asyncio.Event()
        self.ready = 0
        self.began_commit = asyncio.Event()
        self._positions: dict[TopicPartition, int] = {}
        self._lost: set[TopicPartition] = set()
        self.refusal: Unread | None = None
        """The group's answer to each further fetch."""
        self.fetches = 0
        inputs = {INPUT.name: replace(INPUT, partitions=NUMBERS)}
        self.worker = Worker(self, inputs, PARTITIONS, self._task, self._leader_epochs, self._ready)

    def _ready(self) -> None:
        self.ready += 1

    def _task(self, number: int) -> StreamTask:
        return StreamTask(
            number,
            {INPUT.name: INPUT.name},
            [self.processor],
            self,
            FakeGate(),
            self.metrics,
            self.process,
        )

    async def _slow(self) -> None:
        await self.thawed.wait()
        await asyncio.sleep(self.cluster.dice.uniform(0, self.cluster.slowest_s))
        await self.thawed.wait()

    # The group's consumer.

    async def join(self, topics: Sequence[str], listener: Any) -> None:
        assert topics == [INPUT.name]
        self.listener = listener
        self.joined.set()

    async def fetch(
        self, partitions: Sequence[TopicPartition], within_s: float
    ) -> Mapping[TopicPartition, FetchedRecords]:
        await self._slow()
        self.fetches += 1
        if self.refusal is not None:
            raise self.refusal
        # Now and then a task starts again while this fetch is under way, or before it is heard of.
        await asyncio.sleep(self.cluster.dice.choice(self.cluster.hiccups_s))
        if lost := self._lost & set(partitions):  # as aiokafka, nothing of other partitions
            self._lost -= lost
            raise OffsetLost("lost", tuple(lost))
        found: dict[TopicPartition, FetchedRecords] = {}
        for where in partitions:
            position = self._positions.get(where)
            if position is None or self.cluster.is_away:
                continue
            log = self.cluster.inputs[where.partition]
            if position > self.cluster.end(where.partition):
                self._lost.add(where)
                continue
            messages = [message for message in log if message.offset >= position][
                : self.cluster.dice.randint(1, 7)
            ]
            if messages:
                self._positions[where] = messages[-1].offset + 1
                records: Any = messages
                found[where] = FetchedRecords(records, self._positions[where])
        if not found:
            await asyncio.sleep(within_s / 4)
        await asyncio.sleep(self.cluster.dice.choice(self.cluster.hiccups_s))
        return found

    # What a task needs.

    @asynccontextmanager
    async def open_writer(self, number: int) -> AsyncGenerator["FakeWriter"]:
        await self._slow()
        if self.cluster.is_away:
            raise TransactionFailed("away")
        self.cluster.epochs[number] += 1
        yield FakeWriter(self, number, self.cluster.epochs[number], self._slow)

    async def recover(self, number: int, marks: Mapping[str, Sequence[RecordMark]]) -> Recovered:
        await self._slow()
        cluster = self.cluster
        if cluster.is_away:
            raise Unread("away")
        saved = cluster.rows[PROCESSOR_POSITIONS.name, number].get(str(number).encode())
        log = LogState(
            cluster.topic_id, cluster.leader_epoch, cluster.begins[number], cluster.end(number)
        )
        positions = saved.positions if isinstance(saved, ProcessorPositions) else ()
        if positions and positions[0].topic_id == log.topic_id:
            known = {*marks.get(INPUT.name, ()), saved_mark(positions[0])} - {None}
            where = TopicPartition(INPUT.name, number)
            log = log._replace(reused=await self.find_reused(where, sorted(filter(None, known))))
        found = Recovered(
            rows={STATES.name: dict(cluster.rows[STATES.name, number])},
            saved=saved if isinstance(saved, ProcessorPositions) else None,
            committed={INPUT.name: cluster.committed.get((INPUT.name, number))},
            logs={INPUT.name: log},
        )
        await self._slow()
        return found

    async def find_reused(self, where: TopicPartition, marks: Sequence[RecordMark]) -> int | None:
        await self._slow()
        log = self.cluster.inputs[where.partition]
        end = self.cluster.end(where.partition)
        cut = find_cut(marks, {message.offset: mark_of(message) for message in log}, end)
        if cut is None:
            return None
        newer = [at.offset for at in log if mark_of(at).append_ms > cut.append_ms]
        return min([cut.offset, end, *newer])

    async def read_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        await self._slow()
        return {where: self.cluster.end(where.partition) for where in partitions}

    async def _leader_epochs(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, int]:
        await self._slow()
        return dict.fromkeys(partitions, self.cluster.leader_epoch)

    def start_fetching(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._positions |= offsets


class FakeWriter:
    """The writer of a partition number, until there is a later one."""

    def __init__(
        self, member: FakeMember, number: int, epoch: int, slow: Callable[[], Any]
    ) -> None:
        self._member, self._cluster = member, member.cluster
        self._number = number
        self.epoch = epoch
        self._slow = slow

    async def commit(
        self, records: Sequence[OutgoingRecord], offsets: Mapping[TopicPartition, int]
    ) -> None:
        cluster = self._cluster
        cluster.writes += 1
        self._member.began_commit.set()
        if cluster.answers_after_s:
            await asyncio.sleep(cluster.answers_after_s.pop(0))
        await self._slow()
        self._refuse()
        fails = cluster.failures > 0
        cluster.failures -= fails
        if fails and cluster.dice.random() < 0.5:  # a coin
            raise TransactionFailed("before it was applied")
        for record in records:
            topic = _topic(record.topic)
            if topic in (OUTPUT, DEAD_LETTERS):
                cluster.outputs.append((self._number, record))
            else:
                assert record.partition == self._number
                row = None if record.value is None else decode(record.value)
                cluster.rows[topic.name, self._number][record.key or b""] = row
        cluster.committed |= {(topic, number): at for (topic, number), at in offsets.items()}
        await self._slow()
        if fails:
            raise TransactionFailed("after it was applied")

    def _refuse(self) -> None:
        if self._cluster.epochs[self._number] != self.epoch:
            raise Fenced("there is a later writer")
        if self._cluster.is_away:
            raise TransactionFailed("away")


def _topic(name: str) -> Topic:
    return next(
        topic for topic in (OUTPUT, STATES, PROCESSOR_POSITIONS, DEAD_LETTERS) if topic.name == name
    )


def straight(cluster: FakeCluster, without: Container[tuple[int, int]] = ()) -> list[str]:
    """Return the events that the inputs cause, by partition number and offset.

    Args:
        cluster: has the inputs.
        without: the partition numbers and offsets of messages that cause none.
    """
    expected = []
    for number, log in cluster.inputs.items():
        totals: dict[bytes, int] = defaultdict(int)
        for message in log:
            if (number, message.offset) in without:
                continue
            totals[message.key or b""] += int(message.value or b"0")
            expected.append(f"{number}/{message.offset}:{totals[message.key or b'']}")
    return expected


def written(cluster: FakeCluster) -> list[str]:
    """Return the committed events, in the same words, partition number by partition number."""
    found = []
    for number, record in cluster.outputs:
        event = decode(record.value)
        if isinstance(event, DeadLetter):
            continue
        assert isinstance(event, UserUpdate)
        found.append(f"{number}/{json.loads(event.data)}")
    return sorted(found, key=lambda text: int(text.partition("/")[0]))
