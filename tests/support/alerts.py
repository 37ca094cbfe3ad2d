"""An alert for tests that need one, whatever it is about."""

from dataclasses import replace
from typing import Any

from schemas.events import RiskAlert


def raised_alert(transition_id: str, **fields: Any) -> RiskAlert:
    """Return an alert that is raised, with some fields of a caller's."""
    alert = RiskAlert(
        alert_id="a",
        transition_id=transition_id,
        alert_type="var_exceeded",
        state="raised",
        severity="high",
        message="",
        metric_name="var_95",
        metric_value=0.06,
        threshold=0.05,
        entity_type="portfolio",
        entity_id="p",
        event_time_us=1,
    )
    return replace(alert, **fields)
