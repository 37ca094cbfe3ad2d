from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from schemas.events import Return
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.measures import (
    VAR_95,
    VAR_99,
    Status,
    historical_var_es,
    measure,
)
from stream_processors.risk.window import Outcome, ReturnWindow

values = st.floats(-0.5, 0.5)


def returned(at_us: int, value: float, version: int = 1) -> Return:
    return Return(portfolio_id="p", event_time_us=at_us, value=value, version=version)


def filled(many: list[float], size: int = 250) -> ReturnWindow:
    window = ReturnWindow(size)
    for at, value in enumerate(many):
        assert window.add(returned(at, value), lateness_us=0) is Outcome.ACCEPTED
    return window


def of(window: ReturnWindow, level: Level) -> tuple[float, float]:
    """VaR and ES of a window."""
    count = len(window)
    return historical_var_es(window.ascending, count - level.rank(count), count * level.tail)


@pytest.mark.parametrize("level", [VAR_95, VAR_99, Level.of("0.975")])
@given(many=st.lists(values, min_size=1, max_size=300))
def test_var_is_numpys_inverted_cdf_and_es_is_rockafellar_and_uryasevs(
    level: Level, many: list[float]
) -> None:
    losses = -np.array(many[-250:])
    confidence = float(level.confidence)
    expected = np.quantile(losses, confidence, method="inverted_cdf")
    beyond = np.maximum(losses - expected, 0).sum() / (len(losses) * (1 - confidence))
    var, es = of(filled(many), level)
    assert var == expected
    assert es == pytest.approx(expected + beyond, rel=1e-9, abs=1e-12)


@given(st.integers(1, 5000))
def test_the_rank_has_no_rounding_error(observations: int) -> None:
    exact = Fraction(observations) * Fraction(19, 20)
    rank = VAR_95.rank(observations)
    assert rank - 1 < exact <= rank


@given(
    st.lists(st.tuples(st.integers(0, 40), values, st.integers(1, 3)), max_size=120),
    st.integers(1, 20),
)
@settings(max_examples=200)
def test_a_measure_depends_on_what_arrived_not_on_the_order(
    arrivals: list[tuple[int, float, int]], size: int
) -> None:
    """With a lateness that covers everything; equal instants and versions carry equal values."""
    known: dict[tuple[int, int], float] = {}
    once = [
        (at, known.setdefault((at, version), value), version) for at, value, version in arrivals
    ]
    newest = {
        at: max((version, value) for a, value, version in once if a == at) for at, _, _ in once
    }
    expected = [newest[at][1] for at in sorted(newest)][-size:]
    window = ReturnWindow(10_000)
    for at, value, version in once:
        window.add(returned(at, value, version), lateness_us=10**9)
    assert list(window.values[-size:]) == expected
    rebuilt = ReturnWindow.restore(size, window.times_us, window.values, window.versions)
    if expected:
        direct = filled(expected, size=size)
        assert of(rebuilt, VAR_95) == of(direct, VAR_95)


@given(st.lists(values, min_size=1, max_size=80), st.integers(1, 30))
def test_a_rolling_window_holds_its_last_observations(many: list[float], size: int) -> None:
    window = filled(many, size=size)
    assert list(window.values) == many[-size:]
    assert list(window._ascending) == sorted(many[-size:])


def test_outcomes_are_decided_in_this_order() -> None:
    window = ReturnWindow(250)
    add = window.add
    assert add(returned(100, 0.1), lateness_us=10) is Outcome.ACCEPTED
    assert add(returned(100, 0.1), lateness_us=10) is Outcome.DUPLICATE
    assert add(returned(101, nan), lateness_us=10) is Outcome.REJECTED
    assert add(returned(101, inf), lateness_us=10) is Outcome.REJECTED
    assert add(returned(89, 0.1), lateness_us=10) is Outcome.LATE
    assert add(returned(90, 0.2), lateness_us=10) is Outcome.ACCEPTED
    assert add(returned(100, 0.3, 2), lateness_us=10) is Outcome.CORRECTED
    assert add(returned(100, 0.4, 1), lateness_us=10) is Outcome.DUPLICATE
    assert list(window.times_us) == [90, 100]
    assert list(window.values) == [0.2, 0.3]


def test_a_gain_is_a_negative_var_and_is_not_clipped() -> None:
    var, es = of(filled([0.01] * 99 + [0.02]), VAR_95)
    assert var == -0.01
    assert es == -0.01


def test_a_constant_series_is_degenerate_and_exact() -> None:
    measured = measure(filled([0.003] * 250), observations_min=100)
    assert measured.status is Status.DEGENERATE
    assert (measured.var_95, measured.es_95) == (-0.003, -0.003)


@pytest.mark.parametrize(
    ("observations", "minimum", "known"),
    [(19, 2, 0), (20, 2, 1), (99, 2, 1), (100, 2, 2), (99, 100, 0), (100, 100, 2)],
)
def test_too_few_observations_give_nothing_rather_than_a_number(
    observations: int, minimum: int, known: int
) -> None:
    many = list(np.random.default_rng(1).normal(0, 0.01, observations))
    measured = measure(filled(many), observations_min=minimum)
    assert (measured.var_95 is not None) == (known >= 1)
    assert (measured.var_99 is not None) == (known >= 2)
    assert (measured.status is Status.INSUFFICIENT_DATA) == (known == 0)


def test_the_scenario_is_the_day_that_var_names() -> None:
    window = filled([0.01] * 18 + [-0.07, -0.09])
    var, _ = of(window, VAR_95)
    assert var == 0.07
    assert window.scenario_us(var) == 18


@pytest.mark.parametrize("wrong", ["0.5", "1", "95", "0"])
def test_ninety_five_is_no_confidence(wrong: str) -> None:
    with pytest.raises(InvalidInput, match=r"between 0\.5 and 1"):
        Level.of(wrong)


def test_a_window_has_room_for_one_at_least() -> None:
    with pytest.raises(InvalidInput, match="size is 0"):
        ReturnWindow(0)
