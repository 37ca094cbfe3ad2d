"""The events of an alert's transitions, with their messages. Pure."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from schemas.events import AlertTransition, AlertType, OpenAlert, RiskAlert, Severity
from schemas.topics import TopicPartition
from stream_processors.risk.measures import finite
from stream_processors.risk.rules import DAYS_JUDGED, METRICS, MODEL, STALE
from stream_processors.risk.thresholds import AlertLevel, Rule, Transition

_SEVERITY = {
    AlertLevel.NORMAL: Severity.LOW,
    AlertLevel.WARNING: Severity.LOW,
    AlertLevel.BREACH: Severity.HIGH,
    AlertLevel.CRITICAL: Severity.CRITICAL,
}
_CLOSED_STATES = frozenset({AlertTransition.CLEARED, AlertTransition.STALE_CLEARED})


class AlertContext(NamedTuple):
    """The measure that is judged, and the return that it came from."""

    measure_id: str
    as_of_us: int
    """The event time of the window's newest return."""
    values: Mapping[str, float | None]
    """The value of each metric."""
    scenario_us: Callable[[str], int | None]
    """Returns the event time of the VaR scenario at a rule's level."""
    source: TopicPartition
    offset: int
    """The offset of the last return's record in the source."""


def alert_event(
    portfolio_id: str, rule: Rule, transition: Transition, context: AlertContext, text: str
) -> RiskAlert:
    """Return the event of a transition under a rule, with a text as its message."""
    is_model = rule.rule_id == MODEL
    return RiskAlert(
        alert_id=transition.alert_id,
        transition_id=transition.transition_id,
        alert_type=AlertType.MODEL_RED if is_model else METRICS[rule.rule_id][1],
        state=transition.kind,
        severity=severity(rule.rule_id, transition.level),
        message=text,
        metric_name=rule.rule_id,
        metric_value=transition.value,
        threshold=rule.limit,
        entity_type="portfolio",
        entity_id=portfolio_id,
        event_time_us=context.as_of_us,
        level=transition.level.name.lower(),
        utilisation=finite(transition.value / rule.limit),
        rule_id=rule.rule_id,
        scenario_us=context.scenario_us(rule.rule_id),
        source_topic=context.source.topic,
        source_partition=context.source.partition,
        source_offset=context.offset,
    )


def stale_event(
    portfolio_id: str, transition: Transition, context: AlertContext, stale_after_s: float
) -> RiskAlert:
    """Return the event of an alert about missing measures."""
    if transition.level is AlertLevel.NORMAL:
        text = "measures arrive again"
    else:
        text = f"no measure for {transition.value:.0f} s, where {stale_after_s:g} s are allowed"
    return RiskAlert(
        alert_id=transition.alert_id,
        transition_id=transition.transition_id,
        alert_type=AlertType.STALE_DATA,
        state=transition.kind,
        severity=severity(STALE, transition.level),
        message=text,
        metric_name="age_s",
        metric_value=transition.value,
        threshold=stale_after_s,
        entity_type="portfolio",
        entity_id=portfolio_id,
        event_time_us=context.as_of_us,
        rule_id=STALE,
        source_topic=context.source.topic,
        source_partition=context.source.partition,
        source_offset=context.offset,
    )


def severity(rule_id: str, level: AlertLevel) -> Severity:
    """Return the severity of an alert under a rule."""
    return Severity.MEDIUM if rule_id in (STALE, MODEL) else _SEVERITY[level]


def message(transition: Transition, rule: Rule) -> str:
    """Describe a transition in a sentence with its numbers."""
    if rule.rule_id == MODEL:
        verb = "left" if transition.level is AlertLevel.NORMAL else "entered"
        return (
            f"The model has {verb} the red zone: {transition.value:.0f} exceptions in "
            f"{DAYS_JUDGED} days, and {rule.limit:.0f} may be"
        )
    name = METRICS[rule.rule_id][0]
    value, limit = f"{transition.value:.4f}", f"{rule.limit:.4f}"
    if transition.level >= AlertLevel.BREACH:
        return f"{name} exceeded threshold: {value} > {limit}"
    if transition.level is AlertLevel.WARNING:
        return (
            f"{name} approaching threshold: {value}, {transition.value / rule.limit:.0%} of {limit}"
        )
    return f"{name} back within threshold: {value} <= {limit}"


def is_closed(alert: RiskAlert) -> bool:
    """Return whether an alert is over after this event."""
    return alert.state in _CLOSED_STATES


def open_alert(alert: RiskAlert, tenant: str | None) -> OpenAlert:
    """Return the row of a tenant's alert that is open after this event."""
    return OpenAlert(
        alert_id=alert.alert_id,
        entity_id=alert.entity_id,
        alert_type=alert.alert_type,
        rule_id=alert.rule_id,
        state=alert.state,
        level=alert.level,
        severity=alert.severity,
        message=alert.message,
        acknowledged=alert.state == AlertTransition.ACKNOWLEDGED,
        event_time_us=alert.event_time_us,
        tenant=tenant,
    )
