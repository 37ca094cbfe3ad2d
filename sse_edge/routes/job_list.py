"""A list of jobs as a client shows it, and the changes from one list to the next.

This module is pure. A list holds the newest jobs with some statuses, up to a limit; when a job
leaves, the next older one takes its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.events import JobState


class Change(NamedTuple):
    """One change that a client makes to its list."""

    kind: str
    """`added`, `updated` or `removed`."""
    job: JobState


def shown(jobs: Iterable[JobState], statuses: frozenset[str], limit: int) -> Sequence[JobState]:
    """Return the jobs of a list, newest first.

    Args:
        jobs: all jobs.
        statuses: the statuses to show; all, if it is empty.
        limit: the most jobs.
    """
    fitting = [job for job in jobs if not statuses or job.status in statuses]
    return sorted(fitting, key=lambda job: (job.created_us, job.job_id), reverse=True)[:limit]


def changes(before: Sequence[JobState], after: Sequence[JobState]) -> Sequence[Change]:
    """Return the changes from one list to another.

    Removals come first, so that a list never exceeds its limit; then additions, the older first,
    since clients put each on top; then updates.
    """
    old, new = _by_id(before), _by_id(after)
    removed = [Change("removed", job) for name, job in old.items() if name not in new]
    added = [Change("added", job) for name, job in new.items() if name not in old]
    updated = [
        Change("updated", job) for name, job in new.items() if name in old and old[name] != job
    ]
    return [*removed, *reversed(added), *updated]


def _by_id(jobs: Sequence[JobState]) -> Mapping[str, JobState]:
    return {job.job_id: job for job in jobs}
