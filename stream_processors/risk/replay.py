"""Replay past returns: the alerts that another method or limit would have caused. Pure.

A portfolio's returns arrive in the log's order; days with their forecasts, and alert transitions,
leave. A day's VaR is the forecast made before it, from the window up to the day before. With the
historical method and the running system's limit on `var_95`, the alerts have the same ids.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from schemas.events import Return
from schemas.instants import EARLIEST_US, to_rfc3339
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import CLOSED, METHODS, WHOLE_WINDOW, Methods, scenarios_of
from stream_processors.risk.model_tests import EXCEPTION, ExceptionHistory, ModelTest, judge_model
from stream_processors.risk.moments import Estimate
from stream_processors.risk.thresholds import AlertState, Rule, Transition, judge
from stream_processors.risk.window import APPLIED, ReturnWindow


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """The portfolio, method, limit and time range of a replay."""

    portfolio_id: str
    method: str
    level: ConfidenceLevel
    limit: float
    since_us: int
    until_us: int
    """Exclusive."""
    window: int = 250
    observations_min: int = 100

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInput(f"{self.method!r} is no method; there are {', '.join(METHODS)}")
        if self.since_us >= self.until_us:
            raise InvalidInput("the first day must be before the last one")


@dataclass(frozen=True, slots=True)
class Day:
    """One return, and the forecast for it."""

    at_us: int
    value: float
    forecast: Estimate | None

    @property
    def exceeded(self) -> bool:
        """Whether the loss exceeded the forecast VaR."""
        return self.forecast is not None and -self.value > self.forecast.var


@dataclass(frozen=True, slots=True)
class Step:
    """A transition of an alert, and the event time of the return that caused it."""

    at_us: int
    transition: Transition


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    days: Sequence[Day]
    steps: Sequence[Step]
    test: ModelTest | None
    """The test of the method over the days with a forecast; None where there were none."""


def replay(returns: Iterable[Return], query: ReplayQuery) -> Replay:
    """Measure and judge a portfolio's returns, in the order in which they arrived.

    Raises:
        InvalidInput: a parameter is out of its range.
        InvalidRule: the limit is.
    """
    estimate = _estimator(query)
    rule = Rule("var_95", query.limit)
    window = ReturnWindow(query.window, with_moments=query.method in CLOSED)
    state, forecast = AlertState(), None
    days: list[Day] = []
    steps: list[Step] = []
    for observation in returns:
        at_us = observation.event_time_us
        if observation.portfolio_id != query.portfolio_id:
            continue
        if not EARLIEST_US <= at_us < query.until_us:
            continue
        is_next = not len(window) or at_us > window.newest_us
        if window.add(observation, lateness_us=0) not in APPLIED:
            continue
        is_shown = at_us >= query.since_us
        if is_next and is_shown:
            days.append(Day(at_us, observation.value, forecast))
        forecast = estimate(window)
        state, transition = judge(
            rule,
            state,
            entity_id=query.portfolio_id,
            measure_id=f"measure:{query.portfolio_id}:{to_rfc3339(at_us)}/{observation.version}",
            at_us=window.newest_us,
            value=None if forecast is None else forecast.var,
        )
        if transition is not None and is_shown:
            steps.append(Step(at_us, transition))
    return Replay(days, steps, _test(days, query.level))


def _test(days: Iterable[Day], level: ConfidenceLevel) -> ModelTest | None:
    judged = "".join(EXCEPTION if day.exceeded else "." for day in days if day.forecast)
    if not judged:
        return None
    return judge_model(ExceptionHistory(len(judged), judged).pattern, level)


def _estimator(query: ReplayQuery) -> Callable[[ReturnWindow], Estimate | None]:
    """Return a function that estimates from a window, or returns None where it is too short."""
    level = query.level
    methods = Methods(names=(query.method,), levels=(level,))
    floor = 2 if query.method in CLOSED else level.observations_min
    minimum = max(query.observations_min, floor)

    def measure(window: ReturnWindow) -> Estimate | None:
        if query.method not in CLOSED:
            scenarios = scenarios_of(query.method, np.array(window.values))
            return None if len(scenarios) < floor else WHOLE_WINDOW[query.method](scenarios, level)
        closed = methods.closed_forms(window)
        return None if closed is None else Estimate(*closed.pairs[0][0])

    def estimate(window: ReturnWindow) -> Estimate | None:
        if len(window) < minimum:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            found = measure(window)
        return found if found is not None and all(map(isfinite, found)) else None

    return estimate
