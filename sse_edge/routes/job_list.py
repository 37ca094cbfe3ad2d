"""A list of jobs as a client shows it, and what changes in it from one moment to the next.

Pure. The list holds the newest jobs of a status, at most so many; when one leaves, the next older
one takes its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.events import JobState


class Change(NamedTuple):
    """Something that a client has to do to its list."""

    kind: str
    """added, updated or removed."""
    job: JobState


def shown(jobs: Iterable[JobState], statuses: frozenset[str], limit: int) -> Sequence[JobState]:
    """What a list shows: the newest first.

    Args:
        jobs: all that there are.
        statuses: of those to show; all, where it is empty.
        limit: how many at most.
    """
    fitting = [job for job in jobs if not statuses or job.status in statuses]
    return sorted(fitting, key=lambda job: (job.created_us, job.job_id), reverse=True)[:limit]


def changes(before: Sequence[JobState], after: Sequence[JobState]) -> Sequence[Change]:
    """What leads from one list to another.

    First what leaves, so that there are never too many; then what comes, the older one first, since
    clients put each on top; then what is different.
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
