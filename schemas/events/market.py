"""Trades, and the candles that processors form from them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade. `amount` is in units of the symbol."""

    time_us: int
    price: float
    amount: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeBatch:
    """Trades of one symbol, in the order in which they were made.

    `first` is the index of the batch's first trade among all trades of the symbol. Every trade of
    a later batch was made at `watermark_us` or after it.
    """

    symbol: str
    first: int
    trades: Sequence[Trade]
    watermark_us: int

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

    symbol: str
    interval: str
    start_us: int
    end_us: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    trades: int

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

    symbol: str
    next: int
    watermark_us: int
    forming: Sequence[Candle]
    late: int = 0
    tenant: str | None = None
