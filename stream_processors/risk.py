"""What a return means for its portfolio: measures, and perhaps alerts.

Pure: `PortfolioRisk` folds returns, limits and acknowledgements, one after another, and says what
to publish. Its state carries the positions up to which it has read, and skips what is not newer; so
a record that Kafka delivers again changes nothing and says nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

from schemas.events import (
    AlertAck,
    ModelBacktest,
    PortfolioState,
    Return,
    RiskAlert,
    RiskEstimate,
    RiskLimit,
    RiskLimits,
    RiskMeasure,
    WatchState,
)
from schemas.instants import to_rfc3339
from stream_processors.alerts import DAYS_JUDGED, MODEL, Alerts, Occasion, Source, rules_of
from stream_processors.estimates import Closed, Methods
from stream_processors.measures import (
    VAR_95,
    VAR_99,
    Measured,
    Outcome,
    ReturnWindow,
    measure,
)
from stream_processors.model_tests import judge_model
from stream_processors.thresholds import Rule

METHOD = "historical"

_LEVELS = {"0.95": VAR_95, "0.99": VAR_99}
_TAKEN = frozenset({Outcome.ACCEPTED, Outcome.CORRECTED})


class Position(NamedTuple):
    """Where a return stands in its partition."""

    offset: int
    place: int
    """Within a batch."""


@dataclass(frozen=True, slots=True)
class RiskConfig:
    """How returns are measured and judged; the same for all portfolios, but for the limits."""

    window: int
    observations_min: int
    lateness_us: int
    default_rules: tuple[Rule, ...]
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """By portfolio, where one has rules of its own."""
    methods: Methods = field(default_factory=Methods)
    periods_a_year: int = 252

    def rules_of(self, portfolio_id: str) -> tuple[Rule, ...]:
        """The rules that judge a portfolio that no limits were set for."""
        return self.rules.get(portfolio_id, self.default_rules)


class PortfolioRisk:
    """One portfolio: its window, its alerts, and how far it has been read."""

    def __init__(self, portfolio_id: str, config: RiskConfig, source: Source) -> None:
        """Have a portfolio that nothing is known of.

        Args:
            portfolio_id: its name.
            config: how it is measured and judged.
            source: where its returns come from.
        """
        self.portfolio_id = portfolio_id
        self.source = source
        self.tenant: str | None = None
        """Whose it is."""
        self.position = Position(-1, -1)
        self.outcomes: Counter[str] = Counter()
        self._config = config
        self._window = ReturnWindow(config.window, with_moments=config.methods.has_closed)
        self._alerts = Alerts(portfolio_id, config.rules_of(portfolio_id))
        self._limits: Sequence[RiskLimit] = []
        self._limits_offset = self._acks_offset = -1
        self._exceptions = dict.fromkeys(_LEVELS, "")
        self._measured: Measured | None = None
        self._closed: Sequence[Closed] = ()
        self._slower: Sequence[RiskEstimate] = []
        self._accepted = 0
        self._cause = ""
        """Which return the present measure came with."""
        self._is_new = False
        """Whether a return was taken in since the state was packed."""

    @classmethod
    def unpack(cls, state: PortfolioState, config: RiskConfig, topic: str) -> "PortfolioRisk":
        """Go on from a state that was packed, of returns of a topic."""
        risk = cls(state.portfolio_id, config, Source(topic, state.partition))
        risk.tenant = state.tenant
        risk.position = Position(state.offset, state.index)
        risk.outcomes = Counter(state.outcomes)
        risk._window = ReturnWindow.of(
            config.window,
            list(state.times_us),
            list(state.values),
            list(state.versions),
            variance_sum=state.variance_sum,
            with_moments=config.methods.has_closed,
        )
        risk._alerts.unpack(_watches(state))
        risk._alerts.stale_after_s = state.stale_after_s
        if state.limits:
            risk._limits, risk._alerts.rules = state.limits, rules_of(state.limits)
        risk._limits_offset, risk._acks_offset = state.limits_offset, state.acks_offset
        risk._exceptions |= state.exceptions
        risk._slower, risk._accepted = state.estimates, state.accepted
        risk._cause = state.cause
        if state.values:
            # Tomorrow's return is judged by what was forecast today.
            risk._remeasure()
        return risk

    def pack(self) -> PortfolioState:
        """Everything that is needed to go on elsewhere."""
        window = self._window
        return PortfolioState(
            portfolio_id=self.portfolio_id,
            offset=self.position.offset,
            index=self.position.place,
            times_us=window.times_us,
            values=window.values,
            versions=window.versions,
            outcomes=self.outcomes,
            watches=self._alerts.pack(),
            limits=self._limits,
            stale_after_s=self._alerts.stale_after_s,
            limits_offset=self._limits_offset,
            acks_offset=self._acks_offset,
            variance_sum=None if window.moments is None else window.variance.sum,
            exceptions=self._exceptions,
            estimates=self._slower,
            accepted=self._accepted,
            cause=self._cause,
            partition=self.source.partition,
            tenant=self.tenant,
        )

    def apply(self, one: Return, position: Position) -> tuple[Outcome | None, Sequence[RiskAlert]]:
        """Fold one return in.

        Returns:
            What became of it (None where it had been applied before), and the alerts it caused.
        """
        if position <= self.position:
            return None, ()
        self.position = position
        times, forecast = self._window.times_us, self._measured
        is_next = bool(times) and one.event_time_us > times[-1]
        outcome = self._window.add(one, lateness_us=self._config.lateness_us)
        self.outcomes[outcome] += 1
        if outcome not in _TAKEN:
            return outcome, ()
        if is_next and forecast is not None:
            self._note_exceptions(forecast, one.value)
        self._remeasure()
        self._accepted += 1
        if self._accepted % self._config.methods.slower_every == 0:
            minimum = self._config.observations_min
            self._slower = self._config.methods.slower(self._window, minimum)
        self._is_new = True
        self._cause = f"{to_rfc3339(one.event_time_us)}/{one.version}"
        return outcome, self._alerts.judge(self._occasion())

    def set_limits(self, limits: RiskLimits, offset: int) -> Sequence[RiskAlert]:
        """Judge by other limits from now on, and the last measure at once.

        Raises:
            InvalidRule: a limit has no meaning; the others stay as they are.
        """
        if offset <= self._limits_offset:
            return ()
        self._limits_offset = offset
        rules = rules_of(limits.limits) or self._config.rules_of(self.portfolio_id)
        self._limits = limits.limits
        self._alerts.stale_after_s = limits.stale_after_s
        occasion = None if self._measured is None else self._occasion()
        return self._alerts.change_rules(rules, f":limits/{offset}", occasion)

    def acknowledge(self, ack: AlertAck, offset: int) -> Sequence[RiskAlert]:
        """Note that somebody deals with an alert, and tell everybody."""
        if offset <= self._acks_offset:
            return ()
        self._acks_offset = offset
        if self._measured is None:
            return ()
        return self._alerts.acknowledge(ack, self._occasion())

    def tick(self, now_us: int) -> Sequence[RiskAlert]:
        """Look at the clock: whether the last measure has become too old."""
        if self._alerts.stale_after_s is None or self._measured is None:
            return ()
        return self._alerts.tick(now_us, self._occasion())

    def measure_event(self) -> RiskMeasure | None:
        """The latest measure; None where no return has been taken in since the state was packed."""
        measured = self._measured
        if measured is None or not self._is_new:
            return None
        as_of_us = self._window.times_us[-1]
        rule = self._alerts.rule("var_95")
        drawdowns = _drawdowns(self._window.values) if self._closed else (None, None)
        return RiskMeasure(
            portfolio_id=self.portfolio_id,
            as_of_us=as_of_us,
            method=METHOD,
            status=measured.status,
            observations=len(self._window),
            var_95=measured.var_95,
            es_95=measured.es_95,
            var_99=measured.var_99,
            es_99=measured.es_99,
            scenario_us=self._scenario_us("var_95"),
            threshold=None if rule is None else rule.limit,
            utilisation=_utilisation(measured.var_95, rule),
            event_id=self._measure_id(),
            source_topic=self.source.topic,
            source_partition=self.source.partition,
            source_offset=self.position.offset,
            volatility=self._volatility(),
            drawdown=drawdowns[0],
            max_drawdown=drawdowns[1],
            estimates=[*self._config.methods.named(self._closed, as_of_us), *self._slower],
            model_backtests=list(self._model_backtests()),
        )

    def _remeasure(self) -> None:
        config, window = self._config, self._window
        self._measured = measure(window, observations_min=config.observations_min)
        if config.methods.has_closed and len(window) >= config.observations_min:
            self._closed = config.methods.closed(window)

    def _note_exceptions(self, forecast: Measured, value: float) -> None:
        """Whether a return lost more than was forecast before it."""
        for name, var in (("0.95", forecast.var_95), ("0.99", forecast.var_99)):
            if var is not None:
                days = self._exceptions[name] + ("x" if -value > var else ".")
                self._exceptions[name] = days[-DAYS_JUDGED:]

    def _occasion(self) -> Occasion:
        measured = self._measured
        assert measured is not None
        values = {
            "var_95": measured.var_95,
            "es_95": measured.es_95,
            "var_99": measured.var_99,
            "es_99": measured.es_99,
            MODEL: self._exceptions_99(),
        }
        return Occasion(
            measure_id=self._measure_id(),
            as_of_us=self._window.times_us[-1],
            values=values,
            scenario_us=self._scenario_us,
            source=self.source,
            offset=self.position.offset,
        )

    def _measure_id(self) -> str:
        return f"measure:{self.portfolio_id}:{self._cause}"

    def _scenario_us(self, rule_id: str) -> int | None:
        """When the return was observed that is the VaR at a rule's level."""
        measured = self._measured
        if measured is None:
            return None
        var = measured.var_99 if rule_id.endswith("99") else measured.var_95
        return None if var is None else self._window.scenario_us(var)

    def _exceptions_99(self) -> float | None:
        days = self._exceptions["0.99"]
        return float(days.count("x")) if len(days) == DAYS_JUDGED else None

    def _model_backtests(self) -> Iterator[ModelBacktest]:
        for name, level in _LEVELS.items():
            days = self._exceptions[name]
            if not days:
                continue
            found = judge_model([day == "x" for day in days], level)
            yield ModelBacktest(
                confidence=float(name),
                observations=found.observations,
                exceptions=found.exceptions,
                zone=found.zone,
                kupiec=found.coverage.ratio,
                kupiec_p=found.coverage.p_value,
                independence=found.independence.ratio,
                independence_p=found.independence.p_value,
                conditional_coverage=found.conditional_coverage.ratio,
                conditional_coverage_p=found.conditional_coverage.p_value,
            )

    def _volatility(self) -> float | None:
        """Of a year; None where moments are not kept, or say nothing."""
        moments = self._window.moments
        if moments is None or len(self._window) < self._config.observations_min:
            return None
        try:
            return moments.moments().deviation * sqrt(self._config.periods_a_year)
        except OverflowError:
            return None


def _utilisation(var: float | None, rule: Rule | None) -> float | None:
    return None if var is None or rule is None else var / rule.limit


def _drawdowns(returns: Sequence[float]) -> tuple[float, float]:
    """How far below its peak the compounded value is now, and was at most, over the window."""
    value = peak = 1.0
    deepest = 0.0
    for one in returns:
        value *= 1 + one
        if value > peak:
            peak = value
        elif peak - value > deepest * peak:
            deepest = 1 - value / peak
    return 1 - value / peak, deepest


def _watches(state: PortfolioState) -> Sequence[WatchState]:
    """Where rules stood; there was only one once, which is kept elsewhere."""
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
