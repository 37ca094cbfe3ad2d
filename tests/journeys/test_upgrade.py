"""The processors on the log that those of 0.1.0 have left when they were killed.

The release wrote the states of a batch, then committed its offsets once a second. So most states
are ahead of the committed offsets here, and one portfolio's is not, since the processors died
between two rows.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from kafka_io.client import partition_of
from kafka_io.publisher import Publisher
from kafka_io.reader import count_uncommitted, read_end_offsets, read_keyed, read_table
from schemas.codec import encode
from schemas.events import (
    AlertAck,
    Book,
    BookRisk,
    Candle,
    DashboardUpdate,
    DeadLetter,
    OpenAlert,
    PortfolioState,
    Record,
    ReturnBatch,
    RiskAlert,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    TrainingCommand,
    WindowTally,
)
from schemas.topics import (
    BACKTEST_JOBS,
    CATALOGUE,
    DASHBOARD_BOARDS,
    OPERATOR_ACTIONS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_OPEN,
    RISK_SCENARIOS,
    RISK_STATE,
    TRAINING_COMMANDS,
    TRAINING_TASKS,
    Topic,
    TopicPartition,
    key_of,
)
from stream_processors.rekey import rekey
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings
from stream_processors.tasks import processors_of
from tests.conftest import World
from tests.golden.record_log import (
    COMMITTED_DAYS,
    DAY_US,
    DAYS,
    DEVIATIONS,
    INPUTS,
    STATES,
    TENANTS,
    job_progress,
    publish_returns,
    returns_of,
    task_progress,
    trades_from,
)
from tests.support.release_log import ReleaseLog
from tests.support.straight_run import TopicReader

LAST_DAY = DAYS + 2
OUTPUTS = (
    "risk.measures",
    "risk.alerts",
    "risk.book_risks",
    "market.candles",
    "dashboard.updates",
    "dead.letters",
)


@pytest.fixture(scope="module")
def log() -> ReleaseLog:
    return ReleaseLog("log_0_1_0")


def test_the_log_has_the_topics_that_processors_read_today_but_for_new_ones() -> None:
    processors = processors_of(ProcessorSettings())
    assert set(STATES) == {topic.name for processor in processors for topic in processor.states}
    inputs = {topic.name for processor in processors for topic in processor.inputs}
    assert set(INPUTS) == inputs - {RISK_SCENARIOS.name}


def test_the_log_has_states_that_are_ahead_of_the_committed_offsets(log: ReleaseLog) -> None:
    states: Any = {state.portfolio_id: state for state in log.of_topic("risk.state")}  # type: ignore[attr-defined]
    assert set(states) == set(DEVIATIONS)
    for name, state in states.items():
        committed = log.committed["portfolio.returns"][str(state.partition)]
        is_behind = name == "hedge"
        assert committed == log.end("portfolio.returns", state.partition) - 1
        assert (state.offset < committed) is is_behind
        assert state.observations == (COMMITTED_DAYS if is_behind else DAYS)
    assert states["hedge"].partition == states["wild"].partition
    assert log.of_topic("processor.positions") == []


def straight_state(portfolio_id: str) -> PortfolioState:
    """Return the state after all returns, computed without Kafka and interruptions."""
    risk = PortfolioRisk(portfolio_id, ProcessorSettings().risk_config(), TopicPartition("", 0))
    if portfolio_id == "wild":
        limits = [RiskLimit("var_95", 0.03)]
        risk.set_limits(RiskLimits(portfolio_id="wild", limits=limits, event_time_us=0), 0)
    for day, observation in enumerate(returns_of(portfolio_id, range(LAST_DAY + 1))):
        risk.apply(observation, ReturnOffset(day, 0))
    return risk.pack()


async def wait_until_committed(world: World) -> None:
    settings, group = world.producer_settings, f"{world.prefix}tapewire"
    topics = [topic for topic in CATALOGUE if topic.name in INPUTS]
    async with asyncio.timeout(90):
        while await count_uncommitted(await read_end_offsets(topics, settings), group, settings):
            continue


def of_kind(records: list[Record], kind: type[Any]) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_processors_continue_from_the_log_of_0_1_0(world: World, log: ReleaseLog) -> None:
    await log.restore(world)
    place = {"bootstrap_servers": world.kafka.bootstrap_servers, "topic_prefix": world.prefix}
    said: list[str] = []
    await rekey(ProcessorSettings().model_copy(update=place), said.append)
    assert sum("1 states have moved" in line for line in said) == 2  # of `rented`, and of a board
    (action,) = await states_of(world, OPERATOR_ACTIONS)  # the row of the audit
    assert (action.action, action.subject) == ("rekey", "keys of tenants")
    async with TopicReader(world, *OUTPUTS) as reader:
        await world.worker(batch_within_s=0.05)
        async with Publisher(world.producer_settings) as publisher:
            for event in (task_progress(75), job_progress(75, "progress"), trades_from(10)):
                await publisher.publish(event)
        await publish_returns(world.producer_settings, range(DAYS, LAST_DAY + 1))
        await wait_until_committed(world)
        await reader.until(lambda _: is_complete(reader, log))
    assert_portfolios_continue(await states_of(world, RISK_STATE), log)
    assert_measured_once(of_kind(reader.records, RiskMeasure))
    assert of_kind(reader.records, RiskAlert) == log.of_topic("risk.alerts")
    letters = of_kind(reader.records, DeadLetter)
    assert {letter.reason for letter in letters} <= {"foreign", "wrong_partition"}
    assert_runs_continue(await states_of(world, TRAINING_TASKS, BACKTEST_JOBS))
    assert_candles_continue(of_kind(reader.records, Candle))
    assert_books_continue(await states_of(world, RISK_BOOK_STATE))
    assert counted_returns(reader.of_tenant("acme")) == expected_returns(log, "acme")
    boards = await states_of(world, DASHBOARD_BOARDS)
    assert {board.board for board in boards} == {"", "acme"}
    assert_positions_are_saved(await states_of(world, PROCESSOR_POSITIONS))
    assert "ERROR" not in "".join(path.read_text() for path in world.folder.glob("worker-*.log"))


async def states_of(world: World, *topics: Any) -> list[Any]:
    tables = [await read_table(topic, world.producer_settings) for topic in topics]
    return [row for table in tables for row in table.values()]


def is_complete(reader: TopicReader, log: ReleaseLog) -> bool:
    records = reader.records
    measured = {
        measure.portfolio_id
        for measure in of_kind(records, RiskMeasure)
        if measure.as_of_us == LAST_DAY * DAY_US
    }
    funds = [risk.observations for risk in of_kind(records, BookRisk)]
    counted = counted_returns(reader.of_tenant("acme"))
    is_counted = counted >= expected_returns(log, "acme")
    return measured == set(DEVIATIONS) and LAST_DAY + 1 in funds and is_counted


def assert_portfolios_continue(states: list[Any], log: ReleaseLog) -> None:
    before = {state.portfolio_id: state for state in log.of_topic("risk.state")}  # type: ignore[attr-defined]
    assert {state.portfolio_id for state in states} == set(DEVIATIONS)
    for state in states:
        expected = straight_state(state.portfolio_id)
        for name in ("window", "observations", "outcomes", "exceptions", "variance_sum"):
            assert getattr(state, name) == getattr(expected, name), (state.portfolio_id, name)
        assert state.tenant == TENANTS.get(state.portfolio_id)
        old: Any = before[state.portfolio_id]
        assert (state.limits, state.wanted_by) == (old.limits, old.wanted_by)
        for watch, old_watch in zip(state.watches, old.watches, strict=True):
            assert watch == old_watch._replace(judged_us=LAST_DAY * DAY_US)


def assert_measured_once(measures: list[RiskMeasure]) -> None:
    assert len({measure.event_id for measure in measures}) == len(measures)
    for name in DEVIATIONS:
        days = [measure.as_of_us // DAY_US for measure in measures if measure.portfolio_id == name]
        # The measure of a portfolio without a state is written once more.
        assert days == [LAST_DAY] or (name == "hedge" and days == [DAYS - 1, LAST_DAY])


def assert_runs_continue(states: list[Any]) -> None:
    task, job = states
    assert (task.subject, task.first_offset, task.last_offset) == ("task", 0, 2)
    assert (job.job_id, job.first_offset, job.last_offset, job.owner) == ("job", 0, 3, "ann")


def assert_candles_continue(candles: list[Candle]) -> None:
    assert [(candle.interval, candle.open, candle.close, candle.trades) for candle in candles] == [
        ("minute", 108.0, 109.0, 2),
        ("minute", 110.0, 111.0, 2),
        ("3minute", 106.0, 111.0, 6),
        ("minute", 112.0, 113.0, 2),
    ]


def assert_books_continue(states: list[Any]) -> None:
    windows = {
        state.series_id: state.observations for state in states if hasattr(state, "series_id")
    }
    assert windows == {"calm": LAST_DAY + 1, "wild": LAST_DAY + 1}


def expected_returns(log: ReleaseLog, tenant: str) -> int:
    """Return how many returns the dashboard counts from where 0.1.0 has left its last window."""
    last = [
        sum(tally.counts.values())
        for tally in log.of_topic("dashboard.tallies")
        if isinstance(tally, WindowTally) and tally.tenant == tenant and "returns" in tally.counts
    ]
    new = sum(TENANTS.get(name) == tenant for name in DEVIATIONS) * (LAST_DAY + 1 - DAYS)
    return last[-1] - 1 + new  # one of the tally's counts is of the measure


def counted_returns(records: list[Record]) -> int:
    """Return how many returns are in the published windows of a second, by their last updates."""
    counts = {
        update.window_id: update.values.get("returns", 0)
        for update in of_kind(records, DashboardUpdate)
        if update.window_id.endswith("+1000000")
    }
    return int(sum(counts.values()))


def assert_positions_are_saved(rows: list[Any]) -> None:
    positions = {row.partition: {at.topic: at for at in row.positions} for row in rows}
    returned = positions[3]["portfolio.returns"]
    assert (returned.next_offset, returned.row_limit) == (4, 0)
    assert all(at.topic_id for at in positions[3].values())


def test_the_returns_of_the_log_are_those_that_are_made_here(log: ReleaseLog) -> None:
    logged: dict[str, list[float]] = {}
    for batch in log.of_topic("portfolio.returns"):
        assert isinstance(batch, ReturnBatch)
        for observation in batch.returns:
            logged.setdefault(observation.portfolio_id, []).append(observation.value)
    made = {
        name: [observation.value for observation in returns_of(name, range(DAYS))]
        for name in DEVIATIONS
    }
    assert logged == made


def as_earlier(topic: Topic, record: Any, tenant: str | None = "acme") -> tuple[Any, ...]:
    """Return what an earlier release wrote of a tenant: topic, value, key and headers."""
    headers = [("ce_id", b"1"), *([] if tenant is None else [("tenant", tenant.encode())])]
    return topic, encode(record), key_of(record), headers


OLD_LIMIT = RiskLimits(portfolio_id="p", limits=[RiskLimit("var_95", 0.03)], event_time_us=0)
OLD_COMMAND = TrainingCommand(task_id="t", meter_id="m", meter_type="gas", event_time_us=0)
OLD_ACK = AlertAck(alert_id="a", entity_id="p", event_time_us=0)
OLD_BOOK = Book(root="r", book_id="b", holdings=[], event_time_us=0)


@pytest.mark.kafka
async def test_the_records_of_tenants_are_moved_once_and_those_of_others_stay(world: World) -> None:
    state = PortfolioState(portfolio_id="p", offset=-1, index=-1, limits_offset=0, acks_offset=-1)
    open_alert = OpenAlert(
        alert_id="a",
        entity_id="p",
        alert_type="var_exceeded",
        state="raised",
        severity="high",
        message="",
        acknowledged=False,
        event_time_us=0,
    )
    old = [
        as_earlier(RISK_LIMITS, OLD_LIMIT),
        as_earlier(RISK_LIMITS, replace(OLD_LIMIT, portfolio_id="q"), None),
        as_earlier(RISK_ACKS, OLD_ACK),
        as_earlier(TRAINING_COMMANDS, OLD_COMMAND),
        as_earlier(RISK_OPEN, open_alert),
        as_earlier(RISK_OPEN, replace(open_alert, alert_id="b"), None),
        as_earlier(RISK_BOOKS, OLD_BOOK),
        (RISK_STATE, encode(replace(state, tenant="acme", partition=home_of(b"p"))), b"p", []),
    ]
    servers = world.kafka.bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for topic, value, key, headers in old:
            await producer.send_and_wait(world.topic(topic.name), value, key, headers=headers)
    place = {"bootstrap_servers": servers, "topic_prefix": world.prefix}
    settings, clients = ProcessorSettings().model_copy(update=place), world.producer_settings
    ends = await read_end_offsets([RISK_LIMITS], clients)
    await count_uncommitted(ends, f"{world.prefix}tapewire", clients)  # a new broker has no groups
    await rekey(settings, lambda _: None)
    assert await keys_of(clients, RISK_OPEN) == {b"b", b"acme\xffa"}
    assert await keys_of(clients, RISK_STATE) == {b"acme\xffp"}
    # Processors read these, and would refuse a deletion; edges take the row of the longer key.
    assert await keys_of(clients, RISK_LIMITS) == {b"p", b"q", b"acme\xffp"}
    assert await keys_of(clients, RISK_BOOKS) == {b"r/b", b"acme\xffr/b"}
    moved = (await read_table(RISK_STATE, clients))[b"acme\xffp"]
    assert isinstance(moved, PortfolioState)
    # It has read its limits, and not its acknowledgement, which follows.
    copied = [
        await read_keyed(topic, clients) for topic in (RISK_LIMITS, RISK_ACKS, TRAINING_COMMANDS)
    ]
    limits, acks, commands = ([key for key, _ in records if b"acme" in key] for records in copied)
    assert (limits, acks, commands) == ([b"acme\xffp"], [b"acme\xffp"], [b"acme\xfft"])
    assert moved.limits_offset >= 0
    assert moved.acks_offset == -1 + (home_of(b"acme\xffp") == home_of(b"p"))
    said: list[str] = []
    await rekey(settings, said.append)
    assert all(": 0 states have moved" in line for line in said[:-1])


def home_of(key: bytes) -> int:
    return partition_of(key, 6)


async def keys_of(settings: Any, topic: Topic) -> set[bytes]:
    return set(await read_table(topic, settings))
