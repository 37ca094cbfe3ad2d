"""Trades as no producer should send them, and a worker that is killed in the middle of a minute.

Each trade is in one candle or in one dead letter, and the symbol goes on.
"""

import pytest

from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import Candle, CandleState, DeadLetter, Record, Trade, TradeBatch
from tests.conftest import World
from tests.support.straight_run import TopicReader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 24 * 60 * MINUTE_US
CENTURY_US = 100 * 365 * DAY_US


async def test_nothing_is_lost_or_doubled_by_a_worker_killed_in_a_minute_nor_by_strange_counts(
    world: World,
) -> None:
    # Noon of yesterday: no day ends among the trades.
    time_us = now_us()
    start_us = time_us - time_us % DAY_US - DAY_US // 2

    def batch(
        first: int, *trades: tuple[int, float], until: int, run: str = "1", ahead_us: int = 0
    ) -> TradeBatch:
        """Return a batch of (second, price), with its watermark in seconds."""
        return TradeBatch(
            symbol="S",
            first=first,
            trades=[
                Trade(time_us=start_us + at * SECOND_US + ahead_us, price=price, amount=price)
                for at, price in trades
            ],
            watermark_us=start_us + until * SECOND_US,
            producer="exchange",
            run=run,
        )

    opening = batch(0, (10, 5.0), (20, 7.0), until=20)
    from_zero = batch(0, (40, 9.0), until=40, run="2")
    after_the_kill = [
        opening,  # again: its producer has seen no acknowledgement
        batch(2, (20, 6.0), (30, 4.0), until=20),
        from_zero,
        from_zero,
        batch(10**9, (70, 8.0), until=20, run="2"),  # a jump
        batch(4, (50, 3.0), until=20, ahead_us=CENTURY_US),
        batch(5, (55, 2.0), until=60),
        batch(6, (59, 1.0), until=90),  # of the minute that the batch before it has closed
        batch(9, (80, 6.5), until=10**10),  # the watermark is three centuries ahead
        batch(7, (75, 5.5), until=180),
    ]
    closing = batch(8, (190, 4.5), until=240)

    def is_whole(records: list[Record]) -> bool:
        candles = [record for record in records if isinstance(record, Candle)]
        return any(candle.start_us == start_us + 3 * MINUTE_US for candle in candles)

    async with (
        Publisher(world.producer_settings) as publisher,
        TopicReader(world, "market.candles", "market.forming", "dead.letters") as reader,
    ):
        worker = await world.worker(batch_within_s=0.05)
        await publisher.publish(opening)
        await reader.until(lambda records: any(isinstance(row, CandleState) for row in records))
        await worker.kill()
        for sent in after_the_kill:
            await publisher.publish(sent)
        await world.worker(batch_within_s=0.05)
        await publisher.publish(closing)
        records = await reader.until(is_whole)
    found = [
        (
            candle.interval,
            (candle.start_us - start_us) // SECOND_US,
            (candle.open, candle.high, candle.low, candle.close),
            candle.volume,
            candle.trades,
        )
        for candle in records
        if isinstance(candle, Candle)
    ]
    assert found == [
        ("minute", 0, (5.0, 9.0, 2.0, 2.0), 5 + 7 + 6 + 4 + 9 + 2, 6),
        ("minute", 60, (8.0, 8.0, 5.5, 5.5), 8 + 5.5, 2),
        ("3minute", 0, (5.0, 9.0, 2.0, 5.5), 33 + 13.5, 8),
        ("minute", 180, (4.5, 4.5, 4.5, 4.5), 4.5, 1),
    ]
    letters = [record for record in records if isinstance(record, DeadLetter)]
    # The gate refuses a batch before the candles see any of its round.
    assert sorted((letter.offset, letter.reason, letter.index) for letter in letters) == [
        (6, "invalid", 0),
        (8, "late", 0),
        (9, "future", None),
    ]
