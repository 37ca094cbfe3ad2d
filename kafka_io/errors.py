"""Errors of reading and writing Kafka.

ProducerError
├── InvalidSetting     a setting is not allowed, or contradicts another one
├── InvalidReport      an event is invalid; nothing was sent
├── RecordRefused      Kafka will never take a record
├── Unread             Kafka cannot be read
├── AccessDenied       Kafka's ACLs do not allow what a worker lives by
├── NoToken            no token to authenticate with could be obtained
├── RegistryUnavailable  a schema registry does not answer, or refuses this client
├── SchemaUnknown      a schema registry has no such schema, or refuses one
├── OffsetLost         the log does not have a position any more
├── TopicRefused       Kafka did not create a topic
├── Unsealed           secrets of a route cannot be decrypted
├── Fenced             another process writes under a transactional id
├── TransactionFailed  Kafka did not confirm a transaction
├── WorkStopped        another worker has a command now, or this one stops
└── Unsent             Kafka did not acknowledge in time; `unsent` events wait in the buffer
    └── BufferFull     the buffer had no room for one more event, which was not taken
"""

from collections.abc import Sequence


class ProducerError(Exception):
    """An event could not be read or written."""


class InvalidSetting(ProducerError, ValueError):
    """A setting is not allowed, or contradicts another one; the message names its variable."""


class InvalidReport(ProducerError, ValueError):
    """An event or an argument is invalid; the message names it and what would be valid."""


class RecordRefused(ProducerError):
    """Kafka will never take a record; the message says why. It was not written."""


class Unread(ProducerError, OSError):
    """Kafka cannot be read."""


class AccessDenied(ProducerError):
    """Kafka's ACLs do not allow what a worker lives by; the message names the ACL that lacks."""


class NoToken(ProducerError, OSError):
    """No token to authenticate with could be obtained; the message says where, and why."""


class RegistryUnavailable(ProducerError, OSError):
    """A schema registry does not answer, or refuses this client; the message says where and why."""


class SchemaUnknown(ProducerError):
    """A schema registry has no such schema, or refuses one; the message follows "the schema"."""


class Unsealed(ProducerError, ValueError):
    """Secrets of a route cannot be decrypted: they are of another key or route, or altered."""


class OffsetLost(ProducerError):
    """The log does not have a position any more: records were deleted, or the log lost its end."""

    def __init__(self, message: str, partitions: Sequence[tuple[str, int]]) -> None:
        super().__init__(message)
        self.partitions = partitions
        """The partitions, each as topic and number."""


class TopicRefused(ProducerError):
    """Kafka did not create or change a topic; the message says which, and why."""


class Fenced(ProducerError):
    """Another process has become the writer of a transactional id; nothing was written."""


class TransactionFailed(ProducerError):
    """Kafka did not confirm a transaction, which may have been committed all the same."""


class WorkStopped(ProducerError):
    """Another worker has a command now, or this one stops: the work on the command must end."""


class Unsent(ProducerError, TimeoutError):
    """Kafka has not acknowledged in time.

    The events stay in the buffer, and are sent in order when Kafka is back. Do not send them again.
    """

    def __init__(self, message: str, unsent: int) -> None:
        super().__init__(message)
        self.unsent = unsent
        """The number of events in the buffer."""


class BufferFull(Unsent):
    """The buffer stayed full: this event was not taken, and may be sent again."""
