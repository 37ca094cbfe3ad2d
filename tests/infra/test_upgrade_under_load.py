"""From 0.1.0 to the working tree and back, while clients follow events of all kinds.

Edges of both releases run side by side. Processors stop and start, and producers are upgraded last.
The newer ones write the schema versions of 0.1.0 until the status says that no part is of it.
"""

import asyncio
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
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
from schemas.events import Candle, PortfolioState, Return, RiskMeasure
from schemas.instants import to_rfc3339
from schemas.topics import (
    MARKET_CANDLES,
    PORTFOLIO_RETURNS,
    RISK_MEASURES,
    RISK_STATE,
    TopicPartition,
)
from stream_processors.downgrade import end_states_with_rows
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings
from tests.conftest import Started, TestKafka, World
from tests.support import release_load
from tests.support.clients import stream
from tests.support.release_load import (
    DAY_US,
    LOAD,
    PORTFOLIOS,
    TRADE_US,
    TRADES_FROM_US,
    return_of,
)
from tests.support.released import Released, released

pytestmark = [
    pytest.mark.infra,
    pytest.mark.kafka,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("upgrade"),
]


class Followed(NamedTuple):
    """A stream that a client follows."""

    path: str
    event: str
    name_of: Callable[[Any], Any]
    """Returns the name of an event by its data; None for one that the load has not published."""


MEASURES = Followed(
    "/api/v1/sse/measures", "risk_measure", lambda data: (data["portfolio_id"], data["as_of"])
)
OTHERS = (
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
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        since = None if self._cursor else "earliest"
        async with stream(edge.url, self._followed.path, headers=headers, since=since) as client:
            read = 0
            while len(self.seen) < enough:
                async with asyncio.timeout(60):
                    await client.more()
                assert not client.ended
                for block in client.blocks[read:]:
                    self.gaps += block.event == "gap"
                    if block.event == self._followed.event:
                        name = self._followed.name_of(block.inner)
                        self.seen += [] if name is None else [name]
                read = len(client.blocks)
            self._cursor = client.last_id


class Clients:
    """A client of each stream."""

    def __init__(self) -> None:
        self.measures = Follower(MEASURES)
        self.others = {followed.path: Follower(followed) for followed in OTHERS}

    async def follow(self, edge: Started, days: int) -> None:
        """Let each client follow until all events of some more days have arrived."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.measures.follow(edge, days * len(PORTFOLIOS)))
            for other in self.others.values():
                tasks.create_task(other.follow(edge, days))


async def measures_of(world: World) -> list[tuple[bytes, RiskMeasure]]:
    """Return all measures in the log by their times in it, each with its schema's fingerprint."""
    topic = world.topic(RISK_MEASURES.name)
    found: list[tuple[int, bytes, RiskMeasure]] = []
    ends = await read_end_offsets([RISK_MEASURES], world.producer_settings)
    async with AIOKafkaConsumer(
        bootstrap_servers=world.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    ) as consumer:
        consumer.assign(list(ends))
        while any([await consumer.position(where) < end for where, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    measure = decode(record.value)
                    assert isinstance(measure, RiskMeasure)
                    mark = (record.value or b"")[2:10]
                    found.append((record.timestamp, mark, measure))
    assert found, topic
    found.sort(key=lambda item: item[0])
    return [(mark, measure) for _, mark, measure in found]


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
    """Wait until the processors have committed all returns."""
    settings, group = world.producer_settings, world.topic("tapewire")
    ends = await read_end_offsets([PORTFOLIO_RETURNS], settings)
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
        started = starting.create_task(old.worker()), starting.create_task(old.edge())
    worker, old_edge = (task.result() for task in started)
    await load.start(old.release.command(), **old.release.env)
    await clients.follow(old_edge, 20)
    await asyncio.to_thread(provision, world.kafka.bootstrap_servers, prefix=world.prefix)
    edge = await world.edge(**AS_BEFORE)
    await clients.follow(edge, 5)
    await clients.follow(old_edge, 5)
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
    await load.stop()
    as_before = {"PYTHONPATH": str(ROOT), "TAPEWIRE_WRITE_AS_RELEASE": "0.1.0"}
    await load.start((sys.executable, "-P"), **as_before)
    await clients.follow(edge, 10)
    await clients.follow(old_edge, 10)
    await old_edge.stop()
    async with asyncio.timeout(60):
        while not await is_upgraded(world):
            continue
    await load.stop()
    await stop(newer, world)
    await edge.stop()
    return await flip(world, load)


async def flip(world: World, load: Load) -> Started:
    """Restart all parts without the variable; return the edge."""
    await load.start((sys.executable, "-P"), PYTHONPATH=str(ROOT))
    await world.worker()
    return await world.edge()


async def test_releases_run_side_by_side_and_back_until_the_flip(
    old_world: World, release: Released, account: Callable[[str], None]
) -> None:
    world, load, clients = old_world, Load(old_world), Clients()
    try:
        edge = await upgrade_and_back(world, OldParts(release, world), load, clients)
        await clients.follow(edge, 10)
    finally:
        await load.stop()
    await wait_until_committed(world)
    measures = await measures_of(world)
    instants = {(measure.portfolio_id, to_rfc3339(measure.as_of_us)) for _, measure in measures}
    await clients.measures.follow(edge, len(instants) - len(clients.measures.seen))
    assert clients.measures.gaps == 0
    assert sorted(clients.measures.seen) == sorted(instants)
    assert measures[-1][0] == fingerprint_of(RiskMeasure)
    for path, client in clients.others.items():
        await client.follow(edge, load.days - len(client.seen))
        assert (path, client.gaps, sorted(client.seen)) == (path, 0, list(range(load.days)))
    await assert_states_are_those_of_a_straight_run(world, load.days)
    minutes = await assert_candles_have_each_trade_once(world, load.days)
    account(
        f"{load.days} days of {len(PORTFOLIOS)} portfolios; a client got "
        f"{len(clients.measures.seen)} measures, and {len(clients.others)} clients the reports of "
        f"each day, none twice and none lost, over edges of both releases, two upgrades, a "
        f"downgrade and the flip; {minutes} candles have each trade once"
    )


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
