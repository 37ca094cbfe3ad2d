"""The processor that forms candles, run without Kafka."""

from schemas.events import Candle, CandleState, DeadLetter, Trade, TradeBatch
from schemas.topics import DEAD_LETTERS, MARKET_CANDLES, MARKET_FORMING, MARKET_TRADES
from stream_processors.agents.candles import Candles
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
        message(MARKET_TRADES, batch(2, trades[0]), 1),
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
