"""Moments of a window, exact, and what follows from them: normal, Student-t, Cornish-Fisher, EWMA.

The sums of powers are kept as integers, of returns in units of 2^-100. So a moment is a function of
the window's content alone, whatever came and went before, to the last bit; and an update costs the
same however long the window is.

VaR and ES are positive losses, in the returns' own unit; z and t are quantiles at the confidence c:

- normal: VaR = -m + z s, ES = -m + s phi(z) / (1 - c);
- Student-t of v degrees of freedom, scaled to the window's deviation, s' = s sqrt((v - 2) / v):
  VaR = -m + s' t, ES = -m + s' f(t) / (1 - c) (v + t^2) / (v - 1). McNeil, Frey and Embrechts,
  "Quantitative Risk Management", 2015, section 2.3;
- Cornish-Fisher: the normal quantile bent by skewness and excess kurtosis. ES is the mean of that
  quantile over the tail. Maillard, "A User's Guide to the Cornish Fisher Expansion", 2012;
- EWMA: zero mean, variances weighted by l^age, the weights summing to one. RiskMetrics Technical
  Document, 1996, section 5.2.
"""

from collections.abc import Iterable
from math import gamma, isfinite, pi, sqrt
from statistics import NormalDist
from typing import NamedTuple

from stream_processors.risk.confidence import InvalidInput, Level

_NORMAL = NormalDist()
_SHIFT = 100
_UNITS = 2.0**_SHIFT
_EXACT_BELOW = 2.0**900
"""Beyond it a float's units are no float."""

DECAY = 0.94
"""RiskMetrics' own, for daily returns."""


class Estimate(NamedTuple):
    """VaR and expected shortfall, positive losses."""

    var: float
    es: float


class Moments(NamedTuple):
    """What a window's returns are like."""

    observations: int
    mean: float
    deviation: float
    """With ddof 1."""
    skewness: float
    """Biased, as the sample's own; 0 where the returns are all the same."""
    excess_kurtosis: float
    """Biased, likewise."""


class RunningMoments:
    """Sums of powers of the returns in a window."""

    __slots__ = ("_count", "_first", "_fourth", "_second", "_third")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._count = self._first = self._second = self._third = self._fourth = 0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Take a finite return in."""
        units = _units(value)
        square = units * units
        self._count += 1
        self._first += units
        self._second += square
        self._third += square * units
        self._fourth += square * square

    def remove(self, value: float) -> None:
        """Let a return go that was taken in."""
        units = _units(value)
        square = units * units
        self._count -= 1
        self._first -= units
        self._second -= square
        self._third -= square * units
        self._fourth -= square * square

    def moments(self) -> Moments:
        """Those of the returns that are in, at least two.

        Raises:
            OverflowError: they are so large that a moment is no float.
        """
        n, first, second = self._count, self._first, self._second
        square = first * first
        mean = first / (n << _SHIFT)
        # Central sums times powers of n are integers still: nothing is lost where they cancel.
        two = n * second - square
        if two == 0:
            return Moments(n, mean, 0.0, 0.0, 0.0)
        three = n * (n * self._third - 3 * first * second) + 2 * square * first
        four = n * (n * (n * self._fourth - 4 * first * self._third) + 6 * square * second)
        four -= 3 * square * square
        return Moments(
            observations=n,
            mean=mean,
            deviation=sqrt(two / (n * (n - 1) << 2 * _SHIFT)),
            skewness=three / float(two) ** 1.5,
            excess_kurtosis=four / (two * two) - 3.0,
        )


class RunningVariance:
    """The variance about zero, the newest return weighing most."""

    __slots__ = ("_decay", "_leaving", "_size", "_weights", "sum")

    def __init__(self, size: int, decay: float = DECAY) -> None:
        if not 0 < decay < 1:
            raise InvalidInput(f"the decay is {decay}; it must lie between 0 and 1, as 0.94 does")
        self._decay = decay
        self._size = size
        self._leaving = decay**size
        self._weights = (1.0 - decay**size) / (1.0 - decay)
        self.sum = 0.0
        """Of the squares, each weighted by decay^age."""

    def add(self, value: float) -> None:
        """Take in a return that is newer than all others."""
        self.sum = self.sum * self._decay + value * value

    def remove_oldest(self, value: float) -> None:
        """Let the oldest of `size` + 1 returns go."""
        self.sum -= self._leaving * value * value

    def reset(self, values: Iterable[float]) -> None:
        """Start again from returns, the oldest first."""
        self.sum = 0.0
        for value in values:
            self.add(value)

    def variance(self, count: int) -> float:
        """The forecast for the next period, from `count` returns."""
        full = count == self._size
        weights = self._weights if full else (1.0 - self._decay**count) / (1.0 - self._decay)
        return max(0.0, self.sum) / weights


class Normal:
    """The normal method at one level."""

    def __init__(self, level: Level) -> None:
        at = _NORMAL.inv_cdf(float(level.confidence))
        self.factors = at, _NORMAL.pdf(at) / level.tail
        """How many deviations beyond the mean VaR and ES lie."""

    def of(self, mean: float, deviation: float) -> Estimate:
        """Of returns with a mean, and a deviation about it."""
        at, beyond = self.factors
        return Estimate(at * deviation - mean, beyond * deviation - mean)


class StudentT:
    """The Student-t method at one level."""

    def __init__(self, level: Level, dof: float) -> None:
        if not (isfinite(dof) and dof > 2):  # noqa: PLR2004  # or there is no variance
            raise InvalidInput(f"the degrees of freedom are {dof}; they must be more than 2")
        from scipy.special import stdtrit  # noqa: PLC0415  # a fifth of a worker's memory

        at = float(stdtrit(dof, float(level.confidence)))
        density = gamma((dof + 1) / 2) / gamma(dof / 2) / sqrt(dof * pi)
        density *= (1 + at * at / dof) ** (-(dof + 1) / 2)
        self._scaled = at, density / level.tail * (dof + at * at) / (dof - 1)
        shrunk = sqrt((dof - 2) / dof)
        self.factors = self._scaled[0] * shrunk, self._scaled[1] * shrunk
        """How many deviations beyond the mean VaR and ES lie."""

    def of(self, mean: float, deviation: float) -> Estimate:
        """Of returns with a mean and a deviation."""
        at, beyond = self.factors
        return Estimate(at * deviation - mean, beyond * deviation - mean)

    def of_scale(self, location: float, scale: float) -> Estimate:
        """Of the distribution itself, as a fit has it."""
        at, beyond = self._scaled
        return Estimate(at * scale - location, beyond * scale - location)


class CornishFisher:
    """The Cornish-Fisher method at one level."""

    def __init__(self, level: Level) -> None:
        q = -_NORMAL.inv_cdf(float(level.confidence))
        mean = -_NORMAL.pdf(q) / level.tail
        # The normal's powers, at the quantile, and on average below it.
        at = _bends(q, q * q, q**3)
        beyond = _bends(mean, 1 + q * mean, (q * q + 2) * mean)
        self.bends = *at, *beyond
        """Of VaR's quantile, then of the mean beyond it: what a straight normal has, and what
        skewness, excess kurtosis and the square of the skewness add."""

    def of(self, moments: Moments) -> Estimate:
        """Of returns with certain moments."""
        ((var, es),) = bent([self], moments)
        return Estimate(var, es)


def bent(forms: Iterable[CornishFisher], moments: Moments) -> list[tuple[float, float]]:
    """VaR and ES of returns with certain moments, at the level of each form."""
    _, mean, deviation, s, k = moments
    found = []
    for form in forms:
        at, skewed, heavy, both, beyond, beyond_skewed, beyond_heavy, beyond_both = form.bends
        var = -mean - (at + s * (skewed - both * s) + heavy * k) * deviation
        curve = beyond + s * (beyond_skewed - beyond_both * s) + beyond_heavy * k
        found.append((var, -mean - curve * deviation))
    return found


def is_monotone(moments: Moments) -> bool:
    """Whether Cornish-Fisher's quantile rises with the normal's, everywhere, as one must."""
    s, k = moments.skewness, moments.excess_kurtosis
    # The derivative is a parabola in the normal's quantile; it may touch 0, but not pass it.
    square, linear, constant = k / 8 - s * s / 6, s / 3, 1 - k / 8 + 5 * s * s / 36
    if square == 0:
        return linear == 0 and constant >= 0
    return square > 0 and linear * linear <= 4 * square * constant


def _bends(one: float, two: float, three: float) -> tuple[float, float, float, float]:
    """How skewness, excess kurtosis and the square of the skewness move a quantile."""
    return one, (two - 1) / 6, (three - 3 * one) / 24, (2 * three - 5 * one) / 36


def _units(value: float) -> int:
    if abs(value) < _EXACT_BELOW:
        return int(value * _UNITS)
    return int(value) << _SHIFT
