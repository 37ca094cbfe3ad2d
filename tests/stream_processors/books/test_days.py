"""Lining up series by day: what is missing, what is left out, and what missing returns count."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from schemas.calendars import date_text
from stream_processors.books.days import Joined, MissingPolicy, join
from stream_processors.books.series import DailyReturns
from stream_processors.risk.confidence import InvalidInput

DAY_US = 86_400_000_000
DROP, ZERO = MissingPolicy.parse("drop_day"), MissingPolicy.parse("zero")


def daily(days: range | list[int], *, scale: float = 0.001, is_full: bool = False) -> DailyReturns:
    found = np.array(days, dtype=np.int64)
    returns = np.array([day * scale for day in days])
    return DailyReturns(found, found * DAY_US, returns, is_full)


def days_in(joined: Joined) -> list[int]:
    return [] if joined.table is None else joined.table.days.tolist()


series_days = st.lists(st.integers(0, 60), unique=True, min_size=1, max_size=40).map(sorted)


@given(st.lists(series_days, min_size=1, max_size=4))
def test_a_dropped_day_is_one_on_which_a_series_has_no_return(days: list[list[int]]) -> None:
    series = {str(number): daily(found) for number, found in enumerate(days)}
    joined = join(series, DROP, 1)
    included = [days[int(name)] for name in joined.names]
    common = sorted(set.intersection(*map(set, included)))
    assert days_in(joined) == common
    assert joined.table is not None
    assert joined.table.returns.tolist() == [[day * 0.001] * len(included) for day in common]
    union = set.union(*map(set, included))
    lacking = {str(number) for number, found in enumerate(days) if union - set(found)}
    assert {missing.series_id for missing in joined.missing} == lacking


def test_series_line_up_by_date_whatever_the_time_of_day() -> None:
    late = daily(range(30))
    late = late._replace(times_us=late.times_us + 5)
    joined = join({"a": daily(range(30)), "b": late}, DROP, 20)
    assert (days_in(joined), joined.missing) == (list(range(30)), ())
    assert joined.table is not None
    assert joined.table.times_us.tolist() == late.times_us.tolist()  # the last of each day


def test_a_delisted_and_a_new_series_are_named_with_their_first_and_last_day() -> None:
    joined = join(
        {"old": daily(range(60)), "delisted": daily(range(40)), "new": daily(range(55, 60))},
        DROP,
        20,
    )
    assert (joined.names, joined.short) == (["delisted", "old"], {"new": 5})
    assert days_in(joined) == list(range(40))
    named = {missing.series_id: missing for missing in joined.missing}
    assert named["delisted"][1:] == (
        *(date_text(0), date_text(39)),
        *(date_text(40), date_text(59), 20),
    )
    assert named["new"][1:] == (
        *(date_text(55), date_text(59)),
        *(date_text(0), date_text(54), 55),
    )


def test_days_before_a_full_window_are_not_missing_and_a_long_ended_series_is_short() -> None:
    full = daily(range(50, 100), is_full=True)
    assert join({"a": daily(range(100)), "b": full}, DROP, 20).missing == []
    ended = join({"a": full, "ended": daily(range(10, 60), is_full=True)}, DROP, 20)
    assert (ended.names, ended.short) == (["a"], {"ended": 10})
    assert days_in(ended) == list(range(50, 100))


def test_series_none_of_which_has_enough_days_have_those_that_they_share() -> None:
    joined = join({"a": daily(range(10)), "b": daily(range(3, 12)), "none": None}, DROP, 20)
    assert (joined.names, joined.table) == ([], None)
    assert joined.short == {"a": 10, "b": 9, "none": 0}
    assert joined.dates is not None
    assert joined.dates.days.tolist() == list(range(3, 10))
    enough = join({"a": daily(range(30)), "b": daily(range(5))}, DROP, 20)
    assert (enough.few, enough.dates) == (None, enough.table)


def test_missing_returns_are_zero_or_those_of_a_proxy() -> None:
    series = {"old": daily(range(60)), "new": daily(range(55, 60)), "none": None}
    zero = join(series, ZERO, 20)
    assert (zero.names, zero.short, days_in(zero)) == (
        *(["new", "old"], {"none": 0}),
        list(range(60)),
    )
    assert zero.table is not None
    assert zero.table.returns[:, 0].tolist() == [0.0] * 55 + [day * 0.001 for day in range(55, 60)]
    index = daily(range(10, 60), scale=0.002)
    proxied = join(series, MissingPolicy.parse("proxy:index"), 20, index)
    assert (proxied.names, days_in(proxied)) == (["new", "none", "old"], list(range(10, 60)))
    assert proxied.table is not None
    assert proxied.table.returns[-6:, 0].tolist() == pytest.approx(
        [54 * 0.002, *(day * 0.001 for day in range(55, 60))]
    )
    assert [missing.series_id for missing in proxied.missing] == ["new", "none"]


def test_nothing_joins_to_nothing_and_unknown_policies_are_refused() -> None:
    assert join({}, DROP, 20).table is None
    assert join({}, DROP, 20).dates is None
    assert join({"a": None}, DROP, 20).short == {"a": 0}
    assert join({"a": None}, DROP, 20).dates is None
    assert MissingPolicy.parse("proxy:S&P 500").proxy == "S&P 500"
    for text in ("proxy:", "skip", ""):
        with pytest.raises(InvalidInput, match="drop_day, zero or proxy:SERIES"):
            MissingPolicy.parse(text)
