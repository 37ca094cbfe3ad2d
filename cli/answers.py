"""The reason in an edge's error answer."""

import httpx


def reason_of(answer: httpx.Response) -> str:
    """Return the `detail` of an error answer whose body has been read."""
    try:
        detail: str = answer.json()["detail"]
    except (ValueError, KeyError):
        return f"the edge says: status {answer.status_code}"
    return f"the edge says: {detail}"
