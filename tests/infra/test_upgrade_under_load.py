"""From 0.1.0 to the working tree and back, while returns arrive and a client follows the measures.

Edges of both releases run side by side. Processors stop and start. The newer ones write the schema
versions of 0.1.0 as long as a part of that release runs.
"""

import asyncio
import subprocess
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from infra.supervisor import Part, Process
from infra.topics import provision
from kafka_io.reader import count_uncommitted, read_end_offsets, read_table
from kafka_io.topic_admin import TopicAdmin
from schemas.codec import decode, fingerprint_of
from schemas.events import PortfolioState, Return, RiskMeasure
from schemas.instants import to_rfc3339
from schemas.topics import PORTFOLIO_RETURNS, RISK_MEASURES, RISK_STATE, TopicPartition
from stream_processors.downgrade import end_states_with_rows
from stream_processors.risk.portfolio import PortfolioRisk, ReturnOffset
from stream_processors.settings import ProcessorSettings
from tests.conftest import Started, TestKafka, World
from tests.support import release_load
from tests.support.clients import stream
from tests.support.release_load import DAY_US, PORTFOLIOS, return_of
from tests.support.released import Released, released

pytestmark = [
    pytest.mark.infra,
    pytest.mark.kafka,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("upgrade"),
]

STREAM = "/api/v1/sse/measures"
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

    async def load(self) -> asyncio.subprocess.Process:
        """Begin to publish returns by the release's reporter API, as producers that stay."""
        world = self._world
        return await asyncio.create_subprocess_exec(
            *self._release.command(release_load.__file__),
            stdout=subprocess.PIPE,
            env={
                "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
                "TAPEWIRE_TOPIC_PREFIX": world.prefix,
                **self._release.env,
            },
        )


class Follower:
    """A client that has one cursor, whichever edge it is connected to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        """The portfolio and the instant of each measure, in the order of their arrival."""
        self.gaps = 0
        self._cursor = ""

    async def follow(self, edge: Started, count: int) -> None:
        """Follow until `count` more measures have arrived."""
        enough = len(self.seen) + count
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        since = None if self._cursor else "earliest"
        async with stream(edge.url, STREAM, headers=headers, since=since) as client:
            read = 0
            while len(self.seen) < enough:
                async with asyncio.timeout(60):
                    await client.more()
                assert not client.ended
                for block in client.blocks[read:]:
                    self.gaps += block.event == "gap"
                    if block.event == "risk_measure":
                        data = block.inner
                        self.seen.append((data["portfolio_id"], data["as_of"]))
                read = len(client.blocks)
            self._cursor = client.last_id


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


async def upgrade_and_back(
    world: World, old: OldParts, old_edge: Started, worker: Started, client: Follower
) -> Started:
    """Upgrade, downgrade and upgrade again while a client follows; return the newer edge."""
    await client.follow(old_edge, 240)
    await asyncio.to_thread(provision, world.kafka.bootstrap_servers, prefix=world.prefix)
    edge = await world.edge(**AS_BEFORE)
    await client.follow(edge, 60)
    await client.follow(old_edge, 60)

    await stop(worker, world)
    newer = await world.worker(**AS_BEFORE)
    await client.follow(old_edge, 240)

    await stop(newer, world)
    assert await end_states_with_rows(processor_settings(world)) > 0
    worker = await old.worker()
    await client.follow(edge, 120)
    await client.follow(old_edge, 120)
    assert fingerprint_of(RiskMeasure) not in {mark for mark, _ in await measures_of(world)}

    await stop(worker, world)
    newer = await world.worker(**AS_BEFORE)
    await client.follow(edge, 120)
    await old_edge.stop()
    await stop(newer, world)
    return edge


async def test_releases_run_side_by_side_and_back_until_the_flip(
    old_world: World, release: Released, account: Callable[[str], None]
) -> None:
    world, old, client = old_world, OldParts(release, old_world), Follower()
    async with asyncio.TaskGroup() as starting:
        worker = starting.create_task(old.worker())
        old_edge = starting.create_task(old.edge())
    load = await old.load()
    try:
        edge = await upgrade_and_back(world, old, old_edge.result(), worker.result(), client)
        await world.worker()  # the flip
        await client.follow(edge, 120)
    finally:
        load.terminate()
        out, _ = await load.communicate()
    days = int(out)
    await wait_until_committed(world)
    measures = await measures_of(world)
    instants = {(measure.portfolio_id, to_rfc3339(measure.as_of_us)) for _, measure in measures}
    await client.follow(edge, len(instants) - len(client.seen))

    assert client.gaps == 0
    assert sorted(client.seen) == sorted(instants)
    assert measures[-1][0] == fingerprint_of(RiskMeasure)
    await assert_states_are_those_of_a_straight_run(world, days)
    account(
        f"{days} days of {len(PORTFOLIOS)} portfolios; a client got {len(client.seen)} measures, "
        "none twice and none lost, over two edges, two upgrades, a downgrade and the flip"
    )


async def assert_states_are_those_of_a_straight_run(world: World, days: int) -> None:
    states: dict[bytes, Any] = dict(await read_table(RISK_STATE, world.producer_settings))
    assert {key.decode() for key in states} == set(PORTFOLIOS)
    for state in states.values():
        assert isinstance(state, PortfolioState)
        expected = straight_state(state.portfolio_id, days)
        for field in ("window", "observations", "outcomes", "exceptions"):
            assert getattr(state, field) == getattr(expected, field), (state.portfolio_id, field)
