"""Records of strangers at the bounds of what a part can process, and the right outcome of each."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.codec import encode
from schemas.errors import OutOfBounds, TooLarge
from schemas.events import (
    Book,
    BookRisk,
    Record,
    ReturnBatch,
    TrainingProgress,
)
from schemas.gate import admit
from schemas.registry import field_names
from schemas.topics import (
    BACKTEST_EVENTS,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_BOOKS,
    TRAINING_EVENTS,
    Topic,
    key_of,
)
from sse_edge.streams import examples
from tests.support.asgi_edge import AsgiEdge, log_of_the_catalogue, serving
from tests.support.fake_log import FakeLog
from tests.support.sse import Block, Reader
from tests.support.strangers import encoded

pytestmark = pytest.mark.virtual_time

A_MILLION = 1_000_000
BEYOND_US = 2**63 - 1
"""A time that no calendar has."""


def fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in field_names(type(record))}


def put(log: FakeLog, topic: Topic, record: Record, value: bytes | None = None) -> None:
    key = key_of(record) or b""
    number = log.partition_of(key, topic.partitions)
    log.append(topic.name, number, key, value or encode(record))


async def blocks_of(edge: AsgiEdge, path: str, query: str) -> list[Block]:
    answer = await edge.request(path, query)
    assert answer.status == 200
    whole = answer.body.rpartition(b"\n\n")[0] + b"\n\n"
    return [block for block in Reader().feed(whole) if block.data is not None]


async def test_a_book_with_a_time_beyond_the_calendar_is_left_out_of_the_list() -> None:
    log = log_of_the_catalogue()
    good = Book(root="firm", book_id="tech", holdings=[], event_time_us=1_700_000_000_000_000)
    odd = replace(good, book_id="odd")
    put(log, RISK_BOOKS, good)
    put(log, RISK_BOOKS, odd, encoded(Book, fields(odd) | {"event_time_us": BEYOND_US}))
    priced = ("AAPL", 1.0, 1.0, BEYOND_US, None)
    holding = dict(
        zip(("series_id", "quantity", "price", "priced_us", "currency"), priced, strict=True)
    )
    put(log, RISK_BOOKS, odd, encoded(Book, fields(odd) | {"holdings": [holding]}))
    async with serving(log) as edge:
        answer = await edge.request("/api/v1/books")
        assert edge.errors == []
    assert answer.status == 200
    assert b'"tech"' in answer.body
    assert b"odd" not in answer.body


async def test_an_array_of_a_million_is_refused_and_the_next_record_is_shown() -> None:
    bare: Any = replace(examples.BOOKS[0], estimates=[], parts=[], stress=[])
    value = encoded(BookRisk, fields(bare) | {"missing": [""] * A_MILLION})
    assert len(value) < 1 << 20, "Kafka takes it"
    with pytest.raises(OutOfBounds, match="missing"):
        admit(value)
    log = log_of_the_catalogue()
    put(log, RISK_BOOK_RISKS, examples.BOOKS[0], value)
    put(log, RISK_BOOK_RISKS, examples.BOOKS[0])
    async with serving(log) as edge:
        blocks = await blocks_of(edge, "/api/v1/sse/books", "from=earliest")
        assert (await edge.request(f"/api/v1/books/{bare.root}")).status == 200
        assert edge.errors == []
    assert [block.event for block in blocks].count("book_risk") == 1


def test_a_batch_of_a_million_returns_is_refused_before_it_is_unpacked() -> None:
    head = encode(ReturnBatch(returns=[]))[:10]
    value = head + b"\x80\x89\x7a" + bytes(11 * A_MILLION)  # the count, and smallest returns
    with pytest.raises(TooLarge, match="are over the limit"):  # Kafka has it compressed
        admit(value)


PROGRESS = TrainingProgress(
    task_id="T",
    progress=50.0,
    status="running",
    message="mine",
    metrics={},
    event_time_us=1_700_000_000_000_000,
)
ALERT = replace(examples.ALERTS[0], entity_id="T", message="mine")


@pytest.mark.parametrize(
    ("topic", "path", "query", "record"),
    [
        (TRAINING_EVENTS, "/api/v1/sse/training", "task_id=T", PROGRESS),
        (TRAINING_EVENTS, "/api/v1/sse/streams", "topic=training:T", PROGRESS),
        (RISK_ALERTS, "/api/v1/sse/alerts", "entity_id=T", ALERT),
        (
            BACKTEST_EVENTS,
            "/api/v1/sse/backtest",
            "backtest_id=T",
            replace(examples.BACKTEST[0], backtest_id="T", message="mine", job=None),
        ),
    ],
)
async def test_streams_by_entity_do_not_show_records_in_wrong_partitions(
    topic: Topic, path: str, query: str, record: Any
) -> None:
    log = log_of_the_catalogue()
    key = key_of(record) or b""
    home = log.partition_of(key, topic.partitions)
    for number in range(topic.partitions):
        text = "mine" if number == home else "elsewhere"
        log.append(topic.name, number, key, encode(replace(record, message=text)))
    async with serving(log) as edge:
        of_entity = await blocks_of(edge, path, f"{query}&from=earliest")
        assert edge.errors == []
    shown = [block for block in of_entity if '"message"' in (block.data or "") and block.id]
    assert len(shown) == 1
    assert '"mine"' in (shown[0].data or "")


async def test_a_book_of_500_holdings_reaches_clients_whole_and_is_not_sent_again() -> None:
    log = log_of_the_catalogue()
    book: Any = examples.BOOKS[0]
    parts = [book.parts[0]._replace(part_id=f"instrument-{number}") for number in range(500)]
    put(log, RISK_BOOK_RISKS, replace(book, parts=parts))
    async with serving(log) as edge:
        blocks = await blocks_of(edge, "/api/v1/sse/books", "from=earliest")
        shown = [block for block in blocks if block.event == "book_risk"]
        assert sum((block.data or "").count("instrument-") for block in shown) == 500
        assert [block.id is None for block in shown] == [True] * (len(shown) - 1) + [False]
        again = await blocks_of(edge, "/api/v1/sse/books", f"last_event_id={shown[-1].id}")
        assert edge.errors == []
    assert "book_risk" not in [block.event for block in again]
