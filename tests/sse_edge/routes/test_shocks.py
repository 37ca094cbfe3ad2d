"""Shocks from past returns: sums over days, corrections, laps, series that do not span the days."""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
import pytest
from arch.data import sp500

from schemas.calendars import parse_calendar
from schemas.events import Return, ReturnBatch, Shock
from schemas.instants import from_datetime
from sse_edge.routes import shocks as module
from sse_edge.routes.shocks import (
    BETA_DAYS_MIN,
    NoFactor,
    NoSuchDays,
    PastReturns,
    TooManyReturns,
    by_beta,
)

ALWAYS = float("inf")


def us(day: str, hour: int = 21) -> int:
    return from_datetime(datetime.combine(date.fromisoformat(day), time(hour), UTC))


def past(
    first: str, last: str, *returns: Return, lap: int = 0, calendar: str = "UTC"
) -> PastReturns:
    first_day, last_day = date.fromisoformat(first), date.fromisoformat(last)
    found = PastReturns(first_day, last_day, parse_calendar(calendar))
    found.add(ReturnBatch(returns=returns, lap=lap), ALWAYS)
    return found


def series(name: str, *days: tuple[str, float]) -> list[Return]:
    return [Return(name, us(day), value) for day, value in days]


A = series(
    "a", ("2008-09-12", 0.5), ("2008-09-15", -0.01), ("2008-09-16", -0.02), ("2008-09-18", 1)
)


def test_a_shock_is_the_sum_of_the_returns_on_the_days() -> None:
    assert past("2008-09-15", "2008-09-16", *A).shocks() == ([Shock("a", -0.03, 2)], 2)
    assert past("2008-09-15", "2008-09-15", *A).shocks() == ([Shock("a", -0.01, 1)], 1)


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [("UTC", 0.06), ("Asia/Tokyo", 0.01), ("America/New_York 17:00", 0.03), ("UTC 21:00", 0.03)],
)
def test_a_day_is_one_of_the_calendar(calendar: str, expected: float) -> None:
    hours = ((14, 0, 0.64), (14, 21, 0.01), (15, 20, 0.02), (15, 21, 0.04), (16, 22, 0.08))
    returns = [Return("a", us(f"2008-09-{day}", hour), value) for day, hour, value in hours]
    shocks, _ = past("2008-09-15", "2008-09-15", *returns, calendar=calendar).shocks()
    assert shocks[0].value == pytest.approx(expected)


def test_the_real_september_of_2008() -> None:
    close = sp500.load()["Adj Close"]
    returns: Any = close.pct_change().dropna()
    found = past(
        "2008-09-15",
        "2008-10-10",
        *(
            Return("SPX", us(day), value)
            for day, value in zip(returns.index.strftime("%Y-%m-%d"), returns.tolist(), strict=True)
        ),
    )
    (shock,), days = found.shocks()
    assert days == 20
    assert shock.observations == 20
    assert shock.value == pytest.approx(returns["2008-09-15":"2008-10-10"].sum(), abs=1e-15)
    assert shock.value == pytest.approx(-0.31337, abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_order_the_highest_version_of_an_instant_counts(seed: int) -> None:
    records = [
        *A,
        Return("a", us("2008-09-15"), -0.04, version=3),
        Return("a", us("2008-09-15"), -0.50, version=2),
        Return("a", us("2008-09-16"), float("nan"), version=9),
    ]
    random.Random(seed).shuffle(records)
    found = past("2008-09-15", "2008-09-16", *records).shocks()
    assert found == ([Shock("a", -0.06, 2)], 2)


def test_a_higher_lap_begins_a_series_again() -> None:
    found = past("2008-09-15", "2008-09-16", *A)
    again = [observation._replace(value=observation.value * 2) for observation in A]
    found.add(ReturnBatch(returns=again, lap=1), ALWAYS)
    found.add(ReturnBatch(returns=A, lap=0), ALWAYS)
    assert found.shocks()[0] == [Shock("a", -0.06, 2)]


def test_a_series_that_does_not_span_the_days_has_no_shock() -> None:
    new = series("new", ("2008-09-16", -0.5), ("2008-09-18", 0.0))
    gone = series("gone", ("2008-09-12", 0.1), ("2008-09-15", -0.9))
    holiday = series("holiday", ("2008-09-12", 0.1), ("2008-09-16", -0.9), ("2008-09-17", 0.1))
    found = past("2008-09-15", "2008-09-16", *A, *new, *gone, *holiday).shocks()
    assert found == ([Shock("a", -0.03, 2), Shock("holiday", -0.9, 1)], 2)


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ("2008-09-11", "2008-09-16", "from 2008-09-12 to 2008-09-18, and the scenario is from"),
        ("2008-09-15", "2008-09-19", "from 2008-09-12 to 2008-09-18, and the scenario is from"),
        ("2008-09-13", "2008-09-14", "no series has a return from 2008-09-13 to 2008-09-14"),
    ],
)
def test_days_that_the_log_does_not_have_are_refused_with_those_it_has(
    first: str, last: str, text: str
) -> None:
    with pytest.raises(NoSuchDays, match=text):
        past(first, last, *A).shocks()


def test_a_log_without_returns_is_named() -> None:
    with pytest.raises(NoSuchDays, match="the log has no returns"):
        past("2008-09-15", "2008-09-16").shocks()


def test_a_return_of_the_far_future_does_not_count() -> None:
    found = past("2008-09-15", "2008-09-19", *A)
    found.add(ReturnBatch(returns=series("b", ("2090-01-01", 0.1))), us("2008-09-20"))
    with pytest.raises(NoSuchDays, match="from 2008-09-12 to 2008-09-18"):
        found.shocks()


def windows(**columns: np.ndarray) -> Mapping[str, Callable[[], Mapping[int, float]]]:
    start = us("2008-01-01")

    def window(values: np.ndarray) -> Callable[[], Mapping[int, float]]:
        return lambda: {start + 86_400_000_000 * day: v for day, v in enumerate(values.tolist())}

    return {name: window(values) for name, values in columns.items()}


def test_other_series_follow_the_factor_by_their_betas() -> None:
    dice = np.random.default_rng(5)
    factor = dice.normal(0, 0.01, 250)
    stock = 1.5 * factor + dice.normal(0, 0.01, 250)
    found = windows(SPX=factor, stock=stock, short=stock[: BETA_DAYS_MIN - 1], given=stock)
    (shock,) = by_beta({"SPX": -0.2, "given": 0.1}, "SPX", found)
    expected = np.cov(stock, factor)[0, 1] / factor.var(ddof=1)
    assert shock.series_id == "stock"
    assert shock.observations == 250
    assert shock.beta == pytest.approx(expected, rel=1e-12)
    assert shock.value == pytest.approx(-0.2 * expected, rel=1e-12)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (windows(), "'SPX' has no measured returns"),
        (windows(SPX=np.arange(99.0)), "returns on 99 days; a beta needs 100"),
        (windows(SPX=np.full(200, 0.01)), "all returns of 'SPX' are equal"),
    ],
)
def test_a_factor_without_moves_is_refused(
    found: Mapping[str, Callable[[], Mapping[int, float]]], text: str
) -> None:
    with pytest.raises(NoFactor, match=text):
        list(by_beta({"SPX": -0.2}, "SPX", found))


def test_days_with_too_many_returns_are_refused_and_a_new_lap_counts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETURNS_MAX", 2)
    found = past("2008-09-15", "2008-09-16", *A)  # of which two are on the days
    for lap in (1, 2):
        found.add(ReturnBatch(returns=A, lap=lap), ALWAYS)
    found.add(ReturnBatch(returns=A[:3], lap=2), ALWAYS)  # again
    assert found.shocks()[1] == 2
    with pytest.raises(TooManyReturns, match="more than 2 returns; name fewer days"):
        found.add(ReturnBatch(returns=series("b", ("2008-09-15", 0.1)), lap=2), ALWAYS)
