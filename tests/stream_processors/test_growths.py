"""Where records are processed, and which states move, through growths of the topics."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from kafka_io.client import partition_of
from kafka_io.dead_letters import Message
from kafka_io.transactions import OutgoingRecord
from schemas.codec import encode
from schemas.events import (
    AlertAck,
    PortfolioState,
    Return,
    ReturnBatch,
    RiskLimits,
    SeriesWanted,
    TopicGrowth,
    TopicPosition,
)
from schemas.gate import admit_or_none
from schemas.keys import encode_key
from schemas.topics import (
    MARKET_TRADES,
    PARTITIONS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_REBUILDS,
    RISK_WANTED,
    Topic,
    TopicPartition,
)
from stream_processors.agents.risk import Risk
from stream_processors.errors import GrowthRefused, TopicGrown
from stream_processors.gate import RecordGate
from stream_processors.growths import (
    GROWING,
    Growths,
    Placement,
    grown_text,
    moves_of,
    moving_records,
    partitions_of,
)
from stream_processors.log_marks import RecordMark
from stream_processors.metrics import WorkerMetrics
from stream_processors.processor import Processor, Round, Rows
from stream_processors.settings import ProcessorSettings
from stream_processors.stream_task import LogState, Process, Recovered, StreamTask
from tests.support.messages import FakeMessage, message

ID, OTHER_ID = "aa", "bb"
NAMES = [f"p{number}" for number in range(12)]


def growth(new_count: int, old_count: int = PARTITIONS, *, is_done: bool = True) -> TopicGrowth:
    return TopicGrowth(old_count=old_count, new_count=new_count, is_done=is_done, event_time_us=0)


def moved(whole: TopicGrowth, partition: int, offset: int) -> TopicGrowth:
    """Return the row of a partition number that has read each topic up to an offset."""
    topics = (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_ACKS, RISK_WANTED)
    positions = [TopicPosition(topic.name, ID, 0, offset) for topic in topics]
    return replace(whole, partition=partition, positions=positions, is_done=False)


def grown(offset: int = 5) -> Growths:
    """Return a growth from 6 to 12 whose partition numbers had all read up to an offset."""
    whole = growth(12)
    return Growths([whole, *(moved(whole, number, offset) for number in range(PARTITIONS))])


def portfolio(home: int, count: int) -> str:
    """Return the name of a portfolio with a home among `count` partitions."""
    names = (f"n{number}" for number in range(10_000))
    return next(name for name in names if partition_of(name.encode(), count) == home)


STAYS, MOVES = portfolio(3, 12), portfolio(9, 12)
"""Two portfolios that were in partition 3 of 6; the second one is in partition 9 of 12."""


def place(
    growths: Growths, topic: Topic, *messages: FakeMessage, topic_id: str = ID
) -> tuple[Sequence[Message], Round]:
    this_round = Round(messages[0].partition, "")
    placement = Placement(growths, {topic.name: topic_id})
    return placement.place(messages, topic, this_round), this_round


def batch(*names: str) -> ReturnBatch:
    return ReturnBatch(returns=[Return(name, number, 0.5) for number, name in enumerate(names)])


def test_the_topics_that_grow_are_those_that_portfolios_are_measured_from() -> None:
    risk = Risk(ProcessorSettings())
    assert {*risk.inputs, *risk.states} <= set(GROWING)
    assert {partitions_of(topic, 48) for topic in GROWING} == {48}
    assert partitions_of(MARKET_TRADES, 48) == PARTITIONS


def test_without_growths_the_catalogues_count_is_in_force_and_nothing_moves() -> None:
    growths = Growths()
    assert not growths
    assert growths.count == PARTITIONS
    growths.check(0, PARTITIONS)
    read = message(PORTFOLIO_RETURNS, batch(MOVES), 9, partition=3)
    assert place(growths, PORTFOLIO_RETURNS, read)[0] == (read,)


def test_a_growth_is_in_force_when_it_is_done() -> None:
    whole = growth(12, is_done=False)
    growths = Growths([whole, moved(whole, 0, 5)])
    assert growths.count == PARTITIONS
    assert growths.unfinished == whole
    growths.check(1, PARTITIONS)
    with pytest.raises(TopicGrown, match="from 6 to 12 partitions since this process started"):
        growths.check(0, PARTITIONS)
    growths = grown()
    assert (growths.count, growths.unfinished) == (12, None)
    growths.check(0, 12)
    with pytest.raises(TopicGrown, match="start it again"):
        growths.check(1, PARTITIONS)


def test_a_rebuild_leaves_out_what_has_been_forwarded() -> None:
    early, late = (
        message(PORTFOLIO_RETURNS, batch(MOVES), offset, partition=3) for offset in (4, 5)
    )
    found, this_round = place(grown(5).past(), PORTFOLIO_RETURNS, early, late)
    assert list(found) == [early]
    assert not this_round.records
    grown(5).past().check(1, 12)


def test_moved_states_are_written_and_deleted() -> None:
    moves = {MOVES.encode(): PortfolioState(portfolio_id=MOVES, offset=-1, index=-1, partition=9)}
    written, deleted = moving_records("x.risk.state", 3, moves)
    assert (written.topic, written.key, written.partition) == ("x.risk.state", MOVES.encode(), 9)
    assert (deleted.topic, deleted.key, deleted.value, deleted.partition) == (
        *("x.risk.state", MOVES.encode()),
        *(None, 3),
    )


def test_a_batch_of_returns_is_divided() -> None:
    read = message(PORTFOLIO_RETURNS, batch(STAYS, MOVES, STAYS), 5, partition=3)
    [here], this_round = place(grown(), PORTFOLIO_RETURNS, read)
    assert (here.topic, here.partition, here.offset, here.key) == read[:4]
    kept = admit_or_none(ReturnBatch, here.value)
    assert kept is not None
    assert list(kept.returns) == [Return(STAYS, 0, 0.5), Return(STAYS, 2, 0.5)]
    [forwarded] = this_round.records
    assert (forwarded.topic, forwarded.partition) == (PORTFOLIO_RETURNS.name, 9)
    rest = admit_or_none(ReturnBatch, forwarded.value)
    assert rest is not None
    assert list(rest.returns) == [Return(MOVES, 1, 0.5)]


def test_a_tenants_portfolios_move_by_their_own_keys() -> None:
    names = [f"n{number}" for number in range(100)]
    stays, moves = (
        next(name for name in names if partition_of(encode_key(name, "t"), 12) == home)
        for home in (3, 9)
    )
    read = message(PORTFOLIO_RETURNS, batch(stays, moves), 5, partition=3, tenant="t")
    [here], this_round = place(grown(), PORTFOLIO_RETURNS, read)
    kept = admit_or_none(ReturnBatch, here.value)
    assert kept is not None
    assert [value.portfolio_id for value in kept.returns] == [stays]
    [forwarded] = this_round.records
    assert (forwarded.partition, list(forwarded.headers)) == (9, [("tenant", b"t")])


def test_a_batch_whose_portfolios_have_stayed_is_passed_on_as_it_is() -> None:
    reads = [
        message(PORTFOLIO_RETURNS, batch(STAYS), 5, partition=3),
        message(PORTFOLIO_RETURNS, batch(), 6, partition=3),
        message(PORTFOLIO_RETURNS, b"nonsense", 7, partition=3),
    ]
    found, this_round = place(grown(), PORTFOLIO_RETURNS, *reads)
    assert list(found) == reads
    assert len(this_round) == 0


@pytest.mark.parametrize(
    ("topic", "record"),
    [
        (RISK_LIMITS, RiskLimits(portfolio_id=MOVES, limits=(), event_time_us=0)),
        (RISK_ACKS, AlertAck(alert_id="a", entity_id=MOVES, event_time_us=0)),
        (RISK_WANTED, SeriesWanted(series_id=MOVES, root="r", wanted=True, event_time_us=0)),
    ],
)
def test_a_record_about_a_portfolio_that_has_moved_is_forwarded(
    topic: Topic, record: RiskLimits
) -> None:
    read = message(topic, record, 5, partition=3)
    found, this_round = place(grown(), topic, read)
    assert list(found) == []
    [forwarded] = this_round.records
    assert forwarded[:4] == (topic.name, MOVES.encode(), encode(record), 9)


def test_a_record_about_a_book_stays_with_its_tree() -> None:
    limits = RiskLimits(portfolio_id=MOVES, entity_type="book", limits=(), event_time_us=0)
    ack = AlertAck(
        alert_id="9e0d63fd-5b2c-4f0c-8f6a-6d5f4a2b1c00",
        entity_id=MOVES,
        entity_type="book",
        event_time_us=0,
    )
    for topic, record in ((RISK_LIMITS, limits), (RISK_ACKS, ack)):
        received = message(topic, record, 5, partition=3)._replace(key=MOVES.encode())
        found, this_round = place(grown(), topic, received)
        assert (found, len(this_round)) == ([received], 0)


def test_a_record_from_before_the_growth_has_been_processed() -> None:
    read = message(PORTFOLIO_RETURNS, batch(STAYS, MOVES), 4, partition=3)
    [here], this_round = place(grown(), PORTFOLIO_RETURNS, read)
    assert here.value == encode(ReturnBatch(returns=[Return(STAYS, 0, 0.5)]))
    assert len(this_round) == 0
    anew = place(grown(), PORTFOLIO_RETURNS, read, topic_id=OTHER_ID)[1]
    assert [record.partition for record in anew.records] == [9]


def test_a_record_of_another_partitioner_is_processed_where_it_is() -> None:
    read = message(PORTFOLIO_RETURNS, batch(MOVES), 5, partition=4)
    assert list(place(grown(), PORTFOLIO_RETURNS, read)[0]) == [read]


def test_a_rebuild_of_a_partition_number_concerns_only_that_number() -> None:
    read = FakeMessage(RISK_REBUILDS.name, 3, 9, None, b"")
    assert list(place(grown(), RISK_REBUILDS, read)[0]) == [read]


def test_a_state_that_moves_has_read_nothing_of_its_new_partition() -> None:
    rows = {
        name.encode(): PortfolioState(
            portfolio_id=name, offset=7, index=2, limits_offset=3, acks_offset=1, partition=3
        )
        for name in (STAYS, MOVES)
    }
    moves = moves_of(rows, 3, growth(12))
    assert moves == {
        MOVES.encode(): PortfolioState(portfolio_id=MOVES, offset=-1, index=-1, partition=9)
    }
    with pytest.raises(GrowthRefused, match="is in partition 4, where Kafka's default partition"):
        moves_of(rows, 4, growth(12))


def test_a_worker_names_the_command_where_it_helps() -> None:
    text = grown_text("x.portfolio.returns", PORTFOLIO_RETURNS, 12)
    assert "x.portfolio.returns does not have the 12 partitions" in text
    assert "`tapewire topics grow COUNT` with a multiple of 12" in text
    assert "move its data to a new topic" in grown_text("market.trades", MARKET_TRADES, 12)


class SeenLimits(Processor):
    """Keeps the limits that it is given."""

    def __init__(self) -> None:
        super().__init__("limits", (RISK_LIMITS,))
        self.offsets: list[int] = []

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        pass

    def forget(self, number: int) -> None:
        pass

    async def process(self, messages: Sequence[Message], this_round: Round) -> None:
        assert this_round.number == 3
        self.offsets += [message.offset for message in messages]


class Commits:
    """Kafka, as far as one task needs it: keeps what is committed."""

    epoch = 1

    def __init__(self) -> None:
        self.records: list[OutgoingRecord] = []
        self.offsets: dict[TopicPartition, int] = {}
        self.committed = asyncio.Event()

    @asynccontextmanager
    async def open_writer(self, number: int) -> AsyncGenerator["Commits"]:
        assert number == 3
        yield self

    async def recover(self, number: int, marks: Mapping[str, Sequence[RecordMark]]) -> Recovered:
        assert (number, marks) == (3, {})
        logs = {RISK_LIMITS.name: LogState(ID, 0, 0, 9)}
        return Recovered({}, None, {RISK_LIMITS.name: 5}, logs, grown())

    async def find_reused(self, where: TopicPartition, marks: Sequence[RecordMark]) -> int | None:
        raise AssertionError((where, marks))

    async def read_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        raise AssertionError(partitions)

    def start_fetching(self, offsets: Mapping[TopicPartition, int]) -> None:
        pass

    async def commit(
        self, records: Sequence[OutgoingRecord], offsets: Mapping[TopicPartition, int]
    ) -> None:
        self.records += records
        self.offsets |= offsets
        if offsets:  # the row that names the process is written before
            self.committed.set()


@pytest.mark.virtual_time
async def test_a_task_forwards_in_the_transaction_of_the_offset() -> None:
    kafka, processor = Commits(), SeenLimits()
    task = StreamTask(
        3,
        {RISK_LIMITS.name: RISK_LIMITS.name},
        [processor],
        kafka,
        RecordGate({RISK_LIMITS.name: RISK_LIMITS}, lambda _: 12),
        WorkerMetrics(),
        Process("a", "", 10, lambda: 0),
    )
    reads = [
        message(
            RISK_LIMITS,
            RiskLimits(portfolio_id=name, limits=(), event_time_us=0),
            5 + index,
            partition=3,
        )
        for index, name in enumerate((STAYS, MOVES))
    ]
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(task.run())
        await task.recovered.wait()
        task.add(TopicPartition(RISK_LIMITS.name, 3), reads, 7)
        await kafka.committed.wait()
        running.cancel()
    assert processor.offsets == [5]
    assert kafka.offsets == {(RISK_LIMITS.name, 3): 7}
    assert [(record.topic, record.partition) for record in kafka.records] == [
        (PROCESSOR_POSITIONS.name, 3),
        (RISK_LIMITS.name, 9),
        (PROCESSOR_POSITIONS.name, 3),
    ]


Ticks = Sequence[Sequence[str]]
"""The portfolios that have a return in each of some ticks."""


class System:
    """Producers, partitions, and states that hold the values that they have read."""

    def __init__(self) -> None:
        self.count = PARTITIONS
        self.is_past = False
        """Whether this is a rebuild."""
        self.rows: list[TopicGrowth] = []
        self.logs: dict[int, list[ReturnBatch]] = defaultdict(list)
        self.read: dict[int, int] = defaultdict(int)
        self.states: dict[int, dict[bytes, PortfolioState]] = defaultdict(dict)
        self.sent: dict[str, list[float]] = defaultdict(list)

    def send(self, names: Sequence[str], count: int) -> None:
        """Send a return of each portfolio, by a producer that knows `count` partitions."""
        batches: dict[int, list[Return]] = defaultdict(list)
        for name in names:
            value = float(len(self.sent[name]))
            self.sent[name].append(value)
            batches[partition_of(name.encode(), count)].append(Return(name, 0, value))
        for home, returns in batches.items():
            self.logs[home].append(ReturnBatch(returns=returns))

    def process(self, numbers: range) -> None:
        """Process the records of partition numbers, and what they forward to them."""
        placement = {
            number: Placement(
                Growths(self.rows, is_past=self.is_past), {PORTFOLIO_RETURNS.name: ID}
            )
            for number in numbers
        }
        while unread := [n for n in numbers if self.read[n] < len(self.logs[n])]:
            number, offset = unread[0], self.read[unread[0]]
            self.read[number] += 1
            read = message(PORTFOLIO_RETURNS, self.logs[number][offset], offset, partition=number)
            this_round = Round(number, "")
            for here in placement[number].place([read], PORTFOLIO_RETURNS, this_round):
                self._apply(number, here.value)
            for record in this_round.records:
                assert record.partition is not None
                forwarded = admit_or_none(ReturnBatch, record.value)
                assert forwarded is not None
                self.logs[record.partition].append(forwarded)

    def _apply(self, number: int, value: bytes | None) -> None:
        decoded = admit_or_none(ReturnBatch, value)
        assert decoded is not None
        for observation in decoded.returns:
            name = observation.portfolio_id
            state = self.states[number].get(
                name.encode(), PortfolioState(portfolio_id=name, offset=0, index=0)
            )
            self.states[number][name.encode()] = replace(
                state, values=[*state.values, observation.value]
            )

    def grow(
        self, factor: int, stale: Sequence[Sequence[str]], fresh: Sequence[Sequence[str]]
    ) -> None:
        """Grow while some producers know the new partitions, and others do not yet."""
        whole = growth(self.count * factor, self.count, is_done=False)
        for names in fresh:
            self.send(names, whole.new_count)
        for names in stale:
            self.send(names, whole.old_count)
        self.process(range(whole.old_count))
        self.move(whole)
        for number in range(whole.old_count):
            self.rows.append(moved(whole, number, self.read[number]))
        self.rows.append(replace(whole, is_done=True))
        self.count = whole.new_count

    def rebuilt(self) -> Mapping[int, Mapping[bytes, PortfolioState]]:
        """Return the states that a rebuild computes from the logs, in which all is forwarded."""
        again = System()
        again.logs, again.rows, again.is_past = self.logs, self.rows, True
        for whole in Growths(self.rows).done:
            again.process(range(whole.old_count))
            again.move(whole)
        again.process(range(self.count))
        return again.states

    def move(self, whole: TopicGrowth) -> None:
        """Move the states that belong to new partitions."""
        for number in range(whole.old_count):
            moves = moves_of(self.states[number], number, whole)
            for key, state in moves.items():
                del self.states[number][key]
                assert key not in self.states[state.partition]
                self.states[state.partition][key] = state


sends = st.lists(st.lists(st.sampled_from(NAMES), unique=True), max_size=6)


@given(st.lists(st.tuples(st.integers(2, 3), sends, sends, sends, sends), max_size=2))
def test_each_return_is_applied_once_in_the_one_state_of_its_portfolio(
    steps: list[tuple[int, Ticks, Ticks, Ticks, Ticks]],
) -> None:
    system = System()
    system.send(NAMES, PARTITIONS)
    for factor, before, stale, fresh, late in steps:
        known = system.count
        for names in before:
            system.send(names, known)
        system.grow(factor, stale, fresh)
        for names in late:  # from a producer that still does not know the new partitions
            system.send(names, known)
        system.process(range(system.count))
    system.process(range(system.count))
    found = {
        key.decode(): (number, sorted(state.values))
        for number, states in system.states.items()
        for key, state in states.items()
    }
    assert found == {
        name: (partition_of(name.encode(), system.count), values)
        for name, values in system.sent.items()
    }
    assert system.rebuilt() == system.states


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=30))
def test_a_producer_that_learns_of_the_growth_in_time_has_its_returns_applied_in_order(
    ticks: list[tuple[str, bool]],
) -> None:
    system = System()
    fresh: set[str] = set()
    whole = growth(12, is_done=False)
    for name, learns in ticks:
        # A producer never goes back to the earlier partitions.
        fresh |= {name} if learns else set()
        system.send([name], whole.new_count if name in fresh else whole.old_count)
    system.grow(2, [], [])
    system.process(range(system.count))
    for states in system.states.values():
        for key, state in states.items():
            assert state.values == system.sent[key.decode()]
