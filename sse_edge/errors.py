"""What can be wrong, whose fault it is, and what HTTP says to it.

EdgeError
├── InvalidParameter      400   a query parameter has no meaning
├── InvalidCursor         400   a cursor cannot be read
│   └── ForeignCursor     400   ... or belongs to another stream
├── NotAcceptable         406   the caller does not take text/event-stream
├── TooManyConnections    429   one address holds as many as it may
├── TooManyRequests       429   one caller writes more often than it may
└── Unavailable           503   no broker, or the node is on its way out

LogError                        inside: the log could not answer
├── LogUnavailable              Kafka is away
└── OffsetOutOfRange            a position is not in the log (any more)

Unframable                      inside: a record that cannot become an event; it is skipped
"""


class EdgeError(Exception):
    """Something that the caller is told, as problem+json."""

    status = 500
    title = "Internal error"
    retry_after_s: int | None = None


class InvalidParameter(EdgeError):
    """A query parameter has no meaning; the message names it and what would have one."""

    status = 400
    title = "Invalid parameter"

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(f"{parameter}: {message}")
        self.parameter = parameter


class InvalidCursor(EdgeError):
    """A cursor cannot be read; the message says why."""

    status = 400
    title = "Invalid cursor"


class ForeignCursor(InvalidCursor):
    """A cursor belongs to another stream than the one that is asked for."""


class Unauthorized(EdgeError):
    """There is no token, or it is not good."""

    status = 401
    title = "Unauthorized"


class Forbidden(EdgeError):
    """The caller may not read it."""

    status = 403
    title = "Forbidden"


class NoSuchThing(EdgeError):
    """What a path names does not exist."""

    status = 404
    title = "Not found"


class NotAcceptable(EdgeError):
    """The caller does not take `text/event-stream`."""

    status = 406
    title = "Not acceptable"


class TooManyConnections(EdgeError):
    """One address holds as many connections as it may."""

    status = 429
    title = "Too many connections"
    retry_after_s: int | None = 30


class TooManyRequests(EdgeError):
    """One caller writes more often than it may."""

    status = 429
    title = "Too many requests"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(EdgeError):
    """The node cannot serve streams now; `reason` is `no_broker` or `draining`."""

    status = 503
    title = "Unavailable"
    retry_after_s: int | None = 2

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LogError(Exception):
    """The log could not answer."""


class LogUnavailable(LogError):
    """Kafka is away, or a topic has no leader, or does not exist (yet)."""


class OffsetOutOfRange(LogError):
    """A position is not in the log: retention has passed it, or it was never reached."""


class Unframable(Exception):
    """A record is no event of its channel; the message says why."""
