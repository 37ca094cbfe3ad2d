"""From 0.1.0 to the working tree and back, while clients follow events of all kinds.

Edges of both releases run side by side. Processors stop and start, and producers are upgraded last.
The newer ones write the schema versions of 0.1.0 until the status says that no part is of it.
"""

import asyncio
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer

from cli.status import read_status
from cli.topics import list_topics
from cli.upgrade import check
from infra.supervisor import Part, Process
from infra.topics import provision
from kafka_io.reader import count_uncommitted, read_all, read_end_offsets, read_table
from kafka_io.topic_admin import TopicAdmin
from schemas.codec import decode, fingerprint_of
from schemas.events import (
    AgentEvent,
    BookRisk,
    Candle,
    OpenAlert,
    PortfolioState,
    Record,
    Return,
    RiskAlert,
    RiskMeasure,
)
from schemas.instants import to_rfc3339
from schemas.topics import (
    AGENT_EVENTS,
    MARKET_CANDLES,
    PORTFOLIO_RETURNS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_MEASURES,
    RISK_OPEN,
    RISK_SERIES,
    RISK_STATE,
    Topic,
    TopicPartition,
)
from stream_processors.books.tree import BookTree
from stream_processors.downgrade import end_states_with_rows
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings
from tests.conftest import Started, TestKafka, World
from tests.support import release_load
from tests.support.clients import StreamClient, stream
from tests.support.release_load import (
    DAY_US,
    LIMITED,
    LOAD,
    PORTFOLIOS,
    QUESTION,
    TENTH,
    TRADE_US,
    TRADES_FROM_US,
    books_on,
    limits_on,
    return_of,
    run_id_on,
)
from tests.support.released import Released, released
from tests.support.sse import Block

pytestmark = [
    pytest.mark.infra,
    pytest.mark.kafka,
    pytest.mark.timeout(600),
]


class Followed(NamedTuple):
    """A stream that a client follows."""

    path: str
    event: str
    name_of: Callable[[Any], Any]
    """Returns the name of an event by its data; None for one that the client passes over."""
    params: Mapping[str, str] = {}
    is_kept: bool = True
    """Whether a client that comes first gets all events of the log."""

    def data_of(self, block: Block) -> Any:
        """Return the data of a block; those of channels are in an envelope."""
        return block.inner if self.path.startswith("/api/") else block.json


MEASURES = Followed(
    "/api/v1/sse/measures", "risk_measure", lambda data: (data["portfolio_id"], data["as_of"])
)
DAILY = (
    Followed("/api/v1/sse/training", "training_progress", lambda data: int(data["message"])),
    Followed("/api/v1/sse/backtest", "backtest_progress", lambda data: int(data["message"])),
    Followed(
        "/api/v1/sse/alerts",
        "risk_alert",
        lambda data: int(data["message"]) if data["entity_type"] == LOAD else None,
    ),
    Followed(
        "/api/v1/sse/dashboard",
        "dashboard_update",
        lambda data: int(data["day"]) if data["update_type"] == LOAD else None,
    ),
    Followed(
        "/chat-stream", "message", lambda data: int(data["message"]), {"room": LOAD}, is_kept=False
    ),
    Followed(f"/user-specific-stream/{LOAD}", "update", lambda data: int(data["day"])),
)
"""The streams that have one event a day."""
TRANSITIONS = Followed(
    "/api/v1/sse/alerts",
    "risk_alert",
    lambda data: data["transition_id"] if data["entity_type"] != LOAD else None,
)
BOOKS = Followed(
    "/api/v1/sse/books",
    "book_risk",
    lambda data: (data["path"], data["as_of"], data["observations"], data["value"]),
)
ROOT = Path(__file__).parents[2]
_MINUTE_US = 60_000_000
AS_BEFORE = {"write_as_release": "0.1.0"}
_PROVISION = (
    "import sys; from infra.topics import provision; provision(sys.argv[1], prefix=sys.argv[2])"
)


class OldParts:
    """The parts of an earlier release in a world."""

    def __init__(self, release: Released, world: World) -> None:
        self._release, self._world = release, world

    async def start(self, name: str, *arguments: str, **env: str) -> Started:
        """Run Python in the release, with these arguments."""
        world = self._world
        common = {
            "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
            "TAPEWIRE_TOPIC_PREFIX": world.prefix,
        }
        part = Part(
            f"{name}-of-0.1.0-{uuid.uuid4().hex[:6]}",
            self._release.command(*arguments),
            common | self._release.env | env,
        )
        process = Process(part, world.folder / f"{part.name}.log")
        world.stack.push_async_callback(process.stop)
        return Started(process, await process.start())

    async def worker(self) -> Started:
        return await self.start("worker", "-m", "stream_processors")

    async def edge(self) -> Started:
        return await self.start("edge", "-m", "sse_edge", TAPEWIRE_PORT="0")

    async def orchestrator(self) -> Started:
        return await self.start("agents", "-m", "producers", "orchestrator")

    @property
    def release(self) -> Released:
        return self._release


class Load:
    """A producer that publishes events of all kinds by the reporter API, as one that stays."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._process: asyncio.subprocess.Process | None = None
        self.days = 0
        """The number of days that were published, when it is stopped."""

    async def start(self, command: Sequence[str], **env: str) -> None:
        """Go on after the last day with the command of a release's Python."""
        world = self._world
        self._process = await asyncio.create_subprocess_exec(
            *(*command, release_load.__file__, str(self.days)),
            stdout=subprocess.PIPE,
            env={
                "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
                "TAPEWIRE_TOPIC_PREFIX": world.prefix,
                **env,
            },
        )

    async def stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        out, _ = await process.communicate()
        self.days = int(out)


class Follower:
    """A client that has one cursor, whichever edge it is connected to."""

    def __init__(self, followed: Followed) -> None:
        self.seen: list[Any] = []
        """The name of each event, in the order of their arrival."""
        self.gaps = 0
        self._followed = followed
        self._cursor = ""

    async def follow(self, edge: Started, count: int) -> None:
        """Follow until `count` more events have arrived."""
        enough = len(self.seen) + count
        await self._follow(edge, lambda: len(self.seen) >= enough)

    async def follow_until_cancelled(self, edge: Started) -> None:
        """Follow; what has arrived before it is cancelled, does not come again."""
        await self._follow(edge, lambda: False)

    async def _follow(self, edge: Started, is_enough: Callable[[], bool]) -> None:
        followed = self._followed
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        since = "earliest" if followed.is_kept and not self._cursor else None
        async with stream(
            edge.url, followed.path, headers=headers, since=since, **followed.params
        ) as client:
            read = 0
            while not is_enough():
                async with asyncio.timeout(60):
                    await client.more()
                assert not client.ended
                for block in client.blocks[read:]:
                    self.gaps += block.event == "gap"
                    if block.event == followed.event:
                        name = followed.name_of(followed.data_of(block))
                        self.seen += [] if name is None else [name]
                read = len(client.blocks)
                self._cursor = client.last_id or self._cursor


class Clients:
    """A client of each stream, and one that asks the agents."""

    def __init__(self) -> None:
        self.measures = Follower(MEASURES)
        self.daily = {followed.path: Follower(followed) for followed in DAILY}
        self.transitions, self.books = Follower(TRANSITIONS), Follower(BOOKS)
        self.answers = 0

    async def follow(self, edge: Started, days: int) -> None:
        """Let each client follow until all events of some more days have arrived."""
        async with asyncio.TaskGroup() as others:
            beside = [
                others.create_task(client.follow_until_cancelled(edge))
                for client in (self.transitions, self.books)
            ]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.measures.follow(edge, days * len(PORTFOLIOS)))
                for client in self.daily.values():
                    tasks.create_task(client.follow(edge, days))
            for task in beside:
                task.cancel()

    async def ask(self, edge: Started, other: Started) -> None:
        """Ask the agents by one edge, leave at the first step, and read the others by the other."""
        async with stream(edge.url, "/process/stream", message=QUESTION) as client:
            await client.until(lambda blocks: any(block.id for block in blocks))
            first, cursor = steps_in(client), client.last_id
        headers, steps = {"Last-Event-ID": cursor}, first
        if "completed" not in first:
            path = "/process/stream"
            async with stream(other.url, path, headers=headers, message=QUESTION) as client:
                await client.until(lambda _: "completed" in steps_in(client))
                steps += steps_in(client)
        assert [steps[0], steps[-1]] == ["routing_started", "completed"]
        assert [steps.count(step) for step in (steps[0], steps[-1], "error")] == [1, 1, 0]
        self.answers += 1


def steps_in(client: StreamClient) -> list[str]:
    """Return the steps of a run that a client has got, without notices and heartbeats."""
    return [block.json["event"] for block in client.blocks if block.id and block.data]


class Read(NamedTuple):
    """A record of the log."""

    time_ms: int
    mark: bytes
    """The fingerprint of its schema."""
    event_id: bytes
    """Edges deliver a repetition once."""
    record: Record


async def records_of(world: World, topic: Topic) -> list[Read]:
    """Return all records of a topic by their times in the log."""
    found: list[Read] = []
    ends = await read_end_offsets([topic], world.producer_settings)
    async with AIOKafkaConsumer(
        bootstrap_servers=world.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        consumer.assign(list(ends))
        while any([await consumer.position(where) < end for where, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [
                    Read(read.timestamp, mark, dict(read.headers)["ce_id"], decode(read.value))
                    for read in records
                    if (mark := (read.value or b"")[2:10])
                ]
    assert found, topic.name
    return sorted(found, key=lambda read: read.time_ms)


async def measures_of(world: World) -> list[tuple[bytes, RiskMeasure]]:
    """Return all measures in the log by their times in it, each with its schema's fingerprint."""
    return [
        (read.mark, read.record)
        for read in await records_of(world, RISK_MEASURES)
        if isinstance(read.record, RiskMeasure)
    ]


def straight_state(portfolio_id: str, days: int) -> PortfolioState:
    """Return the state after all returns, computed without Kafka and interruptions."""
    number = PORTFOLIOS.index(portfolio_id)
    risk = PortfolioRisk(portfolio_id, ProcessorSettings().risk_config(), TopicPartition("", 0))
    for day in range(days):
        observation = Return(portfolio_id, day * DAY_US, return_of(number, day))
        risk.apply(observation, ReturnOffset(day, 0))
    return risk.pack()


def processor_settings(world: World) -> ProcessorSettings:
    place = {"bootstrap_servers": world.kafka.bootstrap_servers, "topic_prefix": world.prefix}
    return ProcessorSettings().model_copy(update={**place, **AS_BEFORE})


async def wait_until_committed(world: World) -> None:
    """Wait until the processors have committed their inputs, then what they send each other."""
    settings, group = world.producer_settings, world.topic("tapewire")
    for topics in (PORTFOLIO_RETURNS, RISK_LIMITS, RISK_BOOKS), (RISK_SERIES,):
        ends = await read_end_offsets(topics, settings)
        async with asyncio.timeout(60):
            while await count_uncommitted(ends, group, settings):
                continue


@pytest.fixture(scope="module")
def release() -> Released:
    return released("0.1.0")


@pytest.fixture
async def old_world(kafka: TestKafka, release: Released, tmp_path: Path) -> AsyncGenerator[World]:
    """A world with the topics that the release has made."""
    prefix = f"u{uuid.uuid4().hex[:8]}."
    await asyncio.to_thread(
        subprocess.run,
        release.command("-c", _PROVISION, kafka.bootstrap_servers, prefix),
        env=release.env,
        check=True,
    )
    async with AsyncExitStack() as stack:
        yield World(kafka, prefix, tmp_path, stack)


async def stop(worker: Started, world: World) -> None:
    """Stop a worker; wait until the group is empty, for a member of 0.1.0 leaves by its timeout."""
    await worker.stop()
    admin, group = TopicAdmin(world.kafka.bootstrap_servers), world.topic("tapewire")
    async with asyncio.timeout(90):
        while await asyncio.to_thread(admin.members_of, group):  # noqa: ASYNC110  # Kafka notifies nobody
            await asyncio.sleep(0.2)  # each look is a request


async def is_upgraded(world: World) -> bool | None:
    """Return what the status says before the flip: whether no part is of an earlier release."""
    status = await read_status(world.producer_settings, world.folder / "none", is_partial=True)
    topics = await asyncio.to_thread(list_topics, world.producer_settings)
    assert bool(check(status, topics).others) == (not status.is_upgraded)
    return status.is_upgraded


async def upgrade_and_back(world: World, old: OldParts, load: Load, clients: Clients) -> Started:
    """Upgrade, downgrade and upgrade again while clients follow; return the newer edge."""
    async with asyncio.TaskGroup() as starting:
        parts = old.worker(), old.edge(), old.orchestrator()
        started = [starting.create_task(part) for part in parts]
    worker, old_edge, agents = (task.result() for task in started)
    await load.start(old.release.command(), **old.release.env)
    await clients.follow(old_edge, 20)
    await asyncio.to_thread(provision, world.kafka.bootstrap_servers, prefix=world.prefix)
    edge = await world.edge(**AS_BEFORE)
    await clients.follow(edge, 5)
    await clients.follow(old_edge, 5)
    await clients.ask(old_edge, edge)
    await clients.ask(edge, old_edge)
    assert await is_upgraded(world) is False

    await stop(worker, world)
    newer = await world.worker(**AS_BEFORE)
    await clients.follow(old_edge, 20)

    await stop(newer, world)
    assert await end_states_with_rows(processor_settings(world)) > 0
    worker = await old.worker()
    await clients.follow(edge, 10)
    await clients.follow(old_edge, 10)
    assert fingerprint_of(RiskMeasure) not in {mark for mark, _ in await measures_of(world)}

    await stop(worker, world)
    newer = await world.worker(**AS_BEFORE)
    await agents.stop()
    await replace_the_producer(load)
    agents = await world.orchestrator(**AS_BEFORE)
    await clients.ask(edge, old_edge)
    await clients.follow(edge, 10)
    await clients.follow(old_edge, 10)
    await old_edge.stop()
    async with asyncio.timeout(60):
        while not await is_upgraded(world):
            continue
    await load.stop()
    await stop(newer, world)
    for part in (edge, agents):
        await part.stop()
    return await flip(world, load)


async def replace_the_producer(load: Load) -> None:
    """Go on with the newer producer, which writes what the release reads."""
    await load.stop()
    as_before = {"PYTHONPATH": str(ROOT), "TAPEWIRE_WRITE_AS_RELEASE": "0.1.0"}
    await load.start((sys.executable, "-P"), **as_before)


async def flip(world: World, load: Load) -> Started:
    """Restart all parts without the variable; return the edge."""
    await load.start((sys.executable, "-P"), PYTHONPATH=str(ROOT))
    await world.worker()
    await world.orchestrator()
    return await world.edge()


async def test_releases_run_side_by_side_and_back_until_the_flip(
    old_world: World, release: Released, account: Callable[[str], None]
) -> None:
    world, load, clients = old_world, Load(old_world), Clients()
    try:
        edge = await upgrade_and_back(world, OldParts(release, world), load, clients)
        await clients.follow(edge, 10)
        await clients.ask(edge, edge)
    finally:
        await load.stop()
    await wait_until_committed(world)
    measures = await measures_of(world)
    await assert_client_has_measures(clients.measures, edge, [read for _, read in measures])
    assert measures[-1][0] == fingerprint_of(RiskMeasure)
    for path, client in clients.daily.items():
        await client.follow(edge, load.days - min(client.seen) - len(client.seen))
        # One who joins a room gets its last messages only.
        days = list(range(min(client.seen) if path == "/chat-stream" else 0, load.days))
        assert (path, client.gaps, sorted(client.seen)) == (path, 0, days)
    await assert_states_are_those_of_a_straight_run(world, load.days)
    transitions = await assert_alerts_are_whole(world, edge, clients.transitions)
    books = await assert_books_are_those_of_a_straight_run(world, edge, clients.books, load.days)
    runs = await assert_each_question_has_one_answer(world, load.days)
    minutes = await assert_candles_have_each_trade_once(world, load.days)
    account(
        f"{load.days} days of {len(PORTFOLIOS)} portfolios; a client got "
        f"{len(clients.measures.seen)} measures, {transitions} transitions of alerts, {books} "
        f"measures of books and, by {len(clients.daily)} streams, each report, message and update "
        f"of each day, none twice and none lost, over edges of both releases, two upgrades, a "
        f"downgrade and the flip; {runs + clients.answers} questions have one answer each; "
        f"{minutes} candles have each trade once"
    )


async def assert_client_has_measures(
    client: Follower, edge: Started, measures: Sequence[RiskMeasure]
) -> None:
    """Let a client follow until it has all measures; check that it has no others.

    A worker of 0.1.0 may write one twice under the same id, and a client may get it twice. One that
    is published again with other contents has another id.
    """
    written = [(measure.portfolio_id, to_rfc3339(measure.as_of_us)) for measure in measures]
    ids = (measure.event_id for measure in measures)
    once = Counter(dict(zip(ids, written, strict=True)).values())
    while not once <= Counter(client.seen):
        await client.follow(edge, 1)
    assert client.gaps == 0
    assert Counter(client.seen) <= Counter(written)


async def assert_client_has_all(client: Follower, edge: Started, names: Sequence[Any]) -> None:
    """Let a client follow until it has so many events; check that they are these, in any order."""
    await client.follow(edge, len(names) - len(client.seen))
    assert client.gaps == 0
    assert sorted(client.seen, key=repr) == sorted(names, key=repr)


async def assert_alerts_are_whole(world: World, edge: Started, client: Follower) -> int:
    """Check the alerts by their transitions; return how many these are."""
    settings = world.producer_settings
    transitions = [
        event
        for event in await read_all(RISK_ALERTS, settings)
        if isinstance(event, RiskAlert) and event.entity_type != LOAD
    ]
    await assert_client_has_all(client, edge, [event.transition_id for event in transitions])
    assert max(Counter(event.transition_id for event in transitions).values()) == 1
    by_alert: defaultdict[str, list[str]] = defaultdict(list)
    for event in transitions:
        by_alert[event.alert_id].append(event.state)
    for states in by_alert.values():
        assert states in (["raised"], ["raised", "cleared"])
    assert any(len(states) > 1 for states in by_alert.values())
    is_open = {alert_id for alert_id, states in by_alert.items() if states[-1] != "cleared"}
    table = await read_table(RISK_OPEN, settings)
    assert {alert.alert_id for alert in table.values() if isinstance(alert, OpenAlert)} == is_open
    return len(transitions)


async def assert_books_are_those_of_a_straight_run(
    world: World, edge: Started, client: Follower, days: int
) -> int:
    """Check the measures of books; return how many they are."""
    read = {read.event_id: read.record for read in await records_of(world, RISK_BOOK_RISKS)}
    measures = [risk for risk in read.values() if isinstance(risk, BookRisk)]
    names = [
        (risk.path, to_rfc3339(risk.as_of_us), risk.observations, risk.value) for risk in measures
    ]
    await assert_client_has_all(client, edge, names)
    for path in {risk.path for risk in measures}:
        # Neither release forgets the days that the other one has left.
        days_known = [risk.observations > 0 for risk in measures if risk.path == path]
        assert days_known == sorted(days_known)
    tree = BookTree(LOAD, ProcessorSettings().book_config())
    for book in books_on(last_tenth(days)):
        tree.put(book)
    for day in range(days):
        returns = enumerate(PORTFOLIOS)
        tree.add_returns([Return(name, day * DAY_US, return_of(i, day)) for i, name in returns])
    last = {risk.path: risk for risk in measures}
    expected = {risk.path: risk for risk in tree.changes().risks}
    assert set(last) == set(expected)
    for path, risk in expected.items():
        for field in ("as_of_us", "observations", "value", "nav", "var_95", "es_99"):
            found = getattr(last[path], field)
            assert found == pytest.approx(getattr(risk, field), rel=1e-9), (path, field)
    return len(measures)


def last_tenth(days: int) -> int:
    """Return the last day with limits, books and a question."""
    return (days - 1) // TENTH * TENTH


async def assert_each_question_has_one_answer(world: World, days: int) -> int:
    """Check the runs of the load; return how many they are."""
    runs = {run_id_on(day) for day in range(0, days, TENTH)}
    answers = Counter[str]()
    async with asyncio.timeout(60):
        while set(answers) != runs:
            events = await read_all(AGENT_EVENTS, world.producer_settings)
            answers = Counter(
                event.run_id
                for event in events
                if isinstance(event, AgentEvent) and event.ends and event.run_id in runs
            )
    assert max(answers.values()) == 1
    return len(runs)


async def assert_candles_have_each_trade_once(world: World, days: int) -> int:
    """Check the candles of minutes that are over; return how many they are."""
    candles = [
        candle
        for candle in await read_all(MARKET_CANDLES, world.producer_settings)
        if isinstance(candle, Candle) and candle.end_us - candle.start_us == _MINUTE_US
    ]
    last_us = TRADES_FROM_US + (days - 1) * TRADE_US
    per_minute = _MINUTE_US // TRADE_US
    expected = dict.fromkeys(
        range(TRADES_FROM_US, last_us - 2 * _MINUTE_US, _MINUTE_US), per_minute
    )
    found = {candle.start_us: candle.trades for candle in candles if candle.start_us in expected}
    assert found == expected
    assert max(Counter(candle.start_us for candle in candles).values()) == 1
    assert expected
    return len(expected)


async def assert_states_are_those_of_a_straight_run(world: World, days: int) -> None:
    states: dict[bytes, Any] = dict(await read_table(RISK_STATE, world.producer_settings))
    assert {key.decode() for key in states} == set(PORTFOLIOS)
    for state in states.values():
        assert isinstance(state, PortfolioState)
        expected = straight_state(state.portfolio_id, days)
        for field in ("window", "observations", "outcomes", "exceptions"):
            assert getattr(state, field) == getattr(expected, field), (state.portfolio_id, field)
        limits = limits_on(last_tenth(days)).limits if state.portfolio_id == LIMITED else ()
        assert list(state.limits) == list(limits)
