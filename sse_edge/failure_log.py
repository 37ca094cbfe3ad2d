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


class FailureLog:
    """Log lines of failures, bounded."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._second = 0
        self._lines = 0

    def write(self, message: str, *values: object) -> None:
        """Log a line, unless this second has too many."""
        second = int(self._now_s())
        if second != self._second:
            if self._lines > LINES_MAX:
                logger.info("%d more refusals were not logged", self._lines - LINES_MAX)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_MAX:
            logger.info(message, *values)


_log = FailureLog()


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
    _log.write("refused %s: %s %s: %s", failure_id, reason, what, detail)
    return failure_id
