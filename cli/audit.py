"""`tapewire audit`: lists who changed what, as an edge knows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.edge_client import ask


def show(url: str, count: int, bearer: str | None) -> Sequence[str]:
    """Return the newest changes as lines; see `changes`."""
    return [_line(change) for change in changes(url, count, bearer)] or ["nothing was changed"]


def changes(url: str, count: int, bearer: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the newest changes, each with who made it and from where, newest first.

    Args:
        url: the edge's address.
        count: the most changes.
        bearer: the caller's token, with the scopes `read` and `admin`; None for none.

    Raises:
        RequestRefused: the edge refused the request; the message says why.
        EdgeUnreachable: no edge answers at the address.
    """
    found: Sequence[Mapping[str, Any]] = ask(
        "GET", url, "/api/v1/audit", bearer, params={"limit": count}
    )
    return found


def _line(change: Mapping[str, Any]) -> str:
    author = change["by"] or "a caller without a token"
    tenant = "" if change["tenant"] is None else f" of {change['tenant']}"
    origin = "" if change["origin"] is None else f" from {change['origin']}"
    comment = f": {change['comment']}" if change["comment"] else ""
    by_whom = f"by {author}{tenant}{origin}{comment}"
    return f"{change['at']:<28} {change['what']:<17} {change['id']}, {by_whom}"
