"""Errors of the infrastructure.

InfraError
├── KafkaUnreachable    no Kafka answers at the configured address
├── TopicsUnfit         topics exist with settings by which results would be lost or wrong
├── BrokerFailed        the embedded broker could not be set up or did not start
├── DownloadFailed      a file cannot be downloaded, or is not the locked one
├── PartFailed          a part of the system died, or was not ready in time
├── DirectoryInUse      another system runs on the same data directory
├── BackupRefused       a backup cannot be written or restored
├── DirectoryNotOurs    a directory has files of others, or bears no mark of this system
└── NotInstalled        a file of an installation cannot be written
"""


class InfraError(Exception):
    """A part of the infrastructure failed; the message says which, and what to check."""


class KafkaUnreachable(InfraError):
    """No Kafka answers at the configured address."""


class TopicsUnfit(InfraError):
    """Topics exist with settings by which results would be lost or wrong."""


class BrokerFailed(InfraError):
    """The embedded broker could not be set up, or did not start."""


class DownloadFailed(InfraError):
    """A file of a Maven repository cannot be downloaded, or is not the locked one."""


class PartFailed(InfraError):
    """A part of the system died, or was not ready in time."""


class DirectoryInUse(InfraError):
    """Another system runs on the same data directory."""


class DirectoryNotOurs(InfraError):
    """A directory has files of others, or does not bear the mark of this system."""


class BackupRefused(InfraError):
    """A backup cannot be written or restored; the message says why, and what to do."""


class NotInstalled(InfraError):
    """A file of an installation cannot be written."""
