"""Errors that end a worker.

WorkerError
├── RecoveryStuck     a partition number was not recovered in time
├── TopicGrown        a topic has other partitions than those that its states are partitioned by
├── TopicUnfit        a topic has settings by which results would be lost or wrong
├── TopicsCopied      states were read from topics of another cluster
├── GrowthRefused     topics cannot grow as asked
├── DowngradeRefused  an earlier release cannot take over
├── RekeyRefused      the keys of earlier releases cannot be changed
└── NameTaken         another worker has this worker's name
"""


class WorkerError(Exception):
    """A worker cannot do its work; the message says why, and what to change."""


class RecoveryStuck(WorkerError):
    """A partition number was not recovered in time."""


class TopicGrown(WorkerError):
    """A topic has other partitions than those that its states are partitioned by."""


class TopicUnfit(WorkerError):
    """A topic has settings by which results would be lost or wrong; the message mends it."""


class TopicsCopied(WorkerError):
    """States were read from topics of another cluster, so their offsets mean nothing here."""


class GrowthRefused(WorkerError):
    """Topics cannot grow as asked."""


class DowngradeRefused(WorkerError):
    """Processors of an earlier release cannot take over from newer ones."""


class RekeyRefused(WorkerError):
    """The keys of earlier releases cannot be changed."""


class NameTaken(WorkerError):
    """Another worker has this worker's name."""
