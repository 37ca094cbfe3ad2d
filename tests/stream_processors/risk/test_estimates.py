"""Estimates: closed forms of a running window, whole windows, horizons, and refused settings."""

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
from stream_processors.risk.methods import overlapping
from stream_processors.risk.moments import CornishFisher, Normal, StudentT
from stream_processors.risk.window import ReturnWindow

P95, P99 = ConfidenceLevel.of("0.95"), ConfidenceLevel.of("0.99")
ALL = Methods(names=METHODS[:-1], levels=(P95, P99), horizons=(1, 10), slower_every=5)


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
    ewma = sqrt(window.variance.variance(len(window)))
    for index, level in enumerate((P95, P99)):
        pairs = dict(zip(CLOSED, (pairs[index] for pairs in closed.pairs), strict=True))
        assert pairs["normal"] == Normal(level).estimate(mean, deviation)
        assert pairs["student_t"] == StudentT(level, 6.0).estimate(mean, deviation)
        assert pairs["cornish_fisher"] == CornishFisher(level).estimate(closed.moments)
        assert pairs["ewma"] == pytest.approx(Normal(level).estimate(0.0, ewma))


def test_only_ewma_is_scaled_to_longer_horizons() -> None:
    events = list(
        ALL.closed_events(closed_of(window_of(noise())), 7, missing=MeasureStatus.UNAVAILABLE)
    )
    assert {event.method for event in events if event.horizon == 10} == {"ewma"}
    by_horizon = {
        event.horizon: event
        for event in events
        if event.method == "ewma" and event.confidence == 0.95
    }
    assert (by_horizon[1].scaled, by_horizon[10].scaled) == (False, True)
    assert by_horizon[1].var is not None
    assert by_horizon[10].var == pytest.approx(by_horizon[1].var * sqrt(10))
    assert {event.as_of_us for event in events} == {7}


def test_without_estimates_the_closed_events_have_the_given_status() -> None:
    events = list(ALL.closed_events(None, 7, missing=MeasureStatus.INSUFFICIENT_DATA))
    assert [event.method for event in events] == [name for name in CLOSED for _ in (P95, P99)]
    assert {(event.status, event.var) for event in events} == {("insufficient_data", None)}


def test_moments_that_overflow_give_no_closed_forms() -> None:
    assert ALL.closed_forms(window_of([1e300, -1e300, 1.0])) is None


def slower(methods: Methods, values: list[float]) -> dict[tuple[str, float, int], RiskEstimate]:
    events = methods.slower_events(window_of(values), 100)
    return {(event.method, event.confidence, event.horizon): event for event in events}


def test_whole_window_estimates_use_overlapping_returns() -> None:
    values = noise()
    found = slower(ALL, values)
    for name in WHOLE_WINDOW.keys() - {"student_t_fitted"}:
        for horizon in (1, 10):
            if (name, horizon) == ("historical", 1):
                continue  # in the measure itself
            scenarios = scenarios_of(name, overlapping(np.array(values), horizon))
            expected = WHOLE_WINDOW[name](scenarios, P95)
            estimate = found[name, 0.95, horizon]
            assert (estimate.var, estimate.es) == pytest.approx(expected)
            assert (estimate.status, estimate.scaled) == ("ok", False)
    assert ("ewma", 0.95, 10) not in found


def test_a_method_without_a_scenario_beyond_the_level_has_no_number() -> None:
    found = slower(ALL, noise(110))
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
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Methods(**settings)  # type: ignore[arg-type]
