"""The events of an alert's transitions, with their messages. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import floor
from typing import NamedTuple

from schemas.events import AlertAck, AlertTransition, AlertType, OpenAlert, RiskAlert, Severity
from schemas.topics import TopicPartition
from stream_processors.risk.measures import finite
from stream_processors.risk.rules import DAYS_JUDGED, MODEL, STALE, metric_of
from stream_processors.risk.thresholds import AlertLevel, Rule, Transition

_SEVERITY = {
    AlertLevel.NORMAL: Severity.LOW,
    AlertLevel.WARNING: Severity.LOW,
    AlertLevel.BREACH: Severity.HIGH,
    AlertLevel.CRITICAL: Severity.CRITICAL,
}
_DIGITS, _DIGITS_MAX = 4, 17
_LARGE = 1_000.0
"""A limit from which on it is an amount, with two decimals."""
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
    entity_type: str = "portfolio"
    limits_version: str | None = None
    """When the limits were set, as RFC 3339; None for the defaults."""
    limits_until_us: Mapping[str, int] = {}
    """Until when the temporary limits hold that are in force, by rule."""
    supersedes: str | None = None
    """The id of the measure that this one replaces, after a correction."""
    method: str | None = None
    status: str | None = None
    status_reason: str | None = None
    window_first_us: int | None = None
    observations: int | None = None
    corrections: int | None = None


def alert_event(
    entity_id: str,
    rule: Rule,
    transition: Transition,
    context: AlertContext,
    text: str,
    ack: AlertAck | None = None,
) -> RiskAlert:
    """Return the event of a transition under a rule.

    Args:
        entity_id: the entity of the alert, such as a portfolio.
        rule: the rule.
        transition: the transition.
        context: the measure that was judged.
        text: the message.
        ack: the acknowledgement, if that is the transition.
    """
    is_model = rule.rule_id == MODEL
    alert = RiskAlert(
        alert_id=transition.alert_id,
        transition_id=transition.transition_id,
        alert_type=AlertType.MODEL_RED if is_model else metric_of(rule.rule_id)[1],
        state=transition.kind,
        severity=severity(rule.rule_id, transition.level),
        message=text,
        metric_name=rule.rule_id,
        metric_value=transition.value,
        threshold=rule.limit,
        entity_type=context.entity_type,
        entity_id=entity_id,
        event_time_us=context.as_of_us,
        level=transition.level.name.lower(),
        utilisation=finite(transition.value / rule.limit),
        rule_id=rule.rule_id,
        scenario_us=context.scenario_us(rule.rule_id),
    )
    return _explained(alert, transition, context, ack)


def stale_event(
    entity_id: str,
    transition: Transition,
    context: AlertContext,
    stale_after_s: float,
    text: str | None = None,
    ack: AlertAck | None = None,
) -> RiskAlert:
    """Return the event of an alert about missing measures.

    Args:
        entity_id: the entity of the alert, such as a portfolio.
        transition: the transition.
        context: the last measure.
        stale_after_s: how long there may be none, in seconds.
        text: the message; None for the one that the level has.
        ack: the acknowledgement, if that is the transition.
    """
    if text is None and transition.level is AlertLevel.NORMAL:
        text = "measures arrive again"
    alert = RiskAlert(
        alert_id=transition.alert_id,
        transition_id=transition.transition_id,
        alert_type=AlertType.STALE_DATA,
        state=transition.kind,
        severity=severity(STALE, transition.level),
        message=f"no measure for more than {stale_after_s:g} s" if text is None else text,
        metric_name="age_s",
        metric_value=transition.value,
        threshold=stale_after_s,
        entity_type=context.entity_type,
        entity_id=entity_id,
        event_time_us=context.as_of_us,
        rule_id=STALE,
    )
    return _explained(alert, transition, context, ack)


def _explained(
    alert: RiskAlert, transition: Transition, context: AlertContext, ack: AlertAck | None
) -> RiskAlert:
    """Return an alert with the measure, the limits and the acknowledgement that it follows from."""
    return replace(
        alert,
        source_topic=context.source.topic,
        source_partition=context.source.partition,
        source_offset=context.offset,
        acknowledged=transition.acknowledged,
        acknowledged_by=None if ack is None else ack.by,
        comment="" if ack is None else ack.comment,
        cause=None if ack is None else ack.cause,
        limits_version=context.limits_version,
        limit_until_us=context.limits_until_us.get(alert.rule_id or ""),
        measure_id=context.measure_id,
        supersedes=context.supersedes,
        method=context.method,
        status=context.status,
        status_reason=context.status_reason,
        window_first_us=context.window_first_us,
        window_last_us=None if context.window_first_us is None else context.as_of_us,
        observations=context.observations,
        corrections=context.corrections,
    )


def severity(rule_id: str, level: AlertLevel) -> Severity:
    """Return the severity of an alert under a rule."""
    return Severity.MEDIUM if rule_id in (STALE, MODEL) else _SEVERITY[level]


def message(transition: Transition, rule: Rule) -> str:
    """Describe a transition in a sentence with its numbers, which is true of them."""
    above = transition.value > rule.limit
    if rule.rule_id == MODEL:
        verb = "entered" if above else "left"
        return (
            f"The model has {verb} the red zone: {transition.value:.0f} exceptions in "
            f"{DAYS_JUDGED} days, and {rule.limit:.0f} may be"
        )
    name = metric_of(rule.rule_id)[0]
    value, limit = _figures(transition.value, rule.limit)
    if transition.level is AlertLevel.WARNING:
        return f"{name} {_approach(transition.value, rule, value, limit)}"
    if above:
        return f"{name} exceeded threshold: {value} > {limit}"
    if transition.level is AlertLevel.NORMAL:
        return f"{name} back within threshold: {value} <= {limit}"
    # Hysteresis or `clear_after` hold the level, though the value is not above the threshold.
    end = f"{rule.lowest_threshold * (1 - rule.hysteresis):.4g}"
    return f"{name} below threshold, but not cleared yet: {value} <= {limit}; clears at {end}"


def _approach(number: float, rule: Rule, value: str, limit: str) -> str:
    """Say how far a value is from the limit, at the level of a warning."""
    if number > rule.limit:  # `raise_after` counts a measure that was lower
        return f"approaching threshold, and now above it: {value} > {limit}"
    share = f"{number / rule.limit:.0%}"
    for digits in range(1, 17):
        if share != "100%" or number == rule.limit:
            break
        share = f"{floor(number / rule.limit * 100 * 10**digits) / 10**digits:g}%"
    if rule.warn_ratio is None or number > rule.lowest_threshold:
        return f"approaching threshold: {value}, {share} of {limit}"
    return f"back below threshold: {value}, {share} of {limit}"


def _figures(value: float, limit: float) -> tuple[str, str]:
    """Return both numbers with so many digits that they differ as the numbers do."""
    for digits in range(2 if limit >= _LARGE else _DIGITS, _DIGITS_MAX):
        shown = f"{value:.{digits}f}", f"{limit:.{digits}f}"
        if (shown[0] != shown[1] or value == limit) and float(shown[1]) > 0:
            return shown
    return repr(value), repr(limit)


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
        acknowledged=alert.acknowledged or alert.state == AlertTransition.ACKNOWLEDGED,
        event_time_us=alert.event_time_us,
        tenant=tenant,
        acknowledged_by=alert.acknowledged_by,
        comment=alert.comment,
        cause=alert.cause,
        limits_version=alert.limits_version,
        entity_type=alert.entity_type,
    )
