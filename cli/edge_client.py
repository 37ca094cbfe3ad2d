"""Requests to an edge: whether one answers, and how a caller proves who it is."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from cli.errors import EdgeUnreachable, InvalidArgument
from cli.responses import check

_TIMEOUT_S = 10.0
_STEP_S = 1.4
"""The time to connect, and the time to answer; together less than three seconds."""


def require_edge(url: str) -> None:
    """Check that an edge answers at an address.

    Raises:
        EdgeUnreachable: no edge answers within three seconds; the message names the address.
    """
    try:
        response = httpx.get(f"{url}/health/live", timeout=_STEP_S)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise no_edge_at(url, error) from error
    if not response.is_success:
        raise EdgeUnreachable(
            f"{url} answers, but not as an edge of Tapewire: /health/live has the status "
            f"{response.status_code}"
        )


def no_edge_at(url: str, error: Exception) -> EdgeUnreachable:
    """Return the error that no edge answers at an address."""
    reason = str(error) or type(error).__name__
    return EdgeUnreachable(f"no edge answers at {url} ({reason}); `tapewire up` starts one")


def authorization(token: str | None) -> Mapping[str, str]:
    """Return the headers by which a caller proves who it is; none without a token.

    Raises:
        InvalidArgument: the token has characters that no header can have.
    """
    if token is not None and not (token.isascii() and token.isprintable()):
        raise InvalidArgument("the token has characters that no token has; it is not sent")
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def ask(
    method: str,
    url: str,
    path: str,
    token: str | None,
    *,
    params: Mapping[str, int] | None = None,
    body: object = None,
) -> Any:
    """Send a request to an edge, and return the JSON of its answer.

    Args:
        method: the HTTP method.
        url: the edge's address.
        path: the path.
        token: the caller's token; None for none.
        params: the parameters of the query.
        body: sent as JSON; None for no body.

    Raises:
        InvalidArgument: a number is none of JSON's, or the token is none.
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    try:
        text = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise InvalidArgument("a number is infinite or NaN; give a finite one") from None
    headers = dict(authorization(token))
    if text is not None:
        headers["Content-Type"] = "application/json"
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S, headers=headers) as http:
            response = http.request(method, path, params=params, content=text)
    except httpx.TransportError as error:
        raise no_edge_at(url, error) from error
    check(response)
    try:
        return response.json()
    except ValueError:
        raise EdgeUnreachable(f"{url} answers, but not as an edge of Tapewire") from None
