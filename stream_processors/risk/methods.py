"""Methods that need all returns of a window: historical, age-weighted, filtered, Monte Carlo. Pure.

Returns are arrays of shape (observations,), the oldest first, finite; VaR and ES are positive
losses. These methods are too slow for every return: callers use them every so many returns, for
horizons of several periods, for books, and for questions about the past.

- historical: see `stream_processors.risk.measures`;
- age-weighted: the historical method with weights l^age, l = 0.98, that sum to one. Boudoukh,
  Richardson and Whitelaw, "The Best of Both Worlds", 1998;
- EWMA: zero mean, variances weighted by l^age, l = 0.94, the weights summing to one, or by the
  recursion v = l v + (1 - l) r^2 from a given start. RiskMetrics Technical Document, 1996,
  section 5.2;
- filtered historical simulation: past returns as multiples of the EWMA deviation forecast for
  their day, times the deviation forecast for tomorrow. Barone-Adesi, Giannopoulos and Vosper,
  "VaR without Correlations for Portfolios of Derivative Securities", 1999;
- Monte Carlo: draws from a normal or Student-t distribution with a given covariance.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import ceil, isfinite, sqrt
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.measures import historical_var_es, tail_of
from stream_processors.risk.moments import DECAY, NORMAL_ABOVE, Estimate, estimate_from_fit

Floats = NDArray[np.float64]

QuantileMethod = Literal["inverted_cdf", "linear"]
"""How a historical VaR is found: NumPy's names for an observed and an interpolated quantile."""

AGE_DECAY = 0.98
BURN_IN = 20
"""The first days have no forecast, since it would rest on too few returns."""
_SYMMETRY = 1e-12
"""How far a covariance may be from symmetric, as a share of its largest element."""
_SINGULAR = 1e-10
"""How far below zero rounding may move an eigenvalue, as a share of the largest element."""


def historical(
    returns: Floats, level: ConfidenceLevel, *, quantile_method: QuantileMethod = "inverted_cdf"
) -> Estimate:
    """Return an observed loss as VaR, and the mean loss beyond the level as ES.

    Args:
        returns: shape (observations,).
        level: the confidence of both.
        quantile_method: `linear` interpolates VaR between two losses, by Hyndman and Fan's type 7,
            for comparison with other systems. ES is that of the observed loss all the same.

    Raises:
        InvalidInput: there is no return, one is not a finite number, or the method is another.
    """
    require_numbers(returns)
    ascending = np.sort(returns).tolist()
    estimate = Estimate(*historical_var_es(ascending, *tail_of(level, len(returns))))
    if quantile_method == "inverted_cdf":
        return estimate
    return estimate._replace(var=_interpolated(returns, level, quantile_method))


def historical_linear(returns: Floats, level: ConfidenceLevel) -> float:
    """Return VaR interpolated between two losses: Hyndman and Fan's type 7, for comparison."""
    return historical(returns, level, quantile_method="linear").var


def _interpolated(returns: Floats, level: ConfidenceLevel, quantile_method: str) -> float:
    if quantile_method != "linear":
        raise InvalidInput(
            f"the quantile method is {quantile_method!r}; it must be inverted_cdf or linear"
        )
    return float(np.quantile(0.0 - returns, float(level.confidence), method="linear"))


def require_numbers(numbers: Floats, name: str = "returns") -> None:
    """Refuse an array that does not have the shape (observations,), or is not of finite numbers.

    Raises:
        InvalidInput: it is refused, or it is empty.
    """
    array = np.asarray(numbers)
    is_numeric = array.dtype.kind in "fiu"  # neither text, nor objects, such as None
    if array.ndim != 1 or not array.size or not is_numeric or not np.isfinite(array).all():
        raise InvalidInput(f"the {name} must be one or more finite numbers, in one dimension")


def age_weighted(returns: Floats, level: ConfidenceLevel, decay: float = AGE_DECAY) -> Estimate:
    """Estimate by the historical method with weights that fall with age.

    Raises:
        InvalidInput: there is no return, one is not a finite number, or the decay is out of its
            range. With 1 all weights are equal.
    """
    require_numbers(returns)
    if decay != 1:
        _require_decay(decay)
    ages = np.arange(len(returns))[::-1]
    weights = decay**ages
    weights = weights / weights.sum()
    order = np.argsort(returns, kind="stable")
    losses, sorted_weights = 0.0 - returns[order], weights[order]
    # VaR is the smallest loss beyond which lies no more weight than the tail's.
    beyond = np.cumsum(sorted_weights) - sorted_weights
    index = int(np.searchsorted(beyond, level.tail, side="right")) - 1
    var = float(losses[index])
    excess = float((sorted_weights * np.maximum(losses - var, 0)).sum())
    return Estimate(var, var + excess / level.tail)


@np.errstate(over="ignore")  # what no float can hold is infinite
def ewma_deviation(returns: Floats, start: float | None = None, decay: float = DECAY) -> float:
    """Return the EWMA forecast of the deviation for the next period.

    It is computed from the whole window each time, in some two microseconds, so that returns which
    have left the window leave no rounding error.

    Args:
        returns: shape (observations,), the oldest first, one or more.
        start: the deviation before the first return; None for weights that sum to one.
        decay: the decay factor.

    Raises:
        InvalidInput: the decay or the start is out of its range, or a return is not a finite
            number.
    """
    count = len(returns)
    # The returns are weighted before they are squared: no outlier is too large for its weight.
    weighted = returns * _root_weights(decay, 1 << (count - 1).bit_length())[-count:]
    squares = float(np.dot(weighted, weighted))
    if not isfinite(squares):  # squares of finite returns may be too large for a float
        require_numbers(returns)
    if start is None:
        return sqrt(squares * ((1 - decay) / (1 - decay**count)))
    if not 0 <= start < np.inf:
        raise InvalidInput(f"the deviation at the start is {start}; it must be 0 or more")
    return sqrt((1 - decay) * squares + decay**count * start * start)


@lru_cache(maxsize=32)
def _root_weights(decay: float, size: int) -> Floats:
    """Return the square roots of decay^age for so many ages, the largest age first."""
    _require_decay(decay)
    weights: Floats = decay ** (np.arange(size)[::-1] / 2)
    return weights


def _require_decay(decay: float) -> None:
    if not 0 < decay < 1:
        raise InvalidInput(f"the decay is {decay}; it must lie between 0 and 1, as 0.94 does")


def deviations(returns: Floats, decay: float = DECAY) -> Floats:
    """Return EWMA forecasts of the deviation, shape (observations + 1,).

    Element t is the forecast for return t from the returns before it; the first is 0.

    Raises:
        InvalidInput: the decay is out of its range.
    """
    _require_decay(decay)
    squares = accumulate((returns * returns).tolist(), lambda sum_, square: sum_ * decay + square)
    weights = (1 - decay ** np.arange(1, len(returns) + 1)) / (1 - decay)
    return np.concatenate(([0.0], np.sqrt(np.array(list(squares)) / weights)))


def filtered_scenarios(returns: Floats, decay: float = DECAY) -> Floats:
    """Return past returns rescaled to tomorrow's deviation, without the days that lack a forecast.

    The result has the shape (scenarios,), with at most `BURN_IN` fewer than the returns, and fewer
    still where a forecast is 0. If tomorrow's forecast is 0, so was every return, and all scenarios
    are 0.

    Raises:
        InvalidInput: there is no return, one is not a finite number, or the decay is out of its
            range.
    """
    require_numbers(returns)
    _require_decay(decay)
    if np.ptp(returns) == 0:  # each is its own forecast: no rounding error shall move it
        return returns[BURN_IN:]
    forecast = deviations(returns, decay)
    if not forecast[-1] > 0:
        return np.zeros(max(0, len(returns) - BURN_IN))
    has_forecast = forecast[:-1] > 0
    has_forecast[:BURN_IN] = False
    scenarios: Floats = returns[has_forecast] / forecast[:-1][has_forecast] * forecast[-1]
    return scenarios


def overlapping(returns: Floats, horizon: int) -> Floats:
    """Return compounded returns of `horizon` periods each, one starting at every observation.

    Raises:
        InvalidInput: there is no return, one is not a finite number, or the horizon is longer.
    """
    require_numbers(returns)
    if not 1 <= horizon <= len(returns):
        raise InvalidInput(f"the horizon is {horizon}; it must be from 1 to {len(returns)} periods")
    if horizon == 1:
        return returns  # 1 + r - 1 is not r, but for a rounding error
    grown: Floats = sliding_window_view(1 + returns, horizon).prod(axis=1)
    return grown - 1


class StudentTFit(NamedTuple):
    """A Student-t distribution, fitted by maximum likelihood."""

    dof: float
    location: float
    scale: float
    """0 where all returns are equal."""

    def estimate(self, level: ConfidenceLevel) -> Estimate:
        """Return VaR and ES; ES is infinite up to one degree of freedom."""
        return estimate_from_fit(level, *self)


def fit_student_t(returns: Floats) -> StudentTFit:
    """Fit a Student-t distribution to returns, in some 30 ms.

    Raises:
        InvalidInput: there is no return, or one is not a finite number.
    """
    require_numbers(returns)
    if np.ptp(returns) == 0:  # the likelihood has no maximum
        return StudentTFit(np.inf, float(returns[0]), 0.0)
    from scipy.stats import t as student  # noqa: PLC0415  # a third of a worker's memory

    dof, location, scale = student.fit(returns)
    return StudentTFit(float(dof), float(location), float(scale))


def student_t_fitted(returns: Floats, level: ConfidenceLevel) -> Estimate:
    """Estimate by a Student-t whose dof, location and scale are fitted by maximum likelihood."""
    return fit_student_t(returns).estimate(level)


class SamplingError(NamedTuple):
    """The standard errors of a VaR and ES that come from the number of scenarios."""

    var: float
    es: float


def sampling_error(scenarios: Floats, level: ConfidenceLevel) -> SamplingError:
    """Estimate how far VaR and ES of other scenarios of the same distribution would differ.

    The rank of the VaR has the binomial deviation d = sqrt(n c (1 - c)): half the difference of the
    losses that are d ranks above and below is the error of VaR. ES is a mean, with the error
    sd(max(L - VaR, 0)) / ((1 - c) sqrt(n)). Glasserman, "Monte Carlo Methods in Financial
    Engineering", 2003, sections 9.1 and 1.1.

    Args:
        scenarios: their returns, in any order, shape (scenarios,).
        level: the confidence of both.

    Raises:
        InvalidInput: there is no scenario, or one is not a finite number.
    """
    require_numbers(scenarios, "scenarios")
    ascending, count = np.sort(scenarios), len(scenarios)
    worse, _ = tail_of(level, count)
    ranks = ceil(sqrt(count * level.tail * (1 - level.tail)))
    above = ascending[max(0, worse - ranks)]
    below = ascending[min(count - 1, worse + ranks)]
    beyond = np.maximum(ascending[worse] - ascending, 0.0)
    return SamplingError(float(below - above) / 2, float(beyond.std()) / (level.tail * sqrt(count)))


@dataclass(frozen=True, slots=True)
class Simulation:
    """The parameters of a Monte Carlo simulation."""

    draws: int = 10_000
    seed: int = 0
    dof: float | None = None
    """Degrees of freedom of a Student-t with the covariance as given; None: a normal."""


def monte_carlo(
    weights: Floats, covariance: Floats, level: ConfidenceLevel, simulation: Simulation
) -> Estimate:
    """Estimate by the historical method over `simulated` returns.

    Raises:
        InvalidInput: as `simulated` does.
    """
    return historical(simulated(weights, covariance, simulation), level)


def simulated(weights: Floats, covariance: Floats, simulation: Simulation) -> Floats:
    """Draw returns of a weighted portfolio, shape (draws,).

    Args:
        weights: shape (assets,).
        covariance: of the assets' returns, shape (assets, assets); it may be singular.
        simulation: the number of draws, the seed and the distribution.

    Raises:
        InvalidInput: the shapes differ, a number is not finite, or the covariance is not symmetric
            and positive semidefinite.
    """
    root = _root(weights, covariance)
    generator = np.random.Generator(np.random.PCG64(simulation.seed))
    drawn = generator.standard_normal((simulation.draws, len(weights))) @ root.T
    dof = simulation.dof
    if dof is not None:
        if not dof > 2:  # noqa: PLR2004  # or there is no covariance
            raise InvalidInput(f"the degrees of freedom are {dof}; they must be more than 2")
        if dof <= NORMAL_ABOVE:
            drawn *= np.sqrt((dof - 2) / generator.chisquare(dof, (simulation.draws, 1)))
    returns: Floats = drawn @ weights
    return returns


def _root(weights: Floats, covariance: Floats) -> Floats:
    """Return a matrix that, times its transpose, is the covariance."""
    assets = len(weights)
    if weights.ndim != 1 or covariance.shape != (assets, assets):
        raise InvalidInput(
            f"{weights.shape} weights do not fit a covariance of shape {covariance.shape}"
        )
    if not (np.isfinite(weights).all() and np.isfinite(covariance).all()):
        raise InvalidInput("weights and covariance must be finite")
    largest = max(float(np.abs(covariance).max()), np.finfo(float).tiny)
    if float(np.abs(covariance - covariance.T).max()) > _SYMMETRY * largest:
        raise InvalidInput("the covariance is not symmetric")
    values, vectors = np.linalg.eigh(covariance)
    if float(values.min()) < -_SINGULAR * largest:
        raise InvalidInput(
            f"the covariance has the eigenvalue {values.min():.3g}; none may be negative"
        )
    root: Floats = vectors * np.sqrt(np.maximum(values, 0))
    return root
