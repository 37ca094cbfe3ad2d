"""Where each run's story stands in the log: what lets an edge begin at a run's first or last event.

Pure. A story is all events of one key; they are in one partition, in order.
"""

from dataclasses import replace

from schemas.events import TaskState, TrainingProgress


def follow(
    known: TaskState | None, event: TrainingProgress, partition: int, offset: int
) -> TaskState | None:
    """A task's state after one of its events; None where the event changes nothing.

    Args:
        known: what was known of the task.
        event: what has happened.
        partition: where that stands.
        offset: where that stands.
    """
    status = event.stage or event.status
    if known is None or known.partition != partition:
        return TaskState(
            task_id=event.task_id,
            status=status,
            partition=partition,
            first_offset=offset,
            last_offset=offset,
            ended=event.ends,
        )
    if known.ended or offset <= known.last_offset:
        # A task ends once: what a worker says that was thought dead changes nothing.
        return None
    return replace(known, status=status, last_offset=offset, ended=event.ends)
