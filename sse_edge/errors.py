"""Errors of the edge, with the HTTP status that answers each.

EdgeError
├── InvalidParameter      400   a parameter or a field of the body is invalid
├── InvalidCursor         400   a cursor cannot be decoded
│   └── ForeignCursor     400   a cursor belongs to another stream
├── Unauthorized          401   the token is missing or invalid
├── Forbidden             403   the token lacks a scope
│   └── ForeignPage       403   a web page of another origin may not write
├── NoSuchThing           404   the caller has no such resource
├── NotAcceptable         406   the caller does not accept the answer's media type
├── EventsGone            410   the log has not all events after a cursor any more
├── BodyTooLarge          413   the body has more bytes than its endpoint takes
├── MisdirectedRequest    421   the edge does not answer to this host
├── TooManyConnections    429   an address or user has reached its limit of connections
├── TooManyRequests       429   a caller has reached its limit of writes
├── QuotaReached          429   a user or tenant has as many things of a kind as it may
└── Unavailable           503   Kafka is unavailable, or the node is full or draining

LogError                  503   the log could not answer
├── LogUnavailable        503   Kafka is unavailable
└── OffsetOutOfRange      503   a position is not in the log

Unframable                      a record cannot be rendered; it is skipped and counted
UnknownRouter                   a setting names no router
"""

from enum import StrEnum


class UnavailableReason(StrEnum):
    """Why a node cannot answer now."""

    NO_BROKER = "no_broker"
    """Kafka does not answer."""
    REFUSED = "refused"
    """Kafka will never take what the request writes."""
    FULL = "full"
    """The node has no room for another stream."""
    DRAINING = "draining"
    """The node is shutting down."""
    NO_KEYS = "no_keys"
    """The issuer's public keys cannot be read."""


class EdgeError(Exception):
    """An error that is answered with problem+json."""

    status = 500
    title = "Internal error"
    reason = "internal"
    """A code of the reason, for programs."""
    retry_after_s: int | None = None


class InvalidParameter(EdgeError):
    """A parameter or a field of the body is invalid; the message names it and what is valid."""

    status = 400
    title = "Invalid parameter"
    reason = "invalid_parameter"

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(f"{parameter}: {message}")
        self.parameter = parameter


class InvalidCursor(EdgeError):
    """A cursor cannot be decoded; the message says why."""

    status = 400
    title = "Invalid cursor"
    reason = "invalid_cursor"


class ForeignCursor(InvalidCursor):
    """A cursor belongs to another stream than the requested one."""

    reason = "foreign_cursor"


class Unauthorized(EdgeError):
    """The token is missing or invalid."""

    status = 401
    title = "Unauthorized"
    reason = "unauthorized"


class Forbidden(EdgeError):
    """The token lacks a scope."""

    status = 403
    title = "Forbidden"
    reason = "forbidden"


class ForeignPage(Forbidden):
    """A web page of another origin may not write."""

    reason = "foreign_page"


class NoSuchThing(EdgeError):
    """The caller has no such resource. The answer is the same if another caller has it."""

    status = 404
    title = "Not found"
    reason = "not_found"


class NotAcceptable(EdgeError):
    """The caller does not accept the answer's media type."""

    status = 406
    title = "Not acceptable"
    reason = "not_acceptable"


class EventsGone(EdgeError):
    """The log has not all events after a cursor any more, and the caller wants no page then."""

    status = 410
    title = "Events are gone"
    reason = "gap"


class BodyTooLarge(EdgeError):
    """The body has more bytes than its endpoint takes."""

    status = 413
    title = "Body too large"
    reason = "body_too_large"

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the body of this request has at most {most_bytes} bytes")


class MisdirectedRequest(EdgeError):
    """The edge does not answer to this host."""

    status = 421
    title = "Misdirected request"
    reason = "misdirected"


class TooManyConnections(EdgeError):
    """An address or user has reached its limit of connections."""

    status = 429
    title = "Too many connections"
    reason = "too_many_connections"
    retry_after_s: int | None = 30


class TooManyRequests(EdgeError):
    """A caller has reached its limit of writes."""

    status = 429
    title = "Too many requests"
    reason = "too_many_requests"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaReached(EdgeError):
    """A user or tenant has as many things of a kind as it may; the message names them."""

    status = 429
    title = "Quota reached"
    reason = "quota_reached"


class Unavailable(EdgeError):
    """The node cannot answer; the reasons are those of `UnavailableReason`."""

    status = 503
    title = "Unavailable"
    retry_after_s: int | None = 2

    def __init__(self, reason: UnavailableReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LogError(Exception):
    """The log could not answer."""


class LogUnavailable(LogError):
    """Kafka is unavailable, or a topic has no leader or does not exist."""


class OffsetOutOfRange(LogError):
    """A position is not in the log: retention has deleted it, or the log ends before it."""


class Unframable(Exception):
    """A record cannot be rendered by its channel; the message says why.

    `reason` is a code for metrics.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownRouter(ValueError):
    """A setting names no router with endpoints; the message says which."""
