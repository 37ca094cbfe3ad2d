"""The gate of the processors: each message is admitted with its record, or becomes a dead letter.

Beyond what `schemas.gate` checks, a record must have the key of its event and its tenant, and be in
the partition of that key. The state of an entity is in one partition, so a record elsewhere would
be judged without it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kafka_io.client import partition_of
from kafka_io.dead_letters import Message, dead_letter, log_time_us
from schemas.errors import Refused
from schemas.events import (
    AlertAck,
    Book,
    DeadLetter,
    DeadLetterReason,
    EntityType,
    Record,
    ReturnBatch,
    RiskLimits,
    Scenario,
    WindowTally,
)
from schemas.gate import AHEAD_US, admit
from schemas.headers import fault_of_tenant
from schemas.keys import encode_key, fault_of_key
from schemas.topics import READ_AS_TABLES, Topic, key_of
from stream_processors.messages import Admitted, admitted, tenant_of

_NAMED_MAX = 3
"""The most portfolios that a dead letter names."""
_SHOWN_BYTES = 80
_HOMES_MAX = 100_000
"""The most keys whose partitions are remembered."""


class RecordGate:
    """Admits messages of a system's topics."""

    def __init__(
        self,
        topics: Mapping[str, Topic],
        partitions_of: Callable[[Topic], int],
        ahead_us: float = AHEAD_US,
    ) -> None:
        """Make a gate.

        Args:
            topics: the topics, by their names in Kafka.
            partitions_of: returns the number of a topic's partitions.
            ahead_us: how far ahead of the log's time an event may be, in microseconds.
        """
        self._topics = topics
        self._partitions_of = partitions_of
        self._ahead_us = ahead_us
        self._homes: dict[tuple[bytes, int], int] = {}
        self._at_home: defaultdict[tuple[str | None, int, int], set[str]] = defaultdict(set)
        """The portfolios that are known to belong in a partition, by tenant, partition and number
        of partitions: to look each up takes a third of the gate's time."""

    def admit(self, message: Message) -> Admitted | DeadLetter | None:
        """Return a message with its record, or the dead letter about it; None for a tombstone."""
        topic = self._topics[message.topic]
        if message.value is None and topic in READ_AS_TABLES:
            return None
        judged = self.judge(message)
        if isinstance(judged, Fault):
            return dead_letter(message, *judged)
        if isinstance(judged, ReturnBatch):
            return self._returns(message, judged, topic, tenant_of(message))
        return admitted(message, judged)

    def judge(self, message: Message) -> "Record | Fault":
        """Return the record of a message, or why it is refused; of returns, parts may still be."""
        topic = self._topics[message.topic]
        try:
            record = admit(
                message.value,
                *topic.records,
                logged_us=log_time_us(message),
                ahead_us=self._ahead_us,
            )
        except Refused as error:
            return Fault(error.reason, str(error))
        fault_of_name = fault_of_tenant(message.headers or ())
        if fault_of_name is not None:
            return Fault(DeadLetterReason.INVALID, fault_of_name)
        if message.key is None and isinstance(record, ReturnBatch):
            return record  # as nearly all of a processor's messages; each return has its own place
        fault = self._fault_of_place(message, record, topic, tenant_of(message))
        return record if fault is None else fault

    def _fault_of_place(
        self, message: Message, record: Record, topic: Topic, tenant: str | None
    ) -> "Fault | None":
        """Return why a record is not where it belongs; None if it is."""
        key = key_of(record, tenant)
        if message.key != key and (foreign := fault_of_key(message.key, tenant)) is not None:
            return Fault(DeadLetterReason.FOREIGN, foreign)
        if isinstance(record, WindowTally) and (record.tenant or None) != tenant:
            return Fault(DeadLetterReason.FOREIGN, "the tally is of another tenant than its header")
        if key is None:
            return None
        if message.key != key:
            error = f"the key is {_shown(message.key)}; it must be {_shown(key)}"
            return Fault(DeadLetterReason.MISPLACED, error)
        place = place_of(record, tenant)
        # Each partition has a copy of a scenario.
        home = message.partition if place is None else self._home(place, topic)
        if place is None or home == message.partition:
            return None
        return Fault(
            DeadLetterReason.WRONG_PARTITION,
            f"{_shown(place)} is in partition {message.partition}; it belongs in partition {home}, "
            "by Kafka's default partitioner (murmur2)",
        )

    def _returns(
        self, message: Message, batch: ReturnBatch, topic: Topic, tenant: str | None
    ) -> Admitted | DeadLetter:
        """Admit the returns that belong here; the others are left out."""
        portfolios = {value.portfolio_id for value in batch.returns}
        at_home = self._at_home[tenant, message.partition, self._partitions_of(topic)]
        if portfolios <= at_home:
            return admitted(message, batch)
        homes = {name: self._home(encode_key(name, tenant), topic) for name in portfolios}
        elsewhere = sorted(name for name, home in homes.items() if home != message.partition)
        if not elsewhere:
            if sum(map(len, self._at_home.values())) >= _HOMES_MAX:
                self._at_home.clear()
            else:
                at_home |= portfolios
            return admitted(message, batch)
        named = [f"{name!r} in partition {homes[name]}" for name in elsewhere[:_NAMED_MAX]]
        more = len(elsewhere) - len(named)
        letter = dead_letter(
            message,
            DeadLetterReason.WRONG_PARTITION,
            f"returns of {len(elsewhere)} portfolios are in partition {message.partition}; by "
            f"Kafka's default partitioner (murmur2) they belong elsewhere: {', '.join(named)}"
            f"{f', and {more} more' if more else ''}",
        )
        if len(elsewhere) == len(portfolios):
            return letter
        return admitted(message, batch)._replace(left_out=frozenset(elsewhere), letter=letter)

    def _home(self, key: bytes, topic: Topic) -> int:
        count = self._partitions_of(topic)
        home = self._homes.get((key, count))
        if home is None:
            if len(self._homes) >= _HOMES_MAX:
                self._homes.clear()
            home = self._homes[key, count] = partition_of(key, count)
        return home


class Fault(NamedTuple):
    """Why a record is refused."""

    reason: DeadLetterReason
    text: str


def place_of(record: Record, tenant: str | None) -> bytes | None:
    """Return the key whose partition a record belongs in; None where it may be in any.

    Args:
        record: the record; returns belong in the partitions of their portfolios.
        tenant: its tenant.
    """
    if isinstance(record, Scenario):
        return None
    root = _root_of(record)
    return key_of(record, tenant) if root is None else encode_key(root, tenant)


def _root_of(record: Record) -> str | None:
    """Return the root whose partition the books of its tree share, and all that is about them."""
    match record:
        case Book():
            return record.root
        case RiskLimits(entity_type=EntityType.BOOK):
            return record.portfolio_id.partition("/")[0]
        case AlertAck(entity_type=EntityType.BOOK):
            return record.entity_id.partition("/")[0]
        case _:
            return None


def _shown(key: bytes | None) -> str:
    if key is None or len(key) <= _SHOWN_BYTES:
        return repr(key)
    return f"{key[:_SHOWN_BYTES]!r}... of {len(key)} bytes"
