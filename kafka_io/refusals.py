"""Kafka's verdicts on records: which errors mean that a record will never be taken, and why.

Kafka answers for a batch as a whole. So a verdict on a batch of several records is a suspicion of
each of them, and only the verdict on a record that was sent alone is its own.
"""

from enum import Enum

from aiokafka.errors import (
    BrokerResponseError,
    CorruptRecordException,
    InvalidRequestError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    UnknownError,
    UnsupportedForMessageFormatError,
    kafka_errors,
)


class InvalidRecordError(BrokerResponseError):
    """The broker's validation has refused a record, such as one without a key."""

    errno = 87
    message = "INVALID_RECORD"
    description = "This record has failed the validation on the broker and hence was rejected."


# aiokafka does not know this code, and would make it an unknown error.
kafka_errors[InvalidRecordError.errno] = InvalidRecordError

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Verdict(Enum):
    """The meaning of an error for a record."""

    REFUSED = "refused"
    """Kafka will never take the record, or another one in its batch."""
    DOUBTFUL = "doubtful"
    """Kafka will not take the record if the error comes again and again."""
    TRANSIENT = "transient"
    """The record can be sent again."""


_REASONS: dict[type[BaseException], str] = {
    MessageSizeTooLargeError: "it is larger than the topic's max.message.bytes",
    RecordListTooLargeError: "it is larger than a segment of the topic",
    TopicAuthorizationFailedError: "this client may not write to the topic",
    InvalidTopicError: "the topic's name is not valid, or its records are Kafka's own",
    InvalidTimestampError: "its time is further from the broker's clock than the topic allows",
    PolicyViolationError: "a policy of the cluster forbids it",
    UnsupportedForMessageFormatError: "the topic's old message format cannot hold it",
    InvalidRecordError: "it is not valid there, as a record without a key in a compacted topic",
}
_DOUBTFUL = (UnknownError, CorruptRecordException, InvalidRequestError)


def verdict_of(error: BaseException) -> Verdict:
    """Return the meaning of an error for a record that was sent."""
    if isinstance(error, tuple(_REASONS)):
        return Verdict.REFUSED
    return Verdict.DOUBTFUL if isinstance(error, _DOUBTFUL) else Verdict.TRANSIENT


def refusal_text(topic: str, size_bytes: int, error: BaseException) -> str:
    """Return a sentence about a record that Kafka does not take.

    Args:
        topic: the topic's full name.
        size_bytes: the size of the record's key, value and headers.
        error: Kafka's answer.
    """
    reason = _REASONS.get(type(error), f"{error!r}")
    return f"Kafka does not take a record of {size_bytes} bytes for {topic}: {reason}"
