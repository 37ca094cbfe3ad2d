from collections.abc import Sequence

from hypothesis import given, strategies as st

from schemas.codec import decode, encode
from schemas.events import CandleState, Trade, TradeBatch
from stream_processors.windowing.trade_numbers import (
    BATCHES_MAX,
    PRODUCERS_MAX,
    RANGES_MAX,
    TradeNumbers,
)

LATEST_US = 10**15


def batch(first: int, count: int, *, producer: str = "", since_us: int = 0) -> TradeBatch:
    made = [Trade(time_us=since_us + at, price=1.0, amount=1.0) for at in range(count)]
    return TradeBatch(symbol="S", first=first, trades=made, watermark_us=0, producer=producer)


def restarted(numbers: TradeNumbers) -> TradeNumbers:
    counts, recent, batches = numbers.pack()
    state = CandleState(
        symbol="S",
        next=numbers.next,
        watermark_us=0,
        forming=[],
        counts=counts,
        recent=recent,
        batches=batches,
    )
    read = decode(encode(state))
    assert isinstance(read, CandleState)
    return TradeNumbers(read)


@given(st.lists(st.integers(0, 200), max_size=60))
def test_ranges_are_the_numbers_that_were_taken(firsts: Sequence[int]) -> None:
    """As long as there are few of them."""
    numbers, expected = TradeNumbers(), set[int]()
    for at, first in enumerate(firsts):
        # An earlier time each: none of them looks like a new count.
        numbers.take(batch(first, 3, since_us=-10 * at), LATEST_US)
        expected |= set(range(first, first + 3))
        numbers = restarted(numbers)
    counts = numbers.pack()[0]
    ranges = counts[0].ranges if counts else []
    pairs = list(zip(ranges[::2], ranges[1::2], strict=True))
    found = {number for low, high in pairs for number in range(low, high)}
    assert found >= expected
    assert len(pairs) <= RANGES_MAX
    if len(pairs) < RANGES_MAX:
        assert found == expected


def test_a_producer_has_a_count_of_its_own() -> None:
    numbers = TradeNumbers()
    assert not numbers.is_repeat(batch(0, 2, producer="a"))
    assert len(numbers.take(batch(0, 2, producer="a"), LATEST_US)) == 2
    assert not numbers.is_repeat(batch(0, 2, producer="b"))
    assert [new.is_taken for new in numbers.take(batch(0, 2, producer="b"), LATEST_US)] == [
        False,
        False,
    ]
    assert restarted(numbers).is_repeat(batch(0, 2, producer="a"))
    assert numbers.next == 0


def test_what_is_remembered_is_bounded() -> None:
    numbers = TradeNumbers()
    sent = [batch(0, 1, producer=f"run-{number}", since_us=number) for number in range(1_000)]
    for found in sent:
        assert not numbers.is_repeat(found)
        numbers.take(found, LATEST_US)
    counts, _, batches = restarted(numbers).pack()
    assert len(counts) == PRODUCERS_MAX
    assert len(batches) == 8 * BATCHES_MAX
    assert restarted(numbers).is_repeat(sent[-1])


def test_a_producer_that_writes_is_not_the_one_that_is_forgotten() -> None:
    numbers = TradeNumbers()
    numbers.take(batch(0, 1, producer="steady"), LATEST_US)
    for number in range(100):
        numbers.take(batch(0, 1, producer=f"run-{number}"), LATEST_US)
        numbers.take(batch(number + 1, 1, producer="steady"), LATEST_US)
    [steady] = [count for count in numbers.pack()[0] if count.producer == "steady"]
    assert list(steady.ranges) == [0, 101]
