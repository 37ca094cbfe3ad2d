"""Methods over whole windows, compared with skfolio, arch, pandas, SciPy and NumPy."""

from math import nan

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500
from arch.univariate import EWMAVariance
from hypothesis import given, strategies as st
from scipy import stats
from skfolio import measures as skfolio

from producers.market.prices import PORTFOLIOS, load_prices, trading_days
from schemas.events import Return
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import Methods
from stream_processors.risk.methods import (
    BURN_IN,
    Floats,
    Simulation,
    age_weighted,
    deviations,
    ewma_deviation,
    filtered_scenarios,
    fit_student_t,
    historical,
    historical_linear,
    monte_carlo,
    overlapping,
    sampling_error,
    student_t_fitted,
)
from stream_processors.risk.moments import Normal
from stream_processors.risk.window import ReturnWindow

LEVELS = [ConfidenceLevel.of(text) for text in ("0.95", "0.975", "0.99")]
P95 = LEVELS[0]


@pytest.fixture(scope="module")
def windows() -> list[Floats]:
    """Windows of each portfolio, of calm years and of 2008."""
    days = trading_days(load_prices())
    found = []
    for name in PORTFOLIOS:
        returns = np.array([day.returns[name] for day in days if name in day.returns])
        found += [returns[end - 250 : end] for end in range(250, len(returns), 331)]
    return found


def test_historical_equals_skfolio(windows: list[Floats]) -> None:
    for window in windows:
        for level in LEVELS:
            confidence = float(level.confidence)
            found = historical(window, level)
            assert found.var == pytest.approx(skfolio.value_at_risk(window, confidence), rel=1e-9)
            assert found.es == pytest.approx(skfolio.cvar(window, confidence), rel=1e-9)


def test_historical_equals_skfolio_and_numpy_over_twenty_years_of_the_index() -> None:
    returns = sp500.load()["Adj Close"].pct_change().dropna().to_numpy()
    for end in range(250, len(returns), 61):
        window = returns[end - 250 : end]
        for level in LEVELS:
            found = historical(window, level)
            assert found.var == np.quantile(-window, level.number, method="inverted_cdf")
            assert found.es == pytest.approx(skfolio.cvar(window, level.number), rel=1e-9)


def test_age_weighted_equals_skfolios_weighted_measures(windows: list[Floats]) -> None:
    weights = 0.98 ** np.arange(250)[::-1]
    weights /= weights.sum()
    for window in windows:
        for level in LEVELS:
            confidence = float(level.confidence)
            found = age_weighted(window, level)
            expected = skfolio.value_at_risk(window, confidence, sample_weight=weights)
            assert found.var == pytest.approx(expected, rel=1e-9)
            tail = skfolio.cvar(window, confidence, sample_weight=weights)
            assert found.es == pytest.approx(tail, rel=1e-9)


def test_a_decay_of_one_is_the_historical_method(windows: list[Floats]) -> None:
    for window in windows:
        assert age_weighted(window, P95, decay=1.0).es == pytest.approx(
            historical(window, P95).es, rel=1e-9
        )


def test_filtered_scenarios_equal_the_definition(windows: list[Floats]) -> None:
    for window in windows:
        forecast = [0.0]
        for until in range(1, 251):
            ages = np.arange(until)[::-1]
            weights = 0.94**ages / (0.94**ages).sum()
            forecast.append(float(np.sqrt((weights * window[:until] ** 2).sum())))
        assert deviations(window) == pytest.approx(forecast, rel=1e-9)
        expected = [
            window[at] / forecast[at] * forecast[250] for at in range(BURN_IN, 250) if forecast[at]
        ]
        assert filtered_scenarios(window) == pytest.approx(expected, rel=1e-9)


def test_days_without_a_forecast_are_no_scenarios() -> None:
    quiet = np.concatenate((np.zeros(40), [0.01], np.full(60, 0.02)))
    assert len(filtered_scenarios(quiet)) == 60


@given(st.lists(st.floats(-0.9, 1), min_size=5, max_size=40), st.integers(1, 5))
def test_longer_horizons_compound_overlapping_periods(values: list[float], horizon: int) -> None:
    found = overlapping(np.array(values), horizon)
    assert len(found) == len(values) - horizon + 1
    for start, compounded in enumerate(found):
        period = np.array(values[start : start + horizon])
        assert compounded == pytest.approx(np.prod(1 + period) - 1)


def test_the_linear_quantile_lies_between_two_scenarios() -> None:
    returns = -np.arange(1.0, 12.0)
    assert historical_linear(returns, P95) == pytest.approx(10.5)
    assert historical(returns, P95).var == 11.0


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60))
def test_with_linear_quantiles_only_the_var_is_interpolated(values: list[float]) -> None:
    returns = np.array(values)
    for level in LEVELS:
        found = historical(returns, level, quantile_method="linear")
        assert found.var == np.quantile(-returns, level.number, method="linear")
        assert found.es == historical(returns, level).es
        assert found.var == historical_linear(returns, level)


def test_other_quantile_methods_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'hazen'; it must be inverted_cdf or linear"):
        historical(np.zeros(30), P95, quantile_method="hazen")  # type: ignore[arg-type]


BAD = {
    "NaN": np.array([0.01] * 50 + [np.nan] + [-0.02] * 50),
    "infinite": np.array([0.01] * 50 + [-np.inf] + [-0.02] * 50),
    "empty": np.zeros(0),
    "text": np.array(["0.01"] * 30),
    "null": np.array([0.01, None] * 15),
    "table": np.zeros((30, 2)),
}


@pytest.mark.parametrize("returns", BAD.values(), ids=BAD)
def test_returns_that_are_no_finite_numbers_are_refused(returns: Floats) -> None:
    calls = (
        lambda: historical(returns, P95),
        lambda: historical_linear(returns, P95),
        lambda: age_weighted(returns, P95),
        lambda: student_t_fitted(returns, P95),
        lambda: sampling_error(returns, P95),
        lambda: filtered_scenarios(returns),
        lambda: overlapping(returns, 10),
    )
    for call in calls:
        with pytest.raises(InvalidInput, match="must be one or more finite numbers"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_ewma_deviation_of_numbers_that_are_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(InvalidInput, match="must be one or more finite numbers"):
        ewma_deviation(np.array([0.01, bad, 0.02]))


def test_an_ewma_deviation_that_no_number_can_hold_is_infinite_without_a_warning() -> None:
    assert ewma_deviation(np.array([1e308, 1e308])) == np.inf
    assert ewma_deviation(np.array([0.01, 1e200]), start=0.01) == np.inf


@pytest.mark.parametrize("horizon", [0, -1, 31])
def test_a_horizon_that_is_longer_than_the_returns_or_none_is_refused(horizon: int) -> None:
    with pytest.raises(InvalidInput, match=f"the horizon is {horizon}; it must be from 1 to 30"):
        overlapping(np.zeros(30), horizon)


def test_a_fitted_t_recovers_the_distribution_that_was_drawn() -> None:
    generator = np.random.default_rng(5)
    drawn = 0.01 * generator.standard_t(5, 4000)
    found = student_t_fitted(drawn, P95)
    assert found.var == pytest.approx(0.01 * 2.015, rel=0.05)
    assert found.es > found.var


@pytest.mark.parametrize("returns", [[0.01] * 60, [0.0] * 59 + [1e200], [0.01, 0.01, -0.02] * 20])
def test_a_t_that_fits_badly_gives_an_estimate_that_may_not_be_finite(returns: list[float]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        found = student_t_fitted(np.array(returns), P95)
    assert isinstance(found.var, float)
    assert isinstance(found.es, float)


def test_monte_carlo_of_a_normal_portfolio_is_the_normal_var() -> None:
    generator = np.random.default_rng(3)
    factors = generator.normal(size=(4, 4)) / 100
    covariance = factors @ factors.T
    weights = np.array([0.4, -0.2, 0.5, 0.3])
    deviation = float(np.sqrt(weights @ covariance @ weights))
    draws = Simulation(draws=400_000, seed=7)
    for level in LEVELS:
        expected = Normal(level).estimate(0.0, deviation)
        found = monte_carlo(weights, covariance, level, draws)
        # The standard error of a quantile from so many draws is under half a percent.
        assert found.var == pytest.approx(expected.var, rel=0.02)
        assert found.es == pytest.approx(expected.es, rel=0.02)
        assert found == monte_carlo(weights, covariance, level, draws)
    heavy = Simulation(draws=400_000, seed=7, dof=4.0)
    far = LEVELS[2]
    assert (
        monte_carlo(weights, covariance, far, heavy).es
        > monte_carlo(weights, covariance, far, draws).es
    )


def test_a_singular_covariance_is_accepted_and_an_invalid_one_is_refused() -> None:
    weights = np.array([0.5, 0.5])
    singular = np.full((2, 2), 0.0004)
    assert monte_carlo(weights, singular, P95, Simulation(draws=50_000)).var == pytest.approx(
        0.02 * 1.645, rel=0.03
    )
    wrong = [
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "eigenvalue -1"),
        (np.array([[1.0, 0.1], [0.2, 1.0]]), "not symmetric"),
        (np.array([[np.nan, 0.0], [0.0, 1.0]]), "finite"),
        (np.eye(3), "do not fit"),
    ]
    for covariance, why in wrong:
        with pytest.raises(InvalidInput, match=why):
            monte_carlo(weights, covariance, P95, Simulation(draws=10))
    with pytest.raises(InvalidInput, match="more than 2"):
        monte_carlo(weights, singular, P95, Simulation(draws=10, dof=2.0))


def test_a_simulated_t_of_infinite_degrees_of_freedom_is_the_normal() -> None:
    weights, covariance = np.array([0.5, 0.5]), np.full((2, 2), 0.0004)
    normal = monte_carlo(weights, covariance, P95, Simulation(draws=1_000, seed=3))
    for dof in (1e17, np.inf):
        simulation = Simulation(draws=1_000, seed=3, dof=dof)
        assert monte_carlo(weights, covariance, P95, simulation) == normal


def test_the_ewma_deviation_equals_pandas_over_the_index() -> None:
    prices = sp500.load()["Adj Close"]
    returns = prices.pct_change().dropna().to_numpy()
    for end in range(250, len(returns), 97):
        window = returns[end - 250 : end]
        weighted = (pd.Series(window) ** 2).ewm(alpha=0.06, adjust=True).mean()
        assert ewma_deviation(window) ** 2 == pytest.approx(float(weighted.iloc[-1]), rel=1e-9)


def test_the_ewma_deviation_from_a_start_equals_archs_recursion() -> None:
    returns = sp500.load()["Adj Close"].pct_change().dropna().to_numpy()
    process = EWMAVariance(0.94)
    for start in (0.0, 0.01, 0.3):
        window = returns[2_300:2_550]  # with the autumn of 2008
        variances = np.zeros(251)
        bounds = np.tile([0.0, 1e9], (251, 1))
        ahead = np.append(window, 0.0)
        process.compute_variance(np.empty(0), ahead, variances, start**2, bounds)
        # arch's first variance is its start, before the first return, as ours.
        assert ewma_deviation(window, start) ** 2 == pytest.approx(variances[-1], rel=1e-9)


def test_an_outlier_that_has_left_leaves_nothing_in_the_ewma_deviation() -> None:
    calm = np.random.default_rng(2).normal(0, 0.01, 250)
    methods = Methods(names=("ewma",), levels=(P95,))
    for outlier in (1e10, -1e10, 1e150, 1e5):
        window = ReturnWindow(250, with_moments=True)
        for at, value in enumerate([outlier, *calm.tolist()]):
            window.add(Return("p", at, value), lateness_us=0)
        closed = methods.closed_forms(window)
        assert closed is not None
        expected = 1.6448536269514722 * ewma_deviation(calm)
        assert closed.pairs[0][0][0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("decay", "start"), [(1.0, None), (0.0, None), (0.94, -1.0), (0.94, nan)])
def test_a_decay_or_a_start_out_of_its_range_is_refused(decay: float, start: float | None) -> None:
    with pytest.raises(InvalidInput, match="it must"):
        ewma_deviation(np.ones(3), start, decay)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, nan])
def test_a_decay_out_of_its_range_gives_neither_scenarios_nor_weights(decay: float) -> None:
    returns = np.random.default_rng(9).normal(0, 0.01, 150)
    calls = (
        lambda: age_weighted(returns, P95, decay),
        lambda: deviations(returns, decay),
        lambda: filtered_scenarios(returns, decay),
    )
    for call in calls:
        with pytest.raises(InvalidInput, match="it must lie between 0 and 1"):
            call()
    with pytest.raises(InvalidInput, match="it must lie between 0 and 1"):
        filtered_scenarios(returns, 1.0)


def test_scenarios_of_zeros_are_zeros() -> None:
    assert filtered_scenarios(np.zeros(250)).tolist() == [0.0] * 230
    assert filtered_scenarios(np.zeros(5)).tolist() == []


def test_no_loss_is_minus_zero() -> None:
    zeros = np.zeros(250)
    for level in LEVELS:
        found = [*historical(zeros, level), *age_weighted(zeros, level)]
        found += [historical_linear(zeros, level), *student_t_fitted(zeros, level)]
        found += [*historical(filtered_scenarios(zeros), level)]
        assert {str(value) for value in found} == {"0.0"}


def test_a_fit_reports_its_degrees_of_freedom_and_equal_returns_are_one_point() -> None:
    drawn = 0.01 * np.random.default_rng(5).standard_t(5, 4000)
    fit = fit_student_t(drawn)
    dof, location, scale = stats.t.fit(drawn)
    assert (fit.dof, fit.location, fit.scale) == (dof, location, scale)
    assert fit.dof == pytest.approx(5, rel=0.15)
    assert fit_student_t(np.full(120, 0.003)).estimate(P95) == (-0.003, -0.003)


def test_sampling_errors_are_those_of_repeated_samples() -> None:
    generator = np.random.default_rng(11)
    for level, tolerance in ((P95, 0.15), (LEVELS[1], 0.2)):
        samples = generator.normal(0, 0.01, (400, 2_000))
        estimates = np.array([historical(sample, level) for sample in samples])
        errors = np.array([sampling_error(sample, level) for sample in samples])
        assert errors.mean(axis=0) == pytest.approx(estimates.std(axis=0), rel=tolerance)
