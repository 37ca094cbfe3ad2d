"""Counts of what this process publishes and of the commands that it does.

Publishers and command groups count in plain integers; `kafka_io.part_metrics` shows them to
Prometheus. A process is one part of a system, so it has one set of counts.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum

from kafka_io.stage_times import StageClock

Lags = Callable[[], Mapping[tuple[str, int], int]]
"""Returns how many records each partition has that are not done yet."""


class CommandOutcome(StrEnum):
    """How a command ended in this process."""

    DONE = "done"
    """Its work ended, or had ended before."""
    SET_ASIDE = "set_aside"
    """It was refused, or made its work fail; a dead letter is written about it."""
    STOPPED = "stopped"
    """This worker stops, or has lost the command; another attempt follows."""


class ForeignOutcome(StrEnum):
    """Whether a value in Confluent's framing could be read."""

    READ = "read"
    REFUSED = "refused"
    """Its schema could not be resolved, or its body does not fit it."""


class Counts:
    """The counts of a process."""

    def __init__(self) -> None:
        """Begin with zeros."""
        self.published: Counter[str] = Counter()
        """Events that Kafka has acknowledged, by topic."""
        self.refused: Counter[str] = Counter()
        """Events that Kafka will never take, by topic."""
        self.dead_letters: Counter[tuple[str, str]] = Counter()
        """Dead letters about commands, by the command's topic and the reason."""
        self.commands: Counter[tuple[str, str]] = Counter()
        """Ended attempts at commands, by topic and `CommandOutcome`."""
        self.running: Counter[str] = Counter()
        """Commands in progress, by topic."""
        self.foreign_values: Counter[str] = Counter()
        """Values that were read in Confluent's framing, by `ForeignOutcome`."""
        self.stages = StageClock()
        """How long events take on their way to this part, and through it."""
        self.registry_failures = 0
        """Schemas that were asked for without an answer of the registry."""
        self.lags: dict[str, Lags] = {}
        """For each topic of commands that this process shares, what returns its lags."""


COUNTS = Counts()
"""The counts of this process."""
