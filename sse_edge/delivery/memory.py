"""How much memory a process may use: near its limit it refuses streams, before it is killed.

A container's kernel kills the process that exceeds the container's limit, and with it all streams.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_FULL = 0.9
"""The part of the limit at which a process takes no more streams."""
_ROOM = 0.85
"""The part of the limit below which it takes streams again."""
_MIB = 1 << 20


class MemoryBudget:
    """The memory that a process uses, as of the last measurement, and its limit."""

    def __init__(self, maximum: int | None, resident: Callable[[], int] | None = None) -> None:
        """Make a budget that has room until it is measured.

        Args:
            maximum: the most bytes; None for no limit.
            resident: returns the bytes that the process uses; None to ask the system.
        """
        self.maximum = sys.maxsize if maximum is None else maximum
        self.has_room = True
        """Whether the process takes another stream."""
        self._resident = resident or resident_bytes

    def measure(self) -> None:
        """Measure how much memory the process uses."""
        if self.maximum == sys.maxsize:
            return
        used = self._resident()
        if self.has_room and used > _FULL * self.maximum:
            self.has_room = False
            logger.error(
                "%d MiB of %d MiB of memory are used; no more streams are taken",
                *(used // _MIB, self.maximum // _MIB),
            )
        elif not self.has_room and used < _ROOM * self.maximum:
            self.has_room = True
            logger.warning("%d MiB of memory are used; streams are taken again", used // _MIB)


def resident_bytes() -> int:
    """Return how much memory this process has in RAM, in bytes."""
    return int(psutil.Process().memory_info().rss)


def container_limit() -> int | None:
    """Return the memory that the container may use, in bytes; None where it has no limit."""
    for path in _CGROUP_LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # no such file, or the word `max`
            continue
        # An old kernel writes a number beyond all memory for no limit.
        return limit if limit < psutil.virtual_memory().total else None
    return None
