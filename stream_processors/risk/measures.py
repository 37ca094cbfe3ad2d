"""Measures of a window of returns: historical VaR, expected shortfall, and drawdown. Pure.

Definitions, for losses L = -r over n observations and a confidence c:

- historical VaR_c is L_(k), the k-th smallest loss, k = ceil(n c): an observed scenario, equal to
  numpy's `quantile(L, c, method="inverted_cdf")`;
- ES_c = VaR_c + sum(max(L - VaR_c, 0)) / (n (1 - c)), Rockafellar and Uryasev, "Conditional
  value-at-risk for general loss distributions", 2002;
- the drawdown is the loss of the compounded value since its peak, as a fraction of the peak.

VaR and ES are positive losses, as fractions of net asset value; a gain is a negative VaR. A measure
is a function of the window's content alone.
"""

from collections.abc import Sequence
from functools import cache
from math import isfinite
from typing import NamedTuple

from schemas.events import MeasureStatus
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.window import ReturnWindow

VAR_95 = ConfidenceLevel.of("0.95")
VAR_99 = ConfidenceLevel.of("0.99")


class Measurement(NamedTuple):
    """VaR and ES at both levels; None where the window is too short for the level."""

    status: MeasureStatus
    var_95: float | None = None
    es_95: float | None = None
    var_99: float | None = None
    es_99: float | None = None


_OK, _DEGENERATE = MeasureStatus.OK, MeasureStatus.DEGENERATE
_INSUFFICIENT = Measurement(MeasureStatus.INSUFFICIENT_DATA)


def measure(window: ReturnWindow, *, observations_min: int) -> Measurement:
    """Measure a window by the historical method.

    Args:
        window: the returns.
        observations_min: the fewest of them; each level also has a minimum of its own.
    """
    count = len(window)
    if count < observations_min or count < VAR_95.observations_min:
        return _INSUFFICIENT
    worse, tail_size = tail_of(VAR_95, count)
    ascending = window.worst(worse + 1)
    status = _DEGENERATE if window.is_constant else _OK
    var_95, es_95 = historical_var_es(ascending, worse, tail_size)
    if count < VAR_99.observations_min:
        return Measurement(status, var_95, es_95)
    var_99, es_99 = historical_var_es(ascending, *tail_of(VAR_99, count))
    return Measurement(status, var_95, es_95, var_99, es_99)


@cache
def tail_of(level: ConfidenceLevel, count: int) -> tuple[int, float]:
    """Return how many of `count` returns are worse than the VaR, and the tail's size n (1 - c)."""
    return count - level.rank(count), count * level.tail


def historical_var_es(
    ascending: Sequence[float], worse: int, tail_size: float
) -> tuple[float, float]:
    """Return VaR and ES of sorted returns.

    Args:
        ascending: the returns, the worst first; at least the VaR and those that are worse.
        worse: how many of them are worse than the VaR.
        tail_size: the expected number beyond the level, n (1 - c).
    """
    scenario = ascending[worse]
    var = 0.0 - scenario
    if ascending[0] == scenario:  # no loss is larger, so ES must not differ by a rounding error
        return var, var
    excess = worse * scenario - sum(ascending[:worse])
    if excess < 0:  # a rounding error, where all these returns are nearly equal
        return var, var
    return var, var + excess / tail_size


def drawdowns(returns: Sequence[float]) -> tuple[float, float]:
    """Return the present and the deepest drawdown of the compounded value over the returns."""
    value = peak = 1.0
    deepest = 0.0
    for observed in returns:
        value *= 1 + observed
        if value > peak:
            peak = value
        elif peak - value > deepest * peak:
            deepest = 1 - value / peak
    return 1 - value / peak, deepest


def finite(value: float | None) -> float | None:
    """Return a number if it is finite, else None: events hold no NaN, no infinity and no -0.0."""
    return value + 0.0 if value is not None and isfinite(value) else None
