"""Refuses requests whose token does not allow them.

A route names its scope beside its path:

    @router.put("/limits/{portfolio_id}", dependencies=[require(Scope.LIMITS)])

A caller without a token, whom only an open edge serves, may do everything.
"""

from typing import Annotated, Any

from fastapi import Depends, Request

from sse_edge.caller import Caller, Scope
from sse_edge.errors import Forbidden
from sse_edge.http.dependencies import caller_of
from sse_edge.http.stream_response import authenticate

_READING = frozenset({"GET", "HEAD"})


def require(scope: Scope) -> Any:
    """Return a dependency that authenticates the caller, and refuses a token without a scope."""

    async def check(request: Request, _: Annotated[None, Depends(authenticate)]) -> None:
        refuse_without(scope, caller_of(request))

    return Depends(check)


async def require_to_read(request: Request) -> None:
    """Authenticate the caller, and refuse to read without the scope for it; for whole routers.

    Raises:
        Forbidden: the request reads, and the token lacks the scope `read`.
    """
    await authenticate(request)
    if request.method in _READING:
        refuse_without(Scope.READ, caller_of(request))


def refuse_without(scope: Scope, caller: Caller | None) -> None:
    """Return if a caller's token allows a scope.

    Raises:
        Forbidden: the token lacks the scope; the message names those that it has.
    """
    if caller is not None and scope not in caller.scopes:
        allowed = ", ".join(sorted(caller.scopes)) or "none"
        raise Forbidden(f"the token lacks the scope {scope}; its scopes are: {allowed}")
