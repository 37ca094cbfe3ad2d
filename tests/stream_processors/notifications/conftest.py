"""Routes and notes for tests of the notifier."""

from typing import Any

from schemas.events import Note, NotificationRoute, RiskAlert
from tests.support.alerts import raised_alert

AT_US = 1_764_000_000_000_000
"""2025-11-24 16:00:00 UTC, a Monday."""


def route(name: str = "desk", **values: Any) -> NotificationRoute:
    given: dict[str, Any] = {
        "destination": "webhook",
        "url": "https://hooks.example.com/",
        "subjects": ["alerts", "jobs", "tasks"],
        "event_time_us": 0,
    }
    return NotificationRoute(name=name, **(given | values))


def note(number: int = 0, episode: str = "a", state: str = "raised", **values: Any) -> Note:
    given: dict[str, Any] = {
        "subject": "alerts",
        "entity_id": "p",
        "severity": "high",
        "text": f"note {number}",
        "event_time_us": AT_US,
    }
    return Note(note_id=f"n{number}", episode=episode, state=state, **(given | values))


def alert(state: str = "raised") -> RiskAlert:
    return raised_alert(
        f"a:{state}",
        state=state,
        message="VaR exceeded threshold: 0.0612 > 0.0500",
        metric_value=0.0612,
        event_time_us=AT_US,
    )
