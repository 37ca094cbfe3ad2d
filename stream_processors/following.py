"""The agents that follow stories: how far each task and job is, and where its story stands."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import faust

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import BacktestProgress, JobState, Record, StoryState, TrainingProgress
from schemas.topics import Topic
from stream_processors.messages import tenant_of
from stream_processors.stories import follow, follow_job
from stream_processors.transport import States, Writer
from stream_processors.tumbling import Partition, gauges

Story = StoryState | JobState
Followed = Callable[[Any, Any], Story | None]
"""A story's state after a message, where it changes: from the one before, and the message."""


def add_stories(
    app: faust.App, writer: Writer, events: Topic, kept_in: Topic, followed: Followed
) -> None:
    """Keep where each story of a topic stands, in a compacted one.

    Args:
        app: the worker's.
        writer: makes topics.
        events: whose keys' stories are followed.
        kept_in: where their states go.
        followed: the state after a message.
    """
    stories: dict[bytes, Story] = {}
    statuses = _Statuses(kept_in)
    states = States(app, writer, kept_in)

    @states.on_recover
    async def recover() -> None:
        stories.clear()
        statuses.clear()
        for key, state in states.recovered():
            assert isinstance(state, Story)
            stories[key] = state
            statuses.change(None, state)

    @app.agent(writer.topic(events), name=f"follow_{kept_in.name}")
    async def follow_stories(stream: Any) -> None:
        async for steps in stream.noack_take(1000, within=0.02):
            changed: dict[bytes, tuple[int, Record | None]] = {}
            for message in (step.message for step in steps):
                before = stories.get(message.key)
                if _is_removal(message):
                    after = None
                    stories.pop(message.key, None)
                else:
                    after = followed(before, message)
                    if after is None:
                        continue
                    stories[message.key] = after
                statuses.change(before, after)
                changed[message.key] = message.partition, after
            await states.keep(changed)
            await writer.send_all(statuses.take())
            for step in steps:
                await stream.ack(step)


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


def _is_removal(message: Any) -> bool:
    event = _event(message)
    return isinstance(event, BacktestProgress) and bool(event.job and event.job.kind == "removed")


def followed_task(known: StoryState | None, message: Any) -> StoryState | None:
    """A training task's state after a message, where it changes."""
    event = _event(message)
    if not isinstance(event, TrainingProgress):
        return None
    subject, where = message.key.decode(), (message.partition, message.offset)
    return follow(known, subject, event, *where, tenant_of(message))


def followed_job(known: JobState | None, message: Any) -> JobState | None:
    """A backtest job's state after a message, where it changes."""
    event = _event(message)
    if not isinstance(event, BacktestProgress):
        return None
    return follow_job(known, event, message.partition, message.offset, tenant_of(message))


def _event(message: Any) -> Record | None:
    try:
        return decode(message.value)
    except Undecodable:
        return None  # `tally_events` writes the letter
