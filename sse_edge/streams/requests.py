"""Turns the channels, entities and event names of a request into a stream, or a named error."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from sse_edge.errors import InvalidParameter
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.stream import ChannelSelection, Stream

ENTITY_CHARS_MAX = 256
ENTITIES_MAX = 100
_KNOWN_MAX = 256
"""How many streams of one channel are kept for the next client that asks for one of them."""


def one_channel(name: str, query: Mapping[str, str], events: Iterable[str] | None = None) -> Stream:
    """Return the stream of a channel's own endpoint.

    Args:
        name: the channel's name.
        query: the request's query parameters.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: an entity parameter does not belong to the channel, two of them name
            different entities, or the channel has no event of a name.
    """
    channel = CHANNELS[name]
    entities = set()
    for parameter in CHANNELS.mystocks_parameters:
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
    return _of_channel(name, frozenset(entities), frozenset(events or ()))


@lru_cache(_KNOWN_MAX)
def _of_channel(name: str, entities: frozenset[str], events: frozenset[str]) -> Stream:
    """Return a stream, the same one for all clients: it keeps what is derived from it."""
    return _stream((ChannelSelection(CHANNELS[name], entities),), events)


def of_entities(name: str, entities: Iterable[str], events: Iterable[str] | None = None) -> Stream:
    """Return the stream of some entities of a channel.

    Args:
        name: the channel's name.
        entities: the entities; at least one.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: there are no entities, or too many, or one has an empty or too long name,
            or the channel has no event of a name.
    """
    channel = CHANNELS[name]
    parameter = channel.entity_parameters[0]
    named = frozenset(_entity(parameter, entity) for entity in entities)
    if not 1 <= len(named) <= ENTITIES_MAX:
        raise InvalidParameter(
            parameter, f"{len(named)} are given; a stream has 1 to {ENTITIES_MAX}"
        )
    return _stream((ChannelSelection(channel, named),), events)


def many_channels(topics: Iterable[str], events: Iterable[str] | None = None) -> Stream:
    """Return the stream of several channels in one connection.

    Args:
        topics: each `NAME` or `NAME:ENTITY`, as in `training:T1`.
        events: names of the events to send; None for all.

    Raises:
        InvalidParameter: no channel is named, or one that does not exist.
    """
    selected: dict[str, set[str]] = {}
    everything = set()
    for topic in topics:
        name, colon, entity = topic.partition(":")
        if name not in CHANNELS.mystocks:
            raise InvalidParameter(
                "topic", f"{_shown(name)} is no stream; there are {', '.join(CHANNELS.mystocks)}"
            )
        entities = selected.setdefault(name, set())
        if colon:
            entities.add(_entity("topic", entity))
        else:
            everything.add(name)
    if not selected:
        raise InvalidParameter(
            "topic", f"name at least one stream of {', '.join(CHANNELS.mystocks)}"
        )
    if sum(map(len, selected.values())) > ENTITIES_MAX:
        raise InvalidParameter("topic", f"more than {ENTITIES_MAX} entities in one stream")
    selections = tuple(
        ChannelSelection(
            CHANNELS.in_many[name], frozenset() if name in everything else frozenset(selected[name])
        )
        for name in sorted(selected)
    )
    return _stream(selections, events)


def as_cloudevents(stream: Stream) -> Stream:
    """Return a stream with its events as CloudEvents; its cursors stay the same."""
    selections = tuple(
        replace(choice, channel=CHANNELS.as_cloudevents(choice.channel))
        for choice in stream.selections
    )
    return replace(stream, selections=selections)


def _stream(selections: tuple[ChannelSelection, ...], events: Iterable[str] | None) -> Stream:
    names = frozenset(events or ())
    known = sorted({event for selection in selections for event in selection.channel.events})
    for name in sorted(names - set(known)):
        raise InvalidParameter(
            "events", f"{_shown(name)} is no event of this stream; it has {', '.join(known)}"
        )
    return Stream(selections, names)


def _entity(parameter: str, value: str) -> str:
    if not 1 <= len(value) <= ENTITY_CHARS_MAX:
        raise InvalidParameter(
            parameter, f"it has {len(value)} characters; a name has 1 to {ENTITY_CHARS_MAX}"
        )
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")  # noqa: PLR2004  # a line's worth
