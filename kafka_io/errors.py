"""What can go wrong between this system and Kafka.

ProducerError
├── InvalidReport     an event is invalid; nothing was sent
├── Unread            Kafka cannot be read
└── Unsent            Kafka did not acknowledge in time; `unsent` events wait in the buffer
    └── BufferFull    the buffer had no room for one more event, which was not taken
"""


class ProducerError(Exception):
    """A report could not be made."""


class InvalidReport(ProducerError, ValueError):
    """A report's argument is wrong; the message names it and what would be right."""


class Unread(ProducerError, OSError):
    """Kafka cannot be read."""


class Unsent(ProducerError, TimeoutError):
    """Kafka has not acknowledged in time.

    The events stay in the buffer and go out, in order, when Kafka is back: do not send them again.
    """

    def __init__(self, message: str, unsent: int) -> None:
        super().__init__(message)
        self.unsent = unsent
        """How many events wait in the buffer."""


class BufferFull(Unsent):
    """The buffer stayed full: this one event was not taken, and may be sent again."""
