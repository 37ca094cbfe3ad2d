"""Errors as HTTP answers: problem+json, as RFC 9457 defines it."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sse_edge.delivery import control_events
from sse_edge.errors import (
    EdgeError,
    InvalidParameter,
    LogError,
    Unauthorized,
    Unavailable,
    UnavailableReason,
)
from sse_edge.frame import block
from sse_edge.http.dependencies import node_of
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.request_values import asks_for_stream

_MEDIA_TYPE = "application/problem+json"


def problem(error: EdgeError) -> Response:
    """Return the answer of an error."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
    }
    for name in ("parameter", "reason"):
        if hasattr(error, name):
            body[name] = getattr(error, name)
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(body, error.status, headers, media_type=_MEDIA_TYPE)


class EdgeHTTPException(HTTPException):
    """An error of the edge while FastAPI reads a body: it replaces other classes by its own."""

    def __init__(self, refusal: EdgeError) -> None:
        super().__init__(refusal.status, str(refusal))
        self.refusal = refusal


def _ended_stream(error: Unavailable, retry_ms: int) -> Response:
    """Return a stream that ends with its error: no `EventSource` comes back from a 503."""
    data = {"reason": error.reason, "message": str(error)}
    return Response(block("error", data, retry_ms=retry_ms), headers=STREAM_HEADERS)


def add_exception_handlers(app: FastAPI) -> None:
    """Answer the errors of endpoints, and count them."""

    @app.exception_handler(EdgeError)
    async def refused(request: Request, error: EdgeError) -> Response:
        node = node_of(request)
        node.metrics.refused[str(error.status)] += 1
        if isinstance(error, Unavailable) and asks_for_stream(request):
            return _ended_stream(error, control_events.retry_ms(node.settings))
        return problem(error)

    @app.exception_handler(LogError)
    async def log_unavailable(request: Request, error: LogError) -> Response:
        return await refused(request, Unavailable(UnavailableReason.NO_BROKER, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(InvalidParameter(str(first["loc"][-1]), str(first["msg"])))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        if isinstance(error, EdgeHTTPException):
            return await refused(request, error.refusal)
        body = {"type": "about:blank", "title": error.detail, "status": error.status_code}
        return JSONResponse(body, error.status_code, error.headers, media_type=_MEDIA_TYPE)
