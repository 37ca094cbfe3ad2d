"""Finds the table that a name means: the table's own, its class's, or its topic's."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from analytics.columns import event_classes
from analytics.errors import UnknownTable
from analytics.table_names import is_event
from schemas.events import Record
from schemas.topics import CATALOGUE, REGISTRY, Topic


class EventTable(NamedTuple):
    """The table of a class of events."""

    name: str
    kind: type[Record]
    topic: Topic
    """The topic that carries the events."""


def event_tables() -> Mapping[str, EventTable]:
    """Return all tables of events, by their names."""
    return {
        name: EventTable(name, kind, REGISTRY.find(kind).topic)
        for name, kind in event_classes().items()
    }


def find_table(name: str, channels: Mapping[str, Topic] | None = None) -> EventTable:
    """Return the table that a name means.

    Args:
        name: the name of a table, a class, a topic or a channel.
        channels: the topics of channels, by the channels' names.

    Raises:
        UnknownTable: no table has the name, or the topic of that name carries no events.
    """
    tables = event_tables()
    by_class = {table.kind.__name__: table for table in tables.values()}
    topics = {topic.name: topic for topic in CATALOGUE} | dict(channels or {})
    found = tables.get(name) or by_class.get(name)
    if found is not None:
        return found
    if name in topics:
        kind = topics[name].record
        if is_event(kind):
            return by_class[kind.__name__]
        raise UnknownTable(
            f"{name} carries {kind.__name__}, the state of a processor, and has no table"
        )
    near = get_close_matches(name.lower(), [*tables, *topics], 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(tables)}"
    raise UnknownTable(f"there is no table {name}{hint}")
