"""Candles equal pandas', however trades are batched and wherever a worker stops.

Whatever producers do, each trade is in one candle or in one dead letter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pandas as pd
import pytest
from hypothesis import given, strategies as st

from infra.settings import InfraSettings
from infra.trades_package import trades_jar
from producers.market.trades import batches, read_trades
from schemas.codec import decode, encode
from schemas.events import Candle, CandleState, Trade, TradeBatch
from stream_processors.windowing.candles import MINUTES_MAX, CandleChanges, SymbolCandles
from stream_processors.windowing.trade_numbers import TRADES_MAX

MINUTE_US = 60_000_000
NOW_US = 10**16
"""The log's time of every record."""
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
    return [candle for batch in of for candle in symbol.apply(batch, NOW_US).closed]


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


@pytest.fixture(scope="module")
def real_trades() -> list[Trade]:
    made = list(read_trades(trades_jar(InfraSettings().maven_url)))
    assert len(made) == 100_000
    assert sum(a.time_us == b.time_us for a, b in pairwise(made)) > 40_000
    return made


def test_candles_of_real_trades_equal_pandas(real_trades: list[Trade]) -> None:
    symbol = SymbolCandles("BTC-USD")
    sent = list(batches(iter(real_trades)))
    in_order = closed(symbol, sent)
    assert rows(in_order, "day") == resampled(real_trades, "day")[:-1]  # the last is not over
    end = replace(sent[-1], first=len(real_trades), trades=[], watermark_us=10**16)
    found = in_order + closed(symbol, [end])
    for interval in LENGTHS:
        assert rows(found, interval) == resampled(real_trades, interval)


def test_real_trades_in_any_order_within_the_watermark_give_the_same_candles(
    real_trades: list[Trade],
) -> None:
    """Exactly, volumes too; trades of one instant are ordered by number."""
    sent = [*batches(iter(real_trades))]
    end = replace(sent[-1], first=len(real_trades), trades=[], watermark_us=10**16)
    in_order = closed(SymbolCandles("BTC-USD"), [*sent, end])
    dice = Random(1)
    parts, first = [], 0
    while first < len(real_trades):
        part = real_trades[first : first + dice.randint(1, 20)]
        parts.append(replace(end, first=first, trades=part))
        first += len(part)
    order = sorted(range(len(parts)), key=lambda at: at + dice.uniform(0, 30))
    assert sum(later < earlier for earlier, later in pairwise(order)) > len(order) / 3
    shuffled = with_watermarks([parts[at] for at in order])
    symbol, changes = SymbolCandles("BTC-USD"), []
    for at, batch in enumerate([*shuffled, end]):
        if at % 500 == 0:
            symbol = restarted(symbol, "BTC-USD")
        changes.append(symbol.apply(batch, NOW_US))
    assert [refused for change in changes for refused in change.refused] == []
    assert [candle for change in changes for candle in change.closed] == in_order


def with_watermarks(sent: Sequence[TradeBatch]) -> list[TradeBatch]:
    """Return batches, each with the latest watermark that is true."""
    earliest_us, found = 10**16, []
    for batch in reversed(sent):
        found.append(replace(batch, watermark_us=earliest_us))
        earliest_us = min([earliest_us, *(trade.time_us for trade in batch.trades)])
    return found[::-1]


def restarted(symbol: SymbolCandles, name: str = "S") -> SymbolCandles:
    """Return what another worker makes of a symbol's state."""
    state = decode(encode(symbol.pack()))
    assert isinstance(state, CandleState)
    return SymbolCandles(name, state)


@given(trades, st.data())
def test_a_candle_depends_on_its_trades_alone(made: list[Trade], data: st.DataObject) -> None:
    """Whatever the order within the watermark, the batches, the restarts and the repeats.

    Many trades share an instant, and several runs have the same numbers.
    """
    sent = []
    for at, trade in enumerate(made):
        writer = data.draw(st.sampled_from((("", ""), ("a", ""), ("a", "2"))))
        batch = TradeBatch(symbol="S", first=at // 2, trades=[trade], watermark_us=0)
        sent.append(replace(batch, producer=writer[0], run=writer[1]))
    distinct = {(batch.first, batch.producer, batch.run): batch for batch in sent}
    end = TradeBatch(symbol="S", first=999, trades=[], watermark_us=10**15)
    expected = closed(SymbolCandles("S"), [*distinct.values(), end])
    delivered = with_watermarks(data.draw(st.permutations([*distinct.values()])))
    repeated = data.draw(st.lists(st.sampled_from(delivered), max_size=9)) if delivered else []
    restarts = data.draw(st.sets(st.integers(0, 70)))
    symbol, changes = SymbolCandles("S"), []
    for at, batch in enumerate([*delivered, *repeated, end]):
        if at in restarts:
            symbol = restarted(symbol)
        changes.append(symbol.apply(batch, NOW_US))
    assert [refused for change in changes for refused in change.refused] == []
    assert [candle for change in changes for candle in change.closed] == expected
    in_order = sorted(
        distinct.values(),
        key=lambda batch: (batch.trades[0].time_us, batch.first, batch.producer, batch.run),
    )
    for interval in LENGTHS if made else ():
        by_time = [trade for batch in in_order for trade in batch.trades]
        assert rows(expected, interval) == resampled(by_time, interval)


def test_a_trade_before_the_watermark_is_late_once_its_minute_is_closed() -> None:
    symbol = SymbolCandles("S")
    trade = Trade(time_us=2 * MINUTE_US + 10, price=5.0, amount=1.0)
    first = TradeBatch(symbol="S", first=0, trades=[trade], watermark_us=2 * MINUTE_US + 10)
    symbol.apply(first, NOW_US)
    earlier = replace(trade, time_us=2 * MINUTE_US, price=4.0)
    assert symbol.apply(replace(first, first=1, trades=[earlier]), NOW_US).refused == []
    [minute] = symbol.apply(
        replace(first, first=2, trades=[], watermark_us=3 * MINUTE_US), NOW_US
    ).closed[:1]
    assert (prices(minute), minute.trades) == ((4.0, 5.0, 4.0, 5.0), 2)
    [late] = symbol.apply(replace(first, first=2, trades=[earlier]), NOW_US).refused
    assert late.reason == "late"
    assert late.error == (
        "the trade's time 120000000 is in a minute that the watermark 180000000 has closed "
        "(microseconds)"
    )


def test_a_run_has_a_count_of_its_own() -> None:
    symbol = SymbolCandles("S")
    trade = Trade(time_us=10, price=5.0, amount=1.0)
    batch = TradeBatch(symbol="S", first=0, trades=[trade], watermark_us=0, producer="p", run="1")
    for sent in (batch, replace(batch, run="2"), batch):
        assert symbol.apply(sent, NOW_US).refused == []
    [minute] = restarted(symbol).pack().forming
    assert minute.trades == 2
    assert {batch.event_id, replace(batch, run="2").event_id} == {
        "trades:S:p:run:1:0:1",
        "trades:S:p:run:2:0:1",
    }


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
    after = closed(restarted(symbol), all_batches[read_again:])
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
    symbol.apply(TradeBatch(symbol="S", first=0, trades=[], watermark_us=MINUTE_US), NOW_US)
    good = Trade(time_us=5 * MINUTE_US, price=10.0, amount=1.0)
    wrong = [
        replace(good, time_us=0),
        replace(good, price=float("nan")),
        replace(good, price=0.0),
        replace(good, amount=-1.0),
        replace(good, time_us=2**63 - 1),
    ]
    changes: CandleChanges = symbol.apply(
        TradeBatch(symbol="S", first=0, trades=[good, *wrong], watermark_us=6 * MINUTE_US), NOW_US
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


DAY_US = 24 * 60 * MINUTE_US
AGES_US = 300 * 365 * DAY_US
PRODUCERS = ("", "run-1", "run-2")


@st.composite
def deliveries(draw: st.DrawFn) -> list[TradeBatch]:
    """Return batches of several producers, in any order, some of them repeated."""
    times = draw(st.lists(st.integers(0, 9 * MINUTE_US), unique=True, max_size=40))
    sent: list[TradeBatch] = []
    counted = dict.fromkeys(PRODUCERS, 0)
    while times:
        size = draw(st.integers(1, 9))
        part, times = times[:size], times[size:]
        producer = draw(st.sampled_from(PRODUCERS))
        first = counted[producer] = counted[producer] + draw(st.sampled_from((0, 0, 0, 1, 10**9)))
        made = [Trade(time_us=at, price=1.0 + at, amount=1.0) for at in part]
        sent.append(
            TradeBatch(symbol="S", first=first, trades=made, watermark_us=0, producer=producer)
        )
        counted[producer] += len(part)
    repeated = draw(st.lists(st.sampled_from(sent))) if sent else []
    return draw(st.permutations([*sent, *repeated]))


@given(deliveries())
def test_any_order_of_trades_before_the_watermark_gives_the_same_candles(
    sent: list[TradeBatch],
) -> None:
    """Batches swap, come again, and leave numbers out; candles are those of the trades by time."""
    end = TradeBatch(symbol="S", first=0, trades=[], watermark_us=10**15)
    symbol = SymbolCandles("S")
    changes = [symbol.apply(batch, NOW_US) for batch in (*sent, end)]
    assert [refused for change in changes for refused in change.refused] == []
    found = [candle for change in changes for candle in change.closed]
    made = sorted(
        {trade.time_us: trade for batch in sent for trade in batch.trades}.values(),
        key=lambda trade: trade.time_us,
    )
    for interval in LENGTHS:
        assert rows(found, interval) == (resampled(made, interval) if made else [])


@st.composite
def strange_batches(draw: st.DrawFn) -> list[tuple[TradeBatch, int]]:
    """Return batches as no producer should send them, each with its time in the log."""
    sent: list[tuple[TradeBatch, int]] = []
    log_us, price = 10 * DAY_US, 0.0
    for _ in range(draw(st.integers(0, 12))):
        log_us += draw(st.integers(0, 3 * MINUTE_US))
        if sent and draw(st.integers(0, 3)) == 0:
            sent.append((draw(st.sampled_from(sent))[0], log_us))
            continue
        distances = st.integers(-3 * MINUTE_US, MINUTE_US) | st.sampled_from(
            (-AGES_US, AGES_US, DAY_US, DAY_US + 1, -log_us - 2**62, 2**62)
        )
        made = []
        for distance in draw(st.lists(distances, max_size=6)):
            price += 1.0
            amount = draw(st.sampled_from((1.0, 1.0, 1.0, -1.0, float("inf"), 1.7e308)))
            made.append(Trade(time_us=log_us + distance, price=price, amount=amount))
        batch = TradeBatch(
            symbol="S",
            first=draw(st.sampled_from((0, 0, 1, 3, 6, 12, 10**15, 2**62, 2**63 - 1, -1))),
            trades=made,
            watermark_us=log_us
            + draw(st.integers(-2 * MINUTE_US, 0) | st.sampled_from((-AGES_US, DAY_US, AGES_US))),
            producer=draw(st.sampled_from((*PRODUCERS[:2], "x" * 300))),
        )
        sent.append((batch, log_us))
    return sent


def trades_in(symbol: SymbolCandles, changes: Sequence[CandleChanges]) -> int:
    """Return how many trades are in minutes, closed or forming."""
    candles = [candle for change in changes for candle in change.closed]
    candles += symbol.pack().forming
    return sum(candle.trades for candle in candles if candle.interval == "minute")


@given(strange_batches(), st.data())
def test_each_trade_is_in_one_candle_or_in_one_dead_letter(
    sent: list[tuple[TradeBatch, int]], data: st.DataObject
) -> None:
    """Also where the worker is restarted in between; and no symbol is dead for ever."""
    restart = data.draw(st.integers(0, len(sent)))
    symbol, changes, letters = SymbolCandles("S"), [], 0
    for at, (batch, log_us) in enumerate(sent):
        if at == restart:
            symbol = restarted(symbol)
        change = symbol.apply(batch, log_us)
        changes.append(change)
        of_batch = [refused for refused in change.refused if "watermark is" not in refused.error]
        whole = any(refused.index is None for refused in of_batch)
        letters += len(batch.trades) if whole else len(of_batch)
    distinct = {trade.price for batch, _ in sent for trade in batch.trades}
    assert trades_in(symbol, changes) + letters == len(distinct)
    later_us = max([log_us for _, log_us in sent], default=0) + 2 * DAY_US
    before = trades_in(symbol, changes)
    healthy = Trade(time_us=later_us, price=1.0, amount=1.0)
    good = TradeBatch(symbol="S", first=0, trades=[healthy], watermark_us=later_us)
    changes.append(symbol.apply(good, later_us))
    assert trades_in(symbol, changes) == before + 1


def test_a_producer_that_counts_anew_goes_on_after_its_first_later_trade() -> None:
    symbol = SymbolCandles("S")
    made = [Trade(time_us=at, price=1.0 + at, amount=1.0) for at in range(9)]
    symbol.apply(TradeBatch(symbol="S", first=0, trades=made[:6], watermark_us=0), NOW_US)
    again = TradeBatch(symbol="S", first=0, trades=made[2:5], watermark_us=0)
    [refused] = symbol.apply(again, NOW_US).refused
    assert (refused.index, refused.reason) == (None, "invalid")
    assert "a producer that starts to count again needs a new run" in refused.error
    later = TradeBatch(symbol="S", first=0, trades=made[6:], watermark_us=0)
    assert symbol.apply(later, NOW_US).refused == []
    [minute] = symbol.pack().forming
    assert minute.trades == 9


def test_a_watermark_that_stays_lets_the_oldest_minutes_leave() -> None:
    """The state of a symbol stays small."""
    symbol, found = SymbolCandles("S"), []
    for at in range(1_000):
        trade = Trade(time_us=at * MINUTE_US, price=1.0, amount=1.0)
        batch = TradeBatch(symbol="S", first=at, trades=[trade], watermark_us=0)
        found += symbol.apply(batch, NOW_US).closed
    assert len(rows(found, "minute")) == 1_000 - MINUTES_MAX
    many = SymbolCandles("S")
    for number in range(1_000):  # producers, each with a gap before its number
        batch = TradeBatch(
            symbol="S", first=2 * number, trades=[], watermark_us=0, producer=f"run-{number}"
        )
        many.apply(batch, NOW_US)
        trade = Trade(time_us=number, price=1.0, amount=1.0)
        many.apply(TradeBatch(symbol="S", first=2 * number, trades=[trade], watermark_us=0), NOW_US)
    assert len(encode(many.pack())) < 10_000


def test_a_watermark_that_an_earlier_version_took_from_the_far_future_is_left() -> None:
    ahead = CandleState(symbol="S", next=3, watermark_us=AGES_US, forming=[])
    symbol = SymbolCandles("S", ahead)
    log_us = 10 * DAY_US
    trade = Trade(time_us=log_us - 5, price=1.0, amount=1.0)
    batch = TradeBatch(symbol="S", first=3, trades=[trade], watermark_us=log_us - 5)
    assert symbol.apply(batch, log_us).refused == []
    assert symbol.pack().watermark_us == log_us - 5


def test_the_state_of_an_earlier_version_goes_on() -> None:
    """It knew one number, and its watermark was the time of its last trade."""
    first = Trade(time_us=10, price=5.0, amount=1.0)
    minute = Candle(
        symbol="S",
        interval="minute",
        start_us=0,
        end_us=MINUTE_US,
        open=3.0,
        high=5.0,
        low=3.0,
        close=5.0,
        volume=2.0,
        trades=2,
    )
    symbol = SymbolCandles("S", CandleState(symbol="S", next=2, watermark_us=10, forming=[minute]))
    later = replace(first, time_us=11, price=7.0)
    again = symbol.apply(TradeBatch(symbol="S", first=1, trades=[first], watermark_us=10), NOW_US)
    assert [refused.index for refused in again.refused] == [None]
    symbol.apply(TradeBatch(symbol="S", first=2, trades=[later], watermark_us=10), NOW_US)
    [forming] = symbol.pack().forming
    assert (prices(forming), forming.trades) == ((3.0, 7.0, 3.0, 7.0), 3)


def test_a_state_that_does_not_know_the_numbers_of_its_trades_goes_on() -> None:
    """In it, trades of one instant kept the order of their arrival."""
    trade = Trade(time_us=10, price=5.0, amount=0.1)
    symbol = SymbolCandles("S")
    symbol.apply(TradeBatch(symbol="S", first=7, trades=[trade], watermark_us=0), NOW_US)
    state = replace(symbol.pack(), edge_numbers=[], edge_producers=[], volume_rests=[])
    later = SymbolCandles("S", state)
    batch = TradeBatch(symbol="S", first=0, trades=[replace(trade, price=6.0)], watermark_us=0)
    assert later.apply(batch, NOW_US).refused == []
    [minute] = later.pack().forming
    assert (minute.open, minute.close, minute.volume) == (5.0, 6.0, 0.2)


def numbered(first: int, count: int, size: int = 100) -> Iterator[TradeBatch]:
    """Yield trades of one minute in batches; what a trade is depends on its number."""
    for start in range(first, first + count, size):
        end = min(start + size, first + count)
        made = [Trade(time_us=at, price=1.0 + at, amount=1.0) for at in range(start, end)]
        yield TradeBatch(symbol="S", first=start, trades=made, watermark_us=0)


def test_a_batch_that_overlaps_with_others_adds_what_is_new_of_it() -> None:
    """A producer that is started again divides its trades anew."""
    symbol = SymbolCandles("S")
    [refused] = [symbol.apply(batch, NOW_US).refused for batch in numbered(0, 50)]
    [overlapping] = [symbol.apply(batch, NOW_US).refused for batch in numbered(20, 50)]
    assert (refused, overlapping) == ([], [])
    [minute] = symbol.pack().forming
    assert minute.trades == 70


def test_an_old_repeat_that_is_not_recognized_is_refused_and_in_no_candle_twice() -> None:
    symbol = SymbolCandles("S")
    for batch in numbered(0, TRADES_MAX + 300):
        symbol.apply(batch, NOW_US)
    [old] = numbered(50, 100)
    [refused] = symbol.apply(old, NOW_US).refused
    assert (refused.index, refused.reason) == (None, "invalid")
    assert symbol.apply(old, NOW_US).refused == [], "said once"
    [minute] = symbol.pack().forming
    assert minute.trades == TRADES_MAX + 300


def test_a_time_too_far_ahead_of_the_log_is_refused_and_makes_nothing_late() -> None:
    symbol = SymbolCandles("S")
    log_us = 10 * DAY_US
    good = Trade(time_us=log_us, price=1.0, amount=1.0)
    ahead = replace(good, time_us=log_us + DAY_US + 1)
    batch = TradeBatch(symbol="S", first=0, trades=[good, ahead], watermark_us=log_us + AGES_US)
    changes = symbol.apply(batch, log_us)
    assert [refused.index for refused in changes.refused] == [1, None]
    assert "9460800000 s ahead of the log's clock; it is not followed" in changes.refused[1].error
    assert changes.closed == []
    assert symbol.pack().watermark_us == 0


@pytest.mark.parametrize("log_us", [0, -1_000, 10 * DAY_US - 1])
def test_a_log_whose_time_goes_back_opens_no_candle_again(log_us: int) -> None:
    """As in a topic with the times of producers."""
    symbol = SymbolCandles("S")
    good = Trade(time_us=10 * DAY_US, price=1.0, amount=1.0)
    batch = TradeBatch(
        symbol="S", first=0, trades=[good], watermark_us=10 * DAY_US + MINUTE_US, producer="a"
    )
    symbol.apply(batch, 10 * DAY_US)
    before = symbol.pack()
    again = symbol.apply(replace(batch, first=1), log_us)
    assert again.closed == []
    assert {refused.reason for refused in again.refused} <= {"late", "invalid"}
    assert symbol.pack().watermark_us == before.watermark_us
