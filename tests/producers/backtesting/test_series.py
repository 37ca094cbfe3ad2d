import pytest

from kafka_io.publisher import Publisher
from kafka_io.settings import ProducerSettings
from producers.backtesting.series import find_series, widened
from producers.errors import InvalidStrategy
from producers.market.prices import load_bars
from schemas.events import Candle, Interval
from schemas.topics import MARKET_CANDLES
from tests.conftest import World

PACKAGED = load_bars()
NO_KAFKA = ProducerSettings(bootstrap_servers="localhost:1")
MINUTE_US = 60_000_000


async def test_daily_bars_are_cut_to_the_days_both_included() -> None:
    series = await find_series("IBM", "day", "2008-10-10", "2008-10-20", PACKAGED, NO_KAFKA)
    assert (series.bars[0].time, series.bars[-1].time) == ("2008-10-10", "2008-10-20")
    assert series.closes.shape == (len(series.bars),)
    assert series.bars_a_year == 252
    assert series.others == {}


@pytest.mark.parametrize(
    ("symbol", "interval", "first", "last", "text"),
    [
        ("IBM", "minute", None, None, "IBM has no minute bars; it has: day"),
        ("IBM", "day", "2008-13-01", None, "'2008-13-01' is no day such as 2008-10-10"),
        ("IBM", "day", "2030-01-01", None, "a backtest needs 2; its prices are from 2000-"),
    ],
)
async def test_a_request_without_bars_says_what_there_is(
    symbol: str, interval: str, first: str | None, last: str | None, text: str
) -> None:
    with pytest.raises(InvalidStrategy, match=text):
        await find_series(symbol, interval, first, last, PACKAGED, NO_KAFKA)


def candle(number: int, interval: str = "minute", length_us: int = MINUTE_US) -> Candle:
    start_us = 1_385_424_000_000_000 + number * length_us
    return Candle(
        symbol="BTC-USD",
        interval=interval,
        start_us=start_us,
        end_us=start_us + length_us,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.0 + number,
        volume=3.0,
        trades=1,
    )


def test_wider_candles_are_made_of_narrower_ones_and_the_last_may_be_short() -> None:
    first, second, short = widened([candle(number) for number in range(7)], Interval.THREE_MINUTES)
    assert [each.start_us for each in (first, second, short)] == [
        candle(number).start_us for number in (0, 3, 6)
    ]
    assert (first.open, first.high, first.low, first.close) == (1.0, 2.0, 0.5, 3.0)
    assert (first.volume, first.trades, first.interval) == (9.0, 3, "3minute")
    assert (short.close, short.volume, short.end_us - short.start_us) == (7.0, 3.0, 3 * MINUTE_US)


@pytest.mark.kafka
async def test_a_job_on_wide_bars_has_those_of_the_finest_interval_too(world: World) -> None:
    settings = world.producer_settings
    async with Publisher(settings) as publisher:
        for number in range(6):
            await publisher.publish(candle(number))
        for number in range(2):
            await publisher.publish(candle(number, "3minute", 3 * MINUTE_US))
    series = await find_series("BTC-USD", "3minute", None, None, PACKAGED, settings)
    assert len(series.bars) == 2
    assert {name: len(bars) for name, bars in series.others.items()} == {"minute": 6, "day": 1}
    assert series.others["day"][0].time == "2013-11-26"


@pytest.mark.kafka
async def test_candles_of_the_log_are_bars_in_order_each_once(world: World) -> None:
    settings = world.producer_settings
    async with Publisher(settings) as publisher:
        for number in (0, 1, 1, 2):
            await publisher.publish(candle(number))
        await publisher.publish(candle(0, "3minute", 3 * MINUTE_US))
    series = await find_series("BTC-USD", "minute", None, None, PACKAGED, settings)
    assert list(series.closes) == [1.0, 2.0, 3.0]
    assert series.bars[0].time == "2013-11-26T00:00:00Z"
    assert {name: len(bars) for name, bars in series.others.items()} == {"3minute": 1, "day": 1}
    assert series.bars_a_year == 365 * 24 * 60
    with pytest.raises(InvalidStrategy, match=r"there are no prices of ETH; there are AAPL.* by"):
        await find_series("ETH", "minute", None, None, PACKAGED, settings)
    assert MARKET_CANDLES.name == "market.candles"
