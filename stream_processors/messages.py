"""Read a message from Kafka: its record, tenant and times, or the dead letter about it.

A message arrives as `kafka_io` has read it. A `DeadLetter` returned from here is
an event like any other; its caller sends it to the dead-letter topic.
"""

import logging
from collections.abc import Iterable
from typing import Protocol, TypeVar

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import DeadLetter, DeadLetterReason
from schemas.headers import RECORDED, tenant_in
from schemas.instants import from_rfc3339
from schemas.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

R = TypeVar("R")

_VALUE_BYTES_MAX = 512 * 1024
"""A dead letter keeps this much of a value: a value that filled a record would not fit in another
record with the letter's other fields."""


class Message(Protocol):
    """A consumed record, before its value is decoded."""

    @property
    def topic(self) -> str:
        """The full name of its topic, with the system's prefix."""
        ...

    @property
    def partition(self) -> int:
        """The number of its partition."""
        ...

    @property
    def offset(self) -> int:
        """Its offset in the partition."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key; None for a record without one."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its encoded record; None for a tombstone."""
        ...

    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]] | None:
        """Its headers: names and values."""
        ...

    @property
    def timestamp(self) -> float:
        """When Kafka appended it, in seconds since 1970 UTC."""
        ...


def decode_message(message: Message, *kinds: type[R]) -> R | DeadLetter:
    """Decode a message into a record of one of these kinds, or into the dead letter about it."""
    try:
        record = decode(message.value)
    except Undecodable as error:
        return dead_letter(message, error.reason, str(error))
    for kind in kinds:
        if isinstance(record, kind):
            return record
    expected = " or ".join(kind.__name__ for kind in kinds)
    error_text = f"expected {expected}, found {type(record).__name__}"
    return dead_letter(message, DeadLetterReason.UNEXPECTED_RECORD, error_text)


def dead_letter(
    message: Message, reason: DeadLetterReason, error: str, *, index: int | None = None
) -> DeadLetter:
    """Return the letter about a message, or about the item at `index` in it, and log it."""
    logger.warning(
        "%s/%d offset %d goes to %s: %s",
        *(message.topic, message.partition, message.offset, DEAD_LETTERS.name, error),
    )
    value = message.value
    return DeadLetter(
        reason=reason,
        error=error,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        index=index,
        key=message.key,
        value=None if value is None else value[:_VALUE_BYTES_MAX],
        event_time_us=log_time_us(message),
    )


def tenant_of(message: Message) -> str | None:
    """Return the tenant named by a message's header."""
    return tenant_in(message.headers or ())


def log_time_us(message: Message) -> int:
    """Return when Kafka appended a message."""
    milliseconds: int = round(message.timestamp * 1_000)  # a float of seconds holds these exactly
    return milliseconds * 1_000


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
