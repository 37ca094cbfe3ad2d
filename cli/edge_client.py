"""Requests to an edge: whether one answers, and how a caller proves who it is."""

from collections.abc import Mapping

import httpx

from cli.errors import EdgeUnreachable

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
    return EdgeUnreachable(f"no edge answers at {url} ({error!r}); `tapewire up` starts one")


def authorization(token: str | None) -> Mapping[str, str]:
    """Return the headers by which a caller proves who it is; none without a token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}
