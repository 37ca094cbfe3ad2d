import csv
import gzip
from datetime import date
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from producers.market import prices
from producers.market.prices import (
    PORTFOLIOS,
    laps,
    load_prices,
    trading_days,
)
from schemas.instants import to_rfc3339


def packaged_closes(symbol: str) -> list[tuple[str, float]]:
    path = Path(prices.__file__).with_name("data") / "stocks.csv.gz"
    rows = csv.DictReader(gzip.decompress(path.read_bytes()).decode().splitlines())
    return [(row["Date"], float(row["Adj Close"])) for row in rows if row["Ticker"] == symbol]


def test_a_stocks_returns_are_those_of_the_packaged_closes() -> None:
    closes = sorted(packaged_closes("IBM"))
    expected = {day: b / a - 1 for (_, a), (day, b) in pairwise(closes)}
    found = {str(day.day): day.returns["IBM"] for day in trading_days(load_prices())}
    assert found == pytest.approx(expected)
    assert len(found) == 3269


def test_a_portfolios_return_is_the_weighted_sum_of_its_stocks() -> None:
    for day in trading_days(load_prices())[::97]:
        for portfolio, weights in PORTFOLIOS.items():
            if portfolio in day.returns:
                expected = np.dot(
                    list(weights.values()), [day.returns[weight] for weight in weights]
                )
                assert day.returns[portfolio] == pytest.approx(expected, rel=1e-12)


def test_weights_sum_to_one() -> None:
    for weights in PORTFOLIOS.values():
        assert sum(weights.values()) == pytest.approx(1.0)


def test_a_portfolio_begins_with_its_youngest_constituent() -> None:
    days = trading_days(load_prices())
    first = {name: next(day.day for day in days if name in day.returns) for name in PORTFOLIOS}
    assert first["value"] == date(2000, 3, 2)
    assert first["growth"] == first["GOOG"] == date(2004, 8, 20)


def test_a_close_is_at_four_in_new_york() -> None:
    days = {day.day: day for day in trading_days(load_prices())}
    winter = days[date(2008, 1, 4)].at_close()[0].event_time_us
    summer = days[date(2008, 7, 3)].at_close()[0].event_time_us
    assert to_rfc3339(winter) == "2008-01-04T21:00:00Z"
    assert to_rfc3339(summer) == "2008-07-03T20:00:00Z"


def test_laps_go_on_for_ever_with_the_dates_of_the_data() -> None:
    days = trading_days(load_prices())
    replayed = list(islice(laps(days), 2 * len(days) + 5))
    assert [item.day for item in replayed] == [*days, *days, *days[:5]]
    assert [item.lap for item in replayed] == [0] * len(days) + [1] * len(days) + [2] * 5


@pytest.mark.parametrize("stopped_at", [0, 100, 3268, 3269, 5000])
def test_a_replay_goes_on_where_it_was_stopped(stopped_at: int) -> None:
    days = trading_days(load_prices())
    straight = list(islice(laps(days), stopped_at + 10))
    last = straight[stopped_at]
    went_on = list(islice(laps(days, after=(last.lap, last.day.day)), 9))
    assert went_on == straight[stopped_at + 1 :]


@pytest.mark.parametrize("years", [1, 10, 1_000])
def test_after_years_the_dates_are_still_those_of_the_data(years: int) -> None:
    """At the demo's 40 days a second; the lap is a 32-bit number in the log."""
    days = trading_days(load_prices())
    replayed = years * 365 * 86_400 * 40
    lap, place = divmod(replayed, len(days))
    assert lap < 2**31
    following = list(islice(laps(days, after=(lap, days[place].day)), len(days)))
    assert {item.day.day for item in following} == {day.day for day in days}
    assert {item.lap for item in following} == {lap, lap + 1}
    first, last = days[0].day, days[-1].day
    assert (str(first), str(last)) == ("2000-03-02", "2013-03-01")


def test_a_log_whose_dates_were_shifted_by_an_earlier_version_goes_on_in_the_next_lap() -> None:
    days = trading_days(load_prices())
    following = next(laps(days, after=(0, date(2224, 5, 6))))
    assert following == (1, days[0])
