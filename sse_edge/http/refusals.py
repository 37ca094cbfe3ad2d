"""Logs refused requests, each under an id that its answer has too.

Clients get a reason and what they can mend. What concerns the operator only, such as the addresses
of brokers, is in the log. A flood of refusals does not flood the log: lines beyond a rate are
counted, and their number is logged.
"""

import logging
import secrets
import time
from collections.abc import Callable

from starlette.types import Scope

from sse_edge.http.addresses import address_of

logger = logging.getLogger(__name__)

LINES_MAX = 50
"""The most lines of one second."""
_ID_BYTES = 6
_PATH_CHARS_MAX = 200


class RefusalLog:
    """The log lines of refusals, bounded."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._second = 0
        self._lines = 0

    def write(self, message: str, *values: object, level: int = logging.INFO) -> None:
        """Log a line, unless this second has too many."""
        second = int(self._now_s())
        if second != self._second:
            if self._lines > LINES_MAX:
                logger.info("%d more refusals were not logged", self._lines - LINES_MAX)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= LINES_MAX:
            logger.log(level, message, *values)


_log = RefusalLog()


def log_refusal(scope: Scope, status: int, reason: str, detail: str) -> str:
    """Log a refused request, and return the id of its line.

    The query is not logged: it may hold a token.

    Args:
        scope: the request.
        status: the status of its answer.
        reason: the code of the reason.
        detail: all that is known, for the operator.
    """
    refusal_id = secrets.token_hex(_ID_BYTES)
    _log.write(
        "refused %s: %s %d to %s %s of %s: %s",
        *(refusal_id, reason, status, scope.get("method", "WEBSOCKET")),
        *(scope["path"][:_PATH_CHARS_MAX], address_of(scope), detail),
    )
    return refusal_id
