"""Methods that look at a whole window at once: what each says of a list of returns.

For the slower clock, for what is not one period ahead, and for questions about the past. Returns
are arrays of shape (observations,), the oldest first, finite; VaR and ES are positive losses.

- historical: see `stream_processors.risk.measures`;
- age-weighted: the historical method with weights l^age, l = 0.98, that sum to one. Boudoukh,
  Richardson and Whitelaw, "The Best of Both Worlds", 1998;
- filtered historical simulation: past returns as multiples of the EWMA deviation forecast for
  their day, times the deviation forecast for tomorrow. Barone-Adesi, Giannopoulos and Vosper,
  "VaR without Correlations for Portfolios of Derivative Securities", 1999;
- Monte Carlo: draws from a normal or Student-t distribution with a given covariance.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream_processors.risk import measures
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.moments import DECAY, Estimate, StudentT

Floats = NDArray[np.float64]

AGE_DECAY = 0.98
BURN_IN = 20
"""Forecasts from fewer days are worth little."""
_SYMMETRY = 1e-12
_SINGULAR = 1e-10


def historical(returns: Floats, level: Level) -> Estimate:
    """An observed loss, and the mean beyond it."""
    count = len(returns)
    ascending = np.sort(returns).tolist()
    return Estimate(*measures.historical(ascending, *measures.place(level, count)))


def historical_linear(returns: Floats, level: Level) -> float:
    """VaR between two observed losses, as Hyndman and Fan's type 7 has it, for comparison."""
    return float(np.quantile(-returns, float(level.confidence), method="linear"))


def age_weighted(returns: Floats, level: Level, decay: float = AGE_DECAY) -> Estimate:
    """The historical method, the newest return weighing most."""
    ages = np.arange(len(returns))[::-1]
    weights = decay**ages
    weights = weights / weights.sum()
    order = np.argsort(returns, kind="stable")
    losses, sorted_weights = -returns[order], weights[order]
    # The smallest loss that no more than the tail's weight lies beyond.
    beyond = np.cumsum(sorted_weights) - sorted_weights
    at = int(np.searchsorted(beyond, level.tail, side="right")) - 1
    var = float(losses[at])
    excess = float((sorted_weights * np.maximum(losses - var, 0)).sum())
    return Estimate(var, var + excess / level.tail)


def deviations(returns: Floats, decay: float = DECAY) -> Floats:
    """EWMA forecasts, shape (observations + 1,): at t the one for t, from the returns before it.

    The first, which nothing is known for, is 0.
    """
    squares = accumulate((returns * returns).tolist(), lambda sum_, one: sum_ * decay + one)
    weights = (1 - decay ** np.arange(1, len(returns) + 1)) / (1 - decay)
    return np.concatenate(([0.0], np.sqrt(np.array(list(squares)) / weights)))


def filtered_scenarios(returns: Floats, decay: float = DECAY) -> Floats:
    """Past returns as they would be in tomorrow's market; none for days without a forecast."""
    forecast = deviations(returns, decay)
    known = forecast[:-1] > 0
    known[:BURN_IN] = False
    scenarios: Floats = returns[known] / forecast[:-1][known] * forecast[-1]
    return scenarios


def overlapping(returns: Floats, horizon: int) -> Floats:
    """Compounded returns of `horizon` periods each, one beginning at every observation."""
    grown: Floats = sliding_window_view(1 + returns, horizon).prod(axis=1)
    return grown - 1


def student_t_fitted(returns: Floats, level: Level) -> Estimate:
    """Student-t with degrees of freedom, location and scale by maximum likelihood."""
    from scipy.stats import t as student  # noqa: PLC0415  # a third of a worker's memory

    dof, location, scale = student.fit(returns)
    return StudentT(level, float(dof)).of_scale(float(location), float(scale))


@dataclass(frozen=True, slots=True)
class Simulation:
    """What Monte Carlo draws."""

    draws: int = 10_000
    seed: int = 0
    dof: float | None = None
    """Of a Student-t distribution with the covariance as given; None for the normal one."""


def monte_carlo(
    weights: Floats, covariance: Floats, level: Level, simulation: Simulation
) -> Estimate:
    """The historical method over simulated returns of a weighted portfolio.

    Args:
        weights: shape (assets,).
        covariance: of the assets' returns, shape (assets, assets).
        level: the confidence.
        simulation: how many, how, and from which seed.

    Raises:
        InvalidInput: the shapes differ, or the covariance is none.
    """
    root = _root(weights, covariance)
    dice = np.random.Generator(np.random.PCG64(simulation.seed))
    drawn = dice.standard_normal((simulation.draws, len(weights))) @ root.T
    dof = simulation.dof
    if dof is not None:
        if not dof > 2:  # noqa: PLR2004  # or there is no covariance
            raise InvalidInput(f"the degrees of freedom are {dof}; they must be more than 2")
        drawn *= np.sqrt((dof - 2) / dice.chisquare(dof, (simulation.draws, 1)))
    return historical(drawn @ weights, level)


def _root(weights: Floats, covariance: Floats) -> Floats:
    """A matrix that, times its transpose, is the covariance."""
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
