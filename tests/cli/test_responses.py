import httpx
import pytest

from cli.errors import RequestRefused
from cli.responses import check


def test_a_success_passes() -> None:
    check(httpx.Response(204))


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (httpx.Response(400, json={"detail": "limit must be positive"}), "limit must be positive"),
        (httpx.Response(502, text="<html>bad gateway</html>"), "status 502"),
        (httpx.Response(500, json=["surprise"]), "status 500"),
        (httpx.Response(500, json={"title": "no detail"}), "status 500"),
    ],
)
def test_a_refusal_says_why(response: httpx.Response, text: str) -> None:
    with pytest.raises(RequestRefused, match=f"the edge says: {text}"):
        check(response)
