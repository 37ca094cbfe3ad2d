"""The registry of records: each class with the one topic that carries it.

A record class is registered by its row in `schemas.topics`. The codec, the key of a record, its
CloudEvents type and the provisioning of topics all read the registry; nothing else lists classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import NoneType
from typing import Any, get_args, get_type_hints

from schemas.errors import UnknownEvent
from schemas.events import Record

PARTITIONS = 6
"""The partitions of a topic by default: two or three brokers share them evenly."""

_SCHEMAS = files(__package__ or "schemas") / "avro"


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the catalogue."""

    name: str
    record: type[Record]
    subject: str | None
    """The field that is the record's key; None where the producer chooses the partition itself."""
    retention_ms: int | None
    """How long records are kept; None keeps the newest record of each key for ever."""
    partitions: int = PARTITIONS
    compacted: bool = False
    """Whether a topic with a retention time also keeps only the newest record of each key."""
    also: tuple[type[Record], ...] = ()
    """Further classes of records that it carries; their writers choose key and partition."""
    borrowed: tuple[type[Record], ...] = ()
    """Classes of other topics whose records a processor keeps in this one, as rows of its state."""

    @property
    def records(self) -> tuple[type[Record], ...]:
        """The classes of records that it carries."""
        return (self.record, *self.also)

    @property
    def is_compacted(self) -> bool:
        """Whether Kafka keeps only the newest record of each key."""
        return self.compacted or self.retention_ms is None

    @property
    def rows(self) -> tuple[type[Record], ...]:
        """The classes of its rows, if it keeps a processor's state."""
        return (*self.records, *self.borrowed)

    def config(self) -> dict[str, str]:
        """Return the topic's settings for Kafka."""
        kept = {}
        if self.is_compacted:
            # Recovery reads every row that is not compacted yet, so compaction is kept eager.
            kept = {
                "cleanup.policy": "compact",
                "min.cleanable.dirty.ratio": "0.2",
                "max.compaction.lag.ms": "600000",
                "segment.ms": "600000",
            }
        if self.retention_ms is not None:
            policy = "compact,delete" if self.compacted else "delete"
            kept |= {"cleanup.policy": policy, "retention.ms": str(self.retention_ms)}
        return kept | {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Registration:
    """A record class, its topic, and the folder of its schema's versions."""

    topic: Topic
    record: type[Record]
    schemas: Traversable
    """Holds `1.avsc`, `2.avsc` and so on."""


class Registry:
    """All registered records, in the order of their registration."""

    def __init__(self) -> None:
        self._by_class: dict[type[Record], Registration] = {}

    def register(self, topic: Topic, schemas: Traversable | None = None) -> Topic:
        """Register the record classes of a topic, and return the topic.

        Args:
            topic: the topic that carries the classes.
            schemas: the folder of the schemas' versions; None for `schemas/avro/CLASS`.

        Raises:
            ValueError: a class, its name or the topic's name is registered already.
        """
        known = self._by_class.values()
        if topic.name in {registration.topic.name for registration in known}:
            raise ValueError(f"topic {topic.name} is registered already")
        names = {registration.record.__name__ for registration in known}
        for record in topic.records:
            if record.__name__ in names:
                raise ValueError(f"a record class {record.__name__} is registered already")
            folder = schemas if schemas is not None else _SCHEMAS / record.__name__
            self._by_class[record] = Registration(topic, record, folder)
        return topic

    def find(self, kind: type[Record]) -> Registration:
        """Return the registration of a class.

        Raises:
            UnknownEvent: the class is not registered.
        """
        found = self._by_class.get(kind)
        if found is None:
            known = ", ".join(sorted(registered.__name__ for registered in self._by_class))
            raise UnknownEvent(f"no topic carries a {kind.__name__}; they carry {known}")
        return found

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._by_class.values()))

    def __len__(self) -> int:
        return len(self._by_class)


REGISTRY = Registry()
"""The records of this system; `schemas.topics` fills it."""


def part_fields(kind: type[Record]) -> dict[str, type[Any]]:
    """Return the fields of a record that hold another class, or a list of it, with that class."""
    found = {}
    for name, annotation in get_type_hints(kind).items():
        for candidate in (annotation, *get_args(annotation)):
            if candidate is not NoneType and field_names(candidate):
                found[name] = candidate
    return found


def field_names(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass or named tuple; none for any other type."""
    if isinstance(kind, type) and is_dataclass(kind):
        return tuple(field.name for field in fields(kind))
    return getattr(kind, "_fields", ())
