"""Errors of reports and of the domain workers.

ProducerError
├── InvalidReport     an argument is invalid; nothing was sent
├── RecordRefused     Kafka will never take a record
├── UnknownMeter      there are no readings of a meter type
├── TooFewReadings    a meter has too few readings
├── NoTrades          a file is not the package with trades
├── InvalidStrategy   a backtest's request is invalid
├── AgentError        an agent has no answer
│   └── AgentTimedOut  it has not answered within its deadline
├── UnknownAgent      a setting names no agent
├── WorkStopped       another worker has a command now, or this one stops
├── TopicRefused      Kafka did not create a topic
├── Unread            Kafka cannot be read
└── Unsent            Kafka did not acknowledge in time; `unsent` events wait in the buffer
    └── BufferFull    the buffer had no room for one more event, which was not taken
"""

from kafka_io.errors import (
    BufferFull,
    InvalidReport,
    ProducerError,
    RecordRefused,
    Unread,
    Unsent,
    WorkStopped,
)

__all__ = [
    "BufferFull",
    "InvalidReport",
    "ProducerError",
    "RecordRefused",
    "Unread",
    "Unsent",
    "WorkStopped",
]


class UnknownMeter(ProducerError, ValueError):
    """There are no readings of a meter type."""


class TooFewReadings(ProducerError, ValueError):
    """A meter has too few readings to train on."""


class NoTrades(ProducerError, ValueError):
    """A file is not the package with trades."""


class InvalidStrategy(ProducerError, ValueError):
    """A backtest's request is invalid; the message says what would be valid."""

    def __init__(self, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter
        """The field of the request that is invalid, where it is a single one."""


class AgentError(ProducerError):
    """An agent has no answer; the message is for the user."""


class AgentTimedOut(AgentError):
    """An agent has not answered within its deadline."""


class UnknownAgent(ProducerError, ValueError):
    """A setting names no agent."""
