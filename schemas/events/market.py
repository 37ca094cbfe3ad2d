"""Trades, and the candles that processors form from them."""

from dataclasses import dataclass, field

from schemas.bounds import (
    Bytes,
    Count,
    Increment,
    InstantUs,
    Integer,
    Items,
    Name,
    ObservedUs,
    Real,
    SmallCount,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade. `amount` is in units of the symbol."""

    time_us: Integer
    price: Real
    amount: Real


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBatch:
    """Trades of one symbol, in the order in which they were made.

    `first` is the number of the batch's first trade among all trades of the symbol that its
    producer has written in this run. Every trade of a later batch was made at `watermark_us` or
    after it.
    """

    symbol: Name
    first: Increment
    trades: Items[Trade]
    watermark_us: ObservedUs
    producer: Name = ""
    """The name of what counts the trades."""
    run: Name = ""
    """The name of the producer's run. A producer that counts from 0 again, since it does not know
    its last count, names another run."""

    @property
    def event_time_us(self) -> int:
        """The time up to which the symbol's trades are complete."""
        return self.watermark_us

    @property
    def event_id(self) -> str:
        """The CloudEvents id; a batch that is sent again has the same id."""
        producer = f"{self.producer}:" if self.producer else ""
        run = f"run:{self.run}:" if self.run else ""
        return f"trades:{self.symbol}:{producer}{run}{self.first}:{len(self.trades)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """Prices of one interval with at least one trade. `end_us` is exclusive."""

    symbol: Name
    interval: Name
    start_us: InstantUs
    end_us: InstantUs
    open: Real
    high: Real
    low: Real
    close: Real
    volume: Real
    trades: SmallCount

    @property
    def event_time_us(self) -> int:
        """The end of the interval."""
        return self.end_us

    @property
    def event_id(self) -> str:
        """The CloudEvents id; an interval has one candle, however often it is written."""
        return f"candle:{self.symbol}:{self.interval}:{self.start_us}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeCount:
    """The numbers of a producer's trades that were taken."""

    producer: Name
    ranges: Items[Count]
    """The start and the end of each range of numbers, in order; the end is exclusive."""
    latest_us: InstantUs
    """The latest time of a trade that was taken."""
    run: Name = ""
    """The producer's run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleState:
    """The processor's state of a symbol: the counts of its trades, and the candles that can change.

    `next` is the number after the last trade of the producer without a name.
    """

    symbol: Name
    next: Count
    watermark_us: InstantUs
    forming: Items[Candle]
    late: Count = 0
    tenant: Name | None = None
    edges_us: Items[InstantUs] = field(default_factory=list)
    """For each forming minute, the times of its first and its last trade."""
    counts: Items[TradeCount] = field(default_factory=list)
    recent: Bytes | None = None
    """8 bytes for each of the last trades, by which a repeat is recognized."""
    batches: Bytes | None = None
    """8 bytes for each of the last batches, likewise."""
    edge_numbers: Items[Integer] = field(default_factory=list)
    """For each forming minute, the numbers of its first and its last trade."""
    edge_producers: Items[Name] = field(default_factory=list)
    """For each of these trades, its producer and its run."""
    volume_rests: Items[Real] = field(default_factory=list)
    """For each forming minute, what rounding has left of its volume."""
