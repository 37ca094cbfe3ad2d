"""The backtest dialect: named events with bare data, from a job's start to its end. Pure."""

import json
from collections.abc import Mapping

from schemas.events import BacktestProgress, JobState, JobStatus, JobStep, JobStepKind, RunStatus
from schemas.instants import to_rfc3339
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered

_SILENT = frozenset({JobStepKind.CANCEL_REQUESTED, JobStepKind.REMOVED})
_STATUS_OF: Mapping[str, JobStatus] = {
    JobStepKind.SUBMITTED: JobStatus.PENDING,
    JobStepKind.PROGRESS: JobStatus.RUNNING,
    JobStepKind.TRANSACTION: JobStatus.RUNNING,
}
_KIND_OF: Mapping[str, JobStepKind] = {
    RunStatus.STARTED: JobStepKind.PROGRESS,
    RunStatus.RUNNING: JobStepKind.PROGRESS,
    RunStatus.COMPLETED: JobStepKind.COMPLETED,
    RunStatus.FAILED: JobStepKind.FAILED,
}
"""The kinds of steps of backtests that a program reports through the reporter API; another word is
shown as it is, in a step of progress."""


def step(event: BacktestProgress) -> Rendered | None:
    """Render a step of a job; None for a step that only concerns workers."""
    kind = _KIND_OF.get(event.status)
    job = event.job or JobStep(kind=kind or JobStepKind.PROGRESS, symbol="", strategy="")
    if job.kind in _SILENT:
        return None
    about = {"job_id": event.backtest_id, "message": event.message, "attempt": job.attempt}
    match job.kind:
        case JobStepKind.TRANSACTION:
            return Rendered("transaction", about | {"transactions": json.loads(job.data or "[]")})
        case JobStepKind.COMPLETED:
            summary = json.loads(job.data) if job.data else event.all_results
            return Rendered("completed", about | {"result_summary": summary}, ends=True)
        case JobStepKind.FAILED:
            return Rendered("failed", about | {"error_message": event.message}, ends=True)
        case JobStepKind.CANCELLED:
            return Rendered("cancelled", about, ends=True)
        case _:
            status = _STATUS_OF.get(job.kind, JobStatus.RUNNING)
            data = about | {
                "status": event.status if event.job is None and kind is None else status,
                "progress": event.progress,
                "current_bar": job.current_bar,
                "total_bars": job.total_bars,
                "current_date": event.current_date,
                "results": event.all_results,
            }
            return Rendered("progress", data)


def job(state: JobState) -> dict[str, object]:
    """Return a job as lists show it."""
    summary = state.result_summary
    return {
        "job_id": state.job_id,
        "status": state.status,
        "progress": state.progress,
        "message": state.message,
        "symbol": state.symbol,
        "strategy": state.strategy,
        "created_at": to_rfc3339(state.created_us),
        "updated_at": to_rfc3339(state.updated_us),
        "result_summary": None if summary is None else json.loads(summary),
    }


def listed(state: JobState) -> Rendered:
    """Render a change of a job in a list."""
    return Rendered("job_updated", {"job": job(state)})


def backtest(state: JobState) -> dict[str, object]:
    """Return an ended job as the history shows it."""
    return {"id": state.job_id, "backtest_id": state.job_id, **job(state)}


def _connection(client_info: ClientInfo, timestamp: str) -> EventBlock:
    data = {"status": "connected", "client_id": client_info.client_id, "timestamp": timestamp}
    return EventBlock("connection", data)


def _bare(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(rendered.event, rendered.data)


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(event, {**data, "timestamp": timestamp})


BACKTEST = Dialect(
    "backtest",
    wrap=_bare,
    notice=_notice,
    opening=_connection,
    heartbeat_s=15.0,
    stays_open=True,  # its clients show the end of a connection as an error
)
