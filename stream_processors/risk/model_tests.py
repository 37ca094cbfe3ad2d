"""Whether a VaR model is any good: how often, and how, losses exceeded what was forecast.

- Kupiec, "Techniques for Verifying the Accuracy of Risk Measurement Models", 1995: as many
  exceptions as there should be?
- Christoffersen, "Evaluating Interval Forecasts", 1998: does one bring the next?
- the Basel Committee's traffic light, 1996: how improbable is so many?
- Acerbi and Szekely, "Backtesting Expected Shortfall", 2014: are they as bad as forecast?

An exception is a loss above, not at, the VaR that was forecast before the day.
"""

from collections import deque
from functools import lru_cache
from itertools import pairwise
from math import comb, erfc, exp, log, sqrt
from typing import NamedTuple

from stream_processors.risk.confidence import Level
from stream_processors.risk.methods import Floats

EXCEPTION = "x"
"""How a day with one is written."""

_YELLOW = 0.95
_RED = 0.9999


class Days:
    """The last days of a model: which of them were exceptions."""

    __slots__ = ("_day", "_when", "kept")

    def __init__(self, kept: int, days: str = "") -> None:
        """Have days, the oldest first, as `str` words them; the last `kept` of them."""
        self.kept = kept
        self._day = 0
        """How many there have been."""
        self._when: deque[int] = deque()
        """On which days exceptions were, of those that are kept."""
        for sign in days[-kept:]:
            self.add(exceeded=sign == EXCEPTION)

    def add(self, *, exceeded: bool) -> None:
        """Note one more day."""
        self._day = day = self._day + 1
        when = self._when
        if exceeded:
            when.append(day)
        if when and when[0] <= day - self.kept:
            when.popleft()

    @property
    def count(self) -> int:
        """How many days there are."""
        return min(self._day, self.kept)

    @property
    def exceptions(self) -> int:
        """How many of them were exceptions."""
        return len(self._when)

    @property
    def pattern(self) -> "Pattern":
        """What a test needs to know of them."""
        first = self._day - self.count + 1
        return Pattern(
            days=self.count,
            exceptions=len(self._when),
            repeats=sum(after - before == 1 for before, after in pairwise(self._when)),
            first=first in self._when,
            last=self._day in self._when,
        )

    def __str__(self) -> str:
        """A sign for each day: x for an exception."""
        signs = ["."] * self.count
        for day in self._when:
            signs[day - self._day - 1] = EXCEPTION
        return "".join(signs)


class Pattern(NamedTuple):
    """Days, as far as they matter to a test."""

    days: int
    exceptions: int
    repeats: int
    """Exceptions that followed one."""
    first: bool
    """Whether the first day was one."""
    last: bool


class Statistic(NamedTuple):
    """A likelihood ratio, and how probable one as large is if the model is right."""

    ratio: float
    p_value: float


class ModelTest(NamedTuple):
    """What the last days say of a model."""

    observations: int
    exceptions: int
    coverage: Statistic
    """Kupiec's."""
    independence: Statistic
    conditional_coverage: Statistic
    zone: str
    """green, yellow or red."""


@lru_cache(maxsize=10_000)
def judge_model(seen: Pattern, level: Level) -> ModelTest:
    """Judge a model by its days, of which there must be one."""
    coverage = _coverage(seen.days, seen.exceptions, level.tail)
    independence = _independence(seen)
    both = coverage + independence
    # The survival functions of chi-square with one and two degrees of freedom.
    return ModelTest(
        observations=seen.days,
        exceptions=seen.exceptions,
        coverage=Statistic(coverage, erfc(sqrt(coverage / 2))),
        independence=Statistic(independence, erfc(sqrt(independence / 2))),
        conditional_coverage=Statistic(both, exp(-both / 2)),
        zone=zone(seen.days, seen.exceptions, level),
    )


def zone(observations: int, exceptions: int, level: Level) -> str:
    """The traffic light: by how probable at most so many exceptions are."""
    tail = level.tail
    probability = sum(
        comb(observations, count) * tail**count * (1 - tail) ** (observations - count)
        for count in range(exceptions + 1)
    )
    if probability < _YELLOW:
        return "green"
    return "yellow" if probability < _RED else "red"


def most_before_red(observations: int, level: Level) -> int:
    """How many exceptions there may be before the light is red."""
    return next(
        count for count in range(observations + 1) if zone(observations, count + 1, level) == "red"
    )


def acerbi_szekely(
    returns: Floats, var: Floats, es: Floats, level: Level
) -> tuple[float | None, float]:
    """Their first and second statistic, about 0 for a good model, and negative for a bad one.

    Args:
        returns: shape (days,).
        var: forecast for each day, shape (days,).
        es: likewise, positive.
        level: of both.

    Returns:
        The first, None where there was no exception, and the second.
    """
    exceeded = -returns > var
    shortfall = float((returns * exceeded / es).sum())
    count = int(exceeded.sum())
    first = shortfall / count + 1 if count else None
    return first, shortfall / (len(returns) * level.tail) + 1


def _coverage(observations: int, exceptions: int, expected: float) -> float:
    as_expected = _likelihood(observations - exceptions, exceptions, expected)
    as_seen = _likelihood(observations - exceptions, exceptions, exceptions / observations)
    return max(0.0, 2 * (as_seen - as_expected))


def _independence(seen: Pattern) -> float:
    """Of a Markov chain's transitions against independent days."""
    again = seen.repeats
    after = seen.exceptions - seen.last - again
    after_calm = seen.exceptions - seen.first - again
    calm = seen.days - 1 - again - after - after_calm
    if 0 in (calm + after_calm, after + again, calm + after, after_calm + again):
        return 0.0
    together = (after_calm + again) / (seen.days - 1)
    apart = _likelihood(calm, after_calm, after_calm / (calm + after_calm))
    apart += _likelihood(after, again, again / (after + again))
    return max(0.0, 2 * (apart - _likelihood(calm + after, after_calm + again, together)))


def _likelihood(misses: int, hits: int, share: float) -> float:
    """The log of that of so many hits and misses; 0 log 0 is 0."""
    found = 0.0
    if misses:
        found += misses * log(1 - share)
    if hits:
        found += hits * log(share)
    return found
