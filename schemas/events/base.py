"""The protocols of registered records and events."""

from dataclasses import Field
from typing import Any, ClassVar, Protocol


class Record(Protocol):
    """A dataclass that `schemas.topics` registers: an event, or the state of a processor."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class Event(Record, Protocol):
    """A record of something that happened, with the time when it did."""

    @property
    def event_time_us(self) -> int:
        """The event's time in microseconds since 1970 UTC."""
        ...
