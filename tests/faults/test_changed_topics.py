"""Topics of processors that are made anew, or that grow."""

import asyncio

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from infra.errors import PartFailed
from infra.topics import provision
from kafka_io.publisher import Publisher
from producers.returns import ReturnsPublisher
from schemas.events import Record, Return, RiskMeasure
from schemas.topics import PORTFOLIO_RETURNS
from tests.conftest import World
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180), pytest.mark.usefixtures("tidy_logs")]

PORTFOLIOS = [f"p{number}" for number in range(12)]


async def send(world: World, times: range) -> None:
    async with Publisher(world.producer_settings) as publisher:
        sender = ReturnsPublisher(publisher)
        for at in times:
            await sender.send([Return(name, at, 0.01 * (-1) ** at) for name in PORTFOLIOS])


def observations(records: list[Record]) -> dict[str, int]:
    """Return the number of returns in the last measure of each portfolio."""
    return {
        record.portfolio_id: record.observations
        for record in records
        if isinstance(record, RiskMeasure)
    }


async def test_returns_of_a_topic_that_was_made_anew_are_measured_from_the_first(
    world: World,
) -> None:
    worker = await world.worker(batch_within_s=0.05)
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})

    def make_anew() -> None:
        for answer in admin.delete_topics([world.topic(PORTFOLIO_RETURNS.name)]).values():
            answer.result(30)
        servers, topics = world.kafka.bootstrap_servers, [PORTFOLIO_RETURNS]
        while not provision(servers, prefix=world.prefix, topics=topics):
            pass

    async with TopicReader(world, "risk.measures") as reader:
        await send(world, range(60))
        await reader.until(lambda records: observations(records) == dict.fromkeys(PORTFOLIOS, 60))
        await asyncio.to_thread(make_anew)
        await send(world, range(60, 100))
        await reader.until(lambda records: observations(records) == dict.fromkeys(PORTFOLIOS, 100))
    assert "was made anew, so it is read from its beginning" in worker.process.log_path.read_text()


async def test_a_worker_stops_where_a_topic_has_more_partitions_than_its_states(
    world: World,
) -> None:
    worker = await world.worker(batch_within_s=0.05)
    admin = AdminClient({"bootstrap.servers": world.kafka.bootstrap_servers})
    topic = world.topic(PORTFOLIO_RETURNS.name)

    def grow() -> None:
        for answer in admin.create_partitions([NewPartitions(topic, 8)]).values():
            answer.result(30)

    await asyncio.to_thread(grow)
    async with asyncio.timeout(60):
        assert await worker.process.ended() != 0
    with pytest.raises(PartFailed):
        await world.worker(batch_within_s=0.05)
    for path in world.folder.glob("worker-*.log"):
        log = path.read_text()
        assert f"{topic} does not have the 6 partitions that its states are partitioned by" in log
        assert "run `tapewire topics grow COUNT` with a multiple of 6" in log
