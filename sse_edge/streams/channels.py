"""The channels: which topic each reads, and how its events are rendered. One row is one channel.

A row of the MyStocks dialect is also an endpoint, `/api/v1/sse/NAME`, and can be read together with
others through `/api/v1/sse/streams`. Everything else derives from the rows: the names of the
events, the entity parameters, the documentation, and the list of clients by channel.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from schemas.events import Record
from schemas.topics import (
    AGENT_EVENTS,
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    CHAT_MESSAGES,
    DASHBOARD_UPDATES,
    NOTIFICATION_DELIVERIES,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_MEASURES,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    USER_UPDATES,
    Topic,
)
from sse_edge.streams import examples
from sse_edge.streams.dialect import Dialect, Rendered
from sse_edge.streams.dialects import agent, backtest, chat, cloudevents, mystocks, training

_IN_MANY, _CLOUDEVENTS = "+", "~"
"""How the keys of variants of a channel end."""


@dataclass(frozen=True)
class Channel:
    """One row: a topic, and how its events are rendered."""

    name: str
    topic: Topic
    render: Callable[[Any], Rendered | None]
    """Renders a record of the topic; None for a record that clients do not get."""
    examples: Sequence[Record]
    """One record for each event name."""
    dialect: Dialect = mystocks.MYSTOCKS
    entity_parameters: tuple[str, ...] = ("entity_id",)
    """The query parameters that select one entity."""
    entity_field: str = "entity_id"
    """The field of the rendered data that names the entity."""
    has_end: bool = False
    """Whether the events of an entity end, and with them the stream of that entity."""
    cursor_names_entity: bool = False
    """Whether a cursor begins with the entity's name, for requests that cannot name it."""
    is_latest_value: bool = True
    """Whether the newest event of a key replaces the older ones."""
    entity_states: Topic | None = None
    """The compacted topic of the entities' states, by which a stream of several entities ends. A
    state has `ended`, `partition` and `last_offset`."""
    owner_of: Callable[[Any], str | None] | None = None
    """Returns the user, by the `sub` of its token, whom a record is for; None for all of a tenant.
    None where no record of the channel is for one user only."""
    has_owned_ids: bool = False
    """Whether the ids of entities tell their owners (see `schemas.run_ids`)."""
    in_many: bool = False
    """Whether it shares its connection with other channels."""
    is_cloudevents: bool = False
    """Whether its events are rendered as CloudEvents, and not in the dialect of its row."""

    @property
    def cursor_key(self) -> str:
        """The channel's identity in cursors, which are the same in each format."""
        return self.name + _IN_MANY * self.in_many

    @property
    def key(self) -> str:
        """The channel's identity in caches, with its dialect."""
        return self.cursor_key + _CLOUDEVENTS * self.is_cloudevents

    @property
    def has_owners(self) -> bool:
        """Whether some of its events are for one user of a tenant only."""
        return self.has_owned_ids or self.owner_of is not None

    @cached_property
    def events(self) -> frozenset[str]:
        """The names of its events, for the `events=` filter."""
        rendered = map(self.render, self.examples)
        return frozenset(event.event for event in rendered if event is not None)


class ChannelTable(Mapping[str, Channel]):
    """All channels, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Channel] = {}
        self._in_many: dict[str, Channel] = {}
        self._as_cloudevents: dict[str, Channel] = {}

    def add(self, channel: Channel) -> None:
        """Add a row.

        Raises:
            ValueError: another channel has the name.
        """
        if channel.name in self._by_name:
            raise ValueError(f"a channel {channel.name} exists already")
        self._by_name[channel.name] = channel
        if channel.dialect is mystocks.MYSTOCKS:
            dialect = mystocks.many(channel.name, channel.entity_field)
            self._in_many[channel.name] = replace(channel, dialect=dialect, in_many=True)

    @property
    def mystocks(self) -> Sequence[str]:
        """The names of the channels with an endpoint of their own."""
        return tuple(self._in_many)

    @property
    def in_many(self) -> Mapping[str, Channel]:
        """The channels as they are rendered when one connection reads several."""
        return self._in_many

    @property
    def mystocks_parameters(self) -> Sequence[str]:
        """The entity parameters of all channels with an endpoint of their own."""
        rows = self._in_many.values()
        return tuple(dict.fromkeys(name for row in rows for name in row.entity_parameters))

    def by_key(self, key: str) -> Channel:
        """Return the channel with a key."""
        plain = key.removesuffix(_CLOUDEVENTS)
        many = plain.endswith(_IN_MANY)
        channel = self._in_many[plain[: -len(_IN_MANY)]] if many else self._by_name[plain]
        return channel if plain == key else self.as_cloudevents(channel)

    def as_cloudevents(self, channel: Channel) -> Channel:
        """Return a channel whose events are rendered as CloudEvents; the same one each time."""
        key = channel.cursor_key
        if key not in self._as_cloudevents:
            dialect = cloudevents.variant_of(channel.name, channel.topic.name, channel.dialect)
            rendered = replace(channel, dialect=dialect, is_cloudevents=True)
            self._as_cloudevents[key] = rendered
        return self._as_cloudevents[key]

    def __getitem__(self, name: str) -> Channel:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


CHANNELS = ChannelTable()

CHANNELS.add(
    Channel(
        "training",
        TRAINING_EVENTS,
        mystocks.training_progress,
        examples.TRAINING,
        entity_parameters=("task_id", "entity_id"),
        has_end=True,
        has_owned_ids=True,
        entity_states=TRAINING_TASKS,
        entity_field="task_id",
    )
)
CHANNELS.add(
    Channel(
        "backtest",
        BACKTEST_EVENTS,
        mystocks.backtest_progress,
        examples.BACKTEST,
        entity_parameters=("backtest_id", "entity_id"),
        has_end=True,
        owner_of=backtest.owner_of,
        entity_field="backtest_id",
    )
)
CHANNELS.add(
    Channel(
        "alerts",
        RISK_ALERTS,
        mystocks.risk_alert,
        examples.ALERTS,
        is_latest_value=False,
    )
)
CHANNELS.add(
    Channel(
        "dashboard",
        DASHBOARD_UPDATES,
        mystocks.dashboard_update,
        examples.DASHBOARD,
        entity_field="window_id",
    )
)
CHANNELS.add(
    Channel(
        "measures",
        RISK_MEASURES,
        mystocks.risk_measure,
        examples.MEASURES,
        entity_field="portfolio_id",
    )
)
CHANNELS.add(
    Channel(
        "books",
        RISK_BOOK_RISKS,
        mystocks.book_risk,
        examples.BOOKS,
        entity_field="path",
    )
)
CHANNELS.add(
    Channel(
        "notifications",
        NOTIFICATION_DELIVERIES,
        mystocks.notification_delivery,
        examples.NOTIFICATIONS,
        owner_of=mystocks.owner_of_delivery,
        is_latest_value=False,
        entity_field="route",
    )
)
CHANNELS.add(
    Channel(
        "trainmodel",
        TRAINING_EVENTS,
        training.status,
        examples.TRAINMODEL,
        dialect=training.TRAINING_TASK,
        entity_parameters=("task_id",),
        has_end=True,
        has_owned_ids=True,
        entity_states=TRAINING_TASKS,
    )
)
CHANNELS.add(
    Channel(
        "backtest_job",
        BACKTEST_EVENTS,
        backtest.step,
        examples.BACKTEST_JOB,
        dialect=backtest.BACKTEST,
        entity_parameters=("job_id",),
        has_end=True,
        owner_of=backtest.owner_of,
        is_latest_value=False,
    )
)
CHANNELS.add(
    Channel(
        "backtest_jobs",
        BACKTEST_JOBS,
        backtest.listed,
        examples.BACKTEST_JOBS,
        dialect=backtest.BACKTEST,
    )
)
CHANNELS.add(
    Channel(
        "agent",
        AGENT_EVENTS,
        agent.step,
        examples.AGENT,
        dialect=agent.AGENT,
        entity_parameters=("run_id",),
        has_end=True,
        cursor_names_entity=True,
        is_latest_value=False,
    )
)
CHANNELS.add(
    Channel(
        "chat",
        CHAT_MESSAGES,
        chat.chat_event,
        examples.CHAT,
        dialect=chat.CHAT,
        entity_parameters=("room",),
        is_latest_value=False,
    )
)
CHANNELS.add(
    Channel(
        "user",
        USER_UPDATES,
        chat.user_update,
        examples.USER,
        dialect=chat.RESPONSE,
        entity_parameters=("user_id",),
        has_end=True,
        is_latest_value=False,
    )
)
