"""Symbols, intervals, strategies and parameters that a backtest can have. Pure.

An edge checks a request by it before it writes a command, and a backtester before it simulates. The
symbols that are packaged with the program stand here with their days; others have candles in the
log.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from math import isfinite

from producers.errors import InvalidStrategy
from schemas.events import Interval, Strategy

PACKAGED: Mapping[str, tuple[str, str]] = {
    "AAPL": ("2000-03-01", "2013-03-01"),
    "FB": ("2012-05-18", "2013-03-01"),
    "GOOG": ("2004-08-19", "2013-03-01"),
    "IBM": ("2000-03-01", "2013-03-01"),
    "MSFT": ("2000-03-01", "2013-03-01"),
}
"""The first and the last day of the packaged daily bars, by symbol."""

PACKAGED_BY_NAME: Mapping[str, str] = {symbol.casefold(): symbol for symbol in PACKAGED}
"""The packaged symbols by their names in lower case."""

DEFAULTS: Mapping[str, Mapping[str, float]] = {
    Strategy.MOVING_AVERAGE_CROSSOVER: {"fast": 20, "slow": 100},
    Strategy.RSI: {"period": 14, "lower": 30, "upper": 70},
    Strategy.BUY_AND_HOLD: {},
}
"""The default parameters of each strategy; periods are in bars."""

PARAMETERS = frozenset(name for names in DEFAULTS.values() for name in names)
"""The parameters of all strategies."""

_PERIODS = frozenset({"fast", "slow", "period"})
_INDEX_MAX = 100
_NAMED_MAX = 20
"""How many known symbols an error names."""


@dataclass(frozen=True, slots=True)
class Days:
    """The days of a request, both included; None is the first or the last that there is."""

    first: str | None
    last: str | None


def find_symbol(name: str, candles: Iterable[str]) -> str:
    """Return a symbol as its prices have it, for a name in any case.

    Args:
        name: the name that a client gave.
        candles: the symbols that have candles in the log.

    Raises:
        InvalidStrategy: there are no prices of the symbol; the message says which there are.
    """
    known = [*PACKAGED, *sorted(candles)]
    if name in known:
        return name
    folded = name.strip().casefold()
    for symbol in known:
        if symbol.casefold() == folded:
            return symbol
    raise no_prices_of(name, known[len(PACKAGED) :])


def no_prices_of(name: str, candles: Iterable[str]) -> InvalidStrategy:
    """Return the error about an unknown symbol; it names the known ones."""
    traded = sorted(candles)
    named = [symbol[:60] for symbol in traded[:_NAMED_MAX]]
    if len(traded) > _NAMED_MAX:
        named.append(f"and {len(traded) - _NAMED_MAX} more")
    others = f"; by the minute, 3 minutes and day: {', '.join(named)}" if named else ""
    return InvalidStrategy(
        f"there are no prices of {name[:60]}; there are {', '.join(sorted(PACKAGED))} by the day"
        f"{others}",
        "symbol",
    )


def check_series(symbol: str, interval: str, days: Days) -> None:
    """Check that a symbol can have bars of an interval between two days.

    Raises:
        InvalidStrategy: it has none; the message says which it has.
    """
    first = _day(days.first, "start_date")
    last = _day(days.last, "end_date")
    if first is not None and last is not None and first > last:
        raise InvalidStrategy(f"{first} is after end_date, which is {last}", "start_date")
    if symbol not in PACKAGED:
        return
    if interval != Interval.DAY:
        raise InvalidStrategy(
            f"{symbol} has no {interval} bars; it has: {Interval.DAY}", "interval"
        )
    since, until = PACKAGED[symbol]
    if (first or since) > until or (last or until) < since:
        late = (first or since) > until
        raise InvalidStrategy(
            f"{symbol} has no bars then; its prices are from {since} to {until}",
            "start_date" if late else "end_date",
        )


def resolve_parameters(strategy: str, given: Mapping[str, float]) -> Mapping[str, float]:
    """Return all parameters of a strategy: the given ones, and defaults for the others.

    Raises:
        InvalidStrategy: there is no such strategy, or a parameter is invalid.
    """
    known = DEFAULTS.get(strategy)
    if known is None:
        raise InvalidStrategy(
            f"{strategy!r} is no strategy; there are {', '.join(DEFAULTS)}", "strategy"
        )
    for name in sorted(set(given) - set(known)):
        has = ", ".join(known) or "none"
        raise InvalidStrategy(f"{strategy} has no parameter {name!r}; it has {has}", "parameters")
    parameters = {**known, **given}
    for name, value in parameters.items():
        if not isfinite(value):
            raise InvalidStrategy(f"{name} is {value}; it must be a finite number", "parameters")
        if name in _PERIODS and not (value >= 1 and float(value).is_integer()):
            raise InvalidStrategy(
                f"{name} is {value:g}; it must be a whole number of bars, 1 or more", "parameters"
            )
    _check_together(parameters)
    return parameters


def _check_together(parameters: Mapping[str, float]) -> None:
    match parameters:
        case {"fast": fast, "slow": slow} if fast >= slow:
            raise InvalidStrategy(
                f"fast is {fast:g} and slow {slow:g}; fast must be less than slow", "parameters"
            )
        case {"lower": lower, "upper": upper} if not 0 <= lower < upper <= _INDEX_MAX:
            raise InvalidStrategy(
                f"lower is {lower:g} and upper {upper:g}; 0 <= lower < upper <= 100 must hold",
                "parameters",
            )


def _day(text: str | None, parameter: str) -> str | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InvalidStrategy(
            f"{text!r} is no day such as 2008-10-10: {error}", parameter
        ) from error
