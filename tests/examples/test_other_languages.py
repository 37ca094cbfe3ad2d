"""The programs in Java and Node write what the reporter API writes, into the same partitions."""

import asyncio
from collections.abc import Sequence

import pytest

from kafka_io.client import partition_of
from kafka_io.reader import read_all, read_uncommitted
from schemas.events import Record, ReturnBatch, RiskMeasure, TrainingProgress
from schemas.gate import admit
from schemas.topics import DEAD_LETTERS, PARTITIONS, PORTFOLIO_RETURNS, TRAINING_EVENTS
from tests.conftest import World
from tests.examples.test_examples import EXAMPLES, run, system_of
from tests.support.clients import stream
from tests.support.foreign import java, node
from tests.support.sse import named
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

JAVA = EXAMPLES / "12-java" / "Producer.java"
NODE = EXAMPLES / "13-node" / "produce.js"
STATUSES = ["started", "running", "running", "running", "completed"]
DAYS = 150


async def test_programs_in_java_and_node_report_trainings_and_returns(world: World) -> None:
    commands = {
        "java": await asyncio.to_thread(java, JAVA),
        "node": await asyncio.to_thread(node, NODE),
    }
    edge = await world.edge()
    await world.worker(batch_within_s=0.05)
    async with (
        stream(edge.url, "/api/v1/sse/training", since="earliest") as shown,
        TopicReader(world, "risk.measures") as reader,
        asyncio.TaskGroup() as running,
    ):
        programs = {
            language: running.create_task(run(world, *command, task(language), language))
            for language, command in commands.items()
        }
        blocks = await shown.events("training_progress", len(STATUSES) * len(programs))
        await reader.until(
            lambda found: all(has_measured(found, language) for language in programs)
        )
    for language, program in programs.items():
        name = task(language)
        home = partition_of(name.encode(), PARTITIONS)
        assert f"{name} completed in partition {home}" in program.result()
        of_task = [
            (block.inner["status"], block.inner["metrics"]["loss"])
            for block in named(blocks, "training_progress")
            if block.inner["task_id"] == name
        ]
        assert of_task == [(status, 1 / step) for step, status in enumerate(STATUSES, start=1)]
        await check_headers(world, language)
    assert await read_all(DEAD_LETTERS, world.producer_settings) == []
    for command in commands.values():
        assert "a name has at most 256 characters" in await refusal(world, *command, "x" * 257)
    written = await read_all(TRAINING_EVENTS, world.producer_settings)
    assert len(written) == len(STATUSES) * len(programs)


def task(language: str) -> str:
    return f"{language}-\u00e9"


async def check_headers(world: World, language: str) -> None:
    """Check the headers of all records that a program has written."""
    ids = set()
    for topic, key in ((TRAINING_EVENTS, task(language)), (PORTFOLIO_RETURNS, language)):
        home = partition_of(key.encode(), PARTITIONS)
        for record in await read_uncommitted([topic], home, "nobody", world.producer_settings):
            headers = {name: (value or b"").decode() for name, value in record.headers}
            if headers["ce_source"] == f"/examples/{language}":
                event = admit(record.value, TrainingProgress, ReturnBatch)
                assert headers["ce_type"] == f"tapewire.{type(event).__name__}"
                assert headers["ce_specversion"] == "1.0"
                ids.add(headers["ce_id"])
    assert len(ids) == len(STATUSES) + 1


async def refusal(world: World, *command: str) -> str:
    """Run a program that must fail, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(*command, "desk"),
        cwd=EXAMPLES.parent,
        env=dict(system_of(world)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 1
    return printed.decode()


def has_measured(found: Sequence[Record], portfolio: str) -> bool:
    return any(
        isinstance(measure, RiskMeasure)
        and (measure.portfolio_id, measure.observations) == (portfolio, DAYS)
        for measure in found
    )
