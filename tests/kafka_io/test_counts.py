"""A command group counts its commands, and a publisher its events, for the metrics of a process."""

import asyncio

import pytest

from kafka_io.clock import now_us
from kafka_io.command_group import CommandGroup, ReceivedCommand
from kafka_io.counts import COUNTS, CommandOutcome
from kafka_io.publisher import Publisher
from schemas.events import AgentCommand, DeadLetterReason
from schemas.topics import AGENT_COMMANDS, AGENT_EVENTS
from tests.conftest import World

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_commands_are_counted_by_what_became_of_them(world: World) -> None:
    settings = world.producer_settings
    topic = settings.topic_prefix + AGENT_COMMANDS.name
    done, failed = asyncio.Event(), asyncio.Event()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def work(received: ReceivedCommand) -> None:
        command = received.command
        assert isinstance(command, AgentCommand)
        assert COUNTS.running[topic] == 1
        event = failed if command.message == "fail" else done
        loop.call_soon_threadsafe(event.set)
        if command.message == "fail":
            raise ValueError("no message")

    async with Publisher(settings) as publisher:
        for number, message in enumerate(("succeed", "fail")):
            command = AgentCommand(run_id=f"run-{number}", message=message, event_time_us=now_us())
            await publisher.publish(command)
    assert COUNTS.published[topic] == 2
    group = CommandGroup(AGENT_COMMANDS, AGENT_EVENTS, settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(group.run(work, stop))
        await done.wait()
        await failed.wait()
        while COUNTS.running[topic] or sum(COUNTS.lags[topic]().values()):  # noqa: ASYNC110  # counts notify nobody
            await asyncio.sleep(0.05)  # each look costs nothing, and all take milliseconds
        stop.set()
    assert COUNTS.commands[topic, CommandOutcome.DONE] == 1
    assert COUNTS.commands[topic, CommandOutcome.SET_ASIDE] == 1
    assert COUNTS.dead_letters[topic, DeadLetterReason.FAILED] == 1
    assert COUNTS.dead_letters[topic, DeadLetterReason.LATE] == 0
    assert COUNTS.running[topic] == 0
