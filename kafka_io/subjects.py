"""The subjects of the catalogue at a schema registry, and values that name its schemas.

The records that a topic is for have the subject `TOPIC-value`, by TopicNameStrategy. A topic may
carry further classes, whose schemas no registry takes as versions of the first; theirs is
`TOPIC-tapewire.CLASS`, by TopicRecordNameStrategy. Nothing registers a schema but
`tapewire schemas register`.
"""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka_io.errors import InvalidSetting
from kafka_io.schema_registry import SchemaRegistry, SchemaRegistrySettings
from kafka_io.settings import ProducerSettings
from schemas.codec import MARKER, fingerprint_of_schema, versions
from schemas.events import BookRisk, Record
from schemas.topics import CATALOGUE, REGISTRY, type_name

logger = logging.getLogger(__name__)

_FULL = "FULL_TRANSITIVE"
_LEVELS: dict[type[Record], str] = {BookRisk: "BACKWARD_TRANSITIVE"}
"""The levels of compatibility that differ: the first version of `BookRisk` cannot read others."""
_HEAD_BYTES = len(MARKER) + 8


class Subject(NamedTuple):
    """A subject, and the class whose versions it has."""

    name: str
    record: str
    compatibility: str
    """The level at which the registry checks each new version."""

    def texts(self) -> list[str]:
        """Return the versions of the class as they are registered, oldest first."""
        return [canonical_text(schema) for schema in versions(self.record)]


def subjects(prefix: str = "") -> list[Subject]:
    """Return the subjects of all topics.

    Args:
        prefix: the prefix of the topics' names.
    """
    return [
        Subject(
            f"{prefix}{topic.name}-{'value' if kind is topic.record else type_name(kind)}",
            kind.__name__,
            _LEVELS.get(kind, _FULL),
        )
        for topic in CATALOGUE
        for kind in topic.rows
    ]


def canonical_text(schema: Any) -> str:
    """Return the text by which a schema is registered: compact, with its fields' defaults.

    Registries give another text of the same schema another id. Avro's parsing canonical form has no
    defaults, without which no version would be compatible with the next one.
    """
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=False)


class ConfluentWire:
    """Writes values in Confluent's framing, with the ids of the schemas of a registry."""

    def __init__(self, settings: SchemaRegistrySettings) -> None:
        """Make a wire that knows no id yet; `load` asks for them."""
        self._settings = settings
        self._lock = threading.Lock()
        self._heads: dict[bytes, bytes] = {}
        """The heads of values by those in single-object encoding."""

    def load(self) -> None:
        """Ask for the ids of all versions of all schemas, once; it takes a second or so.

        Raises:
            InvalidSetting: the registry does not have all of them.
            RegistryUnavailable: the registry does not answer, or refuses this client.
        """
        with self._lock:
            if self._heads:
                return
            heads = {}
            missing = []
            with SchemaRegistry(self._settings) as registry:
                for subject, number, schema in _own_versions():
                    found = registry.find_id(subject, canonical_text(schema))
                    if found is None:
                        missing.append(f"version {number} of {subject}")
                    else:
                        heads[MARKER + fingerprint_of_schema(schema)] = b"\0" + found.to_bytes(4)
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise InvalidSetting(
                    f"TAPEWIRE_WIRE is confluent, but the schema registry at {registry.url} does "
                    f"not have {missing[0]}{more}; run `tapewire schemas register`"
                )
            self._heads = heads

    def frame(self, value: bytes | None) -> bytes | None:
        """Return a value in Confluent's framing; values of unknown schemas stay as they are."""
        if value is None:
            return None
        head = self._heads.get(value[:_HEAD_BYTES])
        return value if head is None else head + value[_HEAD_BYTES:]


def _own_versions() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield each version of each class, with its number and the subject of its own topic."""
    own = {(registration.topic.name, registration.record.__name__) for registration in REGISTRY}
    prefix = ProducerSettings().topic_prefix
    for subject in subjects(prefix):
        topic = subject.name.removeprefix(prefix).rpartition("-")[0]
        if (topic, subject.record) in own:
            for number, schema in enumerate(versions(subject.record), 1):
                yield subject.name, number, schema


_wires: dict[SchemaRegistrySettings, ConfluentWire] = {}
"""By settings; a process has one."""


def current_wire() -> ConfluentWire | None:
    """Return what frames the values that this process writes; None for single-object encoding.

    Raises:
        InvalidSetting: the settings of the schema registry contradict each other.
    """
    settings = SchemaRegistrySettings()
    if settings.wire == "single_object":
        return None
    return _wires.setdefault(settings, ConfluentWire(settings))
