"""What a return means for its portfolio: a measure, and perhaps an alert.

Pure: `PortfolioRisk` folds returns, one after another, and says what to publish. Its state carries
the position (offset, index in the batch) up to which it has read, and skips what is not newer;
so a record that Kafka delivers again changes nothing and says nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.events import PortfolioState, Return, RiskAlert, RiskMeasure
from schemas.instants import to_rfc3339
from stream_processors.measures import Measured, Outcome, ReturnWindow, measure
from stream_processors.thresholds import AlertLevel, AlertState, Rule, Transition, judge

METRIC = "var_95"
METHOD = "historical"

_SEVERITY = {
    AlertLevel.NORMAL: "low",
    AlertLevel.WARNING: "low",
    AlertLevel.BREACH: "high",
    AlertLevel.CRITICAL: "critical",
}


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
    default_rule: Rule
    rules: Mapping[str, Rule]
    """By portfolio, where one has a rule of its own."""

    def rule_of(self, portfolio_id: str) -> Rule:
        """The rule that judges a portfolio."""
        return self.rules.get(portfolio_id, self.default_rule)


class Source(NamedTuple):
    """The partition that returns are read from."""

    topic: str
    partition: int


class PortfolioRisk:
    """One portfolio: its window, its alert, and how far it has been read."""

    def __init__(self, portfolio_id: str, config: RiskConfig) -> None:
        self.portfolio_id = portfolio_id
        self.position = Position(-1, -1)
        self.outcomes: Counter[str] = Counter()
        self._config = config
        self._rule = config.rule_of(portfolio_id)
        self._window = ReturnWindow(config.window)
        self._alert = AlertState()
        self._measured: Measured | None = None
        self._event_id = ""

    @classmethod
    def unpack(cls, state: PortfolioState, config: RiskConfig) -> "PortfolioRisk":
        """Go on from a state that was packed."""
        risk = cls(state.portfolio_id, config)
        risk.position = Position(state.offset, state.index)
        risk.outcomes = Counter(state.outcomes)
        risk._window = ReturnWindow.of(
            config.window, list(state.times_us), list(state.values), list(state.versions)
        )
        risk._alert = AlertState(
            level=AlertLevel(state.level),
            run=tuple(AlertLevel(level) for level in state.run),
            run_up=state.run_up,
            alert_id=state.alert_id,
            transitions=state.transitions,
            judged_us=state.judged_us,
        )
        return risk

    def pack(self) -> PortfolioState:
        """Everything that is needed to go on elsewhere."""
        return PortfolioState(
            portfolio_id=self.portfolio_id,
            offset=self.position.offset,
            index=self.position.place,
            times_us=self._window.times_us,
            values=self._window.values,
            versions=self._window.versions,
            level=self._alert.level,
            run=self._alert.run,
            run_up=self._alert.run_up,
            alert_id=self._alert.alert_id,
            transitions=self._alert.transitions,
            judged_us=self._alert.judged_us,
            outcomes=self.outcomes,
        )

    def apply(
        self, one: Return, position: Position, source: Source
    ) -> tuple[Outcome | None, RiskAlert | None]:
        """Fold one return in.

        Returns:
            What became of it (None where it had been applied before), and the alert it caused.
        """
        if position <= self.position:
            return None, None
        self.position = position
        outcome = self._window.add(one, lateness_us=self._config.lateness_us)
        self.outcomes[outcome] += 1
        if outcome not in {Outcome.ACCEPTED, Outcome.CORRECTED}:
            return outcome, None
        self._measured = measure(self._window, observations_min=self._config.observations_min)
        self._event_id = f"{to_rfc3339(one.event_time_us)}/{one.version}"
        self._alert, step = judge(
            self._rule,
            self._alert,
            portfolio_id=self.portfolio_id,
            measure_id=self._measure_id(),
            at_us=self._window.times_us[-1],
            value=self._measured.var_95,
        )
        return outcome, None if step is None else self._alert_event(step, source)

    def measure_event(self, source: Source) -> RiskMeasure | None:
        """The latest measure; None where no return has been taken in since the state was packed."""
        measured = self._measured
        if measured is None:
            return None
        return RiskMeasure(
            portfolio_id=self.portfolio_id,
            as_of_us=self._window.times_us[-1],
            method=METHOD,
            status=measured.status,
            observations=len(self._window),
            var_95=measured.var_95,
            es_95=measured.es_95,
            var_99=measured.var_99,
            es_99=measured.es_99,
            scenario_us=self._scenario_us(measured.var_95),
            threshold=self._rule.limit,
            utilisation=self._utilisation(measured.var_95),
            event_id=self._measure_id(),
            source_topic=source.topic,
            source_partition=source.partition,
            source_offset=self.position.offset,
        )

    def _alert_event(self, step: Transition, source: Source) -> RiskAlert:
        return RiskAlert(
            alert_id=step.alert_id,
            transition_id=step.transition_id,
            alert_type="var_exceeded",
            state=step.kind,
            severity=_SEVERITY[step.level],
            message=message(step, self._rule),
            metric_name=METRIC,
            metric_value=step.value,
            threshold=self._rule.limit,
            entity_type="portfolio",
            entity_id=self.portfolio_id,
            event_time_us=self._window.times_us[-1],
            level=step.level.name.lower(),
            utilisation=self._utilisation(step.value),
            rule_id=self._rule.rule_id,
            scenario_us=self._scenario_us(step.value),
            source_topic=source.topic,
            source_partition=source.partition,
            source_offset=self.position.offset,
        )

    def _measure_id(self) -> str:
        return f"measure:{self.portfolio_id}:{self._event_id}"

    def _scenario_us(self, var: float | None) -> int | None:
        return None if var is None else self._window.scenario_us(var)

    def _utilisation(self, var: float | None) -> float | None:
        return None if var is None else var / self._rule.limit


def message(step: Transition, rule: Rule) -> str:
    """Say a step in words, with its numbers."""
    value, limit = f"{step.value:.4f}", f"{rule.limit:.4f}"
    if step.level >= AlertLevel.BREACH:
        return f"VaR exceeded threshold: {value} > {limit}"
    if step.level is AlertLevel.WARNING:
        return f"VaR approaching threshold: {value}, {step.value / rule.limit:.0%} of {limit}"
    return f"VaR back within threshold: {value} <= {limit}"
