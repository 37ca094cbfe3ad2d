"""Backtests of a VaR model: how often, and in which order, losses exceeded the forecast. Pure.

- Kupiec, "Techniques for Verifying the Accuracy of Risk Measurement Models", 1995: are there as
  many exceptions as expected?
- Christoffersen, "Evaluating Interval Forecasts", 1998: does an exception make the next likelier?
- the Basel Committee's traffic light, 1996: how improbable is the number of exceptions?
- Acerbi and Szekely, "Backtesting Expected Shortfall", 2014: are exceptions as large as forecast?

An exception is a loss above, not at, the VaR that was forecast before the day.
"""

from bisect import insort
from collections import deque
from functools import lru_cache
from itertools import pairwise
from math import comb, erfc, exp, log, sqrt
from typing import NamedTuple

from schemas.events import TrafficLight
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.methods import Floats

EXCEPTION = "x"
"""The character of a day with an exception, where days are written as text."""

_YELLOW = 0.95
_RED = 0.9999


class ExceptionHistory:
    """The days of a model, of which the last `size` count: which of them were exceptions."""

    __slots__ = ("_day", "_exceptions", "size")

    def __init__(self, size: int, days: str = "") -> None:
        """Create a history, perhaps from days as `str` writes them, the oldest first."""
        self.size = size
        self._day = 0
        """The number of days so far."""
        self._exceptions: deque[int] = deque()
        """The days of the exceptions that count, numbered from 1."""
        for character in days[-size:]:
            self.add(exceeded=character == EXCEPTION)

    def add(self, *, exceeded: bool) -> None:
        """Add a day."""
        self._day = day = self._day + 1
        exceptions = self._exceptions
        if exceeded:
            exceptions.append(day)
        if exceptions and exceptions[0] <= day - self.size:
            exceptions.popleft()

    def insert(self, later: int, *, exceeded: bool) -> None:
        """Add a day that so many later days follow."""
        if later >= self.size:
            return
        before = self._day - later
        self._day += 1
        days = [day + (day > before) for day in self._exceptions]
        if exceeded:
            insort(days, before + 1)
        self._exceptions = deque(day for day in days if day > self._day - self.size)

    def replace(self, later: int, *, exceeded: bool) -> None:
        """Judge again the day that so many later days follow."""
        day = self._day - later
        if later >= self.count or (day in self._exceptions) is exceeded:
            return
        if exceeded:
            self._exceptions = deque(sorted((*self._exceptions, day)))
        else:
            self._exceptions.remove(day)

    @property
    def count(self) -> int:
        """The number of days that count."""
        return min(self._day, self.size)

    @property
    def exceptions(self) -> int:
        """The number of exceptions among them."""
        return len(self._exceptions)

    @property
    def pattern(self) -> "Pattern":
        """The days, as the tests need them."""
        first = self._day - self.count + 1
        return Pattern(
            days=self.count,
            exceptions=len(self._exceptions),
            repeats=sum(after - before == 1 for before, after in pairwise(self._exceptions)),
            first=first in self._exceptions,
            last=self._day in self._exceptions,
        )

    def __str__(self) -> str:
        """Return a character for each day: x for an exception, and a dot for any other day."""
        characters = ["."] * self.count
        for day in self._exceptions:
            characters[day - self._day - 1] = EXCEPTION
        return "".join(characters)


class Pattern(NamedTuple):
    """A sequence of days, reduced to the counts that the tests depend on."""

    days: int
    exceptions: int
    repeats: int
    """Exceptions whose previous day was an exception too."""
    first: bool
    """Whether the first day was an exception."""
    last: bool
    """Whether the last day was an exception."""


class Statistic(NamedTuple):
    """A likelihood ratio, and the probability of one at least as large if the model is right."""

    ratio: float
    p_value: float


class ModelTest(NamedTuple):
    """The results of all tests of a model."""

    observations: int
    exceptions: int
    coverage: Statistic
    """Kupiec's."""
    independence: Statistic
    """Christoffersen's."""
    conditional_coverage: Statistic
    """Christoffersen's, the sum of both."""
    zone: TrafficLight
    """green, yellow or red."""


@lru_cache(maxsize=10_000)
def judge_model(pattern: Pattern, level: ConfidenceLevel) -> ModelTest:
    """Test a model by its days, of which there must be at least one."""
    coverage = _coverage(pattern.days, pattern.exceptions, level.tail)
    independence = _independence(pattern)
    both = coverage + independence
    # The survival functions of chi-square with one and two degrees of freedom.
    return ModelTest(
        observations=pattern.days,
        exceptions=pattern.exceptions,
        coverage=Statistic(coverage, erfc(sqrt(coverage / 2))),
        independence=Statistic(independence, erfc(sqrt(independence / 2))),
        conditional_coverage=Statistic(both, exp(-both / 2)),
        zone=zone(pattern.days, pattern.exceptions, level),
    )


def zone(observations: int, exceptions: int, level: ConfidenceLevel) -> TrafficLight:
    """Return the traffic light, by the binomial probability of at most so many exceptions.

    Below 0.95 it is green, below 0.9999 yellow, else red.
    """
    tail = level.tail
    probability = sum(
        comb(observations, count) * tail**count * (1 - tail) ** (observations - count)
        for count in range(exceptions + 1)
    )
    if probability < _YELLOW:
        return TrafficLight.GREEN
    return TrafficLight.YELLOW if probability < _RED else TrafficLight.RED


def most_before_red(observations: int, level: ConfidenceLevel) -> int:
    """Return the largest number of exceptions that is not in the red zone."""
    return next(
        count
        for count in range(observations + 1)
        if zone(observations, count + 1, level) is TrafficLight.RED
    )


def acerbi_szekely(
    returns: Floats, var: Floats, es: Floats, level: ConfidenceLevel
) -> tuple[float | None, float]:
    """Return Acerbi and Szekely's first two statistics: about 0 for a good model, else negative.

    With I = 1 on days of exceptions: Z1 = sum(r I / ES) / sum(I) + 1, and
    Z2 = sum(r I / ES) / (n (1 - c)) + 1. No event contains them yet: they will be published with
    the forecasts of ES.

    Args:
        returns: shape (days,).
        var: the forecasts for each day, shape (days,).
        es: the same, positive.
        level: the confidence of both.

    Returns:
        Z1, which is None where there was no exception, and Z2.
    """
    exceeded = -returns > var
    shortfall = float((returns * exceeded / es).sum())
    count = int(exceeded.sum())
    first = shortfall / count + 1 if count else None
    return first, shortfall / (len(returns) * level.tail) + 1


def _coverage(observations: int, exceptions: int, expected: float) -> float:
    under_model = _log_likelihood(observations - exceptions, exceptions, expected)
    observed = _log_likelihood(observations - exceptions, exceptions, exceptions / observations)
    return max(0.0, 2 * (observed - under_model))


def _independence(pattern: Pattern) -> float:
    """Compare a Markov chain with independent days, by the transitions between two days.

    The ratio is 0 where a row or a column of the table of transitions is empty.
    """
    repeats = pattern.repeats
    from_exception_to_calm = pattern.exceptions - pattern.last - repeats
    to_exception = pattern.exceptions - pattern.first - repeats
    calm = pattern.days - 1 - repeats - from_exception_to_calm - to_exception
    rows = calm + to_exception, from_exception_to_calm + repeats
    columns = calm + from_exception_to_calm, to_exception + repeats
    if 0 in (*rows, *columns):
        return 0.0
    share = (to_exception + repeats) / (pattern.days - 1)
    chain = _log_likelihood(calm, to_exception, to_exception / rows[0])
    chain += _log_likelihood(from_exception_to_calm, repeats, repeats / rows[1])
    return max(0.0, 2 * (chain - _log_likelihood(*columns, share)))


def _log_likelihood(misses: int, hits: int, probability: float) -> float:
    """Return the log-likelihood of so many hits and misses, where 0 log 0 is 0."""
    total = 0.0
    if misses:
        total += misses * log(1 - probability)
    if hits:
        total += hits * log(probability)
    return total
