"""Errors of the command line.

CommandError
├── NoSystem            no system is named and none runs on the data directory
├── InvalidArgument     an argument or a file cannot be understood
├── EdgeUnreachable     no edge answers at the address
├── RequestRefused      an edge refused a request
├── NoHistory           the log has no answer about the past
├── RebuildFailed       measures and alerts could not be computed again
├── GrowthFailed        topics could not grow
├── RekeyFailed         the keys of an earlier release could not be changed
├── ErasureRefused      the data of a tenant cannot be erased now
├── UnknownLetter       there is no dead letter of a name
├── NotRedriven         the record of a dead letter cannot be written again
├── NotInstalled        a library is missing
├── RegistryFailed      a schema registry could not be read or written
├── AnalyticsFailed     a table, a file of rows or a query failed
└── LogFailed           Kafka could not be read or written
"""


class CommandError(Exception):
    """A command failed; the message says why, and what to change."""


class NoSystem(CommandError):
    """No system is named and none runs here, or two are named; the message says how to name it."""


class InvalidArgument(CommandError):
    """An argument, or a file that it names, cannot be understood; the message says what would."""


class EdgeUnreachable(CommandError):
    """No edge answers at the address."""


class RequestRefused(CommandError):
    """The edge refused a request; the message says why."""


class NoHistory(CommandError):
    """The log has no answer about the past; the message says why."""


class RebuildFailed(CommandError):
    """Measures and alerts could not be computed again; the message says why."""


class GrowthFailed(CommandError):
    """Topics could not grow; the message says why, and what to do next."""


class RekeyFailed(CommandError):
    """The keys of an earlier release could not be changed; the message says why."""


class ErasureRefused(CommandError):
    """The data of a tenant cannot be erased now; the message says what to do first."""


class UnknownLetter(CommandError):
    """There is no dead letter of a name; the message says how they are named."""


class NotRedriven(CommandError):
    """The record of a dead letter cannot be written again; the message says why."""


class NotInstalled(CommandError):
    """A library is missing; the message says how it is installed."""


class RegistryFailed(CommandError):
    """A schema registry could not be read or written; the message says why."""


class AnalyticsFailed(CommandError):
    """A table, a file of rows or a query failed; the message says why."""


class LogFailed(CommandError):
    """Kafka could not be read or written; the message says why."""
