"""Logs refused requests, each under the id that its answer has too; see `sse_edge.failure_log`."""

from starlette.types import Scope

from sse_edge.failure_log import log_failure
from sse_edge.http.addresses import address_of

_PATH_CHARS_MAX = 200
_UNREAD = "what is no request"


def log_refusal(scope: Scope, status: int, reason: str, detail: str) -> str:
    """Log a refused request, and return the id of its line.

    The query is not logged: it may hold a token.

    Args:
        scope: the request; without a path, one that could not be read.
        status: the status of its answer.
        reason: the code of the reason.
        detail: all that is known, for the operator.
    """
    asked = _UNREAD
    if "path" in scope:
        asked = f"{scope.get('method', 'WEBSOCKET')} {scope['path'][:_PATH_CHARS_MAX]}"
    return log_failure(reason, f"{status} to {asked} of {address_of(scope)}", detail)
