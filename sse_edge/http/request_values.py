"""Values of a request in every spelling that clients and proxies use.

Client libraries send a cursor and a token where their platform lets them: browsers can set no
header, `EventSource` polyfills have names of their own, and a WebSocket of a browser has only its
address, cookies and subprotocols. Proxies join header lines by commas, or repeat them.
"""

import re
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import NamedTuple

from starlette.requests import HTTPConnection

from schemas.instants import from_rfc3339
from sse_edge.delivery.start import FromEdge, FromTime, Start
from sse_edge.errors import InvalidParameter

_CURSOR = "lasteventid"
_STREAM = "text/event-stream"
_RANGES = (_STREAM, "text/*", "*/*")
"""The ranges of `Accept` that a stream fits, the most specific first."""

_AHEAD_MAX_S = 86_400.0
"""How far ahead a start may lie: clocks and time zones differ, and a client waits for no more."""

_MARKERS = frozenset({"bearer", "access_token", "authorization", "token", "jwt"})
"""The subprotocols after which a client sends its token as another one."""
_PREFIX = "bearer."
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


class GivenToken(NamedTuple):
    """A token of a request, and how it came."""

    text: str
    is_cookie: bool = False
    """Whether the browser has added it, whichever page has sent the request."""


def joined_header(connection: HTTPConnection, name: str) -> str:
    """Return all lines of a header as one list, as RFC 9110 lets proxies join them."""
    return ", ".join(connection.headers.getlist(name))


def accepts_stream(connection: HTTPConnection) -> bool:
    """Return whether `Accept` lets an answer be an event stream; without one everything does."""
    ranges = _accepted(connection)
    found = next((ranges[name] for name in _RANGES if name in ranges), None)
    return not ranges or (found is not None and found > 0)


def preferred_type(connection: HTTPConnection, *types: str) -> str | None:
    """Return the media type that `Accept` prefers, the first of equals; None if it has none."""
    ranges = _accepted(connection)

    def weight(name: str) -> float:
        kind = name.partition("/")[0]
        found = (ranges[key] for key in (name, f"{kind}/*", "*/*") if key in ranges)
        return next(found, 0.0 if ranges else 1.0)

    best = max(types, key=weight)
    return best if weight(best) > 0 else None


def asks_for_stream(connection: HTTPConnection) -> bool:
    """Return whether a request names `text/event-stream`.

    `EventSource` gets no body of a 4xx or 5xx, and never comes back from one.
    """
    return _accepted(connection).get(_STREAM, 0) > 0


def _accepted(connection: HTTPConnection) -> dict[str, float]:
    """Return the weight of each range of `Accept`."""
    ranges = {}
    for part in joined_header(connection, "accept").lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if not name:
            continue
        weights = [text[2:].strip() for text in parameters if text.startswith("q=")]
        try:
            ranges[name] = float(weights[0]) if weights else 1.0
        except ValueError:
            ranges[name] = 1.0
    return ranges


def given_cursor(connection: HTTPConnection) -> str | None:
    """Return the cursor of a request: the header wins, of several the last; empty is None."""
    headers = connection.headers.getlist("last-event-id")[-1:]
    query = connection.query_params.multi_items()
    given = [value for name, value in query if _plain(name) == _CURSOR][-1:]
    # Proxies join several headers by commas, which no cursor has.
    cursors = (value.rpartition(",")[2].strip() for value in (*headers, *given))
    return next(filter(None, cursors), None)


def _plain(name: str) -> str:
    """Return a parameter's name without the differences between spellings."""
    return name.replace("-", "").replace("_", "").lower()


def parse_start(text: str, now_s: float | None = None) -> Start:
    """Return the start that the parameter `from` names.

    A time before 1970, such as the year 1 of clients without a time, is the earliest.

    Args:
        text: `earliest`, `latest`, or an RFC 3339 time.
        now_s: the present time in seconds since 1970; None for the clock's.

    Raises:
        InvalidParameter: it is none of these, or a time that has not come.
    """
    word = text.strip().lower()
    if word in tuple(FromEdge):
        return FromEdge(word)
    start_ms = parse_time(text, "from", "neither earliest nor latest nor an")
    now_s = time.time() if now_s is None else now_s
    if start_ms > (now_s + _AHEAD_MAX_S) * 1000:
        now = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds")
        raise InvalidParameter(
            "from", f"{text[:60]!r} has not come: it is {now} now; latest starts with what comes"
        )
    return FromTime(start_ms) if start_ms > 0 else FromEdge.EARLIEST


def parse_time(text: str, parameter: str, is_not: str = "no") -> int:
    """Return the milliseconds since 1970 of a parameter that is an RFC 3339 time.

    Args:
        text: the parameter's value.
        parameter: the parameter's name.
        is_not: what the error says that another value is, before "RFC 3339 time".

    Raises:
        InvalidParameter: it is no such time.
    """
    # A plus sign that was not percent-encoded arrives as a space.
    plain = text.strip().replace(" ", "+").upper()
    try:
        return from_rfc3339(plain) // 1000
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(
            parameter, f"{text[:60]!r} is {is_not} RFC 3339 time such as 2026-01-31T09:30:00Z"
        ) from error


def given_token(connection: HTTPConnection, cookie: str) -> GivenToken | None:
    """Return the token of a request: of the header, the subprotocols, the query or the cookie.

    Args:
        connection: the request, or the handshake of a WebSocket.
        cookie: the name of the cookie that may hold a token.
    """
    for line in connection.headers.getlist("authorization"):
        scheme, _, bearer = line.strip().partition(" ")
        if scheme.lower() == "bearer" and bearer.strip():
            return GivenToken(bearer.strip())
    token = _token_among(offered_subprotocols(connection))
    token = token or connection.query_params.get("token", "").strip()
    if token:
        return GivenToken(token)
    token = connection.cookies.get(cookie, "").strip()
    return GivenToken(token, is_cookie=True) if token else None


def offered_subprotocols(connection: HTTPConnection) -> list[str]:
    """Return the subprotocols that a WebSocket's client offers; none for other requests."""
    if connection.scope["type"] != "websocket":
        return []
    offered = joined_header(connection, "sec-websocket-protocol").split(",")
    return [name.strip() for name in offered if name.strip()]


def accepted_subprotocol(connection: HTTPConnection) -> str | None:
    """Return the subprotocol to answer with; browsers end a WebSocket whose offer has no answer.

    It is the first that is no token, so that the token is repeated in no header; a client that
    offers its token only gets that.
    """
    offered = offered_subprotocols(connection)
    token = _token_among(offered)
    others = [name for name in offered if token is None or not name.endswith(token)]
    return next(iter(others or offered), None)


def _token_among(offered: list[str]) -> str | None:
    """Return the token among subprotocols, as in `bearer, TOKEN`, `bearer.TOKEN` or `TOKEN`."""
    for name, following in pairwise(offered):
        if name.lower() in _MARKERS:
            return following
    for name in offered:
        if name.lower().startswith(_PREFIX):
            return name[len(_PREFIX) :]
    return next((name for name in offered if _JWT.fullmatch(name)), None)
