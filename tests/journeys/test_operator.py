"""An operator's commands on a running system: dead letters are re-driven once, and tails decode."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from cli.app import cli
from cli.dead_letters import Choice, Outcome, read_letters, redrive
from cli.errors import LogFailed
from kafka_io.client import partition_of
from kafka_io.publisher import outgoing_record
from kafka_io.reader import read_all, stream_records
from kafka_io.software import software_version
from schemas.events import (
    DeadLetter,
    OperatorAction,
    Return,
    ReturnBatch,
    RiskMeasure,
)
from schemas.topics import OPERATOR_ACTIONS, PARTITIONS
from tests.conftest import World
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

RUNNER = CliRunner()


async def call(world: World, *arguments: str) -> tuple[int, Any]:
    """Run a command in a thread; return its exit code, and its output as JSON if it is some."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "TAPEWIRE_TOPIC_PREFIX": world.prefix,
    }
    folder = str(world.folder / "nothing")
    result = await asyncio.to_thread(
        RUNNER.invoke, cli, [*arguments, "--data-dir", folder], env=env
    )
    try:
        return result.exit_code, json.loads(result.stdout)
    except ValueError:
        return result.exit_code, result.output + str(result.exception or "")


def is_measured(records: list[Any], *portfolios: str) -> bool:
    found = {record.portfolio_id for record in records if isinstance(record, RiskMeasure)}
    return found >= set(portfolios)


async def test_a_dead_letter_is_redriven_once_and_its_record_is_applied(world: World) -> None:
    wrong = (partition_of(b"p", PARTITIONS) + 1) % PARTITIONS
    topic = world.topic("portfolio.returns")
    batch = ReturnBatch(returns=[Return("p", 5, 0.01)])
    producer = AIOKafkaProducer(bootstrap_servers=world.kafka.bootstrap_servers)
    await producer.start()
    async with TopicReader(world, "dead.letters", "risk.measures") as reader:
        await world.worker(batch_within_s=0.05)
        made = outgoing_record(batch, world.producer_settings, partition=wrong)
        await producer.send_and_wait(
            topic, made.value, partition=wrong, headers=[*made.headers, ("mine", b"1")]
        )
        await producer.send_and_wait(topic, b"nonsense", partition=wrong)
        letters = await reader.until(
            lambda records: sum(isinstance(record, DeadLetter) for record in records) == 2
        )
        names = {
            record.reason: record.letter_id for record in letters if isinstance(record, DeadLetter)
        }
        code, listed = await call(world, "dead-letters", "list", "--json")
        assert code == 0
        assert {row["id"]: row["state"] for row in listed} == dict.fromkeys(names.values(), "open")

        name = names["wrong_partition"]
        code, shown = await call(world, "dead-letters", "show", name, "--json")
        assert (shown["can_be_redriven"], shown["original"]["record"]) == (True, "ReturnBatch")

        done = await redriven_by_two_at_once(world, name)
        assert [outcome.letter_id for outcome in done] == [name]
        await reader.until(lambda records: is_measured(records, "p"))

        code, again = await call(world, "dead-letters", "redrive", name, "--json")
        assert (code, again[0]["done"], again[0]["settled"]) == (0, False, True)
        assert "it was re-driven at" in again[0]["message"]
    written = [
        record
        async for record in stream_records(topic, world.producer_settings)
        if ("mine", b"1") in record.headers
    ]
    assert len(written) == 2
    assert {dict(record.headers)["ce_id"] for record in written} == {dict(made.headers)["ce_id"]}

    await assert_status_and_tail(world, name)
    await producer.stop()
    await assert_discarded_for_good(world, names["undecodable"])
    actions = await read_all(OPERATOR_ACTIONS, world.producer_settings)
    assert [
        (action.action, action.subject) for action in actions if isinstance(action, OperatorAction)
    ] == [("redrive", name), ("discard", names["undecodable"])]


async def assert_status_and_tail(world: World, name: str) -> None:
    """See the system and its records while its worker runs, after a re-drive."""
    code, status = await call(world, "status", "--json")
    groups = {group["purpose"]: group for group in status["groups"]}
    assert code == 0
    assert [member["version"] for member in groups["processors"]["members"]] == [software_version()]
    assert status["dead_letters_last_hour"] == {"wrong_partition": 1, "undecodable": 1}
    assert status["open_dead_letters_last_hour"] == 1
    assert "ReturnBatch" in {written["record"] for written in status["writes"]}

    where = ("--where", f"headers.redrive={name}", "--from", "@-1h", "--json")
    code, found = await call(world, "topics", "tail", "portfolio.returns", *where)
    assert (code, found["record"]) == (0, "ReturnBatch")
    assert found["value"]["returns"][0]["portfolio_id"] == "p"
    code, text = await call(world, "topics", "tail", "risk.measures", "--key", "p", "--count", "1")
    assert code == 0
    assert "RiskMeasure" in text
    code, rows = await call(world, "topics", "list", "--json")
    assert {row["exists"] for row in rows} == {True}
    code, row = await call(world, "topics", "describe", "portfolio.returns", "--json")
    assert len(row["partitions"]) == PARTITIONS

    code, checks = await call(world, "doctor", "--json")
    wrong = {check["name"]: check["found"] for check in checks if check["result"] == "wrong"}
    assert (code, wrong) == (0, {})
    code, upgrade = await call(world, "upgrade", "--check", "--json")
    assert (code, upgrade["possible"], upgrade["missing_topics"]) == (0, True, [])


async def redriven_by_two_at_once(world: World, name: str) -> list[Outcome]:
    """Return what two operators have done who re-drive a letter at the same time."""
    settings, outcomes = world.producer_settings, list[Outcome]()
    letters = await read_letters(settings, Choice((name,)))

    async def try_it() -> None:
        with suppress(LogFailed):  # the other one writes in its place
            await redrive(settings, letters, "partitioner", outcomes.append)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(try_it())
    return [outcome for outcome in outcomes if outcome.is_done]


async def assert_discarded_for_good(world: World, name: str) -> None:
    code, refused = await call(world, "dead-letters", "redrive", name)
    assert code == 1
    assert "it would become a dead letter again" in refused
    code, _ = await call(world, "dead-letters", "discard", name, "--because", "a test's")
    assert code == 0
    code, refused = await call(world, "dead-letters", "redrive", name)
    assert code == 1
    assert "it was discarded at" in refused
    assert (await call(world, "dead-letters", "list", "--json")) == (0, [])
