"""Kafka's verdicts: which errors mean that a record will never be taken, and what ACLs lack.

Kafka answers for a batch as a whole. So a verdict on a batch of several records is a suspicion of
each of them, and only the verdict on a record that was sent alone is its own.
"""

from enum import Enum

from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    GroupAuthorizationFailedError,
    InvalidRequestError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
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
    TopicAuthorizationFailedError: "this client lacks an ACL: WRITE on the topic",
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


def denial_text(operation: str, kind: str, name: str) -> str:
    """Return a sentence about an operation that the ACLs of this client do not allow.

    Args:
        operation: the operation, as Kafka names it.
        kind: the kind of resource: topic, group or transactional id.
        name: its name.
    """
    return f"this client lacks an ACL: {operation} on the {kind} {name}"


def denial_of(error: BaseException | None, on_topic: str = "READ") -> str | None:
    """Return a sentence about the ACL that aiokafka's error, or its cause, speaks of, if any.

    Args:
        error: the error.
        on_topic: the operation that a client lacks if the error is about a topic.
    """
    while error is not None:
        subject = _names(error.args[0]) if error.args else "that it uses"
        match error:
            case TopicAuthorizationFailedError():
                return denial_text(on_topic, "topic", subject)
            case GroupAuthorizationFailedError():
                return denial_text("READ", "group", subject)
            case TransactionalIdAuthorizationFailed():
                return denial_text("WRITE", "transactional id", subject)
            case ClusterAuthorizationFailedError():
                return "this client lacks an ACL: IDEMPOTENT_WRITE on the cluster"
            case _:
                error = error.__cause__
    return None


def reason_of(error: BaseException, on_topic: str = "READ") -> str:
    """Return why Kafka has refused something: a sentence about a missing ACL, or the error."""
    return denial_of(error, on_topic) or repr(error)


def _names(argument: object) -> str:
    if isinstance(argument, set | frozenset | list | tuple):
        return ", ".join(sorted(map(str, argument)))
    return str(argument)
