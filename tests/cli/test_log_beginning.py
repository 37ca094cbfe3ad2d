"""What a log must still have for a rebuild."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cli import log_beginning
from cli.errors import RebuildFailed
from cli.log_beginning import (
    beginnings_of,
    check_limits,
    missing_of_books,
    missing_text,
    note_returns,
)
from kafka_io.reader import ConsumedRecord, OffsetRange
from kafka_io.settings import ProducerSettings
from schemas.codec import encode
from schemas.events import (
    Book,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskLimit,
    SeriesReturns,
    SeriesState,
)
from schemas.keys import encode_key
from schemas.topics import PARTITIONS, RISK_BOOKS, RISK_SERIES, Topic, TopicPartition
from stream_processors.risk.scope import Scope

DAY_US = 86_400_000_000


def state(name: str, first_day: int, *, lap: int = 0, partition: int = 3) -> PortfolioState:
    times = array("q", [day * DAY_US for day in range(first_day, first_day + 3)])
    return PortfolioState(
        portfolio_id=name,
        offset=9,
        index=0,
        window=times.tobytes() + array("d", [0.0] * 3).tobytes(),
        observations=3,
        partition=partition,
        lap=lap,
    )


def record(days: range, *names: str, lap: int = 0) -> ConsumedRecord:
    returns = [Return(name, day * DAY_US, 0.0) for name in names for day in days]
    value = encode(ReturnBatch(returns=returns, lap=lap))
    return ConsumedRecord("portfolio.returns", 3, 0, 1.0, b"p", value, [])


def test_a_log_that_begins_with_the_states_is_enough() -> None:
    states = {encode_key(name): state(name, day) for name, day in (("a", 10), ("b", 20))}
    found = beginnings_of(states)
    note_returns(found, [record(range(15, 30), "a", "b"), record(range(10, 11), "a")])
    assert missing_text(found.values()) is None


def test_both_dates_of_a_log_that_begins_later_are_named() -> None:
    states = {encode_key(name): state(name, 10) for name in ("a", "b", "c")}
    found = beginnings_of(states)
    note_returns(found, [record(range(15, 30), "a", "b"), record(range(10, 11), "c")])
    text = missing_text(found.values())
    assert text is not None
    assert "a has returns from 1970-01-11 on in its state" in text
    assert "the log has its returns from 1970-01-16 on (1 other portfolios have less, too)" in text


def test_returns_of_an_earlier_lap_do_not_count() -> None:
    found = beginnings_of({b"a": state("a", 10, lap=1)})
    note_returns(found, [record(range(10, 30), "a")])
    text = missing_text(found.values())
    assert text is not None
    assert "the log has none of its returns" in text


def test_limits_that_the_log_has_deleted_are_named() -> None:
    limits = [RiskLimit("var_95", 0.02)]
    limited = replace(state("a", 10), limits=limits, limits_offset=4)
    check_limits({b"a": limited}, 3, OffsetRange(4, 9, None))
    check_limits({b"a": limited}, 2, OffsetRange(5, 9, None))
    moved = replace(limited, limits_offset=-1)  # to another partition, with its limits
    check_limits({b"a": moved}, 3, OffsetRange(5, 9, None))
    with pytest.raises(RebuildFailed, match="deleted the limits of a, which were offset 4"):
        check_limits({b"a": limited}, 3, OffsetRange(5, 9, None))


BOOK = Book(root="firm", book_id="desk", holdings=(), event_time_us=5 * DAY_US)
SERIES = SeriesState(
    root="firm",
    series_id="IBM",
    window=state("IBM", 10).window,
    observations=3,
)


def logged(record: Record, key: bytes = b"firm/desk") -> ConsumedRecord:
    return ConsumedRecord("", 0, 0, 1.0, key, encode(record), [])


def from_day(first: int, lap: int = 0) -> ConsumedRecord:
    returns = [Return("IBM", day * DAY_US, 0.0) for day in range(first, 13)]
    return logged(SeriesReturns(root="firm", returns=returns, lap=lap))


@pytest.mark.parametrize(
    ("books", "series", "reason"),
    [
        ([logged(BOOK)], [from_day(11), from_day(10)], None),
        ([], [from_day(10)], "deleted the holdings of firm/desk, which were put on 1970-01-06"),
        (
            [logged(BOOK)],
            [from_day(11)],
            "1970-01-11 on in its state, and risk.series has those from 1970-01-12 on",
        ),
        ([logged(BOOK)], [from_day(10, lap=1)], "risk.series has none of them"),
    ],
)
async def test_a_log_that_lacks_holdings_or_returns_of_books_is_named_with_both_dates(
    books: Sequence[ConsumedRecord],
    series: Sequence[ConsumedRecord],
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = {RISK_BOOKS.name: books, RISK_SERIES.name: series}

    async def read_table(*_: Any) -> Mapping[bytes, Record]:
        return {b"book": BOOK, b"series": SERIES}

    async def read_end_offsets(topics: Sequence[Topic], _: Any) -> Any:
        return {
            TopicPartition(topic.name, number): 0 if number else len(log[topic.name])
            for topic in topics
            for number in range(PARTITIONS)
        }

    async def read_between(name: str, number: int, span: range, _: Any) -> Any:
        assert number == 0
        return [log[name][offset] for offset in span]

    monkeypatch.setattr(log_beginning, "read_table", read_table)
    monkeypatch.setattr(log_beginning, "read_end_offsets", read_end_offsets)
    monkeypatch.setattr(log_beginning, "read_between", read_between)
    text = await missing_of_books(ProducerSettings(), Scope())
    if reason is None:
        assert text is None
    else:
        assert text is not None
        assert reason in text
    assert await missing_of_books(ProducerSettings(), Scope("acme")) is None
    assert await missing_of_books(ProducerSettings(), Scope(), "other") is None
