"""Follow the lifecycle of training tasks and backtest jobs: their status and offsets. Pure.

All events of a run have one key, so they are in one partition, in order. Its state says at which
offsets the first and the last of them are, which lets an edge start reading at either.
"""

from collections.abc import Mapping
from dataclasses import replace

from schemas.events import (
    BacktestProgress,
    JobState,
    JobStatus,
    JobStepKind,
    StoryState,
    TrainingProgress,
)


def next_task_state(
    known: StoryState | None,
    event: TrainingProgress,
    partition: int,
    offset: int,
    tenant: str | None = None,
) -> StoryState | None:
    """Return a task's state after one of its events; None where the event changes nothing.

    Args:
        known: the state before the event, if any.
        event: the event.
        partition: the event's partition.
        offset: the event's offset.
        tenant: the task's tenant.
    """
    status = event.status if event.task is None else event.task.stage
    if known is None or known.partition != partition:
        return StoryState(
            subject=event.task_id,
            status=status,
            partition=partition,
            first_offset=offset,
            last_offset=offset,
            ended=event.ends,
            tenant=tenant,
        )
    if known.ended or offset <= known.last_offset:
        # A task ends once: later events of a worker that was taken for dead change nothing.
        return None
    return replace(known, status=status, last_offset=offset, ended=event.ends)


_STATUS_OF: Mapping[str, JobStatus] = {
    JobStepKind.SUBMITTED: JobStatus.PENDING,
    JobStepKind.PROGRESS: JobStatus.RUNNING,
    JobStepKind.TRANSACTION: JobStatus.RUNNING,
    JobStepKind.COMPLETED: JobStatus.COMPLETED,
    JobStepKind.FAILED: JobStatus.FAILED,
    JobStepKind.CANCELLED: JobStatus.CANCELLED,
}
"""A job's status after an event, by the event's kind."""


def next_job_state(
    known: JobState | None,
    event: BacktestProgress,
    partition: int,
    offset: int,
    tenant: str | None = None,
) -> JobState | None:
    """Return a backtest job's state after one of its events; None where it changes nothing.

    Args:
        known: the state before the event, if any.
        event: the event.
        partition: the event's partition.
        offset: the event's offset.
        tenant: the job's tenant.
    """
    job = event.job
    if job is None or (known is not None and (known.ended or offset <= known.last_offset)):
        return None
    previous_status = None if known is None else known.status
    if known is None:
        known = JobState(
            job_id=event.backtest_id,
            owner=job.owner,
            status=JobStatus.PENDING,
            progress=0.0,
            message=event.message,
            symbol=job.symbol,
            strategy=job.strategy,
            created_us=event.event_time_us,
            updated_us=event.event_time_us,
            partition=partition,
            first_offset=offset,
            last_offset=offset,
            tenant=tenant,
        )
    return replace(
        known,
        status=_STATUS_OF.get(job.kind, known.status),
        progress=max(known.progress, event.progress) if job.kind != JobStepKind.SUBMITTED else 0.0,
        message=event.message,
        updated_us=event.event_time_us,
        last_offset=offset,
        result_summary=job.data if job.kind == JobStepKind.COMPLETED else None,
        previous_status=previous_status,
    )
