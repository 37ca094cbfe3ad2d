"""Whether a VaR model is any good: how often, and how, losses exceeded what was forecast.

- Kupiec, "Techniques for Verifying the Accuracy of Risk Measurement Models", 1995: as many
  exceptions as there should be?
- Christoffersen, "Evaluating Interval Forecasts", 1998: does one bring the next?
- the Basel Committee's traffic light, 1996: how improbable is so many?
- Acerbi and Szekely, "Backtesting Expected Shortfall", 2014: are they as bad as forecast?

An exception is a loss above, not at, the VaR that was forecast before the day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, chdtrc

from stream_processors.levels import Level
from stream_processors.methods import Floats

_YELLOW = 0.95
_RED = 0.9999


class Statistic(NamedTuple):
    """A likelihood ratio, and how probable one as large is if the model is right."""

    ratio: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ModelTest:
    """What the last days say of a model."""

    observations: int
    exceptions: int
    coverage: Statistic
    """Kupiec's."""
    independence: Statistic
    conditional_coverage: Statistic
    zone: str
    """green, yellow or red."""


def judge_model(exceptions: Sequence[bool], level: Level) -> ModelTest:
    """Judge a model by its days, the oldest first; at least one."""
    count = sum(exceptions)
    coverage = _coverage(len(exceptions), count, level.tail)
    independence = _independence(exceptions)
    return ModelTest(
        observations=len(exceptions),
        exceptions=count,
        coverage=Statistic(coverage, float(chdtrc(1, coverage))),
        independence=Statistic(independence, float(chdtrc(1, independence))),
        conditional_coverage=Statistic(
            coverage + independence, float(chdtrc(2, coverage + independence))
        ),
        zone=zone(len(exceptions), count, level),
    )


def zone(observations: int, exceptions: int, level: Level) -> str:
    """The traffic light: by how probable at most so many exceptions are."""
    probability = float(bdtr(exceptions, observations, level.tail))
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


def _independence(exceptions: Sequence[bool]) -> float:
    """Of a Markov chain's transitions against independent days."""
    pairs = np.zeros((2, 2), dtype=int)
    days = np.asarray(exceptions, dtype=int)
    np.add.at(pairs, (days[:-1], days[1:]), 1)
    calm, after_calm = int(pairs[0, 0]), int(pairs[0, 1])
    after, again = int(pairs[1, 0]), int(pairs[1, 1])
    rows_and_columns = (calm + after_calm, after + again, calm + after, after_calm + again)
    if 0 in rows_and_columns:
        return 0.0
    together = (after_calm + again) / (calm + after_calm + after + again)
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
