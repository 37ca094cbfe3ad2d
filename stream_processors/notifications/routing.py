"""Which events are sent by which routes. Pure."""

import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from schemas.bounds import NAME_CHARS_MAX
from schemas.events import (
    AlertTransition,
    BacktestProgress,
    JobStepKind,
    Note,
    NotificationRoute,
    Record,
    RiskAlert,
    RunStatus,
    Severity,
    Subject,
    TaskStage,
    TrainingProgress,
)
from schemas.run_ids import Owner, may_follow

STARTS = (AlertTransition.RAISED, AlertTransition.ESCALATED, AlertTransition.STALE)
ENDS = (AlertTransition.CLEARED, AlertTransition.STALE_CLEARED)
SILENT = (AlertTransition.ACKNOWLEDGED, AlertTransition.DEESCALATED)
"""Transitions that are sent to nobody, but change whether and how to remind of an alert."""

_TEXT_CHARS_MAX = 500
_JOB_STATES = {
    JobStepKind.COMPLETED: "completed",
    JobStepKind.FAILED: "failed",
    JobStepKind.CANCELLED: "cancelled",
}
_TASK_STATES = {TaskStage.SUCCESS: "completed", TaskStage.FAILURE: "failed"}


def note_of(event: Record) -> Note | None:
    """Return what an event says to people; None for one that no route is about."""
    match event:
        case RiskAlert() if event.state in (*STARTS, *ENDS, *SILENT):
            return Note(
                note_id=event.transition_id,
                subject=Subject.ALERTS,
                entity_id=event.entity_id,
                episode=event.alert_id,
                state=event.state,
                severity=event.severity,
                text=f"{event.entity_id}: {event.message}"[:_TEXT_CHARS_MAX],
                event_time_us=event.event_time_us,
                metric_name=event.metric_name,
                metric_value=event.metric_value if math.isfinite(event.metric_value) else None,
                threshold=event.threshold,
            )
        case BacktestProgress() if event.ends:
            state = event.status if event.job is None else _state(_JOB_STATES, event.job.kind)
            return _of_run(Subject.JOBS, event.backtest_id, state, event)
        case TrainingProgress() if event.ends:
            state = event.status if event.task is None else _state(_TASK_STATES, event.task.stage)
            return _of_run(Subject.TASKS, event.task_id, state, event)
        case _:
            return None


def routes_for(note: Note, routes: Iterable[NotificationRoute]) -> Iterator[NotificationRoute]:
    """Yield those of a tenant's routes by which a note may be sent.

    An end of an alert, and a higher level, are left to the queue of the route: it knows whether the
    alert was told of.
    """
    for route in routes:
        if (
            not route.closed
            and note.subject in route.subjects
            and (note.state not in SILENT or route.remind_s > 0)
            and _is_of_severity(note, route)
            and _is_of_entity(note, route)
            and may_know(note, route)
        ):
            yield route


def _is_of_severity(note: Note, route: NotificationRoute) -> bool:
    return (
        note.state in (*ENDS, *SILENT) or not route.severities or note.severity in route.severities
    )


def _is_of_entity(note: Note, route: NotificationRoute) -> bool:
    return not route.entities or any(
        fnmatchcase(note.entity_id, pattern) for pattern in route.entities
    )


def may_know(note: Note, route: NotificationRoute) -> bool:
    """Return whether the owner of a route may know of what a note tells of."""
    if note.subject not in (Subject.JOBS, Subject.TASKS) or route.set_by is None:
        return True
    return may_follow(note.entity_id, Owner(route.owner_tenant, route.set_by))


def _of_run(
    subject: Subject, run_id: str, state: str, event: BacktestProgress | TrainingProgress
) -> Note:
    has_failed = state == RunStatus.FAILED
    kind = "backtest" if subject is Subject.JOBS else "training run"
    text = f"{kind} {run_id} {state}{': ' if event.message else ''}{event.message}"
    return Note(
        note_id=f"{subject}:{run_id}:ended",
        subject=subject,
        entity_id=run_id,
        episode=f"{subject}:{run_id}",
        state=state[:NAME_CHARS_MAX],
        severity=Severity.HIGH if has_failed else Severity.LOW,
        text=text[:_TEXT_CHARS_MAX],
        event_time_us=event.event_time_us,
    )


def _state(names: "dict[JobStepKind, str] | dict[TaskStage, str]", word: str) -> str:
    return {str(key): value for key, value in names.items()}.get(word, word)
