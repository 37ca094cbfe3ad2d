"""Refusals in an edge's HTTP responses."""

import httpx

from cli.errors import RequestRefused


def check(response: httpx.Response) -> None:
    """Return if a response, whose body has been read, is successful.

    Raises:
        RequestRefused: it is not; the message is its `detail`, or its status without one.
    """
    if response.is_success:
        return
    try:
        detail: object = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = f"status {response.status_code}"
    raise RequestRefused(f"the edge says: {detail}")
