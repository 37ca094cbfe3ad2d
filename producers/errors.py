"""What can go wrong for somebody who reports.

ProducerError
├── InvalidReport     the arguments; nothing was sent
├── UnknownMeter      there are no readings of such a meter
├── TooFewReadings    a meter has not counted for long enough
├── NoTrades          a file has no trades in it
├── InvalidStrategy   a backtest cannot be run as it was asked for
├── AgentError        an agent has no answer
├── UnknownAgent      a setting names no agent
├── RunStopped        somebody else goes on with a run
├── Unread            Kafka is away, for those who read
└── Unsent            Kafka is away; `unsent` events still wait in the buffer
    └── BufferFull    ... and there was no room for one more, which was not taken
"""

from kafka_io.errors import BufferFull, InvalidReport, ProducerError, Unread, Unsent

__all__ = ["BufferFull", "InvalidReport", "ProducerError", "Unread", "Unsent"]


class UnknownMeter(ProducerError, ValueError):
    """There are no readings of such a meter."""


class TooFewReadings(ProducerError, ValueError):
    """A meter has not counted for long enough to learn from."""


class NoTrades(ProducerError, ValueError):
    """A file is not the package with trades in it."""


class InvalidStrategy(ProducerError, ValueError):
    """A backtest cannot be run as it was asked for; the message says what would be right."""


class AgentError(ProducerError):
    """An agent has no answer; the message is for the user."""


class UnknownAgent(ProducerError, ValueError):
    """A setting names no agent."""


class RunStopped(ProducerError):
    """A run is to stop here; another worker takes it up."""
