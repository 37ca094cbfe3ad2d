"""Errors of the infrastructure and of the command line.

InfraError
├── KafkaUnreachable    no Kafka answers at the configured address
├── BrokerFailed        the embedded broker could not be set up or did not start
├── NoTrades            the package with trades cannot be downloaded
├── PartFailed          a part of the system died too often to be restarted
├── DirectoryInUse      another system runs on the same data directory
├── EdgeUnreachable     no edge answers at the address
├── TaskRefused         an edge refused a request
├── LimitRefused        an edge refused a limit
├── NoHistory           the log has no answer about the past
└── RebuildFailed       measures and alerts could not be computed again
"""


class InfraError(Exception):
    """A part of the infrastructure failed; the message says which, and what to check."""


class KafkaUnreachable(InfraError):
    """No Kafka answers at the configured address."""


class BrokerFailed(InfraError):
    """The embedded broker could not be set up, or did not start."""


class NoTrades(InfraError):
    """The package with trades cannot be downloaded; the system runs without it."""


class PartFailed(InfraError):
    """A part of the system died too often to be restarted."""


class DirectoryInUse(InfraError):
    """Another system runs on the same data directory."""


class EdgeUnreachable(InfraError):
    """No edge answers at the address."""


class TaskRefused(InfraError):
    """The edge refused a request; the message says why."""


class LimitRefused(InfraError):
    """The edge refused a limit; the message says why."""


class NoHistory(InfraError):
    """The log has no answer about the past; the message says why."""


class RebuildFailed(InfraError):
    """Measures and alerts could not be computed again; the message says why."""
