"""Where each run's story stands in the log: what lets an edge begin at a run's first or last event.

Pure. A story is all events of one key; they are in one partition, in order.
"""

from dataclasses import replace

from schemas.events import BacktestProgress, JobState, StoryState, TrainingProgress


def follow(
    known: StoryState | None,
    subject: str,
    event: TrainingProgress,
    partition: int,
    offset: int,
    tenant: str | None = None,
) -> StoryState | None:
    """A story's state after one of its events; None where the event changes nothing.

    Args:
        known: what was known of it.
        subject: whose story it is, by its key.
        event: what has happened.
        partition: where that stands.
        offset: where that stands.
        tenant: whose that is.
    """
    status = event.status if event.task is None else event.task.stage
    if known is None or known.partition != partition:
        return StoryState(
            subject=subject,
            status=status,
            partition=partition,
            first_offset=offset,
            last_offset=offset,
            ended=event.ends,
            tenant=tenant,
        )
    if known.ended or offset <= known.last_offset:
        # A story ends once: what a worker says that was thought dead changes nothing.
        return None
    return replace(known, status=status, last_offset=offset, ended=event.ends)


_STATUS_OF = {
    "submitted": "pending",
    "progress": "running",
    "transaction": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def follow_job(
    known: JobState | None,
    event: BacktestProgress,
    partition: int,
    offset: int,
    tenant: str | None = None,
) -> JobState | None:
    """A backtest job's state after one of its events; None where the event changes nothing.

    Args:
        known: what was known of the job.
        event: what has happened.
        partition: where that stands.
        offset: where that stands.
        tenant: whose that is.
    """
    job = event.job
    if job is None or (known is not None and (known.ended or offset <= known.last_offset)):
        return None
    previous_status = None if known is None else known.status
    if known is None:
        known = JobState(
            job_id=event.backtest_id,
            owner=job.owner,
            status="pending",
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
        progress=max(known.progress, event.progress) if job.kind != "submitted" else 0.0,
        message=event.message,
        updated_us=event.event_time_us,
        last_offset=offset,
        result_summary=job.data if job.kind == "completed" else None,
        previous_status=previous_status,
    )
