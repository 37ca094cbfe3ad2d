"""Moments and closed forms, updated return by return, compared with SciPy."""

import math
from itertools import pairwise
from math import inf, isnan, nan

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import integrate, stats

from producers.market.prices import PORTFOLIOS, load_prices, trading_days
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.methods import Floats
from stream_processors.risk.moments import (
    CornishFisher,
    Moments,
    Normal,
    RunningMoments,
    StudentT,
    estimate_from_fit,
    is_monotone,
)

LEVELS = [ConfidenceLevel.of(text) for text in ("0.95", "0.975", "0.99")]
SIZE = 250


@pytest.fixture(scope="module")
def history() -> dict[str, Floats]:
    """Every portfolio's returns, 2000 to 2013."""
    days = trading_days(load_prices())
    return {
        name: np.array([day.returns[name] for day in days if name in day.returns])
        for name in PORTFOLIOS
    }


def of(values: Floats | list[float]) -> Moments:
    return RunningMoments(map(float, values)).moments()


def close(found: float, expected: float, scale: float = 1.0) -> bool:
    """Return whether a value is equal to 1e-9 of the larger values that it is a difference of."""
    return abs(found - expected) <= 1e-9 * max(abs(expected), scale)


def test_every_window_of_every_portfolio_equals_scipy(
    history: dict[str, Floats],
) -> None:
    for returns in history.values():
        running = RunningMoments()
        for at, value in enumerate(map(float, returns)):
            running.add(value)
            if at >= SIZE:
                running.remove(float(returns[at - SIZE]))
            if at % 97 or at < SIZE:
                continue
            window = returns[at - SIZE + 1 : at + 1]
            found = running.moments()
            assert close(found.mean, window.mean(), found.deviation)
            assert close(found.deviation, window.std(ddof=1))
            assert close(found.skewness, stats.skew(window))
            assert close(found.excess_kurtosis, stats.kurtosis(window))
            for level in LEVELS:
                z = float(stats.norm.ppf(float(level.confidence)))
                beyond = float(stats.truncnorm(z, np.inf).mean())
                estimate = Normal(level).estimate(found.mean, found.deviation)
                assert close(estimate.var, -window.mean() + z * window.std(ddof=1))
                assert close(estimate.es, -window.mean() + beyond * window.std(ddof=1))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dof", [2.5, 4.0, 6.0, 30.0])
def test_student_t_is_scipys(level: ConfidenceLevel, dof: float) -> None:
    confidence = float(level.confidence)
    scale = 0.02 * math.sqrt((dof - 2) / dof)
    losses = stats.t(dof, loc=-0.001, scale=scale)
    found = StudentT(level, dof).estimate(0.001, 0.02)
    assert close(found.var, losses.ppf(confidence))
    tail = losses.expect(lambda x: x, lb=losses.ppf(confidence), conditional=True)
    assert found.es == pytest.approx(tail, rel=1e-6)  # an integral to infinity


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("skewness", "excess"), [(0, 0), (-0.4, 1.2), (0.5, 2.0), (-0.1, 0.3)])
def test_cornish_fisher_is_its_quantile_and_the_mean_beyond_it(
    level: ConfidenceLevel, skewness: float, excess: float
) -> None:
    moments = Moments(250, 0.0005, 0.015, skewness, excess)

    def loss(share: float) -> float:
        q = stats.norm.ppf(share)
        bent = q + (q**2 - 1) * skewness / 6 + (q**3 - 3 * q) * excess / 24
        bent -= (2 * q**3 - 5 * q) * skewness**2 / 36
        return float(-0.0005 - bent * 0.015)

    found = CornishFisher(level).estimate(moments)
    assert close(found.var, loss(level.tail))
    tail, _ = integrate.quad(loss, 0, level.tail, epsabs=1e-14)
    assert found.es == pytest.approx(tail / level.tail, rel=1e-6)
    assert is_monotone(moments)


@given(st.floats(-3, 3), st.floats(-2, 12))
def test_inside_its_domain_the_cornish_fisher_quantile_rises(
    skewness: float, excess: float
) -> None:
    q = np.linspace(-60, 60, 24_001)
    bent = q + (q**2 - 1) * skewness / 6 + (q**3 - 3 * q) * excess / 24
    bent -= (2 * q**3 - 5 * q) * skewness**2 / 36
    rises = bool((np.diff(bent) > -1e-9 * np.abs(bent[1:])).all())
    if is_monotone(Moments(250, 0.0, 1.0, skewness, excess)):
        assert rises


@given(
    st.lists(st.floats(-1, 1) | st.floats(-1e9, 1e9), min_size=3, max_size=60),
    st.integers(2, 20),
)
def test_moments_do_not_depend_on_returns_that_left_the_window(
    values: list[float], size: int
) -> None:
    running = RunningMoments(values[:size])
    for at in range(size, len(values)):
        running.add(values[at])
        running.remove(values[at - size])
    assert running.moments() == of(values[-size:]) if len(values) > size else of(values)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=80), st.randoms())
def test_moments_do_not_depend_on_the_order(values: list[float], dice: object) -> None:
    shuffled = list(values)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert of(shuffled) == of(values)


def test_a_constant_series_has_no_deviation_at_all() -> None:
    moments = of([0.1] * 250)
    assert (moments.mean, moments.deviation) == (0.1, 0.0)
    assert (moments.skewness, moments.excess_kurtosis) == (0.0, 0.0)
    assert Normal(LEVELS[0]).estimate(moments.mean, moments.deviation) == (-0.1, -0.1)


def test_returns_that_are_too_large_raise_an_overflow_error() -> None:
    with pytest.raises(OverflowError):
        of([1e300, -1e300, 1.0])


def test_the_normal_es_is_above_its_var_and_both_rise_with_the_level() -> None:
    estimates = [Normal(level).estimate(0.0, 0.01) for level in LEVELS]
    assert all(estimate.es > estimate.var for estimate in estimates)
    assert all(a.var < b.var and a.es < b.es for a, b in pairwise(estimates))


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInput, match="must be more than 2"):
        StudentT(LEVELS[0], 2.0)


@pytest.mark.parametrize("dof", [1.001, 1.5, 2.0, 299.0, 301.0, 1e5, 1e7, 1e12, 1e300, inf])
def test_a_fitted_t_of_any_degrees_of_freedom_has_the_quantile_of_its_distribution(
    dof: float,
) -> None:
    for level in LEVELS:
        found = estimate_from_fit(level, dof, 0.0, 1.0)
        # SciPy has no quantile of so many degrees of freedom; the normal one differs by 1e-9.
        c = float(level.confidence)
        quantile = float(stats.t.ppf(c, dof) if dof < 1e9 else stats.norm.ppf(c))
        assert found.var == pytest.approx(quantile, rel=1e-9)
        if dof > 1.5:
            pdf = stats.t.pdf(quantile, dof) if dof < 1e9 else stats.norm.pdf(quantile)
            density = float(pdf) / level.tail
            share = (1 + quantile**2 / dof) / (1 - 1 / dof)
            assert found.es == pytest.approx(density * share, rel=1e-9)
        assert found.es > found.var


@pytest.mark.parametrize("dof", [0.2, 0.5, 1.0])
def test_a_t_without_a_mean_has_a_quantile_and_no_finite_shortfall(dof: float) -> None:
    for level in LEVELS:
        found = estimate_from_fit(level, dof, 0.01, 0.02)
        expected = -0.01 + 0.02 * float(stats.t.ppf(float(level.confidence), dof))
        assert found.var == pytest.approx(expected, rel=1e-9)
        assert found.es == inf


def test_a_t_of_infinite_degrees_of_freedom_is_the_normal_method() -> None:
    for level in LEVELS:
        normal = Normal(level).estimate(0.001, 0.02)
        assert StudentT(level, inf).estimate(0.001, 0.02) == pytest.approx(normal, rel=1e-12)
        assert StudentT(level, 1e9).estimate(0.001, 0.02) == pytest.approx(normal, rel=1e-8)


def test_a_scale_of_zero_is_one_point_and_a_fit_that_is_none_gives_no_finite_estimate() -> None:
    assert estimate_from_fit(LEVELS[0], 6.0, 0.003, 0.0) == (-0.003, -0.003)
    assert str(estimate_from_fit(LEVELS[0], 6.0, 0.0, 0.0).var) == "0.0"
    assert isnan(estimate_from_fit(LEVELS[0], nan, 0.0, 1.0).es)
    assert isnan(estimate_from_fit(LEVELS[0], 6.0, 0.0, -1.0).var)


def test_the_root_mean_square_is_the_deviation_about_zero(history: dict[str, Floats]) -> None:
    for returns in history.values():
        expected = float(np.sqrt((returns[:SIZE] ** 2).mean()))
        assert of(returns[:SIZE]).root_mean_square == pytest.approx(expected, rel=1e-12)


def test_moments_of_a_window_in_steps_equal_those_computed_at_once() -> None:
    """Jumps of twenty powers of ten leave nothing behind."""
    window = [0.01, -0.02, 0.013, 0.004]
    running = RunningMoments([1e10, *window])
    running.remove(1e10)
    assert running.moments() == of(window)


def test_no_cornish_fisher_estimate_of_zeros_is_minus_zero() -> None:
    for skewness, excess in ((0.0, 0.0), (4.0, 30.0), (-4.0, 30.0)):
        for level in LEVELS:
            found = CornishFisher(level).estimate(Moments(250, 0.0, 0.0, skewness, excess))
            assert [str(value) for value in found] == ["0.0", "0.0"]
