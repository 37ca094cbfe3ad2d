"""The backtest dialect: named events with bare data, from a job's start to its end. Pure."""

from collections.abc import Mapping

from schemas.bounds import parse_json
from schemas.events import BacktestProgress, JobState, JobStatus, JobStep, JobStepKind, RunStatus
from schemas.instants import to_rfc3339
from sse_edge.frame import FRAME_BYTES_MAX, body
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered, UnknownWord

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
_DATA_BYTES_MAX = FRAME_BYTES_MAX - 1_024
"""The most bytes of what an event says of a job; the rest is for names, the id and a trace."""
_MESSAGE_CHARS = 2_000
"""How much is shown of a message that is too large; a character has twelve bytes at most."""


def step(event: BacktestProgress) -> Rendered | None:
    """Render a step of a job; None for a step that only concerns workers.

    Raises:
        UnknownWord: it is no step that clients know.
    """
    kind = _KIND_OF.get(event.status)
    job = event.job or JobStep(kind=kind or JobStepKind.PROGRESS, symbol="", strategy="")
    if job.kind in _SILENT:
        return None
    about = {"job_id": event.backtest_id, "message": event.message, "attempt": job.attempt}
    match job.kind:
        case JobStepKind.TRANSACTION:
            transactions, fault = _parsed(job.data or "[]")
            return Rendered("transaction", about | {"transactions": transactions or []} | fault)
        case JobStepKind.COMPLETED:
            summary, fault = _parsed(job.data) if job.data else (event.all_results, {})
            data = fitting(about | {"result_summary": summary} | fault)
            return Rendered("completed", data, ends=True)
        case JobStepKind.FAILED:
            data = fitting(about | {"error_message": event.message})
            return Rendered("failed", data, ends=True)
        case JobStepKind.CANCELLED:
            return Rendered("cancelled", fitting(about), ends=True)
        case JobStepKind.SUBMITTED | JobStepKind.PROGRESS:
            status = _STATUS_OF[job.kind]
            progress = about | {
                "status": event.status if event.job is None and kind is None else status,
                "progress": event.progress,
                "current_bar": job.current_bar,
                "total_bars": job.total_bars,
                "current_date": event.current_date,
                "results": event.all_results,
            }
            return Rendered("progress", progress)
        case _:
            raise UnknownWord(f"{job.kind!r} is no step of a job")


def owner_of(event: BacktestProgress) -> str | None:
    """Return the owner of the event's job; None for a backtest that a program reports."""
    return None if event.job is None else event.job.owner


def job(state: JobState) -> dict[str, object]:
    """Return a job as lists show it."""
    summary, fault = _parsed(state.result_summary) if state.result_summary else (None, {})
    return {
        "job_id": state.job_id,
        "status": state.status,
        "progress": state.progress,
        "message": state.message,
        "symbol": state.symbol,
        "strategy": state.strategy,
        "created_at": to_rfc3339(state.created_us),
        "updated_at": to_rfc3339(state.updated_us),
        "result_summary": summary,
        **fault,
    }


def _parsed(text: str) -> tuple[object, dict[str, str]]:
    """Return the value of a text in JSON; where it is damaged, None and a field that says why."""
    try:
        return parse_json(text), {}
    except ValueError as error:
        return None, {"result_error": f"the result cannot be read: {error}"}


def listed(state: JobState) -> Rendered:
    """Render a change of a job in a list."""
    return Rendered("job_updated", {"job": job(state)})


def backtest(state: JobState) -> dict[str, object]:
    """Return an ended job as the history shows it."""
    return {"id": state.job_id, "backtest_id": state.job_id, **job(state)}


def fitting(data: Mapping[str, object]) -> Mapping[str, object]:
    """Return what one event says of a job: without its result, where that is too large.

    A message that is too large nevertheless is cut.
    """
    size = len(body(None, data))
    if size <= _DATA_BYTES_MAX:
        return data
    if data.get("result_summary") is not None:
        error = (
            f"the result is left out: with it, the event would have {size} bytes, and has at most "
            f"{FRAME_BYTES_MAX}; GET /api/backtesting/jobs has it"
        )
        data = {**data, "result_summary": None, "result_error": error}
    if len(body(None, data)) <= _DATA_BYTES_MAX:
        return data
    cut = {
        name: f"{str(data[name])[:_MESSAGE_CHARS]}\u2026"
        for name in ("message", "error_message")
        if name in data
    }
    return {**data, **cut}


def _connection(client_info: ClientInfo, timestamp: str) -> EventBlock:
    data = {"status": "connected", "client_id": client_info.client_id, "timestamp": timestamp}
    return EventBlock("connection", data)


def _bare(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(rendered.event, rendered.data)


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(event, {**data, "timestamp": timestamp})


BACKTEST: Dialect = Dialect(
    "backtest",
    wrap=_bare,
    notice=_notice,
    opening=_connection,
    heartbeat_s=15.0,
    stays_open=True,  # its clients show the end of a connection as an error
)
