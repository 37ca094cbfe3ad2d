"""The days on which a book is measured: the returns of its series, lined up by date. Pure.

Each series arrives by day; a table with a return of each series on each day leaves. What a day
counts on which a series has no return, and others have, is a policy: the day is dropped, the return
is 0, or it is that of another series, the proxy. Days before the first one of a window that has
dropped returns are in no table, since they are not missing there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from schemas.calendars import date_text
from schemas.events import MissingDays
from stream_processors.books.series import DailyReturns, Days
from stream_processors.risk.confidence import InvalidInput
from stream_processors.risk.methods import Floats

DROP_DAY, ZERO = "drop_day", "zero"
_PROXY = "proxy:"
_NONE: Days = np.array([], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class MissingPolicy:
    """The rule for a day on which a series has no return, and others have."""

    name: str
    """As it is written: `drop_day`, `zero` or `proxy:SERIES`."""

    @property
    def proxy(self) -> str | None:
        """The series whose returns are taken instead; None for another policy."""
        return self.name.removeprefix(_PROXY) if self.name.startswith(_PROXY) else None

    @classmethod
    def parse(cls, text: str) -> "MissingPolicy":
        """Parse a policy.

        Raises:
            InvalidInput: there is no such policy.
        """
        if text not in (DROP_DAY, ZERO) and not (text.startswith(_PROXY) and text != _PROXY):
            raise InvalidInput(
                f"{text[:80]!r} says not what a missing return counts; write {DROP_DAY}, {ZERO} or "
                f"{_PROXY}SERIES"
            )
        return cls(text)


@dataclass(frozen=True, slots=True)
class ReturnTable:
    """The returns of several series on the same days."""

    days: Days
    """Days since 1970-01-01, shape (days,)."""
    times_us: Days
    """The time of the last return on each day, shape (days,)."""
    returns: Floats
    """Shape (days, series)."""


class Joined(NamedTuple):
    """The series of a book, lined up by day."""

    names: Sequence[str]
    """The series that have enough returns: the table's columns."""
    table: ReturnTable | None
    """None without such a series."""
    short: Mapping[str, int]
    """The series that have not, each with the number of days that it shares with the others."""
    missing: Sequence[MissingDays]
    few: ReturnTable | None = None
    """The days that all series with returns have, where none of them has enough of these."""

    @property
    def dates(self) -> ReturnTable | None:
        """The days that the series have in common, whether these are enough or not."""
        return self.few if self.table is None else self.table


def join(
    series: Mapping[str, DailyReturns | None],
    policy: MissingPolicy,
    minimum: int,
    proxy: DailyReturns | None = None,
) -> Joined:
    """Line up series by day.

    Args:
        series: the returns of each series; None for one without returns.
        policy: what a missing return counts.
        minimum: the fewest days that a series must have to be in the table.
        proxy: the returns of the policy's proxy; None without one.
    """
    aligned = _aligned(series, minimum)
    if aligned is not None:
        return aligned
    known = {name: daily for name, daily in series.items() if daily is not None}
    enough = {name: daily for name, daily in known.items() if len(daily.days) >= minimum}
    reference = _days_of(enough or known)
    if policy.name == DROP_DAY:
        # A series that ended long ago has days, but too few of those of the others.
        enough = {
            name: daily
            for name, daily in enough.items()
            if np.isin(reference, daily.days).sum() >= minimum
        }
        reference = _days_of(enough or known)
    elif policy.proxy is not None and proxy is not None:
        enough = {name: _filled(daily, reference, proxy) for name, daily in series.items()}
    elif policy.name == ZERO:
        enough = {name: _zero_filled(daily, reference) for name, daily in known.items()}
    names = sorted(
        name for name, daily in enough.items() if np.isin(reference, daily.days).sum() >= minimum
    )
    return Joined(
        names,
        _table([enough[name] for name in names], reference),
        {
            name: 0 if daily is None else int(np.isin(reference, daily.days).sum())
            for name, daily in sorted(series.items())
            if name not in names
        },
        list(_missing(series, reference)),
        None if names else _table(list(known.values()), reference),
    )


def _aligned(series: Mapping[str, DailyReturns | None], minimum: int) -> Joined | None:
    """Return the table of series that all have the same days, as nearly always; else None."""
    names, columns = sorted(series), [series[name] for name in sorted(series)]
    first = columns[0] if columns else None
    if first is None or len(first.days) < minimum:
        return None
    same = [
        daily
        for daily in columns
        if daily is not None and (daily is first or np.array_equal(daily.days, first.days))
    ]
    if len(same) < len(columns):
        return None
    return Joined(names, _table(same, first.days), {}, ())


def _days_of(series: Mapping[str, DailyReturns]) -> Days:
    """Return the days on which a series has a return, from where no window has dropped any."""
    if not series:
        return _NONE
    days: Days = reduce(np.union1d, [daily.days for daily in series.values()])
    firsts = [daily.days[0] for daily in series.values() if daily.is_full]
    return days[days >= max(firsts)] if firsts else days


def _table(columns: Sequence[DailyReturns], reference: Days) -> ReturnTable | None:
    """Return the columns on the days of the reference that all of them have."""
    if not columns:
        return None
    first = columns[0]
    if all(np.array_equal(first.days, other.days) for other in columns[1:]) and np.array_equal(
        first.days, reference
    ):
        common = reference
        parts = columns
    else:
        common = reduce(np.intersect1d, [column.days for column in columns], reference)
        parts = [_on(column, common) for column in columns]
    times_us = np.max([part.times_us for part in parts], axis=0)
    return ReturnTable(common, times_us, np.column_stack([part.returns for part in parts]))


def _on(daily: DailyReturns, days: Days) -> DailyReturns:
    is_in = np.isin(daily.days, days)
    return DailyReturns(
        daily.days[is_in], daily.times_us[is_in], daily.returns[is_in], daily.is_full
    )


def _filled(daily: DailyReturns | None, reference: Days, proxy: DailyReturns) -> DailyReturns:
    """Return a series with the proxy's returns on the days that it lacks, where the proxy has."""
    if daily is None:
        return _on(proxy, reference)
    lacking = np.setdiff1d(reference, daily.days)
    return _merged(daily, _on(proxy, lacking))


def _zero_filled(daily: DailyReturns, reference: Days) -> DailyReturns:
    """Return a series with returns of 0 on the days that it lacks."""
    lacking = np.setdiff1d(reference, daily.days)
    nothing = np.full(len(lacking), np.iinfo(np.int64).min)
    return _merged(daily, DailyReturns(lacking, nothing, np.zeros(len(lacking)), is_full=False))


def _merged(daily: DailyReturns, other: DailyReturns) -> DailyReturns:
    days = np.concatenate([daily.days, other.days])
    order = np.argsort(days, kind="stable")
    return DailyReturns(
        days[order],
        np.concatenate([daily.times_us, other.times_us])[order],
        np.concatenate([daily.returns, other.returns])[order],
        daily.is_full,
    )


def _missing(series: Mapping[str, DailyReturns | None], reference: Days) -> Iterable[MissingDays]:
    """Yield the series without a return on a day of the reference."""
    for name, daily in sorted(series.items()):
        own = _NONE if daily is None else daily.days
        lacking = np.setdiff1d(reference, own)
        if not len(lacking):
            continue
        yield MissingDays(
            series_id=name,
            first_day=date_text(int(own[0])) if len(own) else None,
            last_day=date_text(int(own[-1])) if len(own) else None,
            missing_from=date_text(int(lacking[0])),
            missing_to=date_text(int(lacking[-1])),
            days=len(lacking),
        )
