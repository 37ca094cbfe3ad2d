"""Estimates: closed forms of a running window, whole windows, horizons, and refused settings."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, strategies as st

from schemas.events import MeasureStatus, Return, RiskEstimate
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import (
    CLOSED,
    METHODS,
    WHOLE_WINDOW,
    ClosedEstimates,
    Methods,
    scenarios_of,
)
from stream_processors.risk.methods import (
    ewma_deviation,
    filtered_scenarios,
    fit_student_t,
    historical,
    overlapping,
    sampling_error,
)
from stream_processors.risk.moments import CornishFisher, Normal, StudentT
from stream_processors.risk.window import ReturnWindow

P95, P99 = ConfidenceLevel.of("0.95"), ConfidenceLevel.of("0.99")
ALL = Methods(names=METHODS[:-1], levels=(P95, P99), horizons=(1, 10), slower_every=5)
OVERLAPPING = replace(ALL, overlapping=True)


def window_of(values: list[float], size: int = 250) -> ReturnWindow:
    window = ReturnWindow(size, with_moments=True)
    for at, value in enumerate(values):
        window.add(Return("p", at, value), lateness_us=0)
    return window


def noise(count: int = 250) -> list[float]:
    return [float(value) for value in np.random.default_rng(3).normal(0, 0.01, count)]


def closed_of(window: ReturnWindow) -> ClosedEstimates:
    closed = ALL.closed_forms(window)
    assert closed is not None
    return closed


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60))
def test_closed_forms_equal_each_methods_own_estimate(values: list[float]) -> None:
    window = window_of(values)
    closed = closed_of(window)
    mean, deviation = closed.moments.mean, closed.moments.deviation
    ewma = ewma_deviation(np.array(window.values))
    for index, level in enumerate((P95, P99)):
        pairs = dict(zip(CLOSED, (pairs[index] for pairs in closed.pairs), strict=True))
        assert pairs["normal"] == Normal(level).estimate(mean, deviation)
        assert pairs["student_t"] == StudentT(level, 6.0).estimate(mean, deviation)
        assert pairs["cornish_fisher"] == CornishFisher(level).estimate(closed.moments)
        assert pairs["ewma"] == pytest.approx(Normal(level).estimate(0.0, ewma))


def test_only_methods_with_a_zero_mean_are_scaled_to_longer_horizons() -> None:
    zero_mean = replace(ALL, mean="zero")
    for methods, scaled in ((ALL, {"ewma"}), (zero_mean, {"ewma", "normal"})):
        closed = methods.closed_forms(window_of(noise()))
        events = list(methods.closed_events(closed, 7, missing=MeasureStatus.UNAVAILABLE))
        assert {event.method for event in events if event.horizon == 10} == scaled
        found = {(event.method, event.confidence, event.horizon): event for event in events}
        for name in scaled:
            short, long = found[name, 0.95, 1], found[name, 0.95, 10]
            assert (short.scaled, long.scaled, long.overlapping) == (False, True, False)
            assert short.var is not None
            assert long.var == pytest.approx(short.var * sqrt(10))
        assert {event.as_of_us for event in events} == {7}


def test_other_methods_have_no_number_for_longer_horizons_and_say_why() -> None:
    events = list(ALL.unscaled_events(7))
    assert {event.method for event in events} == set(ALL.names) - {"ewma"}
    told = {
        (event.horizon, event.status, event.reason, event.var, event.es, event.scaled)
        for event in events
    }
    assert {row[:5] for row in told} == {(10, "unavailable", "not_scaled", None, None)}
    assert list(OVERLAPPING.unscaled_events(7)) == []


def test_a_zero_mean_normal_estimate_is_of_the_root_mean_square() -> None:
    values = noise()
    methods = Methods(names=("normal",), levels=(P95,), mean="zero")
    closed = methods.closed_forms(window_of(values))
    assert closed is not None
    deviation = float(np.sqrt((np.array(values) ** 2).mean()))
    assert closed.pairs[0][0] == pytest.approx(Normal(P95).estimate(0.0, deviation))


def test_ewma_can_start_from_a_given_deviation() -> None:
    values = noise(100)
    methods = Methods(names=("ewma",), levels=(P95,), ewma_start=0.5)
    closed = methods.closed_forms(window_of(values))
    assert closed is not None
    variance = 0.25
    for value in values:
        variance = 0.94 * variance + 0.06 * value * value
    assert closed.pairs[0][0] == pytest.approx(Normal(P95).estimate(0.0, sqrt(variance)))


def test_ewma_and_fhs_take_the_decay_that_is_set() -> None:
    values = noise(100)
    methods = Methods(names=("ewma", "fhs"), levels=(P95,), ewma_decay=0.97)
    weights = 0.97 ** np.arange(100)[::-1]
    deviation = sqrt(float((weights * np.square(values)).sum() / weights.sum()))
    closed = methods.closed_forms(window_of(values))
    assert closed is not None
    assert closed.pairs[0][0] == pytest.approx(Normal(P95).estimate(0.0, deviation))
    [event] = methods.slower_events(window_of(values), 2)
    assert event.var == historical(filtered_scenarios(np.array(values), 0.97), P95).var


def test_without_estimates_the_closed_events_have_the_given_status() -> None:
    events = list(ALL.closed_events(None, 7, missing=MeasureStatus.INSUFFICIENT_DATA))
    named = [(event.method, event.horizon) for event in events]
    expected = [(name, 1) for name in CLOSED for _ in (P95, P99)]
    assert sorted(named) == sorted([*expected, ("ewma", 10), ("ewma", 10)])
    assert {(event.status, event.var) for event in events} == {("insufficient_data", None)}


@given(
    st.lists(
        st.floats(-0.1, 0.1) | st.sampled_from([1e10, -1e10, 1e-10, 1e5, 0.0, -0.0]),
        min_size=2,
        max_size=60,
    ),
    st.integers(2, 20),
)
def test_estimates_do_not_depend_on_returns_that_left_the_window(
    values: list[float], size: int
) -> None:
    """Not even in the last bit, whatever came before."""
    passed = ALL.closed_forms(window_of(values, size))
    fresh = ALL.closed_forms(window_of(values[-size:], size))
    assert passed == fresh


def test_historical_estimates_are_of_every_level_one_period_ahead() -> None:
    methods = Methods(levels=(P95, ConfidenceLevel.of("0.975"), P99))
    window = window_of(noise(99))
    events = list(methods.historical_events(window, 7, 50))
    assert [event.status for event in events] == ["ok", "ok", "insufficient_data"]
    for event, level in zip(events[:2], methods.levels, strict=False):
        assert (event.var, event.es) == historical(np.array(window.values), level)
    assert list(replace(methods, names=("fhs",)).historical_events(window, 7, 50)) == []


@pytest.mark.parametrize("value", [0.003, -0.02, 0.0, 1 / 3, 1e-20, -5e-324])
def test_equal_returns_are_degenerate_and_exact(value: float) -> None:
    window = window_of([value] * 250)
    everything = replace(ALL, names=METHODS)
    closed = everything.closed_forms(window)
    events = [
        *everything.historical_events(window, 7, 100),
        *everything.closed_events(closed, 7, missing=MeasureStatus.UNAVAILABLE),
        *everything.slower_events(window, 100),
    ]
    assert {event.status for event in events} == {"degenerate"}
    numbers = {(event.var, event.es) for event in events if event.method != "ewma"}
    assert numbers == {(-value, -value)}
    shown = [str(number) for event in events for number in (event.var, event.es)]
    assert "-0.0" not in shown


def test_filtered_scenarios_of_zeros_are_degenerate() -> None:
    methods = Methods(names=("fhs",), levels=(P95, P99))
    events = methods.slower_events(window_of([0.0] * 250), 100)
    assert [(event.status, event.var, event.es) for event in events] == [
        ("degenerate", 0.0, 0.0)
    ] * 2


def test_cornish_fisher_out_of_its_domain_says_so() -> None:
    skewed = [0.01, -0.011] * 120 + [-0.6]
    methods = Methods(names=("cornish_fisher", "normal"), levels=(P95,))
    closed = methods.closed_forms(window_of(skewed))
    events = methods.closed_events(closed, 7, missing=MeasureStatus.UNAVAILABLE)
    assert [(event.method, event.status, event.domain_ok) for event in events] == [
        ("cornish_fisher", "out_of_domain", False),
        ("normal", "ok", True),
    ]


def test_a_fit_reports_its_degrees_of_freedom_and_filtered_scenarios_their_errors() -> None:
    drawn = [float(value) for value in 0.01 * np.random.default_rng(8).standard_t(3, 250)]
    methods = Methods(names=("student_t_fitted", "fhs"), levels=(P95, P99))
    fitted, _, filtered, far = methods.slower_events(window_of(drawn), 100)
    assert fitted.dof == pytest.approx(fit_student_t(np.array(drawn)).dof)
    assert (fitted.var_error, fitted.es_error) == (None, None)
    error = sampling_error(scenarios_of("fhs", np.array(drawn)), P95)
    assert (filtered.var_error, filtered.es_error) == pytest.approx(error)
    assert far.es_error is not None
    assert error.es < far.es_error
    given = Methods(names=("student_t",), levels=(P95,), dof=5)
    closed = given.closed_forms(window_of(drawn))
    (student,) = given.closed_events(closed, 7, missing=MeasureStatus.UNAVAILABLE)
    assert student.dof == 5


def test_a_fit_without_a_mean_has_a_var_and_no_shortfall() -> None:
    drawn = [float(value) for value in np.random.default_rng(4).standard_cauchy(250) ** 3]
    (event,) = Methods(names=("student_t_fitted",), levels=(P95,)).slower_events(
        window_of(drawn), 100
    )
    assert event.dof is not None
    assert 0 < event.dof < 1
    assert (event.status, event.es, event.reason) == ("ok", None, "no_mean")
    assert event.var is not None


def test_moments_that_overflow_give_no_closed_forms() -> None:
    assert ALL.closed_forms(window_of([1e300, -1e300, 1.0])) is None


@pytest.mark.parametrize("value", [1e-20, -0.004])
def test_overlapping_returns_of_equal_returns_are_equal(value: float) -> None:
    found = slower(replace(OVERLAPPING, names=METHODS), [value] * 150)
    expected = 1 - float(np.prod(np.full(10, 1 + value)))
    pairs = {
        (event.var, event.es)
        for event in found.values()
        if event.horizon == 10 and event.status == "degenerate"
    }
    assert pairs == {(expected, expected)}


@pytest.mark.parametrize("values", [[1e160, -1e160], [1e200, 0.01], [1e200, -1.0, 1e200]])
def test_overlapping_returns_that_overflow_are_unavailable(values: list[float]) -> None:
    everything = replace(OVERLAPPING, names=METHODS)
    found = slower(everything, values * 60)
    longer = [event for event in found.values() if event.horizon == 10]
    assert {event.method for event in longer} == set(METHODS) - {"ewma"}
    assert {(event.status, event.var, event.es) for event in longer} == {
        ("unavailable", None, None)
    }


def slower(methods: Methods, values: list[float]) -> dict[tuple[str, float, int], RiskEstimate]:
    events = methods.slower_events(window_of(values), 100)
    return {(event.method, event.confidence, event.horizon): event for event in events}


def test_whole_window_estimates_use_overlapping_returns() -> None:
    values = noise()
    found = slower(OVERLAPPING, values)
    for name in WHOLE_WINDOW.keys() - {"student_t_fitted"}:
        for horizon in (1, 10):
            if (name, horizon) == ("historical", 1):
                continue  # in the measure itself
            scenarios = scenarios_of(name, overlapping(np.array(values), horizon))
            expected = WHOLE_WINDOW[name](scenarios, P95)
            estimate = found[name, 0.95, horizon]
            assert (estimate.var, estimate.es) == pytest.approx(expected)
            assert (estimate.status, estimate.scaled) == ("ok", False)
            assert estimate.overlapping == (horizon > 1)
    assert ("ewma", 0.95, 10) not in found


def test_a_method_without_a_scenario_beyond_the_level_has_no_number() -> None:
    found = slower(OVERLAPPING, noise(110))
    assert found["fhs", 0.95, 1].status == "ok"
    assert found["fhs", 0.99, 1].status == "insufficient_data"  # 20 days are burnt in
    assert found["normal", 0.99, 10].status == "ok"
    assert {estimate.status for estimate in slower(ALL, noise(99)).values()} == {
        "insufficient_data"
    }


def test_without_slower_methods_the_window_is_not_looked_at() -> None:
    assert (
        Methods(names=("historical", *CLOSED), levels=(P95,)).slower_events(window_of([]), 100)
        == []
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"names": ("magic",)}, "'magic' is no method; there are historical"),
        ({"horizons": (0,)}, "the horizon is 0"),
        ({"slower_every": 0}, "slower_every is 0"),
        ({"names": ("student_t",), "dof": 2.0}, "must be more than 2"),
        ({"mean": "median"}, "the mean is 'median'; it must be sample or zero"),
        ({"ewma_start": -0.1}, "the deviation at the start is -0.1"),
        ({"ewma_decay": 1.0}, "the decay is 1.0; it must lie between 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Methods(**settings)  # type: ignore[arg-type]
