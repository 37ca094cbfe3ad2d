"""The processor that forms candles, run without Kafka."""

from dataclasses import replace

from schemas.events import Candle, CandleState, DeadLetter, Trade, TradeBatch
from schemas.topics import DEAD_LETTERS, MARKET_CANDLES, MARKET_FORMING, MARKET_TRADES
from stream_processors.agents.candles import Candles
from stream_processors.settings import ProcessorSettings
from tests.support.messages import message
from tests.support.processor_bench import ProcessorBench

MINUTE_US = 60_000_000


def batch(first: int, *trades: Trade) -> TradeBatch:
    return TradeBatch(symbol="S", first=first, trades=trades, watermark_us=MINUTE_US)


async def test_candles_and_dead_letters_are_written_with_the_state() -> None:
    bench = ProcessorBench(Candles())
    trades = [Trade(time_us=at, price=10.0 + at, amount=1.0) for at in (0, 1)]
    messages = [
        message(MARKET_TRADES, batch(0, *trades), 0),
        message(MARKET_TRADES, batch(2, trades[0]), 1),  # before the watermark of the first batch
        message(MARKET_TRADES, b"nonsense", 2),
    ]
    journal = await bench.run(messages)
    candles = journal.sent(MARKET_CANDLES, Candle)
    assert [(candle.interval, candle.trades) for candle in candles] == [("minute", 2)]
    letters = journal.sent(DEAD_LETTERS, DeadLetter)
    assert [(letter.offset, letter.reason, letter.index) for letter in letters] == [
        (1, "late", 0),
        (2, "undecodable", None),
    ]
    [state] = journal.sent(MARKET_FORMING, CandleState)
    assert (state.next, state.late) == (3, 1)
    assert journal.order[-1] == MARKET_FORMING.name


async def test_trades_that_are_read_again_change_nothing() -> None:
    bench = ProcessorBench(Candles())
    messages = [message(MARKET_TRADES, batch(0, Trade(time_us=0, price=1.0, amount=1.0)))]
    await bench.run(messages)
    rows = dict(bench.journal.rows)
    journal = await bench.run(messages)
    assert journal.sent(MARKET_CANDLES, Candle) == []
    assert journal.rows == rows


async def test_a_century_ahead_of_the_log_is_a_dead_letter_and_the_next_trade_a_candle() -> None:
    """By the time that Kafka gave the record, and as far ahead as the setting says."""
    bench = ProcessorBench(Candles(ProcessorSettings(ahead_s=3_600)))
    log_us = 100_500_000
    ahead = Trade(time_us=log_us + 3_601 * 1_000_000, price=1.0, amount=1.0)
    good = Trade(time_us=log_us, price=1.0, amount=1.0)
    century = replace(batch(0, ahead), watermark_us=100 * 365 * 24 * 60 * MINUTE_US)
    journal = await bench.run(
        [
            message(MARKET_TRADES, century, 0),
            message(MARKET_TRADES, replace(batch(1, good), watermark_us=log_us + MINUTE_US), 1),
        ]
    )
    letters = journal.sent(DEAD_LETTERS, DeadLetter)
    assert [(letter.offset, letter.reason, letter.index) for letter in letters] == [
        (0, "invalid", 0),
        (0, "invalid", None),
    ]
    assert [candle.trades for candle in journal.sent(MARKET_CANDLES, Candle)] == [1]
