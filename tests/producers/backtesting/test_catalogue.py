import pytest

from producers.backtesting.catalogue import (
    DEFAULTS,
    PACKAGED,
    Days,
    check_series,
    find_symbol,
    resolve_parameters,
)
from producers.errors import InvalidStrategy
from producers.market.prices import load_bars

EVERY = Days(None, None)


def test_the_packaged_symbols_are_those_of_the_data() -> None:
    assert {symbol: (bars[0].time, bars[-1].time) for symbol, bars in load_bars().items()} == (
        PACKAGED
    )


def test_a_symbol_may_be_written_in_any_case() -> None:
    assert find_symbol("aapl", ()) == "AAPL"
    assert find_symbol(" btc-usd ", ["BTC-USD"]) == "BTC-USD"
    assert find_symbol("Own", ["OWN", "Own"]) == "Own"


def test_an_unknown_symbol_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidStrategy, match=r"no prices of TSLA; there are AAPL, .*: BTC") as got:
        find_symbol("TSLA", ["BTC-USD"])
    assert got.value.parameter == "symbol"


@pytest.mark.parametrize(
    ("symbol", "interval", "days", "parameter", "why"),
    [
        ("IBM", "minute", EVERY, "interval", "IBM has no minute bars; it has: day"),
        ("IBM", "day", Days("2009-01-01", "2008-01-01"), "start_date", "is after end_date"),
        ("BTC-USD", "day", Days("2014-01-01", "2013-01-01"), "start_date", "is after end_date"),
        ("IBM", "day", Days("2008-02-30", None), "start_date", "is no day such as 2008-10-10"),
        ("IBM", "day", Days("2020-01-01", None), "start_date", "from 2000-03-01 to 2013-03-01"),
        ("FB", "day", Days(None, "2010-01-01"), "end_date", "from 2012-05-18 to 2013-03-01"),
    ],
)
def test_bars_that_there_cannot_be_are_refused(
    symbol: str, interval: str, days: Days, parameter: str, why: str
) -> None:
    with pytest.raises(InvalidStrategy, match=why) as got:
        check_series(symbol, interval, days)
    assert got.value.parameter == parameter


def test_bars_that_there_can_be_are_accepted() -> None:
    check_series("IBM", "day", Days("2008-01-01", "2008-12-31"))
    check_series("BTC-USD", "minute", Days("2013-11-25", "2013-11-25"))
    check_series("IBM", "day", EVERY)


@pytest.mark.parametrize(
    ("strategy", "given", "why"),
    [
        ("magic", {}, "'magic' is no strategy"),
        ("rsi", {"period": -1}, "period is -1; it must be a whole number of bars, 1 or more"),
        ("rsi", {"period": float("nan")}, "period is nan; it must be a finite number"),
        ("rsi", {"lower": 80}, "0 <= lower < upper <= 100 must hold"),
        ("moving_average_crossover", {"fast": 100}, "fast must be less than slow"),
        ("buy_and_hold", {"fast": 3}, "it has none"),
    ],
)
def test_parameters_without_a_meaning_are_refused(
    strategy: str, given: dict[str, float], why: str
) -> None:
    with pytest.raises(InvalidStrategy, match=why):
        resolve_parameters(strategy, given)


def test_defaults_fill_what_is_not_given() -> None:
    for strategy, defaults in DEFAULTS.items():
        assert resolve_parameters(strategy, {}) == defaults
    assert resolve_parameters("rsi", {"period": 7}) == {"period": 7, "lower": 30, "upper": 70}
