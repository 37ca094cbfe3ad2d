"""A stream: the channels, entities and events that one connection reads."""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from schemas.keys import readable_keys
from schemas.run_ids import Owner
from sse_edge.streams.channels import Channel
from sse_edge.streams.dialect import Dialect


@dataclass(frozen=True, slots=True)
class ChannelSelection:
    """A channel, and the entities to read of it; all, if `entities` is empty."""

    channel: Channel
    entities: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stream:
    """The channels, entities and events that one connection reads."""

    selections: tuple[ChannelSelection, ...]
    events: frozenset[str] = frozenset()
    """The names of the events to send; all, if it is empty."""
    tenant: str | None = None
    """Only records of this tenant; "" for those without one, None for all."""
    owner: Owner | None = None
    """The user whose records it reads, and those of no user; None for those of all users. Only for
    a stream with a channel whose records have owners."""
    homes: frozenset[str] = frozenset()
    """The tenants of the entities, for a stream that reads the records of all tenants."""
    with_traceparent: bool = False
    """Whether the data of events have the trace contexts of their writers. Cursors do not depend on
    it."""

    @property
    def name(self) -> str:
        """The names of the channels, separated by commas."""
        return ",".join(choice.channel.name for choice in self.selections)

    @property
    def label(self) -> str:
        """The name by which metrics count it: its channel, or `several`.

        Clients may ask for any channels in any order, and Prometheus keeps each name for ever.
        """
        channels = {choice.channel.name for choice in self.selections}
        return channels.pop() if len(channels) == 1 else "several"

    @property
    def dialect(self) -> Dialect:
        """The dialect of its events."""
        return self.selections[0].channel.dialect

    @property
    def entities(self) -> tuple[str, ...]:
        """The selected entities; all, if it is empty."""
        return tuple(chain.from_iterable(sorted(choice.entities) for choice in self.selections))

    @property
    def cursor_prefix(self) -> str:
        """The text that the stream's cursors begin with."""
        return self.entities[0] if self.selections[0].channel.cursor_names_entity else ""

    @cached_property
    def identity(self) -> str:
        """The text that cursors are bound to: channels, entities, filter and tenant.

        The owner is not in it: a cursor is a position, and every event is authorized on replay.
        """
        return json.dumps(
            [
                [
                    [choice.channel.cursor_key, sorted(choice.entities)]
                    for choice in self.selections
                ],
                sorted(self.events),
                *([] if self.tenant is None else [["tenant", self.tenant]]),
            ]
        )

    @property
    def has_owners(self) -> bool:
        """Whether some of its events are for one user of a tenant only."""
        return any(choice.channel.has_owners for choice in self.selections)

    @property
    def has_end(self) -> bool:
        """Whether the stream ends with the last event of its one entity."""
        return (
            len(self.selections) == 1
            and self.selections[0].channel.has_end
            and len(self.selections[0].entities) == 1
        )

    @property
    def is_latest_value(self) -> bool:
        """Whether a slow client may get only the newest event of each key."""
        return all(choice.channel.is_latest_value for choice in self.selections)

    @cached_property
    def keys(self) -> tuple[frozenset[bytes], ...]:
        """For each selection, the keys of its entities; none, if all are selected."""
        tenants = (self.homes or {""}) if self.tenant is None else {self.tenant}
        return tuple(
            frozenset(
                key
                for entity in choice.entities
                for tenant in tenants
                for key in readable_keys(entity, tenant)
            )
            for choice in self.selections
        )
