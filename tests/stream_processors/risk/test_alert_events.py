"""Alert events: their messages and severities, and the rows of open alerts."""

import re

import pytest
from hypothesis import given, strategies as st

from schemas.events import AlertAck, AlertTransition
from schemas.topics import TopicPartition
from stream_processors.risk.alert_events import (
    AlertContext,
    alert_event,
    is_closed,
    message,
    open_alert,
    stale_event,
)
from stream_processors.risk.rules import MODEL_RULE
from stream_processors.risk.thresholds import AlertLevel, Rule, Transition

VAR = Rule("var_95", 0.05)
CONTEXT = AlertContext(
    measure_id="m",
    as_of_us=7,
    values={"var_95": 0.0612},
    scenario_us=lambda rule_id: 5 if rule_id == "var_95" else None,
    source=TopicPartition("portfolio.returns", 3),
    offset=11,
)


def step(kind: AlertTransition, level: AlertLevel, value: float) -> Transition:
    return Transition("alert", "transition", kind, level, value)


@pytest.mark.parametrize(
    ("rule", "transition", "text"),
    [
        (
            VAR,
            step(AlertTransition.RAISED, AlertLevel.BREACH, 0.0612),
            "VaR exceeded threshold: 0.0612 > 0.0500",
        ),
        (
            Rule("es_95", 0.05),
            step(AlertTransition.RAISED, AlertLevel.WARNING, 0.045),
            "ES approaching threshold: 0.0450, 90% of 0.0500",
        ),
        (
            VAR,
            step(AlertTransition.CLEARED, AlertLevel.NORMAL, 0.01),
            "VaR back within threshold: 0.0100 <= 0.0500",
        ),
        (
            Rule("var_95", 0.05, critical_ratio=1.5),
            step(AlertTransition.DEESCALATED, AlertLevel.BREACH, 0.048),
            "VaR below threshold, but not cleared yet: 0.0480 <= 0.0500; clears at 0.045",
        ),
        (
            Rule("var_95", 0.02015),
            step(AlertTransition.RAISED, AlertLevel.BREACH, 0.0202),
            "VaR exceeded threshold: 0.02020 > 0.02015",
        ),
        (
            Rule("var_95", 1e-6),
            step(AlertTransition.RAISED, AlertLevel.BREACH, 2e-6),
            "VaR exceeded threshold: 0.000002 > 0.000001",
        ),
        (
            Rule("var_95", 0.05, warn_ratio=0.8),
            step(AlertTransition.RAISED, AlertLevel.WARNING, 0.049999),
            "VaR approaching threshold: 0.049999, 99.9% of 0.050000",
        ),
        (
            Rule("var_95", 0.05, warn_ratio=0.8, raise_after=2),
            step(AlertTransition.RAISED, AlertLevel.WARNING, 0.052),
            "VaR approaching threshold, and now above it: 0.0520 > 0.0500",
        ),
        (
            Rule("var_95", 0.05, warn_ratio=0.8),
            step(AlertTransition.DEESCALATED, AlertLevel.WARNING, 0.038),
            "VaR back below threshold: 0.0380, 76% of 0.0500",
        ),
        (
            Rule("var_95", 1_500_000.0),
            step(AlertTransition.RAISED, AlertLevel.BREACH, 1_600_000.0),
            "VaR exceeded threshold: 1600000.00 > 1500000.00",
        ),
        (
            MODEL_RULE,
            step(AlertTransition.CLEARED, AlertLevel.NORMAL, 9.0),
            "The model has left the red zone: 9 exceptions in 250 days, and 9 may be",
        ),
    ],
)
def test_a_message_has_its_numbers(rule: Rule, transition: Transition, text: str) -> None:
    assert message(transition, rule) == text


numbers = st.floats(0, 1e6, exclude_min=True)


@given(
    numbers,
    st.one_of(numbers, st.just(0.0)),
    st.sampled_from(AlertLevel),
    st.sampled_from(["near", "far"]),
)
def test_no_message_says_what_is_false_of_its_numbers(
    limit: float, value: float, level: AlertLevel, distance: str
) -> None:
    value = limit * (1 + value * 1e-16) if distance == "near" else value
    text = message(step(AlertTransition.ESCALATED, level, value), Rule("var_95", limit))
    comparison = re.search(r": (\S+) (>|<=) ([^\s;]+)", text)
    if comparison is not None:
        left, sign, right = comparison.groups()
        assert (sign == ">") == (value > limit)
        assert (float(left) > float(right)) == (value > limit)
    if "exceeded" in text or "above it" in text:
        assert value > limit


def test_an_alert_says_what_it_follows_from() -> None:
    """The measure, the window, the limits in force, and the acknowledgement with its cause."""
    context = CONTEXT._replace(
        limits_version="2026-11-29T22:00:00Z",
        limits_until_us={"var_95": 99},
        supersedes="m0",
        method="historical",
        status="ok",
        window_first_us=3,
        observations=5,
        corrections=1,
    )
    ack = AlertAck(
        alert_id="alert",
        entity_id="p",
        by="ann",
        comment="sold",
        cause="active",
        event_time_us=0,
    )
    transition = Transition(
        "alert",
        "transition",
        AlertTransition.ACKNOWLEDGED,
        AlertLevel.BREACH,
        0.06,
        acknowledged=True,
    )
    alert = alert_event("p", VAR, transition, context, "text", ack)
    assert (alert.acknowledged, alert.acknowledged_by, alert.comment, alert.cause) == (
        *(True, "ann", "sold", "active"),
    )
    assert (alert.limits_version, alert.limit_until_us) == ("2026-11-29T22:00:00Z", 99)
    assert (alert.measure_id, alert.supersedes, alert.method, alert.status) == (
        *("m", "m0", "historical", "ok"),
    )
    assert (alert.window_first_us, alert.window_last_us) == (3, 7)
    assert (alert.observations, alert.corrections) == (5, 1)
    row = open_alert(alert, None)
    assert (row.acknowledged, row.acknowledged_by, row.comment, row.cause) == (
        *(True, "ann", "sold", "active"),
    )
    of_book = alert_event("desk", VAR, transition, context._replace(entity_type="book"), "text")
    assert (of_book.entity_type, of_book.entity_id) == ("book", "desk")
    lower = Transition(
        "alert", "t", AlertTransition.DEESCALATED, AlertLevel.BREACH, 0.06, acknowledged=True
    )
    assert open_alert(alert_event("p", VAR, lower, context, ""), None).acknowledged


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (AlertLevel.NORMAL, "low"),
        (AlertLevel.WARNING, "low"),
        (AlertLevel.BREACH, "high"),
        (AlertLevel.CRITICAL, "critical"),
    ],
)
def test_an_alert_names_its_level_scenario_and_source(level: AlertLevel, severity: str) -> None:
    alert = alert_event("p", VAR, step(AlertTransition.RAISED, level, 0.06), CONTEXT, "text")
    assert (alert.alert_type, alert.severity) == ("var_exceeded", severity)
    assert (alert.level, alert.scenario_us) == (level.name.lower(), 5)
    assert alert.utilisation == pytest.approx(1.2)
    assert (alert.source_topic, alert.source_partition, alert.source_offset) == (
        *("portfolio.returns", 3, 11),
    )


def test_alerts_about_the_model_and_about_missing_measures_are_medium() -> None:
    model = alert_event(
        "p", MODEL_RULE, step(AlertTransition.RAISED, AlertLevel.BREACH, 10.0), CONTEXT, ""
    )
    stale = stale_event("p", step(AlertTransition.STALE, AlertLevel.BREACH, 90.4), CONTEXT, 60.0)
    assert (model.alert_type, model.severity) == ("model_red", "medium")
    assert (stale.alert_type, stale.severity) == ("stale_data", "medium")
    assert stale.message == "no measure for more than 60 s"
    over = stale_event(
        "p", step(AlertTransition.STALE_CLEARED, AlertLevel.NORMAL, 0.0), CONTEXT, 60.0
    )
    assert over.message == "measures arrive again"


def test_a_row_is_kept_while_the_alert_is_open() -> None:
    for kind, is_over in (
        (AlertTransition.RAISED, False),
        (AlertTransition.ACKNOWLEDGED, False),
        (AlertTransition.CLEARED, True),
    ):
        alert = alert_event("p", VAR, step(kind, AlertLevel.BREACH, 0.06), CONTEXT, "text")
        assert is_closed(alert) is is_over
        row = open_alert(alert, "acme")
        assert (row.acknowledged, row.tenant) == (kind == "acknowledged", "acme")
