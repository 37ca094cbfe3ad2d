"""A clock for brokers that a test can move, in the place of Kafka's own.

A library that moves the clock of any program, such as libfaketime, makes a broker too slow.
"""

import os
from dataclasses import replace
from pathlib import Path

from infra.embedded_broker import Broker
from tests.support.foreign import compiled

_SOURCE = Path(__file__).parent / "clock" / "SystemTime.java"


class MovedClock:
    """The clock of brokers, and by how much it is moved."""

    def __init__(self, folder: Path) -> None:
        """Make a clock that shows the true time.

        Args:
            folder: a folder for the clock's state.
        """
        self._file = folder / "clock"
        self.move(0)

    def move(self, by_s: int) -> None:
        """Move the clock away from the true time; a running broker follows within 50 ms."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(by_s))
        fresh.replace(self._file)

    def of(self, broker: Broker) -> Broker:
        """Return a broker that has this clock."""
        at = broker.command.index("-cp") + 1
        classes = os.pathsep.join([str(compiled(_SOURCE)), broker.command[at]])
        options = f"-Dclock={self._file}", "-cp", classes
        command = (*broker.command[: at - 1], *options, *broker.command[at + 1 :])
        return replace(broker, command=command)
