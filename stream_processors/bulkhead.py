"""The bulkhead: what a message that makes a processor fail does to the others. Pure.

A round that fails is dropped, so nobody knows at first which of its messages was at fault. Its
messages are then processed again, each in a round of its own. The one whose own round fails is set
aside: it becomes a dead letter, and the others are processed as ever.
"""

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

from kafka_io.dead_letters import Message
from kafka_io.errors import ProducerError
from kafka_io.log_lines import about
from schemas.topics import TopicPartition
from stream_processors.errors import WorkerError

logger = logging.getLogger(__name__)

_NOT_OF_CONTENT = (MemoryError, OSError, WorkerError, ProducerError)
"""Errors that another message would meet as well, such as those of Kafka and of the machine."""


class ProcessorFailed(Exception):
    """A processor failed while it applied some messages of a round."""

    def __init__(self, error: Exception, messages: Sequence[Message]) -> None:
        super().__init__(str(error))
        self.error = error
        self.messages = messages


@contextmanager
def failing_with(messages: Sequence[Message]) -> Generator[None]:
    """Name the messages of a round in which a processor fails.

    Raises:
        ProcessorFailed: it has failed, and not because of Kafka or the machine.
    """
    try:
        yield
    except _NOT_OF_CONTENT:
        raise
    except Exception as error:
        raise ProcessorFailed(error, tuple(messages)) from error


class Bulkhead:
    """The messages of one partition number that may be, or are, at fault."""

    def __init__(self) -> None:
        self._careful_until: dict[TopicPartition, int] = {}
        self._errors: dict[tuple[TopicPartition, int], str] = {}

    def isolate(self, failure: ProcessorFailed, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Prepare to find the message that made a processor fail, or to set it aside.

        Args:
            failure: what has failed.
            next_offsets: the offset after the last message of each partition in the failed round.

        Raises:
            Exception: the processor failed without a message, or at one that is set aside already.
        """
        error, messages = failure.error, failure.messages
        if not messages or self.error_of(messages[0]) is not None:
            raise error
        message = messages[0]
        where = TopicPartition(message.topic, message.partition)
        if message.offset >= self._careful_until.get(where, 0):
            self._careful_until = dict(next_offsets)
            logger.warning(
                "a processor failed with %r at one of %d messages; each has its own round now",
                *(error, len(messages)),
            )
            return
        self._errors[where, message.offset] = f"{type(error).__name__}: {error}"
        logger.error(
            "%s/%d offset %d made a processor fail, and is set aside",
            *(message.topic, message.partition, message.offset),
            exc_info=error,
            extra=about(message.topic, message.partition, message.offset),
        )

    def set_aside(self, where: TopicPartition, offset: int, error: str) -> None:
        """Set a message aside that has ended whole processes."""
        if (where, offset) not in self._errors:
            self._errors[where, offset] = error
            logger.error(
                "%s/%d offset %d is set aside: %s",
                *(*where, offset, error),
                extra=about(*where, offset),
            )

    def is_careful(self, next_offsets: Mapping[TopicPartition, int]) -> bool:
        """Return whether each message needs a round of its own."""
        return any(next_offsets[where] < offset for where, offset in self._careful_until.items())

    def error_of(self, message: Message) -> str | None:
        """Return why a message is set aside; None if it is not."""
        if not self._errors:  # as nearly always
            return None
        where = TopicPartition(message.topic, message.partition)
        return self._errors.get((where, message.offset))

    def forget_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Forget messages before some offsets, which are committed."""
        for where, offset in list(self._errors):
            if offset < offsets[where]:
                del self._errors[where, offset]
