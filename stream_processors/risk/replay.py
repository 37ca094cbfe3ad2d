"""Replay past returns: the forecasts of a method, and the alerts of one constant limit. Pure.

A portfolio's returns arrive in the log's order; days with their forecasts, and alert transitions,
leave. A day's VaR is the forecast that stood before it. Late and corrected returns are taken as the
running system takes them: the day's forecast stays, its exception is judged again, and the measure
after it is judged at once. With the historical method and the running system's settings and limit,
the alerts have the same ids. `stream_processors.risk.log_replay` judges by the limits in the log.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Literal

from schemas.events import MeasureStatus, Return, ReturnOutcome, RiskEstimate
from schemas.instants import EARLIEST_US, to_rfc3339
from stream_processors.risk.confidence import ConfidenceLevel, InvalidInput
from stream_processors.risk.estimates import CLOSED, METHODS, Methods
from stream_processors.risk.model_tests import (
    EXCEPTION,
    ExceptionHistory,
    ModelTest,
    judge_model,
)
from stream_processors.risk.moments import DECAY, Estimate
from stream_processors.risk.rules import DAYS_JUDGED
from stream_processors.risk.thresholds import AlertState, Evaluation, Rule, Transition, judge
from stream_processors.risk.window import APPLIED, ReturnWindow

_DUPLICATE, _CORRECTED = ReturnOutcome.DUPLICATE, ReturnOutcome.CORRECTED


@dataclass(frozen=True, slots=True)
class ReplayQuery:
    """The portfolio, method, limit and time range of a replay."""

    portfolio_id: str
    method: str
    level: ConfidenceLevel
    limit: float | None
    """The limit of the VaR at all times; None for the limits in the log."""
    since_us: int
    until_us: int
    """Exclusive."""
    window: int = 250
    observations_min: int = 100
    lateness_us: int = 7 * 86_400_000_000
    ahead_us: float = 86_400_000_000.0
    """How far ahead of its time in the log a return may be."""
    dof: float = 6.0
    """Degrees of freedom of `student_t`."""
    mean: Literal["sample", "zero"] = "sample"
    """The mean of `normal`."""
    ewma_start: float | None = None
    """The deviation of `ewma` before the window's first return."""
    ewma_decay: float = DECAY
    """The decay factor of `ewma` and `fhs`."""
    hysteresis: float = 0.1
    warn_ratio: float | None = None
    critical_ratio: float | None = None
    lap: int = 0
    """The lap of the replay of history that the returns are of; 0 for observed ones."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInput(f"{self.method!r} is no method; there are {', '.join(METHODS)}")
        if self.since_us >= self.until_us:
            raise InvalidInput("the first day must be before the last one")

    @property
    def rule_id(self) -> str:
        """The id that the running system gives to the rule on this VaR."""
        return f"var_{float(self.level.confidence) * 100:g}"

    @property
    def methods(self) -> Methods:
        """The method with its settings, one period ahead at the level."""
        return Methods(
            names=(self.method,),
            levels=(self.level,),
            dof=self.dof,
            mean=self.mean,
            ewma_start=self.ewma_start,
            ewma_decay=self.ewma_decay,
        )

    @property
    def rule(self) -> Rule | None:
        """The rule that judges the VaR at all times.

        Raises:
            InvalidRule: the limit is out of its range.
        """
        if self.limit is None:
            return None
        return Rule(
            self.rule_id,
            self.limit,
            self.hysteresis,
            self.warn_ratio,
            self.critical_ratio,
        )


@dataclass(frozen=True, slots=True)
class Day:
    """One return, and the forecast for it."""

    at_us: int
    value: float
    forecast: Estimate | None
    version: int = 1

    @property
    def exceeded(self) -> bool:
        """Whether the loss exceeded the forecast VaR."""
        return self.forecast is not None and -self.value > self.forecast.var


@dataclass(frozen=True, slots=True)
class Step:
    """A transition of an alert, and the event time of the newest return by then."""

    at_us: int
    transition: Transition


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    days: Sequence[Day]
    steps: Sequence[Step]
    test: ModelTest | None
    """The test of the method over the days with a forecast, its zone of the last 250 of them; None
    where there were none."""


def replay(returns: Iterable[Return], query: ReplayQuery) -> Replay:
    """Measure and judge a portfolio's returns, in the order in which they arrived.

    Raises:
        InvalidInput: a parameter is out of its range.
        InvalidRule: the limit is.
    """
    past = _Past(query)
    for observation in returns:
        is_in_range = EARLIEST_US <= observation.event_time_us < query.until_us
        if observation.portfolio_id == query.portfolio_id and is_in_range:
            past.add(observation)
    days = [day for day in past.days if day.at_us >= query.since_us]
    steps = [step for step in past.steps if step.at_us >= query.since_us]
    return Replay(days, steps, _test(days, query.level))


class _Past:
    """The window, days and alert of one portfolio while its returns are replayed."""

    def __init__(self, query: ReplayQuery) -> None:
        self.days: list[Day] = []
        """In ascending order of time."""
        self.steps: list[Step] = []
        self._query = query
        self._rule = query.rule
        self._estimate = _estimator(query)
        self._window = ReturnWindow(query.window, with_moments=query.method in CLOSED)
        self._days_kept = max(query.window, DAYS_JUDGED)
        self._state = AlertState()
        self._forecast: RiskEstimate | None = None

    def add(self, observation: Return) -> None:
        """Take a return as the running system does."""
        _, at_us, value, version = observation
        is_next = not len(self._window) or at_us > self._window.newest_us
        outcome = None if is_next else self._beyond_window(observation)
        if outcome is None:
            outcome = self._window.add(observation, lateness_us=self._query.lateness_us)
        if outcome not in APPLIED:
            return
        index = self._index_of(at_us)
        if len(self.days) - index >= self._days_kept:
            # It is older than the window and all days that the running system keeps, to which it is
            # late.
            return
        if is_next:
            self.days.append(Day(at_us, value, _numbers(self._forecast), version))
        elif outcome is _CORRECTED:
            self.days[index] = replace(self.days[index], value=value, version=version)
        else:  # what stood before the next later day stood before this one
            forecast = self.days[index].forecast
            self.days.insert(index, Day(at_us, value, forecast, version))
        self._forecast = self._estimate(self._window)
        self._judge(observation, is_next=is_next)

    def _judge(self, observation: Return, *, is_next: bool) -> None:
        if self._rule is None:
            return
        estimate, query = self._forecast, self._query
        value = None if estimate is None else estimate.var
        if estimate is not None and estimate.status is MeasureStatus.OUT_OF_DOMAIN:
            value = None
        of_lap = f"/lap-{query.lap}" if query.lap else ""
        time = to_rfc3339(observation.event_time_us)
        newest_us = self._window.newest_us
        self._state, transition = judge(
            self._rule,
            self._state,
            entity_id=query.portfolio_id,
            measure_id=f"measure:{query.portfolio_id}:{time}/{observation.version}{of_lap}",
            at_us=newest_us,
            value=value,
            evaluation=Evaluation.MEASURE if is_next else Evaluation.CORRECTION,
        )
        if transition is not None:
            self.steps.append(Step(newest_us, transition))

    def _beyond_window(self, observation: Return) -> ReturnOutcome | None:
        """Return the outcome of a return that is again of a day before the window.

        None if the day is another.
        """
        at_us, window, index = observation.event_time_us, self._window, 0
        if at_us >= window.times_us[0]:
            return None
        index = self._index_of(at_us)
        is_known = self.days[index].at_us == at_us and index >= len(self.days) - self._days_kept
        if not is_known:
            return None
        known = self.days[index].version
        if observation.version == known or not isfinite(observation.value):
            return ReturnOutcome.REJECTED if observation.version != known else _DUPLICATE
        if at_us < window.newest_us - self._query.lateness_us:
            return ReturnOutcome.LATE
        return _CORRECTED if observation.version > known else _DUPLICATE

    def _index_of(self, at_us: int) -> int:
        """Return the index of the first day that is not before a time."""
        return bisect_left(self.days, at_us, key=lambda day: day.at_us)


def _numbers(estimate: RiskEstimate | None) -> Estimate | None:
    if estimate is None or estimate.var is None:
        return None
    return Estimate(estimate.var, nan if estimate.es is None else estimate.es)


def _test(days: Iterable[Day], level: ConfidenceLevel) -> ModelTest | None:
    judged = "".join(EXCEPTION if day.exceeded else "." for day in days if day.forecast)
    if not judged:
        return None
    return judge_model(ExceptionHistory(len(judged), judged).pattern, level)


def _estimator(query: ReplayQuery) -> Callable[[ReturnWindow], RiskEstimate | None]:
    """Return a function that estimates from a window as the running system does."""
    methods, minimum = query.methods, query.observations_min
    return lambda window: next(estimates_of(methods, window, minimum), None)


def estimates_of(
    methods: Methods, window: ReturnWindow, observations_min: int
) -> Iterator[RiskEstimate]:
    """Yield the estimates of methods one period ahead, as the running system makes them."""
    as_of_us = window.newest_us
    if methods.has_closed_forms:
        is_enough = len(window) >= observations_min
        closed = methods.closed_forms(window) if is_enough else None
        yield from methods.closed_events(closed, as_of_us, missing=MeasureStatus.UNAVAILABLE)
    yield from methods.historical_events(window, as_of_us, observations_min)
    yield from methods.slower_events(window, observations_min)
