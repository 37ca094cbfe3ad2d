"""Candles equal pandas', however trades are batched and wherever a worker stops."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from infra.settings import InfraSettings
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
).map(lambda drawn: sorted(drawn, key=lambda trade: trade.time_us))


def batched(made: Sequence[Trade], sizes: Iterator[int]) -> list[TradeBatch]:
    """Return the trades in batches of these sizes; a last, empty batch closes all candles."""
    found, first = [], 0
    while first < len(made):
        part = made[first : first + next(sizes)]
        last_us = part[-1].time_us
        found.append(TradeBatch(symbol="S", first=first, trades=part, watermark_us=last_us))
        first += len(part)
    end = TradeBatch(symbol="S", first=first, trades=[], watermark_us=10**15)
    return [*found, end]


def closed(symbol: SymbolCandles, of: Sequence[TradeBatch]) -> list[Candle]:
    return [candle for batch in of for candle in symbol.apply(batch).closed]


def resampled(made: Sequence[Trade], interval: str) -> list[tuple[object, ...]]:
    """Return each interval's prices, volume and number of trades, as pandas computes them."""
    frame = pd.DataFrame(
        {"price": [trade.price for trade in made], "amount": [trade.amount for trade in made]},
        index=pd.DatetimeIndex(pd.to_datetime([trade.time_us for trade in made], unit="us")),
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
        (candle.start_us, *prices(candle), pytest.approx(candle.volume), candle.trades)
        for candle in candles
        if candle.interval == interval
    ]


def prices(candle: Candle) -> tuple[float, ...]:
    return candle.open, candle.high, candle.low, candle.close


@given(trades, st.lists(st.integers(1, 20), min_size=60, max_size=60))
def test_candles_equal_pandas(made: list[Trade], sizes: list[int]) -> None:
    found = closed(SymbolCandles("S"), batched(made, iter(sizes)))
    for interval in LENGTHS:
        assert rows(found, interval) == (resampled(made, interval) if made else [])


def test_candles_of_real_trades_equal_pandas() -> None:
    made = list(read_trades(trades_jar(InfraSettings().maven_url)))
    assert len(made) == 100_000
    assert sum(a.time_us == b.time_us for a, b in pairwise(made)) > 40_000
    symbol = SymbolCandles("BTC-USD")
    found = closed(symbol, list(batches(iter(made))))
    whole = resampled(made, "day")[:-1]  # the last day is not over
    assert rows(found, "day") == whole
    assert rows(found, "minute") == resampled(made, "minute")
    assert rows(found, "3minute")[-1][0] == made[-1].time_us // (3 * MINUTE_US) * 3 * MINUTE_US


@given(trades, st.lists(st.integers(1, 9), min_size=60, max_size=60), st.data())
def test_candles_do_not_depend_on_where_a_worker_stops_and_reads_again(
    made: list[Trade], sizes: list[int], data: st.DataObject
) -> None:
    all_batches = batched(made, iter(sizes))
    straight = closed(SymbolCandles("S"), all_batches)
    stop = data.draw(st.integers(0, len(all_batches)))
    read_again = data.draw(st.integers(0, stop))
    symbol = SymbolCandles("S")
    before = closed(symbol, all_batches[:stop])
    state = decode(encode(symbol.pack()))
    assert isinstance(state, CandleState)
    after = closed(SymbolCandles("S", state), all_batches[read_again:])
    assert before + after == straight


@given(trades.filter(bool))
def test_trades_of_one_instant_keep_their_order(
    made: list[Trade],
) -> None:
    at_once = [replace(trade, time_us=0) for trade in made]
    minute, *_ = closed(SymbolCandles("S"), batched(at_once, iter([7] * 60)))
    assert (minute.open, minute.close) == (made[0].price, made[-1].price)


def test_late_and_invalid_trades_are_refused_and_in_no_candle() -> None:
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
    assert [(refused.index, refused.reason) for refused in changes.refused] == [
        (1, "late"),
        (2, "invalid"),
        (3, "invalid"),
        (4, "invalid"),
        (5, "invalid"),
    ]
    assert [(estimate.interval, estimate.trades, estimate.low) for estimate in changes.closed] == [
        ("minute", 1, 10.0),
        ("3minute", 1, 10.0),
    ]
    assert symbol.pack().late == 1
