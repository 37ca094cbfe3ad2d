"""The agents that follow stories: how far each task and job is, and where its story stands."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import faust

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import BacktestProgress, JobState, Record, StoryState, TrainingProgress
from schemas.topics import Topic, key_of
from stream_processors.faust_adapter import States, Writer
from stream_processors.lifecycle import follow, follow_job
from stream_processors.messages import tenant_of
from stream_processors.windowing.tumbling import Partition, gauges

Story = StoryState | JobState
Followed = Callable[[Any, Any, Any], Story | None]
"""A story's state after an event, where it changes: from the one before, the event and its message.
"""


def add_stories(
    app: faust.App, writer: Writer, events: Topic, kept_in: Topic, followed: Followed
) -> None:
    """Keep where each story of a topic stands, in a compacted one.

    Args:
        app: the worker's.
        writer: makes topics.
        events: whose keys' stories are followed.
        kept_in: where their states go.
        followed: the state after an event.
    """
    stories = _Stories(app, writer, events, kept_in, followed)

    @app.agent(writer.topic(events), name=f"follow_{kept_in.name}")
    async def follow_stories(stream: Any) -> None:
        async for steps in stream.noack_take(1000, within=0.02):
            await stories.take([step.message for step in steps])
            for step in steps:
                await stream.ack(step)


class _Stories:
    """The stories in the partitions that this worker has."""

    def __init__(
        self, app: faust.App, writer: Writer, events: Topic, kept_in: Topic, followed: Followed
    ) -> None:
        self._writer = writer
        self._events = events
        self._followed = followed
        self._stories: dict[bytes, Story] = {}
        self._statuses = _Statuses(kept_in)
        self._states = States(app, writer, kept_in)
        self._states.on_recover(self._recover)

    async def take(self, messages: Iterable[Any]) -> None:
        """Follow stories; when this returns, Kafka has their states."""
        changed: dict[bytes, tuple[int, Record | None]] = {}
        for message in messages:
            event = _event(message, self._events)
            if event is None:
                continue
            before = self._stories.get(message.key)
            if _is_removal(event):
                after = None
                self._stories.pop(message.key, None)
            else:
                after = self._followed(before, event, message)
                if after is None:
                    continue
                self._stories[message.key] = after
            self._statuses.change(before, after)
            changed[message.key] = message.partition, after
        await self._states.keep(changed)
        await self._writer.send_all(self._statuses.take())

    async def _recover(self) -> None:
        self._stories.clear()
        self._statuses.clear()
        here = self._writer.partitions(self._events)
        kept: Iterable[tuple[bytes, Story]] = chain(
            self._states.recovered(StoryState), self._states.recovered(JobState)
        )
        for key, state in kept:
            if state.partition in here:
                self._stories[key] = state
                self._statuses.change(None, state)


class _Statuses:
    """How many stories have which status, by the partition that they are in, and tenant."""

    def __init__(self, kept_in: Topic) -> None:
        self._topic = kept_in.name
        self._prefix = kept_in.name.split(".")[1]
        self._counts: dict[tuple[int, str | None], Counter[str]] = {}
        self._changed: set[tuple[int, str | None]] = set()

    def clear(self) -> None:
        """Know of none."""
        self._counts.clear()
        self._changed.clear()

    def change(self, before: Story | None, after: Story | None) -> None:
        """Note a story's new state."""
        if before is not None and after is not None and before.status == after.status:
            return
        for story, by in ((before, -1), (after, 1)):
            if story is not None:
                key = story.partition, story.tenant
                name = f"{self._prefix}_{story.status.lower()}"
                self._counts.setdefault(key, Counter())[name] += by
                self._changed.add(key)

    def take(self) -> list[Any]:
        """What has changed since this was asked last, for the dashboard."""
        changed, self._changed = self._changed, set()
        return [
            gauges(Partition(self._topic, partition), tenant, self._counts[partition, tenant])
            for partition, tenant in changed
        ]


def _is_removal(event: Record) -> bool:
    return isinstance(event, BacktestProgress) and bool(event.job and event.job.kind == "removed")


def followed_task(known: StoryState | None, event: Record, message: Any) -> StoryState | None:
    """A training task's state after an event, where it changes."""
    if not isinstance(event, TrainingProgress):
        return None
    where = message.partition, message.offset
    return follow(known, event.task_id, event, *where, tenant_of(message))


def followed_job(known: JobState | None, event: Record, message: Any) -> JobState | None:
    """A backtest job's state after an event, where it changes."""
    if not isinstance(event, BacktestProgress):
        return None
    return follow_job(known, event, message.partition, message.offset, tenant_of(message))


def _event(message: Any, topic: Topic) -> Record | None:
    """What has happened; nothing where `tally_events` writes a letter about it."""
    try:
        event = decode(message.value)
    except Undecodable:
        return None
    fits = isinstance(event, topic.record) and key_of(event) == message.key
    return event if fits else None
