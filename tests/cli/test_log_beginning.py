"""What a log must still have for a rebuild."""

from array import array
from dataclasses import replace

import pytest

from cli.errors import RebuildFailed
from cli.log_beginning import beginnings_of, check_limits, missing_text, note_returns
from kafka_io.reader import ConsumedRecord, OffsetRange
from schemas.codec import encode
from schemas.events import PortfolioState, Return, ReturnBatch, RiskLimit
from schemas.keys import encode_key

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
