"""Backtests of a VaR model: how often, and in which order, losses exceeded the forecast. Pure.

- Kupiec, "Techniques for Verifying the Accuracy of Risk Measurement Models", 1995: are there as
  many exceptions as expected, and is the first one as late as expected?
- Christoffersen, "Evaluating Interval Forecasts", 1998: does an exception make the next likelier?
- the Basel Committee's traffic light: how improbable is the number of exceptions in 250 days, and
  what does it cost? The plus factors are those of "Supervisory framework for the use of
  backtesting", 1996, table 2; the multipliers are those in force, MAR32.9 and MAR99;
- Acerbi and Szekely, "Backtesting Expected Shortfall", 2014: are exceptions as large as forecast?

An exception is a loss above, not at, the VaR that was forecast before the day.
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import erfc, exp, fsum, lgamma, log, log1p, sqrt
from typing import NamedTuple

from schemas.events import TrafficLight
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats, require_numbers

EXCEPTION = "x"
"""The character of a day with an exception, where days are written as text."""
_EXCEPTION_CODE = ord(EXCEPTION)

ZONE_DAYS = 250
"""The zone is that of the last so many days, however long the history is."""

_YELLOW = 0.95
_RED = 0.9999
_ROUNDING = 1e-12
"""How far rounding may move a probability below the threshold that it is equal to."""

_FACTORS_AT = Fraction(99, 100)
_FREE = 4
"""The most exceptions that cost nothing."""
PLUS_FACTORS_1996 = (0.40, 0.50, 0.65, 0.75, 0.85, 1.00)
"""For 5 to 10 or more exceptions in 250 days at 99 %, added to a multiplier of 3."""
BASEL_MULTIPLIERS = (1.70, 1.76, 1.83, 1.88, 1.92, 2.00)
"""For the same numbers of exceptions; for fewer it is `BASEL_MULTIPLIER`."""
BASEL_MULTIPLIER = 1.50


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

    def add(self, *, exceeded: bool) -> bool:
        """Add a day; return whether an earlier exception has left the counted days."""
        self._day = day = self._day + 1
        exceptions = self._exceptions
        if exceeded:
            exceptions.append(day)
        if exceptions and exceptions[0] <= day - self.size:
            exceptions.popleft()
            return True
        return False

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
    def is_full(self) -> bool:
        """Whether as many days count as can."""
        return self._day >= self.size

    @property
    def calm_days(self) -> int:
        """How many days without exception may follow, at least, that change only their number.

        They let no exception leave the days that count, and do not make these full.
        """
        day, size = self._day, self.size
        days = size - day - 1 if day < size else size
        return min(days, self._exceptions[0] + size - day - 1) if self._exceptions else days

    def add_calm(self, days: int) -> None:
        """Add days without exception, at most `calm_days`."""
        self._day += days

    @property
    def exceptions(self) -> int:
        """The number of exceptions among them."""
        return len(self._exceptions)

    @property
    def days_until_first(self) -> int | None:
        """The number of the day with the first exception, from 1; None without exceptions."""
        return self._exceptions[0] - self._day + self.count if self._exceptions else None

    @property
    def pattern(self) -> "Pattern":
        """The days, as the tests need them."""
        exceptions, day, count = self._exceptions, self._day, self.count
        recent = None
        if self.size > ZONE_DAYS:
            recent = sum(exception > day - ZONE_DAYS for exception in exceptions)
        return Pattern(
            days=count,
            exceptions=len(exceptions),
            repeats=[after - before for before, after in pairwise(exceptions)].count(1),
            first=bool(exceptions) and exceptions[0] == day - count + 1,
            last=bool(exceptions) and exceptions[-1] == day,
            recent=recent,
        )

    def __str__(self) -> str:
        """Return a character for each day: x for an exception, and a dot for any other day."""
        days, ahead = bytearray(b"." * self.count), self._day + 1
        for exception in self._exceptions:
            days[exception - ahead] = _EXCEPTION_CODE
        return days.decode()


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
    recent: int | None = None
    """The exceptions in the last `ZONE_DAYS` days; None where there are no others."""


class Statistic(NamedTuple):
    """A likelihood ratio, and the probability of one at least as large if the model is right."""

    ratio: float
    p_value: float


class ZoneTest(NamedTuple):
    """The traffic light of some days, and what it costs under the Basel framework."""

    days: int
    exceptions: int
    zone: TrafficLight
    cumulative_probability: float
    """The probability of at most so many exceptions, if the model is right."""
    type_1_error: float
    """The probability of at least so many, if the model is right: of an error of the first type,
    where a model with so many is rejected."""
    plus_factor_1996: float | None = None
    """The addition of 1996 to the multiplier of 3. This and what follows are None unless there are
    250 days at 99 %."""
    basel_multiplier: float | None = None
    """The multiplier in force."""
    next_exception_cost_1996: float | None = None
    """By how much one more exception raises the plus factor."""
    next_exception_cost: float | None = None
    """By how much one more exception raises the multiplier."""


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
    light: ZoneTest
    """Of the last 250 days at most."""

    @property
    def zone(self) -> TrafficLight:
        """The traffic light: green, yellow or red."""
        return self.light.zone


@lru_cache(maxsize=10_000)
def judge_model(pattern: Pattern, level: ConfidenceLevel) -> ModelTest:
    """Test a model by its days, of which there must be at least one."""
    coverage = _coverage(pattern.days, pattern.exceptions, level.tail)
    independence = _independence(pattern)
    both = coverage + independence
    recent = pattern.exceptions if pattern.recent is None else pattern.recent
    return ModelTest(
        observations=pattern.days,
        exceptions=pattern.exceptions,
        coverage=_one_degree(coverage),
        independence=_one_degree(independence),
        # The survival function of chi-square with two degrees of freedom.
        conditional_coverage=Statistic(both, exp(-both / 2)),
        light=judge_zone(min(pattern.days, ZONE_DAYS), recent, level),
    )


@lru_cache(maxsize=10_000)
def judge_zone(days: int, exceptions: int, level: ConfidenceLevel) -> ZoneTest:
    """Return the traffic light of so many days, its probabilities and its factors.

    With a probability below 0.95 of at most so many exceptions the zone is green, below 0.9999
    yellow, else red.
    """
    terms = _binomials(days, level.tail)
    probability = min(1.0, fsum(terms[: exceptions + 1]))
    light = TrafficLight.RED
    if probability < _RED - _ROUNDING:
        is_green = probability < _YELLOW - _ROUNDING
        light = TrafficLight.GREEN if is_green else TrafficLight.YELLOW
    type_1_error = min(1.0, fsum(terms[exceptions:]))
    test = ZoneTest(days, exceptions, light, probability, type_1_error)
    if days != ZONE_DAYS or level.confidence != _FACTORS_AT:
        return test
    plus, multiplier = _factors(exceptions)
    next_plus, next_multiplier = _factors(exceptions + 1)
    return test._replace(
        plus_factor_1996=plus,
        basel_multiplier=multiplier,
        next_exception_cost_1996=round(next_plus - plus, 2),
        next_exception_cost=round(next_multiplier - multiplier, 2),
    )


def zone(observations: int, exceptions: int, level: ConfidenceLevel) -> TrafficLight:
    """Return the traffic light of so many days."""
    return judge_zone(observations, exceptions, level).zone


@lru_cache(maxsize=10_000)
def time_until_first_failure(days: int | None, level: ConfidenceLevel) -> Statistic | None:
    """Test whether the first exception came as late as expected.

    With the first exception on day v, the ratio is that of the likelihoods of v days of which the
    last is the only exception: under 1 - c, and under 1 / v.

    Args:
        days: the day of the first exception, from 1; None where there was none.
        level: the confidence.

    Returns:
        The statistic, of one degree of freedom; None where there was no exception.
    """
    return None if days is None else _one_degree(_coverage(days, 1, level.tail))


def shortfall_statistics(
    ratios: Sequence[float], days: int, level: ConfidenceLevel
) -> tuple[float | None, float]:
    """Return Acerbi and Szekely's Z1 and Z2 from the days of exceptions.

    Args:
        ratios: return / ES of each day with an exception, ES being positive.
        days: the number of all days.
        level: the confidence of VaR and ES.

    Returns:
        Z1 = sum(ratios) / exceptions + 1, which is None where there was no exception, and
        Z2 = sum(ratios) / (n (1 - c)) + 1.
    """
    total = fsum(ratios)
    first = total / len(ratios) + 1 if ratios else None
    return first, total / (days * level.tail) + 1


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
    Z2 = sum(r I / ES) / (n (1 - c)) + 1.

    Args:
        returns: shape (days,).
        var: the forecasts for each day, shape (days,).
        es: the same, positive.
        level: the confidence of both.

    Returns:
        Z1, which is None where there was no exception, and Z2.

    Raises:
        InvalidInput: there are no days, the shapes differ, a number is not finite, or an ES of a
            day with an exception is not positive.
    """
    for name, numbers in (("returns", returns), ("VaR", var), ("ES", es)):
        require_numbers(numbers, name)
        if numbers.shape != returns.shape:
            raise InvalidInput(f"{len(numbers)} {name} do not fit {len(returns)} returns")
    exceeded = -returns > var
    if not (es[exceeded] > 0).all():
        raise InvalidInput("the expected shortfall of a day with an exception must be positive")
    return shortfall_statistics((returns[exceeded] / es[exceeded]).tolist(), len(returns), level)


def _factors(exceptions: int) -> tuple[float, float]:
    """Return the plus factor of 1996 and today's multiplier, for 250 days at 99 %."""
    if exceptions <= _FREE:
        return 0.0, BASEL_MULTIPLIER
    index = min(exceptions - _FREE - 1, len(PLUS_FACTORS_1996) - 1)
    return PLUS_FACTORS_1996[index], BASEL_MULTIPLIERS[index]


@lru_cache(maxsize=1_000)
def _binomials(days: int, probability: float) -> Sequence[float]:
    """Return the probability of each number of hits, from none to `days`."""
    return tuple(_binomial(days, count, probability) for count in range(days + 1))


def _binomial(days: int, count: int, probability: float) -> float:
    """Return the probability of so many hits, in logarithms: the coefficients may be too large."""
    ways = lgamma(days + 1) - lgamma(count + 1) - lgamma(days - count + 1)
    return exp(ways + count * log(probability) + (days - count) * log1p(-probability))


def _one_degree(ratio: float) -> Statistic:
    """Return a ratio with its p-value, by chi-square with one degree of freedom."""
    return Statistic(ratio, erfc(sqrt(ratio / 2)))


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
    if 0 in rows or 0 in columns:
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
