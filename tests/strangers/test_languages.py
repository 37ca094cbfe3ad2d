"""Producers in Java and Node, and Kafka's console producer, write strange records beside good ones.

At the end every part is up without a restart, each good event has come once and in order, nothing
of an aborted transaction has, and each strange record has one dead letter.
"""

import asyncio
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import httpx
import psutil
import pytest

from kafka_io.client import partition_of
from kafka_io.clock import now_us
from producers.progress import training_progress
from schemas.codec import encode
from schemas.events import DeadLetter, Record
from schemas.topics import PARTITIONS
from sse_edge.streams.channels import CHANNELS
from tests.conftest import World
from tests.support.clients import stream
from tests.support.foreign import ROOT, java, java_class, node
from tests.support.sse import Block, named
from tests.support.straight_run import TopicReader
from tests.support.stranger import CODECS, Strange, strange_records

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(300)]

JAVA = ROOT / "tests" / "java" / "StrangerProducer.java"
NODE = ROOT / "tests" / "node" / "stranger.js"
PACKAGES = ROOT / "examples" / "13-node"
CONSOLE = "org.apache.kafka.tools.ConsoleProducer"
TRAINING = "training.events"
SKIPPED = ("undecodable", "invalid", "future")
"""What edges cannot render; they show a record of another partition to those who see all."""
GOOD = 20
KEY_BYTES = 1_000
TEXTS = ("plain text", '{"task_id": "t"}', "\u00e9\U0001f600", "")


async def feed(command: Sequence[str], lines: Sequence[str]) -> str:
    """Run a program with lines as its input, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            given = "".join(f"{at}\n" for at in lines).encode()
            printed, errors = await process.communicate(given)
    except TimeoutError:
        process.kill()
        _, errors = await process.communicate()
        raise AssertionError(f"{command[-2:]} does not end: {errors.decode()}") from None
    assert process.returncode == 0, errors.decode()
    return printed.decode()


def line(world: World, codec: str, mode: str, record: Strange) -> str:
    topic, key, value, partition, _ = record
    number = "-" if partition is None else partition
    words = ("-" if data is None else b64encode(data).decode() for data in (key, value))
    return " ".join((codec, mode, world.topic(topic), str(number), *words))


def good(task: str, number: int) -> Strange:
    value = encode(training_progress(task, float(number), "running", now_us=now_us()))
    return TRAINING, task.encode(), value, None, ""


def java_lines(world: World, strange: Sequence[Strange]) -> list[str]:
    """Return strange records by each codec; good ones, alone and in transactions; aborted ones."""
    lines = [
        line(world, CODECS[index % len(CODECS)], ("none", "commit")[index % 2], record)
        for index, record in enumerate(strange)
    ]
    for number in range(GOOD):
        codec, mode = CODECS[number % len(CODECS)], ("none", "commit")[number // 5 % 2]
        lines.insert(number * 3, line(world, codec, mode, good("java", number)))
        lines.insert(number * 3, line(world, codec, "abort", good("aborted", number)))
    return lines


def node_lines(world: World, strange: Sequence[Strange]) -> list[str]:
    home = partition_of(b"node", PARTITIONS)
    lines = [
        line(world, CODECS[1 + index % 2], "none", record)  # gzip and snappy
        for index, record in enumerate(strange)
    ]
    for number in range(GOOD):
        topic, key, value, _, reason = good("node", number)
        lines.insert(number * 2, line(world, "gzip", "none", (topic, key, value, home, reason)))
    return lines


async def test_java_node_and_the_console_producer_harm_no_healthy_stream(world: World) -> None:
    commands = {
        "java": await asyncio.to_thread(java, JAVA),
        "node": await asyncio.to_thread(lambda: node(NODE, packages_of=PACKAGES)),
    }
    console = await asyncio.to_thread(java_class, CONSOLE)
    edge = await world.edge()
    worker = await world.worker(batch_within_s=0.05)
    by_java = list(strange_records())
    # Node's client takes minutes for the hash of a key of half a megabyte.
    by_node = [record for record in by_java if len(record[1] or b"") < KEY_BYTES]
    expected = Counter(reason for *_, reason in by_java + by_node)
    expected["undecodable"] += len(TEXTS)
    expected_at_edge = len(TEXTS) + sum(
        topic == TRAINING and value is not None and reason in SKIPPED
        for topic, _, value, _, reason in by_java + by_node
    )
    servers = world.kafka.bootstrap_servers
    async with AsyncExitStack() as stack:
        streams = {
            name: await stack.enter_async_context(stream(edge.url, f"/api/v1/sse/{name}"))
            for name in CHANNELS.mystocks
        }
        reader = await stack.enter_async_context(TopicReader(world, "dead.letters"))
        for client in streams.values():
            await client.until(lambda blocks: any(block.id for block in blocks))
        to_topic = ("--bootstrap-server", servers, "--topic", world.topic(TRAINING))
        async with asyncio.TaskGroup() as writing:
            for language, lines in (
                ("java", java_lines(world, by_java)),
                ("node", node_lines(world, by_node)),
            ):
                writing.create_task(feed((*commands[language], servers), lines))
            writing.create_task(feed((*console, *to_topic), TEXTS))
        shown = streams["training"]
        blocks = await shown.until(
            lambda blocks: all(len(of_task(blocks, name)) >= GOOD for name in commands)
        )
        for name in commands:
            assert of_task(blocks, name) == [float(number) for number in range(GOOD)]
        assert of_task(blocks, "aborted") == []
        records = await reader.until(lambda found: len(letters(found)) >= expected.total())
        assert Counter(letter.reason for letter in letters(records)) == expected
        assert len({letter.event_id for letter in letters(records)}) == expected.total()
        assert not any(client.ended for client in streams.values())
        async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
            skipped = (await http.get("/metrics")).text
            assert (await http.get("/health/ready")).status_code == 200
    name = world.topic(TRAINING)
    found = re.findall(rf'skipped_total{{[^}}]*"{name}"[^}}]*}} (\S+)', skipped)
    assert sum(map(float, found)) == expected_at_edge
    for part in (edge, worker):
        assert psutil.Process(part.process.pid).status() != psutil.STATUS_ZOMBIE


def of_task(blocks: Sequence[Block], task: str) -> list[float]:
    return [
        block.inner["progress"]
        for block in named(blocks, "training_progress")
        if block.inner["task_id"] == task
    ]


def letters(records: Sequence[Record]) -> list[DeadLetter]:
    return [record for record in records if isinstance(record, DeadLetter)]
