"""A broker that owes an answer is asked for nothing new until the others have replaced it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from kafka_io.errors import TransactionFailed
from kafka_io.group import OffsetConsumer
from stream_processors import kafka_adapter
from stream_processors.kafka_adapter import TaskKafka
from stream_processors.settings import ProcessorSettings


class _Consumer:
    servers = "one:1,two:2,three:3"


class _Writer:
    def __init__(self, unanswered: set[str]) -> None:
        self.unanswered = unanswered


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The brokers that each writer began with; each waits for the first of them."""
    servers: list[str] = []

    @asynccontextmanager
    async def open_writer(of: str, *_: Any, **__: Any) -> AsyncGenerator[_Writer]:
        servers.append(of)
        yield _Writer({of.partition(",")[0]})

    monkeypatch.setattr(kafka_adapter, "open_writer", open_writer)
    return servers


async def _fail(kafka: TaskKafka) -> None:
    with pytest.raises(TransactionFailed):
        async with kafka.open_writer(0):
            raise TransactionFailed("no answer")


async def test_a_writer_begins_with_brokers_that_have_answered_if_there_are_any(
    opened: list[str],
) -> None:
    settings = ProcessorSettings(bootstrap_servers="one:1")
    kafka = TaskKafka(settings, cast("OffsetConsumer", _Consumer()), {}, [], 1)
    async with kafka.open_writer(0):
        pass
    for _ in range(3):
        await _fail(kafka)
    async with kafka.open_writer(1):
        pass
    assert opened == [
        "one:1,two:2,three:3",
        "one:1,two:2,three:3",
        "two:2,three:3",
        "three:3",
        "one:1,two:2,three:3",
    ]


async def test_a_broker_is_asked_again_after_a_while(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ProcessorSettings(bootstrap_servers="one:1")
    kafka = TaskKafka(settings, cast("OffsetConsumer", _Consumer()), {}, [], 1)
    await _fail(kafka)
    monkeypatch.setattr(kafka_adapter, "_SILENT_S", 0.0)
    await _fail(kafka)  # the second broker is silent for no time
    async with kafka.open_writer(1):
        pass
    assert opened[1:] == ["two:2,three:3", "two:2,three:3"]
