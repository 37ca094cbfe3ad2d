"""Following a topic with a real Kafka: from its beginning, up to its end, and on."""

import asyncio

import pytest

from infra.embedded_broker import free_port
from kafka_io import follower
from kafka_io.errors import Unread
from kafka_io.follower import Follower
from kafka_io.publisher import Publisher
from kafka_io.reader import ConsumedRecord
from schemas.codec import decode
from schemas.events import NotificationRoute
from schemas.topics import NOTIFICATION_ROUTES
from tests.conftest import World


def route(name: str) -> NotificationRoute:
    return NotificationRoute(
        name=name, destination="webhook", url="https://x", subjects=["alerts"], event_time_us=0
    )


class Kept:
    """Keeps what a follower passes on."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.before_end: list[str] | None = None
        self.changed = asyncio.Event()

    def begin(self) -> None:
        self.names.clear()

    def take(self, record: ConsumedRecord) -> None:
        event = decode(record.value)
        assert isinstance(event, NotificationRoute)
        self.names.append(event.name)
        self.changed.set()

    def reached_end(self) -> None:
        self.before_end = list(self.names)


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_all_records_come_before_the_end_and_new_ones_after_it(world: World) -> None:
    kept = Kept()
    following = Follower(
        world.kafka.bootstrap_servers,
        world.topic(NOTIFICATION_ROUTES.name),
        kept.begin,
        kept.take,
        kept.reached_end,
    )
    async with Publisher(world.producer_settings) as publisher, asyncio.TaskGroup() as tasks:
        for name in ("a", "b"):
            await publisher.publish(route(name))
        running = tasks.create_task(following.run())
        await following.complete()
        assert kept.before_end == ["a", "b"]
        kept.changed.clear()
        await publisher.publish(route("c"))
        async with asyncio.timeout(30):
            await kept.changed.wait()
        assert kept.names == ["a", "b", "c"]
        running.cancel()


async def test_a_kafka_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "_READ_S", 0.2)
    kept = Kept()
    servers = f"127.0.0.1:{free_port()}"
    following = Follower(servers, "routes", kept.begin, kept.take, kept.reached_end)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(following.run())
        with pytest.raises(Unread, match="routes could not be read within"):
            await following.complete()
        running.cancel()
    assert kept.before_end is None


@pytest.mark.kafka
async def test_a_missing_topic_is_named_with_the_command_that_makes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_READ_S", 5.0)
    kept, missing = Kept(), world.topic("missing")
    servers = world.kafka.bootstrap_servers
    following = Follower(servers, missing, kept.begin, kept.take, kept.reached_end)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(following.run())
        with pytest.raises(Unread, match=f"no topic {missing}; `tapewire topics create` makes it"):
            await following.complete()
        running.cancel()
