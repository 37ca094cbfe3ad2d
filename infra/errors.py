"""What can go wrong with what a system stands on.

InfraError
├── KafkaUnreachable    nobody answers at the configured address
├── BrokerFailed        the embedded broker could not be set up or did not start
├── NoTrades            the package with trades is not to be had
├── PartFailed          a part of the system died more often than a restart can help
├── DirectoryInUse      another system runs on the same data directory
├── EdgeUnreachable     no edge answers at the address
├── TaskRefused         an edge does not do what was asked for
├── LimitRefused        an edge does not take a limit
└── NoHistory           the log cannot answer what is asked of the past
"""


class InfraError(Exception):
    """The message says what failed, and what to look at."""


class KafkaUnreachable(InfraError):
    """Nobody answers at the configured address."""


class BrokerFailed(InfraError):
    """The embedded broker could not be set up, or did not start."""


class NoTrades(InfraError):
    """The package with trades is not to be had; the rest of the system does without."""


class PartFailed(InfraError):
    """A part of the system died more often than a restart can help."""


class DirectoryInUse(InfraError):
    """Another system runs on the same data directory."""


class EdgeUnreachable(InfraError):
    """No edge answers at the address."""


class TaskRefused(InfraError):
    """The edge does not do what was asked for; the message says why."""


class LimitRefused(InfraError):
    """The edge does not take a limit; the message says why."""


class NoHistory(InfraError):
    """The log cannot answer what is asked of the past; the message says why."""


class RebuildFailed(InfraError):
    """Measures and alerts could not be computed anew; the message says why."""
