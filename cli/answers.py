"""What an edge says when it does not do what was asked for."""

import httpx


def reason_of(answer: httpx.Response) -> str:
    """Why, in the edge's own words; the answer's body has been read."""
    try:
        detail: str = answer.json()["detail"]
    except (ValueError, KeyError):
        return f"the edge says: status {answer.status_code}"
    return f"the edge says: {detail}"
