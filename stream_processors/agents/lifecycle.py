"""The agents that follow the lifecycle of training tasks and backtest jobs.

Events of tasks and jobs arrive; each run's state leaves to a compacted topic, and the number of
runs by status to the dashboard. The rules are in `stream_processors.lifecycle`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import faust

from schemas.codec import decode_as
from schemas.events import (
    BacktestProgress,
    JobState,
    JobStepKind,
    Record,
    StoryState,
    TrainingProgress,
    WindowTally,
)
from schemas.topics import Topic, key_of
from stream_processors.faust_adapter import StateTable, Writer, process_batches
from stream_processors.lifecycle import next_job_state, next_task_state
from stream_processors.messages import Message, TopicPartition, tenant_of
from stream_processors.windowing.tallies import gauge_tally

RunState = StoryState | JobState
NextState = Callable[[Any, Record, Message], RunState | None]
"""Returns a run's state after an event, or None where the event changes nothing; its arguments are
the state before, the event and the event's message."""


def add_lifecycle(
    app: faust.App, writer: Writer, events: Topic, states: Topic, next_state: NextState
) -> None:
    """Add following the runs of one topic to a worker.

    Args:
        app: the worker's app.
        writer: makes topics.
        events: the topic of the runs' events.
        states: the compacted topic that keeps their states.
        next_state: returns a run's state after an event.
    """
    runs = _Runs(app, writer, events, states, next_state)

    @app.agent(writer.topic(events), name=f"follow_{states.name}")
    async def follow_runs(stream: Any) -> None:
        await process_batches(stream, runs.process, records_max=1_000, within_s=0.02)


class _Runs:
    """The runs in the partitions that this worker has."""

    def __init__(
        self, app: faust.App, writer: Writer, events: Topic, states: Topic, next_state: NextState
    ) -> None:
        self._writer = writer
        self._events = events
        self._next_state = next_state
        self._runs: dict[bytes, RunState] = {}
        self._statuses = _StatusCounts(states)
        self._states = StateTable(app, writer, states)
        self._states.on_recover(self._recover)

    async def process(self, messages: Sequence[Message]) -> None:
        """Follow the messages' runs; returns when Kafka has their states."""
        changed: dict[bytes, tuple[int, Record | None]] = {}
        for message in messages:
            key = message.key
            event = _event(message, self._events)
            if event is None or key is None:
                continue
            before = self._runs.get(key)
            if _is_removal(event):
                after = None
                self._runs.pop(key, None)
            else:
                after = self._next_state(before, event, message)
                if after is None:
                    continue
                self._runs[key] = after
            self._statuses.change(before, after)
            changed[key] = message.partition, after
        await self._states.write(changed)
        await self._writer.send_all(self._statuses.take_changes())

    async def _recover(self) -> None:
        self._runs.clear()
        self._statuses.clear()
        assigned = self._writer.partitions(self._events)
        recovered: Iterable[tuple[bytes, RunState]] = chain(
            self._states.recovered(StoryState), self._states.recovered(JobState)
        )
        for key, state in recovered:
            if state.partition in assigned:
                self._runs[key] = state
                self._statuses.change(None, state)


class _StatusCounts:
    """The number of runs by status, for each partition and tenant."""

    def __init__(self, states: Topic) -> None:
        self._topic = states.name
        self._prefix = states.name.split(".")[1]
        self._counts: dict[tuple[int, str | None], Counter[str]] = {}
        self._changed: set[tuple[int, str | None]] = set()

    def clear(self) -> None:
        """Forget all runs."""
        self._counts.clear()
        self._changed.clear()

    def change(self, before: RunState | None, after: RunState | None) -> None:
        """Count a run under its new status, and no longer under its old one."""
        if before is not None and after is not None and before.status == after.status:
            return
        for state, difference in ((before, -1), (after, 1)):
            if state is not None:
                key = state.partition, state.tenant
                name = f"{self._prefix}_{state.status.lower()}"
                self._counts.setdefault(key, Counter())[name] += difference
                self._changed.add(key)

    def take_changes(self) -> list[WindowTally]:
        """Return a tally of gauges for each partition and tenant changed since the last call."""
        changed, self._changed = self._changed, set()
        return [
            gauge_tally(TopicPartition(self._topic, key[0]), key[1], self._counts[key])
            for key in changed
        ]


def _is_removal(event: Record) -> bool:
    return isinstance(event, BacktestProgress) and bool(
        event.job and event.job.kind == JobStepKind.REMOVED
    )


def task_state(known: StoryState | None, event: Record, message: Message) -> StoryState | None:
    """Return a training task's state after an event, where the event changes it."""
    if not isinstance(event, TrainingProgress):
        return None
    return next_task_state(known, event, message.partition, message.offset, tenant_of(message))


def job_state(known: JobState | None, event: Record, message: Message) -> JobState | None:
    """Return a backtest job's state after an event, where the event changes it."""
    if not isinstance(event, BacktestProgress):
        return None
    return next_job_state(known, event, message.partition, message.offset, tenant_of(message))


def _event(message: Message, topic: Topic) -> Record | None:
    """Return a message's event; None where `tally_events` writes a dead letter about it."""
    event = decode_as(topic.record, message.value)
    return event if event is not None and key_of(event) == message.key else None
