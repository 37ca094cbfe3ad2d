"""The risk of one portfolio: a fold over its returns, limits and acknowledgements. Pure.

Each input is applied once, in its partition's order; measures and alerts are returned as events,
and others publish them. The state carries the offsets up to which it has read, and skips any input
that is not newer: a record that Kafka delivers again changes nothing and causes no event.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf, isfinite, sqrt
from typing import NamedTuple

from schemas.events import (
    MeasureStatus,
    PortfolioState,
    Return,
    ReturnOutcome,
    RiskAlert,
    RiskEstimate,
    RiskHistory,
    RiskLimit,
    RiskMeasure,
    StressLoss,
    WatchState,
)
from schemas.instants import EARLIEST_US, LATEST_US, to_rfc3339
from schemas.keys import encode_key
from schemas.topics import TopicPartition
from schemas.vocabularies import STRESS_LOSS
from stream_processors.risk.alert_events import AlertContext
from stream_processors.risk.config import RiskConfig
from stream_processors.risk.estimates import ClosedEstimates
from stream_processors.risk.forecast_history import DAY_BYTES, METHOD, ForecastHistory
from stream_processors.risk.limited import LimitedEntity
from stream_processors.risk.live_backtest import LiveBacktest
from stream_processors.risk.measures import VAR_95, Measurement, drawdowns, finite, measure
from stream_processors.risk.rules import (
    DAYS_JUDGED,
    MODEL,
    is_stress,
    limits_until_us,
    rules_of,
)
from stream_processors.risk.thresholds import Evaluation, Rule
from stream_processors.risk.window import APPLIED, ReturnWindow
from stream_processors.stress import StressTest

_ACCEPTED, _CORRECTED = ReturnOutcome.ACCEPTED, ReturnOutcome.CORRECTED
_DUPLICATE, _MEASURE = ReturnOutcome.DUPLICATE, Evaluation.MEASURE


class ReturnOffset(NamedTuple):
    """The position of a return in its partition."""

    offset: int
    """The offset of its batch."""
    batch_index: int
    """Its index in the batch."""


ArrivedReturn = tuple[Return, int, int]
"""A return, with the number of its message among those that are applied together, and its index
there. It is a plain tuple, since one is made for each return."""


class Together(NamedTuple):
    """The messages whose returns are applied together, in the order of their arrival."""

    offsets: Sequence[int]
    log_us: Sequence[int]
    """When the log got each message."""
    lap: int
    """The lap of the replay that all returns are of."""
    latest_us: float
    """The latest event time that is accepted of each return."""
    last_log_us: int
    """The latest of `log_us`."""


class PortfolioRisk(LimitedEntity):
    """One portfolio: its window, its alerts, and the offsets up to which it has been read."""

    def __init__(
        self,
        portfolio_id: str,
        config: RiskConfig,
        source: TopicPartition,
        tenant: str | None = None,
    ) -> None:
        """Create a portfolio without returns.

        Args:
            portfolio_id: its name.
            config: how it is measured and judged.
            source: the partition that its returns are in.
            tenant: its tenant; None for none.
        """
        super().__init__(portfolio_id, source, config.rules_of(portfolio_id))
        self.portfolio_id = portfolio_id
        self.tenant = tenant
        self.key = encode_key(portfolio_id, tenant)
        """The key of its records."""
        self.wanted_by: set[str] = set()
        """The roots of the tenant's trees of books that need the returns."""
        self.position = ReturnOffset(-1, -1)
        """The last return that was applied."""
        self.lap = 0
        """The lap of the replay that its returns are of; 0 for observed ones."""
        self._config = config
        self._lateness_us = config.lateness_us
        self._has_closed_forms = config.methods.has_closed_forms
        self._slower_every = config.methods.slower_every
        self._window = ReturnWindow(config.window, with_moments=self._has_closed_forms)
        self._backtest = self._new_backtest()
        self._measurement: Measurement | None = None
        self._slower: Sequence[RiskEstimate] = []
        """The last estimates that looked at the whole window."""
        self._slower_is_due = False
        """Whether the whole window must be looked at again, before another return changes it."""
        self._accepted = 0
        self._other_outcomes: Counter[str] = Counter()
        """The number of returns that were not accepted, by outcome."""
        self._cause: tuple[int, int] | None = None
        """Event time and version of the return that caused the present measure."""
        self._supersedes: str | None = None
        """The id of the measure that the present one replaces."""
        self._is_new = False
        """Whether a return has been applied since the state was packed."""
        self._again = ""
        """The end of the measure's id: it tells two measures of one return apart, where limits, a
        scenario or a rebuild have changed the contents; else empty."""
        self._stress: Sequence[StressLoss] = []

    @classmethod
    def unpack(cls, state: PortfolioState, config: RiskConfig, topic: str) -> "PortfolioRisk":
        """Continue from a packed state, of returns of a topic."""
        source = TopicPartition(topic, state.partition)
        risk = cls(state.portfolio_id, config, source, state.tenant)
        risk.wanted_by = set(state.wanted_by)
        risk.lap = state.lap
        risk.position = ReturnOffset(state.offset, state.index)
        risk._other_outcomes = Counter(state.outcomes)
        risk._accepted = risk._other_outcomes.pop(_ACCEPTED, 0)
        columns = state.times_us, state.values, state.versions
        if state.window:
            columns = ReturnWindow.unpack(state.window, state.observations)
        risk._window = ReturnWindow.restore(
            config.window,
            *columns,
            with_moments=risk._has_closed_forms,
        )
        risk._restore_limits(state, _watches(state))
        risk._backtest = LiveBacktest(state.exceptions, _history(state, columns, config.window))
        risk._slower = state.estimates
        risk._cause = None if state.cause_us is None else (state.cause_us, state.cause_version)
        if len(risk._window):
            # The next return is compared with the forecast from this window.
            risk._remeasure()
        risk._supersedes = state.supersedes
        if state.forecast_times is None and len(risk._window):
            risk._arrived_us = risk._window.newest_us  # an earlier version kept no other time
        risk._set_due()
        return risk

    def pack(self) -> PortfolioState:
        """Return the whole state of the portfolio."""
        window, history = self._window, self._backtest.history
        self._estimate_slower()
        packed = window.pack()
        forecast_times, forecasts = history.pack_forecasts()
        return PortfolioState(
            portfolio_id=self.portfolio_id,
            offset=self.position.offset,
            index=self.position.batch_index,
            window=packed,
            observations=len(window),
            outcomes=self.outcomes,
            watches=self._alerts.pack(),
            limits=self.limits,
            stale_after_s=self._alerts.stale_after_s,
            limits_offset=self.limits_offset,
            acks_offset=self.acks_offset,
            exceptions=self._backtest.pack(),
            estimates=self._slower,
            cause_us=None if self._cause is None else self._cause[0],
            cause_version=0 if self._cause is None else self._cause[1],
            partition=self.source.partition,
            tenant=self.tenant,
            wanted_by=dict.fromkeys(sorted(self.wanted_by), self.tenant or ""),
            lap=self.lap,
            arrived_us=self._arrived_us,
            limits_us=self._limits_us,
            limits_version=self._limits_version,
            supersedes=self._supersedes,
            backtest_days=history.pack_days(packed),
            forecast_times=forecast_times,
            forecasts=forecasts,
        )

    @property
    def returns(self) -> list[Return]:
        """The returns in the window."""
        window = self._window
        columns = zip(window.times_us, window.values, window.versions, strict=True)
        return [Return(self.portfolio_id, *row) for row in columns]

    @property
    def has_earlier_returns(self) -> bool:
        """Whether returns have left the window."""
        return self._accepted > len(self._window) == self._config.window

    @property
    def first_us(self) -> int | None:
        """The time of the oldest return in the window; None without returns."""
        return self._window.times_us[0] if len(self._window) else None

    @property
    def correctable_from_us(self) -> int:
        """The time from which returns may still be corrected, or arrive; there is one at least."""
        return self._window.newest_us - self._lateness_us

    @property
    def outcomes(self) -> Mapping[str, int]:
        """The number of returns, by outcome."""
        accepted = {_ACCEPTED.value: self._accepted} if self._accepted else {}
        return accepted | self._other_outcomes

    @property
    def utilisation(self) -> float | None:
        """VaR at 95 % as a share of its limit; None without either."""
        var = None if self._measurement is None else self._measurement.var_95
        return finite(_utilisation(var, self._alerts.rule("var_95")))

    @property
    def newest_us(self) -> int | None:
        """The event time of the newest return; None without returns."""
        return self._window.newest_us if len(self._window) else None

    @property
    def stress(self) -> Sequence[StressLoss]:
        """The losses in the stress scenarios in force."""
        return self._stress

    def limit_of(self, rule_id: str) -> float | None:
        """Return the limit of a metric that is in force; None where there is none."""
        rule = self._alerts.rule(rule_id)
        return None if rule is None else rule.limit

    def open_alerts(self) -> Iterable[tuple[str, bool]]:
        """Return the severity of each open alert, and whether it is acknowledged."""
        return self._alerts.open_alerts()

    def apply(
        self,
        observation: Return,
        position: ReturnOffset,
        latest_us: float = LATEST_US,
        lap: int = 0,
        log_us: int | None = None,
    ) -> tuple[ReturnOutcome | None, Sequence[RiskAlert]]:
        """Apply one return. The first one of a higher lap begins the history again.

        Args:
            observation: the return.
            position: its position in the partition.
            latest_us: the latest event time that is accepted. A later one would move the window
                ahead, and all true returns would be late.
            lap: the lap of the replay that the return is of.
            log_us: when the log got it; None for its event time.

        Returns:
            The outcome, None if the return was applied before, and the alerts that it caused.
        """
        if position <= self.position:
            return None, ()
        arrived_us = observation.event_time_us if log_us is None else log_us
        due = self._advance(arrived_us) if arrived_us >= self.due_us else ()
        self.position = position
        if lap == self.lap:
            outcome, alerts = self._add(observation, latest_us, arrived_us)
        else:
            outcome, alerts = self._add_to_lap(observation, latest_us, lap, arrived_us)
        return outcome, [*due, *alerts] if due else alerts

    def apply_calm(self, returns: Sequence[ArrivedReturn], start: int, together: Together) -> int:
        """Apply as many returns as change neither a measure nor an alert.

        Nearly every return leaves the worst ones in the window as they are, and with them VaR and
        ES, exceptions and alerts. What remains of `apply` is done for all of them at once.

        Args:
            returns: returns of this portfolio.
            start: the index of the first of them to apply.
            together: the messages that they were in.

        Returns:
            How many were applied, which is 0 if the first is to be applied by `apply`.
        """
        forecast = self._measurement
        _, number, batch_index = returns[start]
        if (
            forecast is None
            or forecast.var_95 is None
            or together.lap != self.lap
            or together.last_log_us >= self.due_us
            or self._alerts.stale_after_s is not None
            or not self._alerts.is_steady(forecast, self._backtest.exceptions_99)
            or not self._window.is_full
            or (together.offsets[number], batch_index) <= self.position
        ):
            return 0
        until_slower = self._slower_every - self._accepted % self._slower_every
        most = min(until_slower, self._backtest.calm_days(forecast))
        times_us, values = self._calm_part(
            returns[start : start + most], -forecast.var_95, together.latest_us
        )
        count = len(values)
        if not count:
            return 0
        if self._slower_is_due:
            self._estimate_slower()
        last, number, batch_index = returns[start + count - 1]
        self.position = ReturnOffset(together.offsets[number], batch_index)
        self._arrived_us = together.log_us[number]
        self._window.append_calm(times_us, values)
        self._backtest.append_calm(times_us, values, forecast)
        self._alerts.note_steady(last.event_time_us)
        self._accepted += count
        self._slower_is_due = count == until_slower
        self._supersedes, self._is_new, self._again = None, True, ""
        self._cause = last.event_time_us, last.version
        return count

    def _calm_part(
        self, returns: Sequence[ArrivedReturn], above: float, latest_us: float
    ) -> tuple[list[int], list[float]]:
        """Return times and values of the first returns that are newer and leave the tail as it is.

        Args:
            returns: the next returns.
            above: the returns above this one are not in the tail.
            latest_us: the latest event time that is accepted.
        """
        times_us: list[int] = []
        values: list[float] = []
        newest_us, oldest = self._window.newest_us, self._window.oldest(len(returns))
        for ((_, at_us, value, version), _, _), replaced in zip(returns, oldest, strict=False):
            # A zero may be -0.0, which is published as 0.0.
            is_calm = above < value < inf and value and replaced > above
            if not (is_calm and newest_us < at_us <= latest_us and version == 1):
                break
            times_us.append(at_us)
            values.append(value)
            newest_us = at_us
        return times_us, values

    def _add_to_lap(
        self, observation: Return, latest_us: float, lap: int, arrived_us: int
    ) -> tuple[ReturnOutcome, Sequence[RiskAlert]]:
        """Add a return of another lap than the present one, which may begin with it."""
        at_us, is_finite = observation.event_time_us, isfinite(observation.value)
        refused = None
        if lap < self.lap:
            refused = ReturnOutcome.LATE
        elif not (is_finite and EARLIEST_US <= at_us <= latest_us):
            # A return that is refused begins no history.
            is_future = is_finite and at_us > latest_us
            refused = ReturnOutcome.FUTURE if is_future else ReturnOutcome.REJECTED
        if refused is not None:
            self._other_outcomes[refused] += 1
            return refused, ()
        cleared = self._begin_lap(lap)
        outcome, alerts = self._add(observation, latest_us, arrived_us)
        return outcome, [*cleared, *alerts]

    def _begin_lap(self, lap: int) -> Sequence[RiskAlert]:
        """Forget the history up to now, but not the limits; return the ends of open alerts."""
        cleared: Sequence[RiskAlert] = ()
        if self._measurement is not None:
            cleared = self._alerts.end_history(self._context())
        self.lap = lap
        self._window = ReturnWindow(self._config.window, with_moments=self._has_closed_forms)
        self._backtest = self._new_backtest()
        self._measurement, self._slower, self._cause = None, [], None
        self._supersedes, self._slower_is_due = None, False
        return cleared

    def _new_backtest(self) -> LiveBacktest:
        return LiveBacktest(history=ForecastHistory(_days_kept(self._config.window)))

    def _add(
        self, observation: Return, latest_us: float, arrived_us: int
    ) -> tuple[ReturnOutcome, Sequence[RiskAlert]]:
        """Add a return of the present lap to the window, and judge the new measure."""
        at_us = observation.event_time_us
        if not EARLIEST_US <= at_us <= latest_us and isfinite(observation.value):
            refused = ReturnOutcome.FUTURE if at_us > latest_us else ReturnOutcome.REJECTED
            self._other_outcomes[refused] += 1
            return refused, ()
        if self._slower_is_due:
            self._estimate_slower()
        window, forecast = self._window, self._measurement
        is_next = forecast is None or at_us > window.newest_us
        outcome = window.append(observation) if is_next else self._insert(observation)
        if outcome is _ACCEPTED:
            self._accepted += 1
        else:
            self._other_outcomes[outcome] += 1
            if outcome is not _CORRECTED:
                return outcome, ()
        if is_next:
            self._backtest.append(at_us, observation.value, observation.version, forecast)
            self._slower_is_due = self._accepted % self._slower_every == 0
            self._supersedes = None
        else:
            self._judge_again(observation, outcome)
        if forecast is None or not self._holds(forecast):
            self._remeasure()
        self._is_new, self._again = True, ""
        self._cause = at_us, observation.version
        assert self._measurement is not None
        arrivals: Sequence[RiskAlert] = ()
        if outcome is _ACCEPTED and self._measurement.var_95 is not None:
            self._arrived_us = arrived_us
            if self._alerts.stale_after_s is not None:
                arrivals = self._note_arrival(arrived_us)
        alerts = self._alerts.judge(
            self._measurement,
            self._backtest.exceptions_99,
            at_us if is_next else window.newest_us,
            self._context,
            evaluation=_MEASURE if is_next else Evaluation.CORRECTION,
        )
        return outcome, [*arrivals, *alerts] if arrivals else alerts

    def _insert(self, observation: Return) -> ReturnOutcome:
        """Add a return that is not newer than all others."""
        outcome = self._beyond_window(observation)
        if outcome is None:
            return self._window.add(observation, lateness_us=self._lateness_us)
        return outcome

    def _judge_again(self, observation: Return, outcome: ReturnOutcome) -> None:
        """Compare a return that is corrected or late with the forecast for its day."""
        _, at_us, value, version = observation
        self._slower_is_due = True
        self._supersedes = self._measure_id()
        if outcome is _CORRECTED:
            self._backtest.correct(at_us, value, version)
        else:
            self._backtest.insert(at_us, value, version)

    def _stale_version(self) -> str:
        """Return the limits' time, if there may have been an alert after the same measure.

        Where none was raised yet, returns that are too few give the context, and do not end it.
        """
        if self._arrived_us is None and self._measurement is None:
            return ""
        return super()._stale_version()

    def _beyond_window(self, observation: Return) -> ReturnOutcome | None:
        """Return the outcome of a return before the window; None if its day is a new one.

        The return may repeat or correct a day that is kept for the backtest, if the window is
        shorter. Before all of these days it is unknown whether the return has arrived earlier, so
        it is late and changes nothing.
        """
        at_us, window = observation.event_time_us, self._window
        if at_us >= window.times_us[0]:
            return None
        history = self._backtest.history
        known = history.version_of(at_us)
        if known is None:
            is_full = len(window) == self._config.window and len(history) == history.size
            is_before_all = is_full and at_us < history.times_us[0]
            return ReturnOutcome.LATE if is_before_all and isfinite(observation.value) else None
        if observation.version == known or not isfinite(observation.value):
            return ReturnOutcome.REJECTED if observation.version != known else _DUPLICATE
        if at_us < window.newest_us - self._lateness_us:
            return ReturnOutcome.LATE
        return _CORRECTED if observation.version > known else _DUPLICATE

    def moves_prices(self, observation: Return, outcome: ReturnOutcome, lap: int) -> bool:
        """Return whether books must know of a return, whose outcome is given.

        A return may be too old for every window and still move the price of a holding.
        """
        if outcome is not ReturnOutcome.LATE:
            return outcome in APPLIED
        return lap == self.lap and (
            observation.event_time_us >= self._window.newest_us - self._lateness_us
        )

    def _estimate_slower(self) -> None:
        """Look at the whole window, if this is due."""
        if self._slower_is_due:
            self._slower_is_due = False
            minimum = self._config.observations_min
            self._slower = self._config.methods.slower_events(self._window, minimum)

    def set_stress(self, tests: Sequence[StressTest]) -> None:
        """Set the stress scenarios that the portfolio is valued by, without a new measure."""
        self._stress = [test.of_portfolio(self.portfolio_id) for test in tests]
        self._alerts.stress = _losses(self._stress)

    def change_stress(
        self, tests: Sequence[StressTest], name: str, version: int
    ) -> Sequence[RiskAlert] | None:
        """Value the portfolio anew after a scenario has changed, and judge the new loss.

        Args:
            tests: all scenarios in force.
            name: the scenario that has changed.
            version: its version.

        Returns:
            The alerts; None if the portfolio's losses are as before.
        """
        before = self._stress
        self._stress = [test.of_portfolio(self.portfolio_id) for test in tests]
        if self._stress == before:
            return None
        again = f":scenario/{name}/{version}"
        self._is_new, self._again = True, again
        losses, context = _losses(self._stress), None
        if self._measurement is not None:
            self._alerts.stress = losses
            context = self._context()
        rule_id = f"{STRESS_LOSS}{name}"
        return self._alerts.change_stress(losses, rule_id, again, context)

    def take_over(
        self, present: "PortfolioRisk | None", sent: Mapping[str, int], version: str = ""
    ) -> Sequence[RiskAlert]:
        """Replace the present portfolio by this one, which was rebuilt; return what differs.

        Args:
            present: the portfolio that clients know; None if they know none.
            sent: see `Alerts.take_over`.
            version: the name of the rebuild.
        """
        self._is_new = True  # the measure is published once more
        alerts = self._take_over_alerts(present, sent)
        if present is not None:
            self.wanted_by = present.wanted_by
            self._again = self._again_after(present, version)
        return alerts

    def _again_after(self, present: "PortfolioRisk", version: str) -> str:
        """Return what the id of the measure ends with, which replaces the present one."""
        measure, known = self.last_measure(), present.last_measure()
        if measure is None or known is None:
            return ""
        if replace(measure, event_id=known.event_id) != known:
            return f":rebuild/{version}"
        return known.event_id.removeprefix(self._measure_id())

    def measure_event(self) -> RiskMeasure | None:
        """Return the last measure; None if no return was applied since the state was packed."""
        return self.last_measure() if self._is_new else None

    def last_measure(self) -> RiskMeasure | None:
        """Return the last measure, also if it was published before; None before the first one."""
        measurement = self._measurement
        if measurement is None:
            return None
        self._estimate_slower()
        as_of_us = self._window.newest_us
        rule = self._alerts.rule("var_95")
        closed = self._closed_estimates()
        drawdown, deepest = (None, None) if closed is None else drawdowns(self._window.values)
        return RiskMeasure(
            portfolio_id=self.portfolio_id,
            as_of_us=as_of_us,
            method=METHOD,
            status=measurement.status,
            observations=len(self._window),
            var_95=finite(measurement.var_95),
            es_95=finite(measurement.es_95),
            var_99=finite(measurement.var_99),
            es_99=finite(measurement.es_99),
            scenario_us=self._scenario_us("var_95"),
            threshold=None if rule is None else rule.limit,
            utilisation=finite(_utilisation(measurement.var_95, rule)),
            event_id=self._measure_id() + self._again,
            source_topic=self.source.topic,
            source_partition=self.source.partition,
            source_offset=self.position.offset,
            volatility=None if closed is None else self._volatility(closed),
            drawdown=finite(drawdown),
            max_drawdown=finite(deepest),
            estimates=list(self._estimates(closed, as_of_us)),
            model_backtests=list(self._backtest.events()),
            supersedes=self._supersedes,
            status_reason=self._status_reason(),
            window_first_us=self._window.times_us[0],
            window_last_us=as_of_us,
            corrections=self._corrections(),
            limits_version=self._limits_version,
            stress=self._stress,
        )

    def history_event(self) -> RiskHistory | None:
        """Return the returns in the window with their forecasts; None without returns."""
        window = self._window
        if not len(window):
            return None
        return RiskHistory(
            portfolio_id=self.portfolio_id,
            as_of_us=window.newest_us,
            observations=len(window),
            window=window.pack()[: 16 * len(window)],  # without the versions
            var_95=self._backtest.history.var_95_at(window.times_us),
        )

    def _holds(self, measurement: Measurement) -> bool:
        """Return whether a measurement stays: no return has entered or left the tail.

        A measurement stays nine times out of ten.
        """
        var = measurement.var_95
        return var is not None and self._window.lowest_moved > -var

    def _remeasure(self) -> None:
        minimum = self._config.observations_min
        self._measurement = measure(self._window, observations_min=minimum)

    def _closed_estimates(self) -> ClosedEstimates | None:
        """Return the closed forms' estimates, which only a published measure needs."""
        if not self._has_closed_forms or len(self._window) < self._config.observations_min:
            return None
        return self._config.methods.closed_forms(self._window)

    def _estimates(self, closed: ClosedEstimates | None, as_of_us: int) -> Iterator[RiskEstimate]:
        """Yield the estimates by all methods, of which some are of an earlier return."""
        methods, minimum = self._config.methods, self._config.observations_min
        too_few = len(self._window) < minimum
        missing = MeasureStatus.INSUFFICIENT_DATA if too_few else MeasureStatus.UNAVAILABLE
        yield from methods.historical_events(self._window, as_of_us, minimum)
        yield from methods.closed_events(closed, as_of_us, missing=missing)
        yield from self._slower
        yield from methods.unscaled_events(as_of_us)

    def _volatility(self, closed: ClosedEstimates) -> float:
        """Return the annualised standard deviation."""
        return closed.moments.deviation * sqrt(self._config.periods_a_year)

    @property
    def _has_measure(self) -> bool:
        return self._measurement is not None

    def _rules_of(self, limits: Sequence[RiskLimit]) -> tuple[Rule, ...]:
        return rules_of(limits) or self._config.rules_of(self.portfolio_id)

    def _change_rules(
        self, rules: tuple[Rule, ...], version: str, offset: int | None = None
    ) -> list[RiskAlert]:
        self._again = version
        return super()._change_rules(rules, version, offset)

    def _context(self, offset: int | None = None) -> AlertContext:
        """Return what an alert says; it names the last return, whatever has caused it."""
        del offset
        measurement = self._measurement
        if measurement is None:  # no return yet: the limits are all that there is
            return AlertContext(
                measure_id=f"limits:{self.portfolio_id}:{self._limits_version or ''}",
                as_of_us=self._limits_us or 0,
                values={},
                scenario_us=lambda _: None,
                source=self.source,
                offset=self.position.offset,
                limits_version=self._limits_version,
            )
        return AlertContext(
            measure_id=self._measure_id(),
            as_of_us=self._window.newest_us,
            values={
                "var_95": measurement.var_95,
                "es_95": measurement.es_95,
                "var_99": measurement.var_99,
                "es_99": measurement.es_99,
                MODEL: self._backtest.exceptions_99,
                **self._alerts.stress,
            },
            scenario_us=self._scenario_us,
            source=self.source,
            offset=self.position.offset,
            limits_version=self._limits_version,
            limits_until_us=limits_until_us(self.limits),
            supersedes=self._supersedes,
            method=METHOD,
            status=measurement.status,
            status_reason=self._status_reason(),
            window_first_us=self._window.times_us[0],
            observations=len(self._window),
            corrections=self._corrections(),
        )

    def _corrections(self) -> int:
        """Return how many returns in the window replaced an earlier version."""
        return self._window.corrections

    def _status_reason(self) -> str | None:
        """Say why the measure's status is not `ok`."""
        measurement, count = self._measurement, len(self._window)
        if measurement is None or measurement.status is MeasureStatus.OK:
            return None
        if measurement.status is MeasureStatus.DEGENERATE:
            return f"all {count} returns in the window are equal"
        needed = max(self._config.observations_min, VAR_95.observations_min)
        return f"there are {count} returns, and {needed} are needed"

    def _measure_id(self) -> str:
        if self._cause is None:
            return f"measure:{self.portfolio_id}:"
        at_us, version = self._cause
        of_lap = f"/lap-{self.lap}" if self.lap else ""
        return f"measure:{self.portfolio_id}:{to_rfc3339(at_us)}/{version}{of_lap}"

    def _scenario_us(self, rule_id: str) -> int | None:
        """Return the event time of the return that is the VaR at a rule's level."""
        measurement = self._measurement
        if measurement is None or is_stress(rule_id):
            return None
        var = measurement.var_99 if rule_id.endswith("99") else measurement.var_95
        return None if var is None else self._window.scenario_us(var)


def _losses(stress: Sequence[StressLoss]) -> Mapping[str, float | None]:
    """Return the losses in stress scenarios by the rules that bound them."""
    return {f"{STRESS_LOSS}{loss.scenario}": loss.loss for loss in stress}


def _utilisation(var: float | None, rule: Rule | None) -> float | None:
    return None if var is None or rule is None else var / rule.limit


def _days_kept(window: int) -> int:
    """Return how many days are kept for the backtest, beside a window of a size."""
    return max(window, DAYS_JUDGED)


def _history(
    state: PortfolioState,
    columns: tuple[Sequence[int], Sequence[float], Sequence[int]],
    window: int,
) -> ForecastHistory:
    """Return the days of a packed state's backtest; by default they are those of its window."""
    size = _days_kept(window)
    if state.forecast_times is None:
        judged = tuple(len(state.exceptions.get(level, "")) for level in ("0.95", "0.99"))
        return ForecastHistory.adopt(size, columns, state.forecasts, (judged[0], judged[1]))
    packed = state.backtest_days
    if packed is not None:
        columns = ReturnWindow.unpack(packed, len(packed) // DAY_BYTES)
    return ForecastHistory.restore(size, columns, state.forecast_times, state.forecasts)


def _watches(state: PortfolioState) -> Sequence[WatchState]:
    """Return the states of the rules; the schema's first version had one rule, in fields apart."""
    if state.watches or state.judged_us is None:
        return state.watches
    return [
        WatchState(
            rule_id="var_95",
            level=state.level,
            run=state.run,
            run_up=state.run_up,
            alert_id=state.alert_id,
            transitions=state.transitions,
            judged_us=state.judged_us,
        )
    ]
