"""Compute a scenario's shocks from past returns. Pure.

A historical scenario is a range of days. The shock of a series is the sum of its returns on these
days: today's holdings times that sum are what they would have gained or lost, day by day. A
hypothetical scenario may shock one series and move the others by their betas to it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import fsum, isfinite

from schemas.calendars import UTC_CALENDAR, Calendar, date_text
from schemas.events import ReturnBatch, Shock
from schemas.instants import to_date

RETURNS_MAX = 1_000_000
"""The most returns of a scenario's days. They are in memory at once, some 200 MB."""
_DAY_US = 86_400_000_000
BETA_DAYS_MIN = 100
"""The fewest common days from which a beta is computed."""


class NoSuchDays(ValueError):
    """The log does not have the days of a scenario; the message says which it has."""


class TooManyReturns(ValueError):
    """The days of a scenario have more returns than are kept in memory; the message says it."""


class NoFactor(ValueError):
    """No beta can be computed to a factor; the message says why."""


@dataclass(slots=True)
class _Series:
    """The returns of one series, and the times of the first and last of all."""

    lap: int
    first_us: int
    last_us: int
    returns: dict[int, tuple[int, float]] = field(default_factory=dict)
    """The version and value of each return in the range, by its time."""


class PastReturns:
    """The returns of a range of days, of each instant the one that counts.

    These are finite returns. Of one instant the highest version counts, and the first of equal
    ones. A higher lap of a replay begins a series again.
    """

    def __init__(self, first_day: date, last_day: date, calendar: Calendar = UTC_CALENDAR) -> None:
        """Start without returns.

        Args:
            first_day: the first day.
            last_day: the last day.
            calendar: gives the date of a return.
        """
        self._first, self._last = (_day_number(day) for day in (first_day, last_day))
        self._calendar = calendar
        # No calendar is two days from UTC, and to date a return takes time.
        self._from_us = (self._first - 2) * _DAY_US
        self._until_us = (self._last + 3) * _DAY_US
        self._series: dict[str, _Series] = {}
        self._count = 0
        """The returns that are kept."""

    def add(self, batch: ReturnBatch, latest_us: float) -> None:
        """Add a batch of returns, but those after a latest time, which processors refuse.

        Raises:
            TooManyReturns: the days have more than `RETURNS_MAX`.
        """
        lap = batch.lap
        for series_id, at_us, value, version in batch.returns:
            if not isfinite(value) or at_us > latest_us:
                continue
            series = self._series.get(series_id)
            if series is None or lap > series.lap:
                self._count -= 0 if series is None else len(series.returns)
                series = self._series[series_id] = _Series(lap, at_us, at_us)
            elif lap < series.lap:
                continue
            series.first_us = min(series.first_us, at_us)
            series.last_us = max(series.last_us, at_us)
            if self._from_us <= at_us < self._until_us and self._is_within(at_us):
                known = series.returns.get(at_us)
                if known is None or version > known[0]:
                    series.returns[at_us] = version, value
                    self._count += known is None
                    if self._count > RETURNS_MAX:
                        raise TooManyReturns(
                            f"the days have more than {RETURNS_MAX:,} returns; name fewer days"
                        )

    def _is_within(self, at_us: int) -> bool:
        return self._first <= self._calendar.day_of(at_us) <= self._last

    def shocks(self) -> tuple[list[Shock], int]:
        """Return the shock of each series that spans the days, and the number of days.

        A series that begins after the first of these days, or ends before the last one, has no
        shock: a part of the loss would look like all of it.

        Raises:
            NoSuchDays: the log does not have all of the days, or no return on them.
        """
        self._check_range()
        known = self._series.items()
        day_of = self._calendar.day_of
        days = {day_of(at_us) for _, series in known for at_us in series.returns}
        if not days:
            raise NoSuchDays(
                f"no series has a return from {date_text(self._first)} to {date_text(self._last)}"
            )
        first, last = min(days), max(days)
        found = [
            Shock(
                series_id, fsum(value for _, value in series.returns.values()), len(series.returns)
            )
            for series_id, series in sorted(known)
            if series.returns
            and day_of(series.first_us) <= first
            and day_of(series.last_us) >= last
        ]
        return [shock for shock in found if isfinite(shock.value)], len(days)

    def _check_range(self) -> None:
        if not self._series:
            raise NoSuchDays("the log has no returns")
        day_of = self._calendar.day_of
        first = day_of(min(series.first_us for series in self._series.values()))
        last = day_of(max(series.last_us for series in self._series.values()))
        if self._first < first or self._last > last:
            raise NoSuchDays(
                f"the log has returns from {date_text(first)} to {date_text(last)}, and the "
                f"scenario is from {date_text(self._first)} to {date_text(self._last)}; choose "
                "days that the log has"
            )


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def by_beta(
    given: Mapping[str, float],
    factor: str,
    windows: Mapping[str, Callable[[], Mapping[int, float]]],
) -> Iterable[Shock]:
    """Return shocks of the series that have none, each its beta times the factor's shock.

    The beta of a series is the covariance of its returns and the factor's, divided by the
    variance of the factor's, over the days (UTC) that both have in their windows. A series with
    fewer than `BETA_DAYS_MIN` such days gets no shock.

    Args:
        given: the shocks by series, that of the factor among them.
        factor: the series whose shock the others follow.
        windows: for each series, what returns its window: the returns by time.

    Raises:
        NoFactor: the factor has too few returns, or all of them are equal.
    """
    if factor not in windows:
        raise NoFactor(f"{factor[:60]!r} has no measured returns, so nothing has a beta to it")
    of_factor = _by_day(windows[factor]())
    if len(of_factor) < BETA_DAYS_MIN:
        raise NoFactor(
            f"{factor[:60]!r} has returns on {len(of_factor)} days; a beta needs {BETA_DAYS_MIN}"
        )
    if len(set(of_factor.values())) == 1:
        raise NoFactor(f"all returns of {factor[:60]!r} are equal, so nothing has a beta to it")
    for series_id in sorted(windows.keys() - given.keys()):
        returns = _by_day(windows[series_id]())
        days = sorted(of_factor.keys() & returns.keys())
        if len(days) < BETA_DAYS_MIN:
            continue
        beta = _beta([returns[day] for day in days], [of_factor[day] for day in days])
        if beta is not None and isfinite(beta * given[factor]):
            yield Shock(series_id, beta * given[factor], len(days), beta)


def _by_day(returns: Mapping[int, float]) -> Mapping[str, float]:
    """Return the sum of a series' returns on each day."""
    days: defaultdict[str, float] = defaultdict(float)
    for at_us, value in returns.items():
        days[to_date(at_us)] += value
    return days


def _beta(values: Sequence[float], of_factor: Sequence[float]) -> float | None:
    """Return the slope of the regression on the factor; None if the factor does not move."""
    mean, mean_of_factor = fsum(values) / len(values), fsum(of_factor) / len(of_factor)
    moves = [value - mean_of_factor for value in of_factor]
    variance = fsum(move * move for move in moves)
    if variance == 0:
        return None
    covariance = fsum((value - mean) * move for value, move in zip(values, moves, strict=True))
    beta = covariance / variance
    return beta if isfinite(beta) else None
