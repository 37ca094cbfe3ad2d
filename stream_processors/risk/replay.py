"""What would have alerted: past returns measured again, by any method, against any limit.

Pure. A day's VaR is the one that was forecast before it, from the window up to the day before. By
the historical method and a limit of `var_95` the alerts have the ids of those that the running
system raised.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.events import Return
from schemas.instants import EARLIEST_US, to_rfc3339
from stream_processors.risk.confidence import InvalidInput, Level
from stream_processors.risk.estimates import CLOSED, METHODS, Methods
from stream_processors.risk.measures import Outcome, ReturnWindow
from stream_processors.risk.methods import (
    Floats,
    age_weighted,
    filtered_scenarios,
    historical,
    student_t_fitted,
)
from stream_processors.risk.model_tests import EXCEPTION, Days, ModelTest, judge_model
from stream_processors.risk.moments import Estimate
from stream_processors.risk.thresholds import AlertState, Rule, Transition, judge

_TAKEN = (Outcome.ACCEPTED, Outcome.CORRECTED)

_WHOLE: dict[str, Callable[[Floats, Level], Estimate]] = {
    "historical": historical,
    "age_weighted": age_weighted,
    "fhs": lambda returns, level: historical(filtered_scenarios(returns), level),
    "student_t_fitted": student_t_fitted,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked."""

    portfolio_id: str
    method: str
    level: Level
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
    """One return, and what was forecast for it."""

    at_us: int
    value: float
    forecast: Estimate | None

    @property
    def exceeded(self) -> bool:
        """Whether more was lost than was forecast."""
        return self.forecast is not None and -self.value > self.forecast.var


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an alert, and when."""

    at_us: int
    transition: Transition


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer."""

    days: Sequence[Day]
    steps: Sequence[Step]
    test: ModelTest | None
    """Of the method, over all days that it had a forecast for; None where there were none."""


def replay(returns: Iterable[Return], wanted: Wanted) -> Replayed:
    """Measure and judge a portfolio's returns, in the order in which they came.

    Raises:
        InvalidInput: a parameter has no meaning.
        InvalidRule: the limit has none.
    """
    estimate = _estimating(wanted)
    rule = Rule("var_95", wanted.limit)
    window = ReturnWindow(wanted.window, with_moments=wanted.method in CLOSED)
    state, forecast = AlertState(), None
    days: list[Day] = []
    steps: list[Step] = []
    for one in returns:
        if one.portfolio_id != wanted.portfolio_id:
            continue
        if not EARLIEST_US <= one.event_time_us < wanted.until_us:
            continue
        is_next = not len(window) or one.event_time_us > window.newest_us
        if window.add(one, lateness_us=0) not in _TAKEN:
            continue
        is_shown = one.event_time_us >= wanted.since_us
        if is_next and is_shown:
            days.append(Day(one.event_time_us, one.value, forecast))
        forecast = estimate(window)
        state, transition = judge(
            rule,
            state,
            portfolio_id=wanted.portfolio_id,
            measure_id=(
                f"measure:{wanted.portfolio_id}:{to_rfc3339(one.event_time_us)}/{one.version}"
            ),
            at_us=window.newest_us,
            value=None if forecast is None else forecast.var,
        )
        if transition is not None and is_shown:
            steps.append(Step(one.event_time_us, transition))
    judged = "".join(EXCEPTION if day.exceeded else "." for day in days if day.forecast)
    return Replayed(
        days,
        steps,
        judge_model(Days(len(judged), judged).pattern, wanted.level) if judged else None,
    )


def _estimating(wanted: Wanted) -> Callable[[ReturnWindow], Estimate | None]:
    """How a window is measured; None where it is too short."""
    level = wanted.level
    closed = Methods(names=(wanted.method,), levels=(level,))
    floor = 2 if wanted.method in CLOSED else level.observations_min
    minimum = max(wanted.observations_min, floor)

    def estimate(window: ReturnWindow) -> Estimate | None:
        if len(window) < minimum:
            return None
        if wanted.method not in CLOSED:
            return _WHOLE[wanted.method](np.array(window.values), level)
        found = closed.closed(window)
        return None if found is None else Estimate(*found.answers[0][0])

    return estimate
