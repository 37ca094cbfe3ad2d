"""What a return means for its portfolio: measures, and perhaps alerts.

Pure: `PortfolioRisk` folds returns, limits and acknowledgements, one after another, and says what
to publish. Its state carries the positions up to which it has read, and skips what is not newer; so
a record that Kafka delivers again changes nothing and says nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, sqrt
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
from schemas.instants import EARLIEST_US, LATEST_US, to_rfc3339
from stream_processors.risk.alerts import DAYS_JUDGED, MODEL, Alerts, Occasion, Source, rules_of
from stream_processors.risk.estimates import Closed, Methods
from stream_processors.risk.measures import (
    VAR_95,
    VAR_99,
    Measured,
    Outcome,
    ReturnWindow,
    finite,
    measure,
)
from stream_processors.risk.model_tests import Days, judge_model
from stream_processors.risk.thresholds import Rule

METHOD = "historical"

_ACCEPTED, _CORRECTED = Outcome.ACCEPTED, Outcome.CORRECTED


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
    """How far behind its portfolio's newest return one may be."""
    default_rules: tuple[Rule, ...]
    rules: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """By portfolio, where one has rules of its own."""
    methods: Methods = field(default_factory=Methods)
    periods_a_year: int = 252
    ahead_us: float = inf
    """How far ahead of the log's clock a return may be."""

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
        self.wanted_by: dict[str, str] = {}
        """The trees of books that need the returns, and whose each is; nobody's is ""."""
        self.position = Position(-1, -1)
        self._others: Counter[str] = Counter()
        """What became of returns that were not accepted."""
        self._config = config
        self._lateness_us = config.lateness_us
        self._has_closed = config.methods.has_closed
        self._window = ReturnWindow(config.window, with_moments=self._has_closed)
        self._alerts = Alerts(portfolio_id, config.rules_of(portfolio_id))
        self._limits: Sequence[RiskLimit] = []
        self.limits_offset = self.acks_offset = -1
        self._days_95, self._days_99 = Days(DAYS_JUDGED), Days(DAYS_JUDGED)
        self._measured: Measured | None = None
        self._slower: Sequence[RiskEstimate] = []
        self._slower_every = config.methods.slower_every
        self._accepted = 0
        self._cause: tuple[int, int] | None = None
        """Time and version of the return that the present measure came with."""
        self._is_new = False
        """Whether a return was taken in since the state was packed."""

    @classmethod
    def unpack(cls, state: PortfolioState, config: RiskConfig, topic: str) -> "PortfolioRisk":
        """Go on from a state that was packed, of returns of a topic."""
        risk = cls(state.portfolio_id, config, Source(topic, state.partition))
        risk.tenant = state.tenant
        risk.wanted_by = dict(state.wanted_by)
        risk.position = Position(state.offset, state.index)
        risk._others = Counter(state.outcomes)
        risk._accepted = risk._others.pop(_ACCEPTED, 0)
        kept = state.times_us, state.values, state.versions
        risk._window = ReturnWindow.of(
            config.window,
            *(ReturnWindow.unpack(state.window, state.observations) if state.window else kept),
            variance_sum=state.variance_sum,
            with_moments=config.methods.has_closed,
        )
        risk._alerts.unpack(_watches(state))
        risk._alerts.stale_after_s = state.stale_after_s
        if state.limits:
            risk._limits, risk._alerts.rules = state.limits, rules_of(state.limits)
        risk.limits_offset, risk.acks_offset = state.limits_offset, state.acks_offset
        risk._days_95 = Days(DAYS_JUDGED, state.exceptions.get("0.95", ""))
        risk._days_99 = Days(DAYS_JUDGED, state.exceptions.get("0.99", ""))
        risk._slower = state.estimates
        risk._cause = None if state.cause_us is None else (state.cause_us, state.cause_version)
        if len(risk._window):
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
            window=window.pack(),
            observations=len(window),
            outcomes=self.outcomes,
            watches=self._alerts.pack(),
            limits=self._limits,
            stale_after_s=self._alerts.stale_after_s,
            limits_offset=self.limits_offset,
            acks_offset=self.acks_offset,
            variance_sum=None if window.moments is None else window.variance.sum,
            exceptions={"0.95": str(self._days_95), "0.99": str(self._days_99)},
            estimates=self._slower,
            cause_us=None if self._cause is None else self._cause[0],
            cause_version=0 if self._cause is None else self._cause[1],
            partition=self.source.partition,
            tenant=self.tenant,
            wanted_by=self.wanted_by,
        )

    @property
    def returns(self) -> list[Return]:
        """What the window holds."""
        window = self._window
        columns = zip(window.times_us, window.values, window.versions, strict=True)
        return [Return(self.portfolio_id, *one) for one in columns]

    @property
    def outcomes(self) -> Mapping[str, int]:
        """What became of how many returns."""
        accepted = {_ACCEPTED.value: self._accepted} if self._accepted else {}
        return accepted | self._others

    @property
    def utilisation(self) -> float | None:
        """VaR at 95 % as a share of its limit; None without either."""
        var = None if self._measured is None else self._measured.var_95
        return finite(_utilisation(var, self._alerts.rule("var_95")))

    def open_severities(self) -> Iterable[str]:
        """Of each alert that is not over."""
        return self._alerts.open_severities()

    def apply(
        self, one: Return, position: Position, latest_us: float = LATEST_US
    ) -> tuple[Outcome | None, Sequence[RiskAlert]]:
        """Fold one return in.

        Args:
            one: the return.
            position: where it stands.
            latest_us: one of a later time is refused: the window would move there, and all that
                is true would be late.

        Returns:
            What became of it (None where it had been applied before), and the alerts it caused.
        """
        if position <= self.position:
            return None, ()
        self.position = position
        at_us = one.event_time_us
        if not EARLIEST_US <= at_us <= latest_us and isfinite(one.value):
            refused = Outcome.FUTURE if at_us > latest_us else Outcome.REJECTED
            self._others[refused] += 1
            return refused, ()
        window, forecast = self._window, self._measured
        is_next = forecast is not None and at_us > window.newest_us
        outcome = window.add(one, lateness_us=self._lateness_us)
        if outcome is _ACCEPTED:
            self._accepted += 1
        else:
            self._others[outcome] += 1
            if outcome is not _CORRECTED:
                return outcome, ()
        if is_next and forecast is not None:
            self._note_exceptions(forecast, one.value)
        # Where nothing came into the tail, or left it, there is nothing new: nine times of ten.
        var = None if forecast is None else forecast.var_95
        if var is None or not window.lowest_moved > -var:
            self._remeasure()
        if self._accepted % self._slower_every == 0:
            minimum = self._config.observations_min
            self._slower = self._config.methods.slower(self._window, minimum)
        self._is_new = True
        self._cause = at_us, one.version
        assert self._measured is not None
        alerts = self._alerts.judge(
            self._measured, self._exceptions_99(), window.newest_us, self._occasion
        )
        return outcome, alerts

    def set_limits(self, limits: RiskLimits, offset: int) -> Sequence[RiskAlert]:
        """Judge by other limits from now on, and the last measure at once.

        Raises:
            InvalidRule: a limit has no meaning; the others stay as they are.
        """
        if offset <= self.limits_offset:
            return ()
        self.limits_offset = offset
        rules = rules_of(limits.limits) or self._config.rules_of(self.portfolio_id)
        self._limits = limits.limits
        self._alerts.stale_after_s = limits.stale_after_s
        occasion = None if self._measured is None else self._occasion()
        return self._alerts.change_rules(rules, f":limits/{offset}", occasion)

    def acknowledge(self, ack: AlertAck, offset: int) -> Sequence[RiskAlert]:
        """Note that somebody deals with an alert, and tell everybody."""
        if offset <= self.acks_offset:
            return ()
        self.acks_offset = offset
        if self._measured is None:
            return ()
        return self._alerts.acknowledge(ack, self._occasion())

    def tick(self, now_us: int) -> Sequence[RiskAlert]:
        """Look at the clock: whether the last measure has become too old."""
        if self._alerts.stale_after_s is None or self._measured is None:
            return ()
        return self._alerts.tick(now_us, self._occasion())

    @property
    def open_alert_ids(self) -> frozenset[str]:
        """The alerts that are not over, but for silences."""
        return self._alerts.open_ids

    def end_alerts(self, known: frozenset[str]) -> Sequence[RiskAlert]:
        """The end of the alerts that another account of the same past does not know."""
        return self._alerts.end(known, self._occasion()) if self.open_alert_ids - known else ()

    def tell_alerts_again(self, known: frozenset[str], version: str) -> Sequence[RiskAlert]:
        """The alerts that another account of the same past did not know."""
        if not self.open_alert_ids - known:
            return ()
        return self._alerts.tell_again(known, version, self._occasion())

    def tell_again(self) -> None:
        """Say the latest measure once more."""
        self._is_new = True

    def measure_event(self) -> RiskMeasure | None:
        """The latest measure; None where no return has been taken in since the state was packed."""
        measured = self._measured
        if measured is None or not self._is_new:
            return None
        as_of_us = self._window.newest_us
        rule = self._alerts.rule("var_95")
        closed = self._closed()
        drawdowns = (None, None) if closed is None else _drawdowns(self._window.values)
        return RiskMeasure(
            portfolio_id=self.portfolio_id,
            as_of_us=as_of_us,
            method=METHOD,
            status=measured.status,
            observations=len(self._window),
            var_95=finite(measured.var_95),
            es_95=finite(measured.es_95),
            var_99=finite(measured.var_99),
            es_99=finite(measured.es_99),
            scenario_us=self._scenario_us("var_95"),
            threshold=None if rule is None else rule.limit,
            utilisation=finite(_utilisation(measured.var_95, rule)),
            event_id=self._measure_id(),
            source_topic=self.source.topic,
            source_partition=self.source.partition,
            source_offset=self.position.offset,
            volatility=None if closed is None else self._volatility(closed),
            drawdown=finite(drawdowns[0]),
            max_drawdown=finite(drawdowns[1]),
            estimates=[*self._closed_estimates(closed, as_of_us), *self._slower],
            model_backtests=list(self._model_backtests()),
        )

    def _remeasure(self) -> None:
        window, minimum = self._window, self._config.observations_min
        self._measured = measure(window, observations_min=minimum)

    def _closed(self) -> Closed | None:
        """What the closed forms say of the window: only a measure that is published needs it."""
        if not self._has_closed or len(self._window) < self._config.observations_min:
            return None
        return self._config.methods.closed(self._window)

    def _note_exceptions(self, forecast: Measured, value: float) -> None:
        """Whether a return lost more than was forecast before it."""
        if forecast.var_95 is not None:
            self._days_95.add(exceeded=-value > forecast.var_95)
        if forecast.var_99 is not None:
            self._days_99.add(exceeded=-value > forecast.var_99)

    def _values(self) -> Mapping[str, float | None]:
        """What rules are about."""
        measured = self._measured
        assert measured is not None
        return {
            "var_95": measured.var_95,
            "es_95": measured.es_95,
            "var_99": measured.var_99,
            "es_99": measured.es_99,
            MODEL: self._exceptions_99(),
        }

    def _exceptions_99(self) -> float | None:
        days = self._days_99
        return float(days.exceptions) if days.count == DAYS_JUDGED else None

    def _occasion(self) -> Occasion:
        return Occasion(
            measure_id=self._measure_id(),
            as_of_us=self._window.newest_us,
            values=self._values(),
            scenario_us=self._scenario_us,
            source=self.source,
            offset=self.position.offset,
        )

    def _measure_id(self) -> str:
        if self._cause is None:
            return f"measure:{self.portfolio_id}:"
        at_us, version = self._cause
        return f"measure:{self.portfolio_id}:{to_rfc3339(at_us)}/{version}"

    def _scenario_us(self, rule_id: str) -> int | None:
        """When the return was observed that is the VaR at a rule's level."""
        measured = self._measured
        if measured is None:
            return None
        var = measured.var_99 if rule_id.endswith("99") else measured.var_95
        return None if var is None else self._window.scenario_us(var)

    def _closed_estimates(self, closed: Closed | None, as_of_us: int) -> Iterator[RiskEstimate]:
        too_few = len(self._window) < self._config.observations_min
        missing = "insufficient_data" if too_few else "unavailable"
        return self._config.methods.named(closed, as_of_us, missing=missing)

    def _model_backtests(self) -> Iterator[ModelBacktest]:
        for days, level in ((self._days_95, VAR_95), (self._days_99, VAR_99)):
            if not days.count:
                continue
            found = judge_model(days.pattern, level)
            yield ModelBacktest(
                confidence=float(level.confidence),
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

    def _volatility(self, closed: Closed) -> float:
        """Of a year."""
        return closed.moments.deviation * sqrt(self._config.periods_a_year)


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
