"""Errors as HTTP answers: problem+json, as RFC 9457 defines it."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

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
from sse_edge.http.dependencies import node_of, tenant_read_by
from sse_edge.http.headers import STREAM_HEADERS
from sse_edge.http.refusals import log_refusal
from sse_edge.http.request_values import asks_for_stream

MEDIA_TYPE = "application/problem+json"


def problem(error: EdgeError, refusal_id: str | None = None) -> Response:
    """Return the answer of an error.

    Args:
        error: the error.
        refusal_id: the id under which the error is in the log; None if it is not there.
    """
    body: dict[str, object] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "reason": error.reason,
    }
    if refusal_id is not None:
        body["id"] = refusal_id
    if isinstance(error, InvalidParameter):
        body["parameter"] = error.parameter
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(body, error.status, headers, media_type=MEDIA_TYPE)


def unavailable_for(error: LogError) -> Unavailable:
    """Return the error that clients get where the log cannot be read."""
    unavailable = Unavailable(UnavailableReason.NO_BROKER, "Kafka cannot be read now")
    unavailable.__cause__ = error  # names of topics and brokers are for the log
    return unavailable


def logged(connection: HTTPConnection, error: EdgeError) -> str:
    """Count and log a request that fails, and return the id of its line."""
    node = node_of(connection)
    node.metrics.refused[str(error.status)] += 1
    node.metrics.refused_to[tenant_read_by(connection) or ""] += 1
    cause = "" if error.__cause__ is None else f" ({error.__cause__})"
    return log_refusal(connection.scope, error.status, error.reason, f"{error}{cause}")


def answer_of(connection: HTTPConnection, error: EdgeError) -> Response:
    """Return the answer to a request that fails; count and log it."""
    refusal_id = logged(connection, error)
    if isinstance(error, Unavailable) and asks_for_stream(connection):
        retry_ms = control_events.retry_ms(node_of(connection).settings)
        return _ended_stream(error, refusal_id, retry_ms)
    return problem(error, refusal_id)


class EdgeHTTPException(HTTPException):
    """An error of the edge while FastAPI reads a body: it replaces other classes by its own."""

    def __init__(self, refusal: EdgeError) -> None:
        super().__init__(refusal.status, str(refusal))
        self.refusal = refusal


def _ended_stream(error: Unavailable, refusal_id: str, retry_ms: int) -> Response:
    """Return a stream that ends with its error: no `EventSource` comes back from a 503."""
    data = {"reason": error.reason, "message": str(error), "id": refusal_id}
    return Response(block("error", data, retry_ms=retry_ms), headers=STREAM_HEADERS)


def add_exception_handlers(app: FastAPI) -> None:
    """Answer the errors of endpoints."""

    @app.exception_handler(EdgeError)
    async def refused(request: Request, error: EdgeError) -> Response:
        return answer_of(request, error)

    @app.exception_handler(LogError)
    async def log_unavailable(request: Request, error: LogError) -> Response:
        return answer_of(request, unavailable_for(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer_of(request, InvalidParameter(str(first["loc"][-1]), str(first["msg"])))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        if isinstance(error, EdgeHTTPException):
            return answer_of(request, error.refusal)
        status = error.status_code
        reason = HTTPStatus(status).phrase.lower().replace(" ", "_")
        refusal_id = log_refusal(request.scope, status, reason, error.detail)
        body = {"type": "about:blank", "title": error.detail, "status": status}
        body |= {"reason": reason, "id": refusal_id}
        return JSONResponse(body, status, error.headers, media_type=MEDIA_TYPE)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        # The server logs the traceback, right after this line.
        failure = EdgeError("the edge has failed at this request; its log says why, by the id")
        failure.__cause__ = error
        return answer_of(request, failure)
