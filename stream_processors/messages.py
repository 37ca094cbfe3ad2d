"""What a message from Kafka says, and the letter about one that says nothing.

Of a message nothing is needed but its topic, partition, offset, key, value, headers and timestamp.
"""

import logging
from typing import Any, TypeVar

from schemas.codec import decode
from schemas.errors import Undecodable
from schemas.events import DeadLetter
from schemas.headers import RECORDED, tenant_in
from schemas.instants import from_rfc3339
from schemas.topics import DEAD_LETTERS

logger = logging.getLogger(__name__)

R = TypeVar("R")

_KEPT_BYTES_MAX = 512 * 1024
"""Of a value that goes to the dead letters: one that filled a record would not fit in another."""


def decoded(message: Any, *kinds: type[R]) -> R | DeadLetter:
    """A message's record, or the letter that says why there is none."""
    try:
        record = decode(message.value)
    except Undecodable as error:
        return dead_letter(message, error.reason, str(error))
    for kind in kinds:
        if isinstance(record, kind):
            return record
    wanted = " or ".join(kind.__name__ for kind in kinds)
    wrong = f"expected a {wanted}, found a {type(record).__name__}"
    return dead_letter(message, "unexpected_record", wrong)


def dead_letter(message: Any, reason: str, error: str, *, index: int | None = None) -> DeadLetter:
    """The letter about a message that could not be used, or about one of several things in it."""
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
        value=None if value is None else value[:_KEPT_BYTES_MAX],
        event_time_us=log_time_us(message),
    )


def tenant_of(message: Any) -> str | None:
    """Whose a record is, by its header."""
    return tenant_in(message.headers or ())


def log_time_us(message: Any) -> int:
    """When the log took a message."""
    milliseconds: int = round(message.timestamp * 1_000)  # a float of seconds holds these exactly
    return milliseconds * 1_000


def told_us(message: Any) -> int:
    """When a record was told, by its producer's clock; never later than the log says."""
    logged_us = log_time_us(message)
    for name, value in message.headers or ():
        if name == RECORDED:
            try:
                return min(from_rfc3339((value or b"").decode()), logged_us)
            except ValueError:  # somebody else's producer: the log's time will do
                break
    return logged_us
