"""The returns of one series that a tree of books holds, and how its prices have moved since. Pure.

Returns arrive in any order, perhaps late, again, or corrected by a higher version. A series keeps
its last `size` returns, which are its window, and beside them those that may still be corrected and
move a price. A return that is older moves the prices before it for good: the factor of each price
is carried forward, so a holding's value is that of all returns after its price, however many have
left the window. A price may be older than the first return that the series got. The returns between
them are in the log: the processor that measures the series tells how far they moved the price.

Days are dates of a calendar. Returns of one day are compounded: 1 % and 1 % are a day of 2.01 %.
Where a day has several returns, a full window may begin amid a day, so its first day is left out.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.calendars import Calendar
from schemas.events import CarriedPrice, MovedPrice, Return, SeriesState, UnmovedPrice
from stream_processors.risk.methods import Floats
from stream_processors.risk.window import ReturnWindow

Days = NDArray[np.int64]
"""Days since 1970-01-01, or times in microseconds."""

CORRECTABLE_MAX = 5_000
"""The most returns that are kept beside the window because they may still be corrected."""


class DailyReturns(NamedTuple):
    """The returns in a series' window by day; each array has the shape (days,)."""

    days: Days
    """Ascending, in days since 1970-01-01."""
    times_us: Days
    """The time of the last return of each day."""
    returns: Floats
    """The compounded return of each day."""
    is_full: bool
    """Whether the series may have earlier returns, which have left the window."""


class SeriesHistory:
    """One series: its window, and the factors of the prices that its holdings have."""

    def __init__(self, series_id: str, size: int, lateness_us: int, calendar: Calendar) -> None:
        """Create a series without returns.

        Args:
            series_id: its name.
            size: the returns in its window.
            lateness_us: how far behind the newest return one may still come or be corrected.
            calendar: gives the date of a return.
        """
        self.series_id = series_id
        self.lap = 0
        """The lap of the replay that the returns are of."""
        self._size = size
        self._lateness_us = lateness_us
        self._calendar = calendar
        self._times_us = array("q")
        self._values = array("d")
        self._versions: dict[int, int] = {}
        """Versions other than 1, by event time."""
        self._prices: tuple[int, ...] = ()
        """The times of the prices, in ascending order."""
        self._carried: dict[int, CarriedPrice] = {}
        """How far returns that are no longer kept moved each price, by its time."""
        self._dropped_us: int | None = None
        """The newest time of a return that is no longer kept, or that never was."""
        self._daily: DailyReturns | None = None
        self._factors: dict[int, float] = {}
        """What `factor_since` has returned since the last change."""

    @classmethod
    def restore(
        cls, state: SeriesState, size: int, lateness_us: int, calendar: Calendar
    ) -> "SeriesHistory":
        """Continue from a packed state.

        Raises:
            ValueError: the state is no window, as in a row that this system has not written.
        """
        series = cls(state.series_id, size, lateness_us, calendar)
        times_us, values, versions = ReturnWindow.unpack(state.window, state.observations)
        # A window checks that its columns are one.
        ReturnWindow.restore(max(1, len(times_us)), times_us, values, versions)
        series.lap = state.lap
        series._times_us, series._values = array("q", times_us), array("d", values)
        series._versions = {
            time_us: version
            for time_us, version in zip(times_us, versions, strict=True)
            if version != 1
        }
        series._dropped_us = state.dropped_us
        series._carried = {price.priced_us: price for price in state.carried}
        for price in state.carried:
            if not price.is_whole and price.since_us is None:
                # An earlier version did not note from when on the returns are known.
                series._carried[price.priced_us] = series._carried_from(price.priced_us)
        series._prices = tuple(sorted(series._carried))
        return series

    def pack(self, root: str, tenant: str | None) -> SeriesState:
        """Return the whole state, as a row of a tree."""
        packed = self._times_us.tobytes() + self._values.tobytes()
        if self._versions:
            versions = (self._versions.get(time_us, 1) for time_us in self._times_us)
            packed += array("q", versions).tobytes()
        return SeriesState(
            root=root,
            series_id=self.series_id,
            window=packed,
            observations=len(self._times_us),
            tenant=tenant,
            lap=self.lap,
            carried=[self._carried[priced_us] for priced_us in sorted(self._carried)],
            dropped_us=self._dropped_us,
        )

    def __len__(self) -> int:
        return len(self._times_us)

    @property
    def corrections(self) -> int:
        """The number of returns in the window that have replaced another one."""
        if not self._versions:
            return 0
        first_us = self._times_us[-min(self._size, len(self._times_us))]
        return sum(
            time_us >= first_us and version > 1 for time_us, version in self._versions.items()
        )

    def set_prices(self, times_us: Iterable[int]) -> None:
        """Say at which times the holdings of the series are priced."""
        self._prices = tuple(sorted(set(times_us)))
        self._carried = {
            priced_us: self._carried.get(priced_us) or self._carried_from(priced_us)
            for priced_us in self._prices
        }
        self._factors.clear()

    def _carried_from(self, priced_us: int) -> CarriedPrice:
        """Return a price that only kept returns have moved, as far as is known."""
        if self._lacks_returns_after(priced_us):
            return CarriedPrice(priced_us, 1.0, is_whole=False, since_us=self._dropped_us)
        return CarriedPrice(priced_us, 1.0, is_whole=True)

    def set_calendar(self, calendar: Calendar) -> None:
        """Date the returns by another calendar."""
        if calendar != self._calendar:
            self._calendar, self._daily = calendar, None

    def mark_earlier(self, first_us: int) -> None:
        """Note that the series has had returns before the first of those that are about to come.

        Nothing changes where the series has earlier returns, or lacks some already.
        """
        if self._dropped_us is not None or (self._times_us and self._times_us[0] <= first_us):
            return
        self._dropped_us = first_us - 1
        self._carried = {priced_us: self._carried_from(priced_us) for priced_us in self._prices}
        self._factors.clear()

    def unmoved_prices(self) -> list[UnmovedPrice]:
        """Return the prices that unknown returns have moved."""
        return [
            UnmovedPrice(price.priced_us, price.since_us)
            for price in self._carried.values()
            if not price.is_whole
        ]

    def move_price(self, moved: MovedPrice) -> bool:
        """Move a price by returns that were not known; return whether that changed anything."""
        price = self._carried.get(moved.priced_us)
        if price is None or price.is_whole or price.since_us != moved.until_us:
            return False
        is_whole = moved.since_us <= moved.priced_us
        if not is_whole and moved.since_us >= moved.until_us:
            return False
        self._carried[moved.priced_us] = CarriedPrice(
            moved.priced_us,
            price.factor * moved.factor,
            is_whole,
            None if is_whole else moved.since_us,
        )
        self._factors.clear()
        return True

    def known_since(self, priced_us: int) -> int | None:
        """Return since when the returns after a price are known; None where all are."""
        carried = self._carried.get(priced_us)
        if carried is None:
            return self._dropped_us if self._lacks_returns_after(priced_us) else None
        return carried.since_us

    def _lacks_returns_after(self, time_us: int) -> bool:
        return self._dropped_us is not None and time_us < self._dropped_us

    def factor_since(self, priced_us: int) -> float:
        """Return by how much the returns after a time have moved a price of that time."""
        known = self._factors.get(priced_us)
        if known is not None:
            return known
        later = bisect_right(self._times_us, priced_us)
        carried = self._carried.get(priced_us)
        factor = 1.0 if carried is None else carried.factor
        for value in self._values[later:]:
            factor *= 1 + value
        self._factors[priced_us] = factor
        return factor

    def add(self, observation: Return) -> bool:
        """Add a return at its place in time, or correct one; return whether that changed anything.

        A return that is older than all that may still be corrected is ignored: the processor of
        returns has refused such ones, unless more than `CORRECTABLE_MAX` have come since.
        """
        _, time_us, value, version = observation
        times = self._times_us
        if not isfinite(value) or (self._dropped_us is not None and time_us <= self._dropped_us):
            return False
        index = bisect_left(times, time_us)
        if index < len(times) and times[index] == time_us:
            if version <= self._versions.get(time_us, 1):
                return False
            self._values[index] = value
        else:
            times.insert(index, time_us)
            self._values.insert(index, value)
        if version != 1:
            self._versions[time_us] = version
        self._daily = None
        self._factors.clear()
        self._drop()
        return True

    def is_newest(self, time_us: int) -> bool:
        """Return whether a return of this time would be newer than all others."""
        return not self._times_us or time_us > self._times_us[-1]

    def daily(self) -> DailyReturns | None:
        """Return the window by day; None without returns."""
        if self._daily is None and self._times_us:
            self._daily = self._by_day()
        return self._daily

    def _by_day(self) -> DailyReturns:
        size = min(self._size, len(self._times_us))
        times_us = np.array(self._times_us[-size:], dtype=np.int64)
        values = np.array(self._values[-size:])
        day_of = self._calendar.day_of
        days = np.array([day_of(time_us) for time_us in self._times_us[-size:]], dtype=np.int64)
        is_full = self._dropped_us is not None or len(self._times_us) > size
        is_last = np.append(days[1:] != days[:-1], [True])
        if is_last.all():
            return DailyReturns(days, times_us, values, is_full)
        lasts = np.flatnonzero(is_last)
        firsts = np.concatenate(([0], lasts[:-1] + 1))
        if is_full and len(lasts) > 1:
            # The first day may be a part of a day, and its return a part of that day's.
            firsts, lasts = firsts[1:], lasts[1:]
        compounded = np.multiply.reduceat(1 + values, firsts) - 1
        # A day's only return stays as it is, to the last bit.
        alone = firsts == lasts
        compounded[alone] = values[firsts[alone]]
        return DailyReturns(days[lasts], times_us[lasts], compounded, is_full)

    def _drop(self) -> None:
        """Let go of the returns that are in no window and can change no more."""
        times = self._times_us
        while len(times) > self._size:
            oldest_us = times[0]
            moves_price = bool(self._prices) and self._prices[0] < oldest_us
            may_change = oldest_us >= times[-1] - self._lateness_us
            is_bounded = len(times) <= self._size + CORRECTABLE_MAX
            if moves_price and may_change and is_bounded:
                return
            self._carry(oldest_us, self._values[0])
            del self._times_us[0], self._values[0]
            self._versions.pop(oldest_us, None)
            self._dropped_us = oldest_us

    def _carry(self, time_us: int, value: float) -> None:
        """Move the prices before a return by it, for good."""
        for priced_us in self._prices:
            if priced_us >= time_us:
                return
            price = self._carried[priced_us]
            self._carried[priced_us] = price._replace(factor=price.factor * (1 + value))
