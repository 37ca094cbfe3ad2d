"""Moments of a window, exact, and the methods that need no more: normal, Student-t, Cornish-Fisher.

The sums of powers are integers, of returns in units of 2^-100. So a moment is a function of the
window's content alone, to the last bit, whatever was added and removed before; and an update costs
the same however long the window is.

VaR and ES are positive losses, in the returns' own unit. For mean m, standard deviation s and
confidence c, where z and t are quantiles at c:

- normal: VaR = -m + z s, ES = -m + s phi(z) / (1 - c);
- Student-t of v degrees of freedom, scaled to the window's deviation, s' = s sqrt((v - 2) / v):
  VaR = -m + s' t, ES = -m + s' f(t) / (1 - c) (v + t^2) / (v - 1). McNeil, Frey and Embrechts,
  "Quantitative Risk Management", 2015, section 2.3;
- Cornish-Fisher: with q the normal quantile at 1 - c, S the skewness and K the excess kurtosis,
  q' = q + (q^2 - 1) S / 6 + (q^3 - 3 q) K / 24 - (2 q^3 - 5 q) S^2 / 36, VaR = -m - q' s. ES is
  the mean over the tail. Maillard, "A User's Guide to the Cornish Fisher Expansion", 2012;
- EWMA, whose variance is in `stream_processors.risk.methods`: VaR = z s, ES = s phi(z) / (1 - c).
"""

from collections.abc import Iterable
from math import exp, hypot, inf, isfinite, lgamma, log, log1p, nan, pi, sqrt
from statistics import NormalDist
from typing import NamedTuple

from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput

_NORMAL = NormalDist()
_SHIFT = 100
_UNITS = 2.0**_SHIFT
_EXACT_BELOW = 2.0**900
"""From here on a float times 2^100 may be larger than any float."""

_LGAMMA_BELOW = 300.0
"""From here on a difference of two values of lgamma loses more digits than a series of Stirling."""
NORMAL_ABOVE = 1e13
"""With more degrees of freedom the quantile is that of the normal distribution to 12 digits."""

DECAY = 0.94
"""RiskMetrics' decay factor for daily returns."""


class Estimate(NamedTuple):
    """VaR and expected shortfall, as positive losses."""

    var: float
    es: float


class Moments(NamedTuple):
    """The moments of a window's returns."""

    observations: int
    mean: float
    deviation: float
    """The standard deviation, with ddof 1."""
    skewness: float
    """Biased, as the sample's own; 0 where all returns are equal."""
    excess_kurtosis: float
    """Biased; 0 where all returns are equal."""

    @property
    def root_mean_square(self) -> float:
        """The standard deviation about a mean of zero, with ddof 0."""
        n = self.observations
        return hypot(self.mean, self.deviation * sqrt((n - 1) / n))


class RunningMoments:
    """Sums of powers of the returns in a window."""

    __slots__ = ("_count", "_first", "_fourth", "_second", "_third")

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._count = self._first = self._second = self._third = self._fourth = 0
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        """Add a finite return."""
        units = _units(value)
        square = units * units
        self._count += 1
        self._first += units
        self._second += square
        self._third += square * units
        self._fourth += square * square

    def remove(self, value: float) -> None:
        """Remove a return that was added before."""
        units = _units(value)
        square = units * units
        self._count -= 1
        self._first -= units
        self._second -= square
        self._third -= square * units
        self._fourth -= square * square

    def moments(self) -> Moments:
        """Return the moments of the present returns, of which there must be two or more.

        Raises:
            OverflowError: a moment is larger than any float.
        """
        n, first, second = self._count, self._first, self._second
        square = first * first
        mean = first / (n << _SHIFT)
        # Central sums times powers of n are still integers, so cancellation loses no digit.
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


class Normal:
    """The normal method at one level."""

    def __init__(self, level: ConfidenceLevel) -> None:
        z = _NORMAL.inv_cdf(float(level.confidence))
        self.factors = z, _NORMAL.pdf(z) / level.tail
        """VaR and ES of a mean of 0 and a deviation of 1."""

    def estimate(self, mean: float, deviation: float) -> Estimate:
        """Estimate from the mean and the standard deviation of returns."""
        return _scaled(self.factors, mean, deviation)


class StudentT:
    """The Student-t method at one level."""

    def __init__(self, level: ConfidenceLevel, dof: float) -> None:
        require_variance(dof)
        var, es = student_t_unit(level, dof)
        shrunk = 1.0 if dof > NORMAL_ABOVE else sqrt((dof - 2) / dof)
        self.factors = var * shrunk, es * shrunk
        """VaR and ES of a mean of 0 and a deviation of 1."""

    def estimate(self, mean: float, deviation: float) -> Estimate:
        """Estimate from the mean and the standard deviation of returns."""
        return _scaled(self.factors, mean, deviation)


def require_variance(dof: float) -> None:
    """Check the degrees of freedom of a Student-t that is scaled by its deviation.

    Raises:
        InvalidInput: they are 2 or fewer, so that there is no variance.
    """
    if not dof > 2:  # noqa: PLR2004  # see above
        raise InvalidInput(f"the degrees of freedom are {dof}; they must be more than 2")


def student_t_unit(level: ConfidenceLevel, dof: float) -> tuple[float, float]:
    """Return VaR and ES of a Student-t with a location of 0 and a scale of 1.

    Args:
        level: the confidence.
        dof: the degrees of freedom, more than 0. Up to 1 there is no mean, and ES is infinite.
    """
    if dof > NORMAL_ABOVE:
        return Normal(level).factors
    from scipy.special import stdtrit  # noqa: PLC0415  # a fifth of a worker's memory

    t = float(stdtrit(dof, float(level.confidence)))
    if dof <= 1:
        return t, inf
    log_density = _log_gamma_ratio(dof) - log(dof * pi) / 2 - (dof + 1) / 2 * log1p(t * t / dof)
    return t, exp(log_density) / level.tail * ((dof + t * t) / (dof - 1))


def _log_gamma_ratio(dof: float) -> float:
    """Return the logarithm of gamma((dof + 1) / 2) / gamma(dof / 2)."""
    if dof <= _LGAMMA_BELOW:
        return lgamma((dof + 1) / 2) - lgamma(dof / 2)
    return log(dof / 2) / 2 - 1 / (4 * dof) + 1 / (24 * dof**3) - 1 / (20 * dof**5)


def estimate_from_fit(
    level: ConfidenceLevel, dof: float, location: float, scale: float
) -> Estimate:
    """Estimate from a Student-t with a given location and scale.

    Args:
        level: the confidence.
        dof: the degrees of freedom, more than 0. Up to 1 there is no mean, and ES is infinite.
        location: the median.
        scale: not the deviation, which is scale sqrt(dof / (dof - 2)). With 0, every return is the
            location.

    Returns:
        The estimate; NaN where a parameter is out of its range.
    """
    if not (dof > 0 and scale >= 0 and isfinite(scale) and isfinite(location)):
        return Estimate(nan, nan)
    if scale == 0:
        return Estimate(0.0 - location, 0.0 - location)
    return _scaled(student_t_unit(level, dof), location, scale)


class CornishFisher:
    """The Cornish-Fisher method at one level."""

    def __init__(self, level: ConfidenceLevel) -> None:
        q = -_NORMAL.inv_cdf(float(level.confidence))
        mean = -_NORMAL.pdf(q) / level.tail
        # The powers of the normal quantile at the level, and their means over the tail below it.
        quantile = _expansion(q, q * q, q**3)
        tail_mean = _expansion(mean, 1 + q * mean, (q * q + 2) * mean)
        self.terms = *quantile, *tail_mean
        """The expansion's coefficients for VaR, then for ES: the constant, and those of skewness,
        excess kurtosis and the square of the skewness."""

    def estimate(self, moments: Moments) -> Estimate:
        """Estimate from the moments of returns."""
        ((var, es),) = cornish_fisher([self], moments)
        return Estimate(var, es)


def cornish_fisher(forms: Iterable[CornishFisher], moments: Moments) -> list[tuple[float, float]]:
    """Return VaR and ES of returns with certain moments, at the level of each form."""
    _, mean, deviation, s, k = moments
    pairs = []
    for form in forms:
        q, q_s, q_k, q_ss, tail, tail_s, tail_k, tail_ss = form.terms
        # 0.0 - mean, and not -mean, since that of 0.0 is -0.0.
        var = 0.0 - mean - (q + s * (q_s - q_ss * s) + q_k * k) * deviation
        curve = tail + s * (tail_s - tail_ss * s) + tail_k * k
        pairs.append((var, 0.0 - mean - curve * deviation))
    return pairs


def is_monotone(moments: Moments) -> bool:
    """Return whether the Cornish-Fisher quantile rises with the normal quantile everywhere.

    Outside this domain the expansion is no quantile function, and its estimate has no meaning.
    """
    s, k = moments.skewness, moments.excess_kurtosis
    # The derivative is a parabola in the normal quantile; it may touch 0, but not cross it.
    square, linear, constant = k / 8 - s * s / 6, s / 3, 1 - k / 8 + 5 * s * s / 36
    if square == 0:
        return linear == 0 and constant >= 0
    return square > 0 and linear * linear <= 4 * square * constant


def _scaled(factors: tuple[float, float], mean: float, deviation: float) -> Estimate:
    var, es = factors
    return Estimate(var * deviation - mean, es * deviation - mean)


def _expansion(q: float, q2: float, q3: float) -> tuple[float, float, float, float]:
    """Return the expansion's coefficients from the powers of a quantile."""
    return q, (q2 - 1) / 6, (q3 - 3 * q) / 24, (2 * q3 - 5 * q) / 36


def _units(value: float) -> int:
    if abs(value) < _EXACT_BELOW:
        return int(value * _UNITS)
    return int(value) << _SHIFT
