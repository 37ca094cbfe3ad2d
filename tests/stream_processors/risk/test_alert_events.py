"""Alert events: their messages and severities, and the rows of open alerts."""

import pytest

from schemas.events import AlertTransition
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
            MODEL_RULE,
            step(AlertTransition.CLEARED, AlertLevel.NORMAL, 9.0),
            "The model has left the red zone: 9 exceptions in 250 days, and 9 may be",
        ),
    ],
)
def test_a_message_has_its_numbers(rule: Rule, transition: Transition, text: str) -> None:
    assert message(transition, rule) == text


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
    assert stale.message == "no measure for 90 s, where 60 s are allowed"
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
