import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest

from kafka_io import command_writer
from kafka_io.clock import now_us
from kafka_io.command_writer import CommandWriter
from kafka_io.errors import Fenced, InvalidReport, RecordRefused, TransactionFailed, WorkStopped
from kafka_io.reader import read_all
from kafka_io.settings import ProducerSettings
from kafka_io.transactions import OutgoingRecord
from schemas.events import AgentEvent, AgentStepKind
from schemas.topics import AGENT_EVENTS
from tests.conftest import World
from tests.support.topic_config import configure

pytestmark = pytest.mark.timeout(120)


def event(text: str) -> AgentEvent:
    return AgentEvent(
        run_id="r", kind=AgentStepKind.RESPONSE_CHUNK, text=text, event_time_us=now_us()
    )


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


def writer_of(world: World) -> CommandWriter:
    return CommandWriter(world.producer_settings, f"{world.prefix}0", f"{world.prefix}group", yes)


async def written(world: World) -> list[str | None]:
    records = await read_all(AGENT_EVENTS, world.producer_settings)
    return [record.text for record in records if isinstance(record, AgentEvent)]


@pytest.mark.kafka
async def test_an_owner_before_writes_nothing_once_its_successor_is_open(world: World) -> None:
    before, after = writer_of(world), writer_of(world)
    await before.open()
    await before.publish(event("before"), "acme")
    await after.open()
    with pytest.raises(WorkStopped, match="another worker has the command"):
        await before.publish(event("a zombie's"))
    await after.publish(event("after"))
    assert Counter(await written(world)) == Counter(["before", "after"])  # of different partitions
    await before.close()
    await after.close()


@pytest.mark.kafka
async def test_a_worker_that_lost_its_partition_while_it_opened_writes_nothing(
    world: World,
) -> None:
    owner = writer_of(world)
    await owner.open()
    group = f"{world.prefix}group"
    zombie = CommandWriter(world.producer_settings, f"{world.prefix}0", group, no)
    with pytest.raises(WorkStopped, match="another worker has the command"):
        await zombie.open()
    await zombie.close()
    # The owner is fenced, too: it starts the command again.
    with pytest.raises(WorkStopped):
        await owner.publish(event("fenced"))
    await owner.close()
    again = writer_of(world)
    await again.open()
    await again.publish(event("again"))
    await again.close()
    assert await written(world) == ["again"]


async def test_a_writer_waits_for_kafka_until_it_is_stopped() -> None:
    settings = ProducerSettings(bootstrap_servers="127.0.0.1:1")
    asked = asyncio.Event()
    writer = CommandWriter(settings, "id", "group", yes)

    async def wait() -> None:
        asked.set()
        with pytest.raises(WorkStopped, match="this worker stops"):
            await writer.publish(event("never"))

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(wait())
        await asked.wait()
        await asyncio.sleep(0)
        assert not waiting.done()
        writer.stop()
    with pytest.raises(WorkStopped):
        await writer.publish(event("never"))


@pytest.mark.kafka
async def test_an_invalid_event_is_refused_and_the_next_one_is_written(world: World) -> None:
    writer = writer_of(world)
    await writer.open()
    with pytest.raises(InvalidReport, match="AgentEvent does not fit its schema: "):
        await writer.publish(event("x" * (2 << 20)))
    await writer.publish(event("valid"))
    await writer.close()
    assert await written(world) == ["valid"]


class FakeId:
    """A transactional id in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: Iterable[Exception]) -> None:
        self.calls: list[str] = []
        self._failures = iter(failures)
        monkeypatch.setattr(command_writer, "open_writer", self._open)

    @asynccontextmanager
    async def _open(self, *_: object, **__: object) -> AsyncGenerator["FakeId"]:
        self.calls.append("open")
        yield self

    async def commit(self, records: Sequence[OutgoingRecord], offsets: object) -> None:
        assert not offsets
        self.calls.append("commit")
        if failure := next(self._failures, None):
            raise failure
        assert len(records) == 1

    async def is_owner(self) -> bool:
        self.calls.append("ask")
        return self.calls.count("ask") < 3

    def writer(self) -> CommandWriter:
        return CommandWriter(ProducerSettings(), "id", "group", self.is_owner)


async def test_a_writer_asks_the_group_after_each_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeId(monkeypatch, [TransactionFailed("away"), TransactionFailed("still away")])
    with pytest.raises(WorkStopped, match="another worker has the command"):
        await fake.writer().publish(event("lost"))
    assert fake.calls == ["open", "ask", "commit", "open", "ask", "commit", "open", "ask"]


async def test_a_fenced_writer_does_not_open_its_id_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeId(monkeypatch, [Fenced("there is a later writer")])
    with pytest.raises(WorkStopped, match="another worker has the command"):
        await fake.writer().publish(event("fenced"))
    assert fake.calls == ["open", "ask", "commit"]


@pytest.mark.kafka
async def test_an_event_that_kafka_never_takes_is_refused_and_the_next_one_is_written(
    world: World,
) -> None:
    await configure(world, {AGENT_EVENTS.name: {"max.message.bytes": "2000"}})
    writer = writer_of(world)
    await writer.open()
    async with asyncio.timeout(30):
        with pytest.raises(RecordRefused, match=r"max\.message\.bytes"):
            await writer.publish(event("x" * 3_000))
        await writer.publish(event("after"))
    assert await written(world) == ["after"]
    await writer.close()
