"""Measures of a window, compared with NumPy and the formula of Rockafellar and Uryasev."""

from math import nextafter

import numpy as np
import pytest
from hypothesis import given, strategies as st

from schemas.events import MeasureStatus, Return
from stream_processors.risk.confidence import ConfidenceLevel
from stream_processors.risk.measures import (
    VAR_95,
    VAR_99,
    drawdowns,
    finite,
    historical_var_es,
    measure,
    tail_of,
)
from stream_processors.risk.window import ReturnWindow

returns = st.floats(-0.5, 0.5)


def window_of(values: list[float], size: int = 250) -> ReturnWindow:
    window = ReturnWindow(size)
    for at, value in enumerate(values):
        window.add(Return("p", at, value), lateness_us=0)
    return window


def var_es(window: ReturnWindow, level: ConfidenceLevel) -> tuple[float, float]:
    return historical_var_es(window.worst(len(window)), *tail_of(level, len(window)))


@pytest.mark.parametrize("level", [VAR_95, VAR_99, ConfidenceLevel.of("0.975")])
@given(values=st.lists(returns, min_size=1, max_size=300))
def test_var_is_numpys_inverted_cdf_and_es_is_rockafellar_and_uryasevs(
    level: ConfidenceLevel, values: list[float]
) -> None:
    losses = -np.array(values[-250:])
    confidence = float(level.confidence)
    expected = np.quantile(losses, confidence, method="inverted_cdf")
    beyond = np.maximum(losses - expected, 0).sum() / (len(losses) * (1 - confidence))
    var, es = var_es(window_of(values), level)
    assert var == expected
    assert es == pytest.approx(expected + beyond, rel=1e-9, abs=1e-12)


def test_a_gain_is_a_negative_var_and_is_not_clipped() -> None:
    assert var_es(window_of([0.01] * 99 + [0.02]), VAR_95) == (-0.01, -0.01)


@given(st.floats(-1, 1), st.lists(st.integers(-2, 2), min_size=20, max_size=600))
def test_the_es_of_nearly_equal_returns_is_not_below_their_var(
    value: float, steps: list[int]
) -> None:
    values = [value + step * abs(value) * 2**-52 for step in steps]
    for level in (VAR_95, ConfidenceLevel.of("0.6")):
        var, es = var_es(window_of(values, 600), level)
        assert es >= var


def test_rounding_errors_do_not_move_the_es_below_the_var() -> None:
    """Thirteen losses that are larger by one bit have a sum that is smaller than 13 times 0.3."""
    ascending = [nextafter(-0.3, -1)] * 13 + [-0.3] * 247
    assert sum(ascending[:13]) > 13 * -0.3
    assert historical_var_es(ascending, *tail_of(VAR_95, 260)) == (0.3, 0.3)


def test_a_constant_series_is_degenerate_and_exact() -> None:
    measurement = measure(window_of([0.003] * 250), observations_min=100)
    assert measurement.status is MeasureStatus.DEGENERATE
    assert (measurement.var_95, measurement.es_95) == (-0.003, -0.003)


@pytest.mark.parametrize(
    ("observations", "minimum", "known"),
    [(19, 2, 0), (20, 2, 1), (99, 2, 1), (100, 2, 2), (99, 100, 0), (100, 100, 2)],
)
def test_a_level_without_enough_observations_has_no_number(
    observations: int, minimum: int, known: int
) -> None:
    values = list(np.random.default_rng(1).normal(0, 0.01, observations))
    measurement = measure(window_of(values), observations_min=minimum)
    assert (measurement.var_95 is not None) == (known >= 1)
    assert (measurement.var_99 is not None) == (known >= 2)
    assert (measurement.status is MeasureStatus.INSUFFICIENT_DATA) == (known == 0)


def test_the_scenario_is_the_day_of_the_var() -> None:
    window = window_of([0.01] * 18 + [-0.07, -0.09])
    var, _ = var_es(window, VAR_95)
    assert var == 0.07
    assert window.scenario_us(var) == 18


@given(st.lists(returns, max_size=60))
def test_drawdowns_are_those_of_the_compounded_value(values: list[float]) -> None:
    value = np.concatenate(([1.0], np.cumprod(1 + np.array(values))))
    below_peak = 1 - value / np.maximum.accumulate(value)
    present, deepest = drawdowns(values)
    assert present == pytest.approx(below_peak[-1], abs=1e-12)
    assert deepest == pytest.approx(below_peak.max(), abs=1e-12)


def test_only_finite_numbers_are_kept() -> None:
    assert finite(0.5) == 0.5
    assert [finite(value) for value in (None, float("nan"), float("inf"))] == [None] * 3
