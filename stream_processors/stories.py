"""Where each run's story stands in the log: what lets an edge begin at a run's first or last event.

Pure. A story is all events of one key; they are in one partition, in order.
"""

from dataclasses import replace

from schemas.events import StoryState, TrainingProgress


def follow(
    known: StoryState | None, subject: str, event: TrainingProgress, partition: int, offset: int
) -> StoryState | None:
    """A story's state after one of its events; None where the event changes nothing.

    Args:
        known: what was known of it.
        subject: whose story it is, by its key.
        event: what has happened.
        partition: where that stands.
        offset: where that stands.
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
        )
    if known.ended or offset <= known.last_offset:
        # A story ends once: what a worker says that was thought dead changes nothing.
        return None
    return replace(known, status=status, last_offset=offset, ended=event.ends)
