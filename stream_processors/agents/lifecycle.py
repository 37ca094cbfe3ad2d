"""The processors that follow the lifecycle of training tasks and backtest jobs.

Events of tasks and jobs arrive; each run's state leaves to a compacted topic, and the number of
runs by status to the dashboard. The rules are in `stream_processors.lifecycle`.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kafka_io.clock import now_us
from kafka_io.dead_letters import Message, log_time_us
from schemas.events import (
    BacktestProgress,
    JobState,
    JobStatus,
    JobStepKind,
    Record,
    RunStatus,
    StoryState,
    TaskStage,
    TrainingProgress,
    WindowTally,
)
from schemas.topics import (
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    Topic,
    TopicPartition,
)
from stream_processors.lifecycle import next_job_state, next_task_state
from stream_processors.messages import Admitted, tenant_of
from stream_processors.processor import Processor, Round, Rows
from stream_processors.windowing.tallies import gauge_tally

_STATUSES = frozenset({*RunStatus, *TaskStage, *JobStatus})
"""The statuses that have gauges of their own; producers may report any other word."""

RunState = StoryState | JobState
NextState = Callable[[Any, Record, Message], RunState | None]
"""Returns a run's state after an event, or None where the event changes nothing; its arguments are
the state before, the event and the event's message."""


class Lifecycle(Processor):
    """Follows the runs of one topic."""

    def __init__(self, events: Topic, states: Topic, next_state: NextState) -> None:
        """Make a processor of one topic of runs.

        Args:
            events: the topic of the runs' events.
            states: the compacted topic that keeps their states.
            next_state: returns a run's state after an event.
        """
        super().__init__(f"follow_{states.name}", (events,), (states,))
        self._events, self._topic = events, states
        self._next_state = next_state
        self._runs: dict[int, dict[bytes, RunState]] = {}
        self._statuses: dict[int, _StatusCounts] = {}
        self._changed_us: dict[int, OrderedDict[bytes, int]] = {}
        """By run, when it changed last by the log's clock; the one that changed last is last."""

    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the runs of a partition number."""
        runs = self._runs[number] = {}
        statuses = self._statuses[number] = _StatusCounts(self._topic, number)
        last = row_limits[self._events.name] - 1
        for key, state in rows[self._topic.name].items():
            if isinstance(state, StoryState | JobState):
                # An offset is not behind the log, also after the log has lost its end.
                runs[key] = replace(state, last_offset=min(state.last_offset, last))
                statuses.change(None, state)
        statuses.take_changes()
        # The log does not say when; it deletes what is older than this at the latest.
        self._changed_us[number] = OrderedDict.fromkeys(runs, now_us())

    @property
    def events(self) -> Topic:
        """The topic of the runs' events."""
        return self._events

    @property
    def topic(self) -> Topic:
        """The compacted topic that keeps the runs' states."""
        return self._topic

    def relocated(
        self, rows: Mapping[bytes, Record], events: Iterable[tuple[Message, Record]]
    ) -> Mapping[bytes, RunState | None]:
        """Return rows with the offsets of events in a copy of the log.

        Args:
            rows: the states, with the offsets of the log that was copied.
            events: the events in the copy that the states follow from, in order.

        Returns:
            The rows by key; None for a run without any event in the copy.
        """
        found: dict[bytes, RunState] = {}
        for message, event in events:
            key = message.key or b""
            if _is_removal(event):
                found.pop(key, None)
            elif (after := self._next_state(found.get(key), event, message)) is not None:
                found[key] = after
        return {
            key: replace(
                row, first_offset=found[key].first_offset, last_offset=found[key].last_offset
            )
            if key in found
            else None
            for key, row in rows.items()
            if isinstance(row, StoryState | JobState)
        }

    def forget(self, number: int) -> None:
        """Drop the runs of a partition number."""
        self._runs.pop(number, None)
        self._changed_us.pop(number, None)
        self._statuses.pop(number, None)

    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Follow the messages' runs."""
        runs, statuses = self._runs[this_round.number], self._statuses[this_round.number]
        for message in messages:
            key, event = message.key, message.record
            assert key is not None
            before = runs.get(key)
            if _is_removal(event):
                after = None
                runs.pop(key, None)
            else:
                after = self._next_state(before, event, message)
                if after is None:
                    continue
                runs[key] = after
            statuses.change(before, after)
            this_round.put(self._topic, key, after)
            self._forget_expired(this_round.number, key, log_time_us(message))

    def _forget_expired(self, number: int, key: bytes, log_us: int) -> None:
        """Forget the runs that the topic of states has deleted by their age."""
        changed_us = self._changed_us[number]
        changed_us[key] = log_us
        changed_us.move_to_end(key)
        if self._topic.retention_ms is None:
            return
        oldest_us = log_us - self._topic.retention_ms * 1_000
        while changed_us[first := next(iter(changed_us))] < oldest_us:
            del changed_us[first]
            expired = self._runs[number].pop(first, None)
            if expired is not None:
                self._statuses[number].change(expired, None)

    async def finish(self, this_round: Round) -> None:
        """Send the numbers of runs by status that have changed."""
        for tally in self._statuses[this_round.number].take_changes():
            this_round.send(tally, tally.tenant)


def lifecycles() -> Sequence[Lifecycle]:
    """Return the processors of training tasks and backtest jobs."""
    return (
        Lifecycle(TRAINING_EVENTS, TRAINING_TASKS, task_state),
        Lifecycle(BACKTEST_EVENTS, BACKTEST_JOBS, job_state),
    )


class _StatusCounts:
    """The number of runs by status in one partition, for each tenant."""

    def __init__(self, states: Topic, number: int) -> None:
        self._source = TopicPartition(states.name, number)
        self._prefix = states.name.split(".")[1]
        self._counts: dict[str | None, Counter[str]] = {}
        self._changed: set[str | None] = set()

    def change(self, before: RunState | None, after: RunState | None) -> None:
        """Count a run under its new status, and no longer under its old one."""
        if before is not None and after is not None and before.status == after.status:
            return
        for state, difference in ((before, -1), (after, 1)):
            if state is not None:
                status = state.status.lower() if state.status in _STATUSES else "other"
                name = f"{self._prefix}_{status}"
                self._counts.setdefault(state.tenant, Counter())[name] += difference
                self._changed.add(state.tenant)

    def take_changes(self) -> list[WindowTally]:
        """Return a tally of gauges for each tenant changed since the last call."""
        changed, self._changed = self._changed, set()
        return [gauge_tally(self._source, tenant, self._counts[tenant]) for tenant in changed]


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
