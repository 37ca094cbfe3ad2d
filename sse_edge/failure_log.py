"""Logs why clients were refused, each time under an id that the client gets too.

Clients get a reason and what they can mend. What concerns the operator only, such as the addresses
of brokers and the names of topics, is in the log. A flood of failures does not flood the log: lines
beyond a rate are counted, and their number is logged.
"""

import logging
import secrets
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

LINES_MAX = 50
"""The most lines of one second."""
_ID_BYTES = 6


class LineBudget:
    """Bounds the lines of a second, and logs how many were left out."""

    def __init__(self, kind: str, now_s: Callable[[], float] = time.monotonic) -> None:
        """Allow `LINES_MAX` lines a second.

        Args:
            kind: what the lines are of, in the plural.
            now_s: returns the present time in seconds.
        """
        self._kind = kind
        self._now_s = now_s
        self._second = 0
        self._lines = 0

    def allows(self) -> bool:
        """Count a line, and return whether it may be logged."""
        second = int(self._now_s())
        if second != self._second:
            if self._lines > LINES_MAX:
                logger.info("%d more %s were not logged", self._lines - LINES_MAX, self._kind)
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= LINES_MAX


_budget = LineBudget("refusals")


def new_failure_id() -> str:
    """Return an id for a failure."""
    return secrets.token_hex(_ID_BYTES)


def log_failure(reason: str, what: str, detail: object) -> str:
    """Log a failure, and return the id of its line.

    Args:
        reason: the code of the reason, which the client gets too.
        what: what has failed, and for whom.
        detail: all that is known, for the operator.
    """
    failure_id = new_failure_id()
    if _budget.allows():
        logger.info("refused %s: %s %s: %s", failure_id, reason, what, detail)
    return failure_id
