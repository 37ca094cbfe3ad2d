"""Dead letters: what is kept of a record that could not be used, and why.

A `DeadLetter` returned from here is an event like any other; its caller sends it to the dead-letter
topic. It is bounded whatever it is about: of a long key, value or error it has the first part, with
the length and the SHA-256 of the whole.
"""

import logging
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

from kafka_io.log_lines import about
from schemas.events import DeadLetter, DeadLetterReason
from schemas.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

_VALUE_BYTES_MAX = 512 * 1024
"""A dead letter keeps this much of a value: a value that filled a record would not fit in another
record with the letter's other fields."""
_KEY_BYTES_MAX = 4 * 1024
_ERROR_CHARS_MAX = 2_000


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


def dead_letter(
    message: Message, reason: DeadLetterReason, error: str, *, index: int | None = None
) -> DeadLetter:
    """Return the letter about a message, or about the item at `index` in it, and log it."""
    text = error if len(error) <= _ERROR_CHARS_MAX else f"{error[:_ERROR_CHARS_MAX]}..."
    logger.warning(
        "%s/%d offset %d goes to %s: %s",
        *(message.topic, message.partition, message.offset, DEAD_LETTERS.name, text),
        extra=about(message.topic, message.partition, message.offset),
    )
    key, value = message.key, message.value
    return DeadLetter(
        reason=reason,
        error=text,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        index=index,
        key=None if key is None else key[:_KEY_BYTES_MAX],
        value=None if value is None else value[:_VALUE_BYTES_MAX],
        event_time_us=max(log_time_us(message), 0),
        key_bytes=None if key is None else len(key),
        key_sha256=None if key is None else sha256(key).digest(),
        value_bytes=None if value is None else len(value),
        value_sha256=None if value is None else sha256(value).digest(),
    )


def log_time_us(message: Message) -> int:
    """Return when Kafka appended a message."""
    milliseconds: int = round(message.timestamp * 1_000)  # a float of seconds holds these exactly
    return milliseconds * 1_000
