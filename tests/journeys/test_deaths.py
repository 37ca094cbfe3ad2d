"""A worker on a real broker that one record kills, as by a signal or for memory."""

import asyncio
import signal
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from infra.errors import PartFailed
from kafka_io.client import partition_of
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from kafka_io.reader import count_uncommitted, read_all
from producers.returns import ReturnsPublisher
from schemas.events import AgentCommand, AgentEvent, DeadLetter, Record, Return, RiskAlert
from schemas.topics import (
    AGENT_COMMANDS,
    AGENT_EVENTS,
    DEAD_LETTERS,
    PARTITIONS,
    PORTFOLIO_RETURNS,
)
from tests.conftest import Started, World
from tests.support import lethal_orchestrator
from tests.support.lethal_worker import LETHAL
from tests.support.straight_run import (
    TopicReader,
    assert_as_straight,
    measured_at,
    send_days,
    straight_run,
)

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

DAYS = 300


async def keep(start: Callable[[], Awaitable[Started]], deaths: list[str]) -> None:
    """Start a process again whenever it dies, as its supervisor does."""
    while True:
        try:
            started = await start()
        except PartFailed as error:
            deaths.append(str(error))
            continue
        code = await started.process.ended()
        deaths.append(signal.Signals(-code).name)


async def test_a_record_that_kills_its_worker_does_so_four_times_and_costs_nothing_else(
    world: World,
) -> None:
    expected_measures, expected_alerts = straight_run(DAYS)
    end = max(at for _, at in expected_measures)
    portfolios = {name for name, at in expected_measures if at == end}
    deaths: list[str] = []

    async with TopicReader(world, "risk.measures", "risk.alerts") as reader:
        await send_days(world, 0, DAYS // 2)
        async with Publisher(world.producer_settings) as publisher:
            await ReturnsPublisher(publisher).send([Return(LETHAL, 0, 0.01)])
        await send_days(world, DAYS // 2, DAYS)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(
                keep(partial(world.program, "tests.support.lethal_worker"), deaths)
            )
            await reader.until(measured_at(end, portfolios))
            while not (letters := await read_all(DEAD_LETTERS, world.producer_settings)):
                await reader.poll()
            keeping.cancel()

    assert_as_straight(reader.records, expected_measures, expected_alerts)
    alerts = [record.transition_id for record in reader.records if isinstance(record, RiskAlert)]
    assert len(alerts) == len(set(alerts))
    assert len(deaths) == 4
    assert all("SIGKILL" in death for death in deaths)
    [letter] = letters
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "failed"
    assert letter.error.startswith("4 processes in a row have died here")
    assert letter.value is not None
    assert letter.topic == world.topic(PORTFOLIO_RETURNS.name)


def ends_in(records: Iterable[Record]) -> Counter[str]:
    """Return how often each run has ended."""
    return Counter(
        record.run_id for record in records if isinstance(record, AgentEvent) and record.ends
    )


async def ended_runs(world: World) -> dict[str, AgentEvent]:
    """Return the last event of each run that has ended."""
    events = await read_all(AGENT_EVENTS, world.producer_settings)
    return {event.run_id: event for event in events if isinstance(event, AgentEvent) and event.ends}


async def test_a_worker_that_dies_in_the_middle_of_many_answers_repeats_and_loses_none(
    world: World,
) -> None:
    """A hanging answer is the oldest of its partition, and holds up no other one."""

    def in_first_partition(message: str) -> AgentCommand:
        while partition_of((run_id := uuid.uuid4().hex).encode(), PARTITIONS) != 0:
            pass
        return AgentCommand(run_id=run_id, message=message, event_time_us=now_us())

    hanging = in_first_partition("stubborn spin")
    answered = [in_first_partition(f"what is {number} + 1") for number in range(20)]
    late = [in_first_partition(f"what is {number} + 2") for number in range(20)]
    garbage = TopicPartition(world.topic(AGENT_COMMANDS.name), 0)
    stubborn = "tests.support.stubborn_agents:Stubborn"
    producer = AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers)
    await producer.start()
    reader = TopicReader(world, AGENT_EVENTS.name, DEAD_LETTERS.name)
    async with Publisher(world.producer_settings) as publisher, reader:
        for command in (hanging, *answered):
            await publisher.publish(command)
        await producer.send_and_wait(garbage.topic, b"garbage", b"k", partition=0)
        await producer.stop()
        first = await world.orchestrator(agents=stubborn, agent_deadline_s=60)
        await reader.until(lambda records: len(ends_in(records)) == len(answered))
        await reader.until(
            lambda records: any(isinstance(record, DeadLetter) for record in records)
        )
        assert hanging.run_id not in ends_in(reader.records)
        for command in late:
            await publisher.publish(command)
        await first.kill()
        group = f"{world.prefix}tapewire-{AGENT_COMMANDS.name}"
        assert await count_uncommitted({garbage: 1}, group, world.producer_settings) == 1
        await world.orchestrator(agents=stubborn, agent_deadline_s=1)
        await reader.until(lambda records: len(ends_in(records)) == 1 + len(answered) + len(late))

    events = await read_all(AGENT_EVENTS, world.producer_settings)
    runs = [event for event in events if isinstance(event, AgentEvent)]
    assert ends_in(events) == Counter(command.run_id for command in (hanging, *answered, *late))
    begun = {event.run_id: event.attempt for event in runs}
    assert begun[hanging.run_id] == 2
    assert {begun[command.run_id] for command in answered} == {1}
    assert len(await read_all(DEAD_LETTERS, world.producer_settings)) == 1
    while await count_uncommitted({garbage: 42}, group, world.producer_settings):  # noqa: ASYNC110  # of another process
        await asyncio.sleep(0.2)  # a group tells nothing of its commits; each look is a request


async def test_a_command_that_kills_its_worker_does_so_three_times_and_ends(world: World) -> None:
    deaths: list[str] = []
    runs = {
        message: AgentCommand(run_id=uuid.uuid4().hex, message=message, event_time_us=now_us())
        for message in (lethal_orchestrator.LETHAL, "weather in Paris")
    }
    async with Publisher(world.producer_settings) as publisher:
        for command in runs.values():
            await publisher.publish(command)

    async with asyncio.TaskGroup() as tasks:
        start = partial(world.program, "tests.support.lethal_orchestrator", "orchestrator")
        keeping = tasks.create_task(keep(start, deaths))
        while len(found := await ended_runs(world)) < len(runs):  # noqa: ASYNC110  # of another process
            await asyncio.sleep(0.2)  # each look reads the topic from its beginning
        keeping.cancel()
    lethal, healthy = (found[command.run_id] for command in runs.values())
    assert (lethal.kind, lethal.text) == ("error", "given up: 3 workers were lost on it")
    assert healthy.kind == "completed"
    assert len(deaths) == 3
