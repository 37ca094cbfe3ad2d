"""The adapter to Faust: batches, keys, tombstones, tables and stopping, without Kafka."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import faust
import pytest

from schemas.events import CandleState, DeadLetter, StoryState
from schemas.topics import MARKET_FORMING, RISK_OPEN, TRAINING_EVENTS
from stream_processors.faust_adapter import (
    StateTable,
    Writer,
    finish_before_stopping,
    process_batches,
)
from stream_processors.messages import Message
from stream_processors.settings import ProcessorSettings
from tests.support.fake_faust import AgentBench, FakeStream, Journal
from tests.support.messages import message

STATE = CandleState(symbol="S", next=3, watermark_us=5, forming=[], late=0)


class FakeProducer:
    """A producer that records what is sent, and acknowledges when its event is set."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.is_sending = asyncio.Event()
        self.acknowledged = asyncio.Event()

    async def send(self, *record: Any, **options: Any) -> Any:
        self.sent.append((*record, options["headers"]))
        self.is_sending.set()
        return self.acknowledged.wait()


def writer_of(producer: FakeProducer, prefix: str = "x.") -> Writer:
    async def started() -> FakeProducer:
        return producer

    app: Any = SimpleNamespace(maybe_start_producer=started)
    return Writer(app, ProcessorSettings(topic_prefix=prefix, rebuild_version="v2"))


async def test_a_batch_is_acknowledged_when_it_has_been_processed() -> None:
    journal = Journal()
    messages = [message(TRAINING_EVENTS, b"", offset) for offset in range(3)]

    async def process(batch: Sequence[Message]) -> None:
        journal.entries.append(("processed", len(batch)))

    stream = FakeStream(journal, [messages[:2], messages[2:]])
    await process_batches(stream, process, records_max=2, within_s=0.1)
    assert journal.entries == [
        *(("processed", 2), ("ack", 0), ("ack", 1)),
        *(("processed", 1), ("ack", 2)),
    ]


async def test_a_batch_whose_processing_fails_is_not_acknowledged() -> None:
    journal = Journal()

    async def process(batch: Sequence[Message]) -> None:
        raise RuntimeError(f"{len(batch)} messages fail")

    stream = FakeStream(journal, [[message(TRAINING_EVENTS, b"")]])
    with pytest.raises(RuntimeError, match="1 messages fail"):
        await process_batches(stream, process, records_max=2, within_s=0.1)
    assert journal.entries == []


async def test_sending_returns_when_all_events_are_acknowledged() -> None:
    producer = FakeProducer()
    letter = DeadLetter(
        reason="invalid",
        error="why",
        topic="t",
        partition=0,
        offset=0,
        key=b"k",
        value=None,
        event_time_us=0,
    )
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(writer_of(producer).send_each([(letter, "acme")]))
        await producer.is_sending.wait()
        await asyncio.sleep(0)
        assert not sending.done()
        producer.acknowledged.set()
    [(topic, key, _, partition, headers)] = producer.sent
    assert (topic, key, partition) == ("x.v2.dead.letters", b"k", None)
    assert ("tenant", b"acme") in headers


async def test_deleting_writes_tombstones() -> None:
    producer = FakeProducer()
    producer.acknowledged.set()
    await writer_of(producer).delete(RISK_OPEN, ["a", "b"])
    assert [(topic, key, value) for topic, key, value, *_ in producer.sent] == [
        ("x.v2.risk.open", b"a", None),
        ("x.v2.risk.open", b"b", None),
    ]


async def test_a_table_returns_its_rows_of_a_kind_and_forgets_deleted_ones() -> None:
    bench = AgentBench()
    table = StateTable(bench.app, bench.writer, MARKET_FORMING)
    await table.write({b"S": (2, STATE), b"T": (2, STATE)})
    await table.write({b"T": (2, None)})
    assert list(table.recovered(CandleState)) == [(b"S", STATE)]
    assert list(table.recovered(StoryState)) == []
    assert bench.journal.rows[MARKET_FORMING.name, b"T"] is None


async def test_stopping_waits_for_the_batch_under_way_and_starts_no_other() -> None:
    app = faust.App("stopping", store="memory://", web_enabled=False)
    lock = asyncio.Lock()
    finish_before_stopping(app, lock)
    await lock.acquire()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(app.on_before_shutdown.send())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not stopping.done()
        lock.release()
    assert lock.locked()
