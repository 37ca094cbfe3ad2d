"""The training-task dialect: unnamed events, whose data is a task's status.

This module is pure. A stream and `GET .../status` return the same object for a task.
"""

from collections.abc import Mapping

from schemas.events import RunStatus, TaskStage, TaskStep, TrainingProgress
from schemas.instants import to_rfc3339
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered

_STAGE_OF: Mapping[str, TaskStage] = {
    RunStatus.STARTED: TaskStage.TRAINING_MODEL,
    RunStatus.RUNNING: TaskStage.TRAINING_MODEL,
    RunStatus.COMPLETED: TaskStage.SUCCESS,
    RunStatus.FAILED: TaskStage.FAILURE,
}
"""The stages of runs that a program reports through the reporter API; other words are shown as they
are."""


def status(event: TrainingProgress) -> Rendered:
    """Render the status of a task."""
    known = _STAGE_OF.get(event.status)
    task = event.task or TaskStep(stage=known or TaskStage.TRAINING_MODEL)
    stage, done = task.stage, task.estimated_completion_us
    failed = stage == TaskStage.FAILURE
    data: dict[str, object] = {
        "task_id": event.task_id,
        "status": stage if event.task is not None or known is not None else event.status,
        "progress": int(event.progress) if event.progress.is_integer() else event.progress,
        "message": event.message,
        "updated_at": to_rfc3339(event.event_time_us),
        "estimated_completion": None if done is None else to_rfc3339(done),
        "result": _result(event, task) if stage == TaskStage.SUCCESS else None,
        "error": (task.error or event.message) if failed else None,
        "error_details": task.error_details if failed else None,
        "attempt": task.attempt,
    }
    return Rendered(stage, data, ends=event.ends)


def _result(event: TrainingProgress, task: TaskStep) -> dict[str, object]:
    details = dict(task.details) or event.all_metrics
    return {"status": "success", "message": event.message, "details": details}


def _wrapped(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(None, rendered.data)


def _heartbeat(client_info: ClientInfo, timestamp: str) -> EventBlock:
    return EventBlock(None, _of(client_info) | {"type": "heartbeat", "timestamp": timestamp})


def _notice(
    client_info: ClientInfo, event: str, data: Mapping[str, object], timestamp: str
) -> EventBlock:
    content = _of(client_info) | {"type": event, **data, "timestamp": timestamp}
    if event == "error":
        content["error"] = content.pop("message")
    return EventBlock(None, content)


def _of(client_info: ClientInfo) -> dict[str, object]:
    """Return the task that the client follows, or the list of its tasks."""
    if len(client_info.entities) == 1:
        return {"task_id": client_info.entities[0]}
    return {"task_ids": list(client_info.entities)}


TRAINING_TASK: Dialect = Dialect(
    "training_task",
    wrap=_wrapped,
    notice=_notice,
    heartbeat=_heartbeat,
    heartbeat_s=5.0,
    lasts_s=3600.0,
)
