"""What a stream is: topics, keys, filter, wording, end. A table, and what a request makes of it.

Routes are this table; a dialect is only a way to word the same events. Adding a channel is adding
a row.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.instants import to_rfc3339
from schemas.topics import (
    AGENT_EVENTS,
    BACKTEST_EVENTS,
    BACKTEST_JOBS,
    CHAT_MESSAGES,
    DASHBOARD_UPDATES,
    RISK_ALERTS,
    RISK_BOOK_RISKS,
    RISK_MEASURES,
    TRAINING_EVENTS,
    TRAINING_TASKS,
    USER_UPDATES,
    Topic,
)
from sse_edge.errors import InvalidParameter, Unframable
from sse_edge.frame import FRAME_BYTES_MAX, body
from sse_edge.log.record import Record
from sse_edge.streams.dialect import Dialect, Rendered
from sse_edge.streams.dialects import (
    agent as agent_words,
    backtest as backtest_words,
    chat as chat_words,
    mystocks,
    training as training_task,
)

ENTITY_CHARS_MAX = 256
ENTITIES_MAX = 100


@dataclass(frozen=True, slots=True)
class Channel:
    """One row: a topic, and how its events are worded."""

    name: str
    topic: Topic
    events: frozenset[str]
    """What its events are called, for the `events=` filter."""
    render: Callable[[Any], Rendered | None]
    """Words an event; None for one that is not for clients."""
    dialect: Dialect = mystocks.MYSTOCKS
    entity_parameters: tuple[str, ...] = ("entity_id",)
    """Query parameters that name the one entity to follow."""
    has_end: bool = False
    """Whether an entity's story ends, and its stream with it."""
    cursor_names_entity: bool = False
    """Whether a cursor begins with the entity's name, where a request cannot say it."""
    is_latest_value: bool = True
    """Whether the newest event of a key says everything that older ones said."""
    entity_states: Topic | None = None
    """The compacted topic of the entities' states, by which a stream of several can end."""

    @property
    def key(self) -> str:
        """What tells it from all other channels, and from itself in another dialect."""
        is_one_of_many = self.dialect is mystocks.MYSTOCKS_MANY
        return f"{self.name}+" if is_one_of_many else self.name


CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel(
            "training",
            TRAINING_EVENTS,
            frozenset({"training_progress"}),
            mystocks.training_progress,
            entity_parameters=("task_id", "entity_id"),
            has_end=True,
            entity_states=TRAINING_TASKS,
        ),
        Channel(
            "backtest",
            BACKTEST_EVENTS,
            frozenset({"backtest_progress"}),
            mystocks.backtest_progress,
            entity_parameters=("backtest_id", "entity_id"),
            has_end=True,
        ),
        Channel(
            "alerts",
            RISK_ALERTS,
            frozenset({"risk_alert"}),
            mystocks.risk_alert,
            is_latest_value=False,
        ),
        Channel(
            "dashboard",
            DASHBOARD_UPDATES,
            frozenset({"dashboard_update"}),
            mystocks.dashboard_update,
        ),
        Channel("measures", RISK_MEASURES, frozenset({"risk_measure"}), mystocks.risk_measure),
        Channel("books", RISK_BOOK_RISKS, frozenset({"book_risk"}), mystocks.book_risk),
        Channel(
            "trainmodel",
            TRAINING_EVENTS,
            training_task.STAGES,
            training_task.status,
            training_task.TRAINING_TASK,
            entity_parameters=("task_id",),
            has_end=True,
            entity_states=TRAINING_TASKS,
        ),
        Channel(
            "backtest_job",
            BACKTEST_EVENTS,
            backtest_words.EVENTS,
            backtest_words.step,
            backtest_words.BACKTEST,
            entity_parameters=("job_id",),
            has_end=True,
            is_latest_value=False,
        ),
        Channel(
            "backtest_jobs",
            BACKTEST_JOBS,
            frozenset({"job_updated"}),
            backtest_words.listed,
            backtest_words.BACKTEST,
        ),
        Channel(
            "agent",
            AGENT_EVENTS,
            agent_words.KINDS,
            agent_words.step,
            agent_words.AGENT,
            entity_parameters=("run_id",),
            has_end=True,
            cursor_names_entity=True,
            is_latest_value=False,
        ),
        Channel(
            "chat",
            CHAT_MESSAGES,
            chat_words.CHAT_EVENTS,
            chat_words.chat_event,
            chat_words.CHAT,
            entity_parameters=("room",),
            is_latest_value=False,
        ),
        Channel(
            "user",
            USER_UPDATES,
            chat_words.USER_EVENTS,
            chat_words.user_update,
            chat_words.RESPONSE,
            entity_parameters=("user_id",),
            has_end=True,
            is_latest_value=False,
        ),
    )
}


MYSTOCKS_CHANNELS = tuple(
    name for name, channel in CHANNELS.items() if channel.dialect is mystocks.MYSTOCKS
)
"""Those that have an endpoint of their own, and can be had several in one connection."""


ONE_OF_MANY: Mapping[str, Channel] = {
    name: replace(CHANNELS[name], dialect=mystocks.MYSTOCKS_MANY) for name in MYSTOCKS_CHANNELS
}
"""The same, as several of them come in one connection."""

BY_KEY: Mapping[str, Channel] = {
    channel.key: channel for channel in (*CHANNELS.values(), *ONE_OF_MANY.values())
}
"""Every channel there is."""


class Frame(NamedTuple):
    """A record as bytes that still lack the cursor, and what a filter needs to know of it."""

    event: str
    body: bytes
    ends: bool


Renderer = Callable[[Channel, Record], Frame | None]
"""Words a record, and deals with one that cannot be."""


@dataclass(frozen=True, slots=True)
class Source:
    """A channel, and whose events of it; everybody's, where `entities` is empty."""

    channel: Channel
    entities: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stream:
    """What one connection reads."""

    sources: tuple[Source, ...]
    events: frozenset[str] = frozenset()
    """Names of the events to send; all, where it is empty."""
    tenant: str | None = None
    """Whose records only, by their `tenant` header; "" for those without one, None for all."""

    @property
    def name(self) -> str:
        """The channels' names."""
        return ",".join(source.channel.name for source in self.sources)

    @property
    def dialect(self) -> Dialect:
        """How its events are worded."""
        return self.sources[0].channel.dialect

    @property
    def entities(self) -> tuple[str, ...]:
        """Whose events it is about; everybody's, where it is empty."""
        return tuple(chain.from_iterable(sorted(source.entities) for source in self.sources))

    @property
    def cursor_prefix(self) -> str:
        """What the stream's cursors begin with."""
        return self.entities[0] if self.sources[0].channel.cursor_names_entity else ""

    @cached_property
    def identity(self) -> str:
        """Topics, keys and filter in words: what a cursor is bound to."""
        return json.dumps(
            [
                [[source.channel.key, sorted(source.entities)] for source in self.sources],
                sorted(self.events),
                *([] if self.tenant is None else [["tenant", self.tenant]]),
            ]
        )

    @property
    def has_end(self) -> bool:
        """Whether the stream ends with its one entity's story."""
        return (
            len(self.sources) == 1
            and self.sources[0].channel.has_end
            and len(self.sources[0].entities) == 1
        )

    @property
    def is_latest_value(self) -> bool:
        """Whether who is slow can do with the newest event of each key."""
        return all(source.channel.is_latest_value for source in self.sources)

    @cached_property
    def keys(self) -> tuple[frozenset[bytes], ...]:
        """For each source, the keys of its entities; none, where all are wanted."""
        return tuple(
            frozenset(entity.encode() for entity in source.entities) for source in self.sources
        )


def one_channel(name: str, query: Mapping[str, str], events: Iterable[str] | None = None) -> Stream:
    """The stream of a channel's own endpoint.

    Args:
        name: the channel's.
        query: the request's parameters.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: an entity parameter does not belong to the channel, two of them
            contradict each other, or an event has a name that the channel does not know.
    """
    channel = CHANNELS[name]
    entities = set()
    for parameter in ("task_id", "backtest_id", "entity_id"):
        value = query.get(parameter)
        if not value:
            continue
        if parameter not in channel.entity_parameters:
            fitting = " or ".join(channel.entity_parameters)
            raise InvalidParameter(
                parameter, f"the {name} channel is filtered by {fitting}, not by {parameter}"
            )
        entities.add(_entity(parameter, value))
    if len(entities) > 1:
        pair = " and ".join(channel.entity_parameters)
        raise InvalidParameter("entity_id", f"{pair} name two different entities; give one")
    return _stream((Source(channel, frozenset(entities)),), events)


def of_entities(name: str, entities: Iterable[str], events: Iterable[str] | None = None) -> Stream:
    """The stream of certain entities of a channel.

    Args:
        name: the channel's.
        entities: whose events to send; at least one.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: there are no entities, or too many, or one has no name; or an event has a
            name that the channel does not know.
    """
    channel = CHANNELS[name]
    parameter = channel.entity_parameters[0]
    wanted = frozenset(_entity(parameter, entity) for entity in entities)
    if not 1 <= len(wanted) <= ENTITIES_MAX:
        raise InvalidParameter(
            parameter, f"{len(wanted)} are given; a stream has 1 to {ENTITIES_MAX}"
        )
    return _stream((Source(channel, wanted),), events)


def many_channels(topics: Iterable[str], events: Iterable[str] | None = None) -> Stream:
    """The stream of several channels in one connection.

    Args:
        topics: `NAME` or `NAME:ENTITY` each, as in `training:T1`.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: there is no topic, or none of that name.
    """
    wanted: dict[str, set[str]] = {}
    everything = set()
    for topic in topics:
        name, colon, entity = topic.partition(":")
        if name not in MYSTOCKS_CHANNELS:
            raise InvalidParameter(
                "topic", f"{_shown(name)} is no stream; there are {', '.join(MYSTOCKS_CHANNELS)}"
            )
        entities = wanted.setdefault(name, set())
        if colon:
            entities.add(_entity("topic", entity))
        else:
            everything.add(name)
    if not wanted:
        raise InvalidParameter(
            "topic", f"name at least one stream of {', '.join(MYSTOCKS_CHANNELS)}"
        )
    if sum(map(len, wanted.values())) > ENTITIES_MAX:
        raise InvalidParameter("topic", f"more than {ENTITIES_MAX} entities in one stream")
    sources = tuple(
        Source(ONE_OF_MANY[name], frozenset() if name in everything else frozenset(wanted[name]))
        for name in sorted(wanted)
    )
    return _stream(sources, events)


def render(channel: Channel, record: Record) -> Frame | None:
    """Word a record; None for a tombstone of a compacted topic.

    Raises:
        Unframable: it is no event of the channel, or too large for one.
    """
    return render_value(channel, record.value, record.timestamp_ms)


def render_value(channel: Channel, value: bytes | None, timestamp_ms: int) -> Frame | None:
    """As `frame_of`, of a record's value and its time in the log."""
    if value is None:
        return None
    try:
        event = decode(value)
        if not isinstance(event, channel.topic.record):
            raise Unframable(f"a {type(event).__name__} where {channel.name} events belong")
        rendered = channel.render(event)
        if rendered is None:
            return None
        timestamp = to_rfc3339(timestamp_ms * 1000)
        unfinished = body(*channel.dialect.wrap(rendered, timestamp))
    except (Undecodable, ValueError, OverflowError) as error:
        raise Unframable(str(error)) from error
    if len(unfinished) > FRAME_BYTES_MAX:
        raise Unframable(f"{len(unfinished)} bytes; an event has at most {FRAME_BYTES_MAX}")
    return Frame(rendered.event, unfinished, rendered.ends)


def _stream(sources: tuple[Source, ...], events: Iterable[str] | None) -> Stream:
    names = frozenset(events or ())
    known = sorted({event for source in sources for event in source.channel.events})
    for name in sorted(names - set(known)):
        raise InvalidParameter(
            "events", f"{_shown(name)} is no event of this stream; it has {', '.join(known)}"
        )
    return Stream(sources, names)


def _entity(parameter: str, value: str) -> str:
    if not 1 <= len(value) <= ENTITY_CHARS_MAX:
        raise InvalidParameter(
            parameter, f"it has {len(value)} characters; a name has 1 to {ENTITY_CHARS_MAX}"
        )
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")  # noqa: PLR2004  # a line's worth
