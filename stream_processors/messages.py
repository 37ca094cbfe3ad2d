"""Messages that have passed the gate, and what their headers and times say."""

from collections.abc import Iterable
from typing import NamedTuple

from kafka_io.dead_letters import Message, log_time_us
from schemas.events import DeadLetter, Record
from schemas.headers import RECORDED, tenant_in
from schemas.instants import from_rfc3339


class Admitted(NamedTuple):
    """A message that has passed the gate, with the record in its value."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]] | None
    timestamp: float
    record: Record
    left_out: frozenset[str] = frozenset()
    """The portfolios in the record whose returns must be passed over."""
    letter: "DeadLetter | None" = None
    """The dead letter about them."""


def admitted(message: Message, record: Record) -> Admitted:
    """Return a message with the record in its value."""
    return Admitted(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        message.headers,
        message.timestamp,
        record,
    )


def tenant_of(message: Message) -> str | None:
    """Return the tenant named by a message's header."""
    return tenant_in(message.headers or ())


def recorded_us(message: Message) -> int:
    """Return when a message was recorded by its producer's clock, at the latest its log time."""
    logged_us = log_time_us(message)
    for name, value in message.headers or ():
        if name == RECORDED:
            try:
                return min(from_rfc3339((value or b"").decode()), logged_us)
            except ValueError:  # from a foreign producer; the log's time is near enough
                break
    return logged_us
