"""A rolling window of returns, and what history says about tomorrow: VaR and expected shortfall.

Definitions, for losses L = -r over n observations and a confidence c:

- historical VaR_c is L_(k), the k-th smallest loss, k = ceil(n c): an observed scenario, equal to
  numpy's `quantile(L, c, method="inverted_cdf")`;
- ES_c = VaR_c + sum(max(L - VaR_c, 0)) / (n (1 - c)), Rockafellar and Uryasev, "Conditional
  value-at-risk for general loss distributions", 2002.

Both are positive losses, as fractions of net asset value; a gain is a negative VaR. A window is the
last W observations by event time, and a measure is a function of the window's content alone: it
does not depend on the order of arrival, and is the same on replay.

An update is a binary search and a shift in two small lists, about a microsecond.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from schemas.events import Return
from stream_processors.levels import InvalidInput, Level
from stream_processors.moments import RunningMoments, RunningVariance


class Outcome(StrEnum):
    """What became of a return that arrived."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"  # a higher version replaced what was there
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"  # not a finite number


class Status(StrEnum):
    """What a measure is worth."""

    OK = "ok"
    DEGENERATE = "degenerate"  # every return in the window is the same
    INSUFFICIENT_DATA = "insufficient_data"


class ReturnWindow:
    """The last `size` returns of one portfolio, by event time."""

    __slots__ = ("_ascending", "moments", "size", "times_us", "values", "variance", "versions")

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
        self.times_us: list[int] = []
        self.values: list[float] = []
        self.versions: list[int] = []
        self._ascending: list[float] = []

    @classmethod
    def of(
        cls,
        size: int,
        times_us: list[int],
        values: list[float],
        versions: list[int],
        *,
        variance_sum: float | None = None,
        with_moments: bool = False,
    ) -> "ReturnWindow":
        """A window as it was; the newest `size` observations of it."""
        window = cls(size, with_moments=with_moments)
        window.times_us = times_us[-size:]
        window.values = values[-size:]
        window.versions = versions[-size:]
        window._ascending = sorted(window.values)
        if with_moments:
            window.moments = RunningMoments(window.values)
            window.variance.reset(window.values)
            if variance_sum is not None and len(times_us) <= size:
                # To the last bit as it was, and not only nearly.
                window.variance.sum = variance_sum
        return window

    def __len__(self) -> int:
        return len(self.values)

    def add(self, one: Return, *, lateness_us: int) -> Outcome:
        """Take a return in, where it belongs in time.

        Args:
            one: the return.
            lateness_us: how far behind the newest return one may be, to be taken still.
        """
        times = self.times_us
        at = bisect_left(times, one.event_time_us)
        known = at < len(times) and times[at] == one.event_time_us
        if known and self.versions[at] == one.version:
            return Outcome.DUPLICATE
        if not isfinite(one.value):
            return Outcome.REJECTED
        if times and one.event_time_us < times[-1] - lateness_us:
            return Outcome.LATE
        if known:
            if one.version < self.versions[at]:
                return Outcome.DUPLICATE
            self._replace(at, one)
            return Outcome.CORRECTED
        times.insert(at, one.event_time_us)
        self.values.insert(at, one.value)
        self.versions.insert(at, one.version)
        insort(self._ascending, one.value)
        oldest = self._forget_oldest() if len(times) > self.size else None
        if self.moments is not None:
            self._note(one.value, oldest, is_newest=at == len(times) - (oldest is None))
        return Outcome.ACCEPTED

    @property
    def is_constant(self) -> bool:
        """Whether all returns are the same."""
        return bool(self._ascending) and self._ascending[0] == self._ascending[-1]

    def historical(self, level: "Level") -> tuple[float, float]:
        """VaR and ES of a window that is not empty."""
        ascending = self._ascending
        beyond = len(ascending) - level.rank(len(ascending))
        var = 0.0 - ascending[beyond]
        excess = sum(-var - value for value in ascending[:beyond])
        return var, var + excess / (len(ascending) * level.tail)

    def scenario_us(self, var: float) -> int:
        """When the return was observed that a historical VaR names; the latest of equals."""
        at = len(self.values) - 1 - self.values[::-1].index(0.0 - var)
        return self.times_us[at]

    def _note(self, value: float, oldest: float | None, *, is_newest: bool) -> None:
        assert self.moments is not None
        self.moments.add(value)
        if oldest is not None:
            self.moments.remove(oldest)
        if not is_newest:
            self.variance.reset(self.values)
            return
        self.variance.add(value)
        if oldest is not None:
            self.variance.remove_oldest(oldest)

    def _replace(self, at: int, one: Return) -> None:
        del self._ascending[bisect_left(self._ascending, self.values[at])]
        insort(self._ascending, one.value)
        if self.moments is not None:
            self.moments.remove(self.values[at])
            self.moments.add(one.value)
        self.values[at] = one.value
        self.versions[at] = one.version
        if self.moments is not None:
            self.variance.reset(self.values)

    def _forget_oldest(self) -> float:
        oldest = self.values[0]
        del self._ascending[bisect_left(self._ascending, oldest)]
        del self.times_us[0], self.values[0], self.versions[0]
        return oldest


VAR_95 = Level.of("0.95")
VAR_99 = Level.of("0.99")


@dataclass(frozen=True, slots=True)
class Measured:
    """VaR and ES at both levels; None where the window is too short for the level."""

    status: Status
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None


def measure(window: ReturnWindow, *, observations_min: int) -> Measured:
    """Measure a window by the historical method.

    Args:
        window: the returns.
        observations_min: how many of them must be there; a level's own minimum holds besides.
    """
    if len(window) < max(observations_min, VAR_95.observations_min):
        return Measured(Status.INSUFFICIENT_DATA)
    var_95, es_95 = window.historical(VAR_95)
    status = Status.DEGENERATE if window.is_constant else Status.OK
    if len(window) < VAR_99.observations_min:
        return Measured(status, var_95, es_95)
    var_99, es_99 = window.historical(VAR_99)
    return Measured(status, var_95, es_95, var_99, es_99)
