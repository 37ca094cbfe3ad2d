"""A rolling window of returns, and what history says about tomorrow: VaR and expected shortfall.

Definitions, for losses L = -r over n observations and a confidence c:

- historical VaR_c is L_(k), the k-th smallest loss, k = ceil(n c): an observed scenario, equal to
  numpy's `quantile(L, c, method="inverted_cdf")`;
- ES_c = VaR_c + sum(max(L - VaR_c, 0)) / (n (1 - c)), Rockafellar and Uryasev, "Conditional
  value-at-risk for general loss distributions", 2002.

Both are positive losses, as fractions of net asset value; a gain is a negative VaR. A window is the
last W observations by event time, and a measure is a function of the window's content alone: it
does not depend on the order of arrival, and is the same on replay.

An update is a binary search and a shift in one small array, about a microsecond.
"""

from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from math import inf, isfinite
from typing import NamedTuple

from schemas.events import Return
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.moments import RunningMoments, RunningVariance

_WORD = 8
"""Bytes of a number."""

_GONE_MAX = 32
"""Returns that have left a window are removed from memory so many at a time."""


class Outcome(StrEnum):
    """What became of a return that arrived."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"  # a higher version replaced what was there
    DUPLICATE = "duplicate"
    LATE = "late"
    FUTURE = "future"  # of a time that is not yet
    REJECTED = "rejected"  # not a finite number


_ACCEPTED, _REJECTED = Outcome.ACCEPTED, Outcome.REJECTED
"""An enum's members take a while to look up."""


class Status(StrEnum):
    """What a measure is worth."""

    OK = "ok"
    DEGENERATE = "degenerate"  # every return in the window is the same
    INSUFFICIENT_DATA = "insufficient_data"
    UNAVAILABLE = "unavailable"  # what goes in, or comes out, is beyond all numbers


def finite(value: float | None) -> float | None:
    """A number that an event may have: JSON has no others."""
    return value if value is not None and isfinite(value) else None


class ReturnWindow:
    """The last `size` returns of one portfolio, by event time."""

    __slots__ = (
        "_ascending",
        "_gone",
        "_times_us",
        "_values",
        "_versions",
        "lowest_moved",
        "moments",
        "size",
        "variance",
    )

    def __init__(self, size: int = 250, *, with_moments: bool = False) -> None:
        """Have an empty window.

        Args:
            size: how many observations it holds.
            with_moments: whether moments and variance are kept, too.

        Raises:
            InvalidInput: there is room for none.
        """
        if size < 1:
            raise InvalidInput(f"the window's size is {size}; it must be at least 1")
        self.size = size
        self.moments = RunningMoments() if with_moments else None
        self.variance = RunningVariance(size)
        # Arrays: a thousand portfolios' windows are a third of what lists would be. What has left
        # them stays at their beginning for a while: to move all the others takes longest of all.
        self._times_us = array("q")
        self._values = array("d")
        self._gone = 0
        self._versions: dict[int, int] = {}
        """By time, of those that are not the first."""
        self._ascending = array("d")
        self.lowest_moved = -inf
        """Of the last exchange of a return for the oldest, the worse of both; else -inf."""

    @classmethod
    def of(
        cls,
        size: int,
        times_us: Sequence[int],
        values: Sequence[float],
        versions: Sequence[int],
        *,
        variance_sum: float | None = None,
        with_moments: bool = False,
    ) -> "ReturnWindow":
        """A window as it was; the newest `size` observations of it."""
        window = cls(size, with_moments=with_moments)
        window._times_us = array("q", times_us[-size:])
        window._values = array("d", values[-size:])
        window._versions = {
            at_us: version
            for at_us, version in zip(times_us[-size:], versions[-size:], strict=True)
            if version != 1
        }
        window._ascending = array("d", sorted(window._values))
        if with_moments:
            window.moments = RunningMoments(window._values)
            window.variance.reset(window._values)
            if variance_sum is not None and len(times_us) <= size:
                # To the last bit as it was, and not only nearly.
                window.variance.sum = variance_sum
        return window

    def pack(self) -> bytes:
        """Times, values and, where one is not the first, versions: 16 or 24 bytes each."""
        packed = self.times_us.tobytes() + self.values.tobytes()
        return packed + array("q", self.versions).tobytes() if self._versions else packed

    @staticmethod
    def unpack(packed: bytes, count: int) -> tuple[Sequence[int], Sequence[float], Sequence[int]]:
        """Times, values and versions of a window of so many observations that was packed."""
        times_us, values = array("q", packed[: count * _WORD]), array("d")
        values.frombytes(packed[count * _WORD : 2 * count * _WORD])
        versions = array("q", packed[2 * count * _WORD :]) or array("q", [1]) * count
        return times_us, values, versions

    @property
    def newest_us(self) -> int:
        """When the newest return was observed; there must be one."""
        return self._times_us[-1]

    @property
    def times_us(self) -> "array[int]":
        """When each return was observed, the oldest first."""
        return self._times_us[self._gone :]

    @property
    def values(self) -> "array[float]":
        """The returns, the oldest first."""
        return self._values[self._gone :]

    @property
    def versions(self) -> Sequence[int]:
        """Of each observation."""
        return [self._versions.get(at_us, 1) for at_us in self.times_us]

    def __len__(self) -> int:
        return len(self._ascending)

    def add(self, one: Return, *, lateness_us: int) -> Outcome:
        """Take a return in, where it belongs in time.

        Args:
            one: the return.
            lateness_us: how far behind the newest return one may be, to be taken still.
        """
        times = self._times_us
        if not times or one.event_time_us > times[-1]:
            return self._append(one)
        self.lowest_moved = -inf
        at = bisect_left(times, one.event_time_us, self._gone)
        there = times[at] == one.event_time_us
        known = self._versions.get(one.event_time_us, 1) if there else None
        if known == one.version:
            return Outcome.DUPLICATE
        if not isfinite(one.value):
            return Outcome.REJECTED
        if one.event_time_us < times[-1] - lateness_us:
            return Outcome.LATE
        if known is not None:
            return self._correct(at, one) if one.version > known else Outcome.DUPLICATE
        times.insert(at, one.event_time_us)
        self._values.insert(at, one.value)
        if one.version != 1:
            self._versions[one.event_time_us] = one.version
        insort(self._ascending, one.value)
        oldest = self._forget_oldest() if len(self) > self.size else None
        if self.moments is not None:
            self.moments.add(one.value)
            if oldest is not None:
                self.moments.remove(oldest)
            self.variance.reset(self.values)
        return Outcome.ACCEPTED

    @property
    def ascending(self) -> Sequence[float]:
        """The returns, the worst first."""
        return self._ascending

    def scenario_us(self, var: float) -> int:
        """When the return was observed that a historical VaR names; the latest of equals."""
        at = len(self._values) - 1 - self._values[::-1].index(0.0 - var)
        return self._times_us[at]

    def _append(self, one: Return) -> Outcome:
        """Take in a return that is newer than all others: nearly every one."""
        _, at_us, value, version = one
        if not isfinite(value):
            return _REJECTED
        self._times_us.append(at_us)
        self._values.append(value)
        if version != 1:
            self._versions[at_us] = version
        insort(self._ascending, value)
        oldest = self._forget_oldest() if len(self._ascending) > self.size else None
        self.lowest_moved = -inf if oldest is None else min(value, oldest)
        if self.moments is not None:
            self.moments.add(value)
            self.variance.add(value)
            if oldest is not None:
                self.moments.remove(oldest)
                self.variance.remove_oldest(oldest)
                if not isfinite(self.variance.sum):  # a square was no number, and may have gone
                    self.variance.reset(self.values)
        return _ACCEPTED

    def _correct(self, at: int, one: Return) -> Outcome:
        del self._ascending[bisect_left(self._ascending, self._values[at])]
        insort(self._ascending, one.value)
        if self.moments is not None:
            self.moments.remove(self._values[at])
            self.moments.add(one.value)
        self._values[at] = one.value
        self._versions[one.event_time_us] = one.version
        if self.moments is not None:
            self.variance.reset(self.values)
        return Outcome.CORRECTED

    def _forget_oldest(self) -> float:
        gone = self._gone
        oldest = self._values[gone]
        del self._ascending[bisect_left(self._ascending, oldest)]
        if self._versions:
            self._versions.pop(self._times_us[gone], None)
        gone += 1
        if gone == _GONE_MAX:
            del self._times_us[:gone], self._values[:gone]
            gone = 0
        self._gone = gone
        return oldest


VAR_95 = Level.of("0.95")
VAR_99 = Level.of("0.99")


class Measured(NamedTuple):
    """VaR and ES at both levels; None where the window is too short for the level."""

    status: Status
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None


_OK, _DEGENERATE = Status.OK, Status.DEGENERATE
_NOTHING = Measured(Status.INSUFFICIENT_DATA)


def measure(window: ReturnWindow, *, observations_min: int) -> Measured:
    """Measure a window by the historical method.

    Args:
        window: the returns.
        observations_min: how many of them must be there; a level's own minimum holds besides.
    """
    ascending = window.ascending
    count = len(ascending)
    if count < observations_min or count < VAR_95.observations_min:
        return _NOTHING
    status = _DEGENERATE if ascending[0] == ascending[-1] else _OK
    if count < VAR_99.observations_min:
        return Measured(status, *historical(ascending, *place(VAR_95, count)))
    var_95, es_95 = historical(ascending, *place(VAR_95, count))
    var_99, es_99 = historical(ascending, *place(VAR_99, count))
    return Measured(status, var_95, es_95, var_99, es_99)


@cache
def place(level: Level, count: int) -> tuple[int, float]:
    """How many of so many returns lie beyond the VaR, and how many would at the level."""
    return count - level.rank(count), count * level.tail


def historical(ascending: Sequence[float], beyond: int, expected: float) -> tuple[float, float]:
    """VaR and ES of returns, the worst first.

    Args:
        ascending: the returns.
        beyond: how many of them are worse than the VaR.
        expected: how many would be at the level, n (1 - c).
    """
    scenario = ascending[beyond]
    var = 0.0 - scenario
    if ascending[0] == scenario:  # nothing lost more: no rounding may say so
        return var, var
    return var, var + (beyond * scenario - sum(ascending[:beyond])) / expected
