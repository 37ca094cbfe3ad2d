"""Trades, and the candles that processors form from them."""

from dataclasses import dataclass

from schemas.bounds import (
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

    `first` is the index of the batch's first trade among all trades of the symbol. Every trade of
    a later batch was made at `watermark_us` or after it.
    """

    symbol: Name
    first: Increment
    trades: Items[Trade]
    watermark_us: ObservedUs

    @property
    def event_time_us(self) -> int:
        """The time up to which the symbol's trades are complete."""
        return self.watermark_us

    @property
    def event_id(self) -> str:
        """The CloudEvents id; a batch that is sent again has the same id."""
        return f"trades:{self.symbol}:{self.first}:{len(self.trades)}"


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
class CandleState:
    """The processor's state of a symbol: the next trade, and the candles that can change."""

    symbol: Name
    next: Count
    watermark_us: InstantUs
    forming: Items[Candle]
    late: Count = 0
    tenant: Name | None = None
