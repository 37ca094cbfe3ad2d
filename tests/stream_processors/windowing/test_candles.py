"""Candles: what they say is what pandas says, however the trades come and wherever one stops."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from infra.trades_package import trades_jar
from producers.market.trades import batches, read_trades
from schemas.codec import decode, encode
from schemas.events import Candle, CandleState, Trade, TradeBatch
from stream_processors.windowing.candles import CandleChanges, SymbolCandles

MINUTE_US = 60_000_000
LENGTHS = {"minute": "1min", "3minute": "3min", "day": "1D"}

trades = st.lists(
    st.builds(
        Trade,
        time_us=st.integers(0, 3 * 24 * 60).map(lambda minutes: minutes * MINUTE_US // 3),
        price=st.floats(1, 1000),
        amount=st.floats(0, 100),
    ),
    max_size=60,
).map(lambda ones: sorted(ones, key=lambda one: one.time_us))


def batched(ones: Sequence[Trade], sizes: Iterator[int]) -> list[TradeBatch]:
    """In batches of some sizes; the last one brings time to an end."""
    found, first = [], 0
    while first < len(ones):
        some = ones[first : first + next(sizes)]
        last_us = some[-1].time_us
        found.append(TradeBatch(symbol="S", first=first, trades=some, watermark_us=last_us))
        first += len(some)
    end = TradeBatch(symbol="S", first=first, trades=[], watermark_us=10**15)
    return [*found, end]


def closed(symbol: SymbolCandles, of: Sequence[TradeBatch]) -> list[Candle]:
    return [candle for batch in of for candle in symbol.apply(batch).closed]


def resampled(ones: Sequence[Trade], interval: str) -> list[tuple[object, ...]]:
    """Each interval's prices by pandas."""
    frame = pd.DataFrame(
        {"price": [one.price for one in ones], "amount": [one.amount for one in ones]},
        index=pd.DatetimeIndex(pd.to_datetime([one.time_us for one in ones], unit="us")),
    )
    buckets = frame.resample(LENGTHS[interval])
    table = buckets["price"].ohlc().assign(volume=buckets["amount"].sum(), n=buckets.size())
    table = table[table["n"] > 0]
    return [
        (start.value // 1000 if start.unit == "ns" else int(start.timestamp() * 1e6), *row)
        for start, row in zip(table.index, table.itertuples(index=False, name=None), strict=True)
    ]


def rows(candles: Sequence[Candle], interval: str) -> list[tuple[object, ...]]:
    return [
        (one.start_us, *prices(one), pytest.approx(one.volume), one.trades)
        for one in candles
        if one.interval == interval
    ]


def prices(one: Candle) -> tuple[float, ...]:
    return one.open, one.high, one.low, one.close


@given(trades, st.lists(st.integers(1, 20), min_size=60, max_size=60))
def test_candles_are_what_pandas_makes(ones: list[Trade], sizes: list[int]) -> None:
    found = closed(SymbolCandles("S"), batched(ones, iter(sizes)))
    for interval in LENGTHS:
        assert rows(found, interval) == (resampled(ones, interval) if ones else [])


def test_real_trades_are_what_pandas_makes_of_them() -> None:
    ones = list(read_trades(trades_jar()))
    assert len(ones) == 100_000
    assert sum(a.time_us == b.time_us for a, b in pairwise(ones)) > 40_000
    symbol = SymbolCandles("BTC-USD")
    found = closed(symbol, list(batches(iter(ones))))
    whole = resampled(ones, "day")[:-1]  # the last day is not over
    assert rows(found, "day") == whole
    assert rows(found, "minute") == resampled(ones, "minute")
    assert rows(found, "3minute")[-1][0] == ones[-1].time_us // (3 * MINUTE_US) * 3 * MINUTE_US


@given(trades, st.lists(st.integers(1, 9), min_size=60, max_size=60), st.data())
def test_wherever_it_stops_and_whatever_is_read_again_it_comes_out_alike(
    ones: list[Trade], sizes: list[int], data: st.DataObject
) -> None:
    all_batches = batched(ones, iter(sizes))
    straight = closed(SymbolCandles("S"), all_batches)
    stop = data.draw(st.integers(0, len(all_batches)))
    again = data.draw(st.integers(0, stop))
    symbol = SymbolCandles("S")
    before = closed(symbol, all_batches[:stop])
    state = decode(encode(symbol.pack()))
    assert isinstance(state, CandleState)
    after = closed(SymbolCandles("S", state), all_batches[again:])
    assert before + after == straight


@given(trades.filter(bool))
def test_what_the_first_to_trade_paid_opens_and_what_the_last_paid_closes(
    ones: list[Trade],
) -> None:
    at_once = [replace(one, time_us=0) for one in ones]
    minute, *_ = closed(SymbolCandles("S"), batched(at_once, iter([7] * 60)))
    assert (minute.open, minute.close) == (ones[0].price, ones[-1].price)


def test_what_comes_late_or_is_no_price_is_refused_and_in_no_candle() -> None:
    symbol = SymbolCandles("S")
    good = Trade(time_us=5 * MINUTE_US, price=10.0, amount=1.0)
    wrong = [
        replace(good, time_us=0),
        replace(good, price=float("nan")),
        replace(good, price=0.0),
        replace(good, amount=-1.0),
        replace(good, time_us=2**63 - 1),
    ]
    changes: CandleChanges = symbol.apply(
        TradeBatch(symbol="S", first=0, trades=[good, *wrong], watermark_us=6 * MINUTE_US)
    )
    assert [(one.index, one.reason) for one in changes.refused] == [
        (1, "late"),
        (2, "invalid"),
        (3, "invalid"),
        (4, "invalid"),
        (5, "invalid"),
    ]
    assert [(one.interval, one.trades, one.low) for one in changes.closed] == [
        ("minute", 1, 10.0),
        ("3minute", 1, 10.0),
    ]
    assert symbol.pack().late == 1
