import socket

import pytest

from sse_edge.http.server import url_of


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("0.0.0.0", f"http://{socket.gethostname()}:8000"),  # noqa: S104  # never listened on
        ("::", f"http://{socket.gethostname()}:8000"),
    ],
)
def test_an_edge_is_found_at_its_address_or_by_the_name_of_its_machine(host: str, url: str) -> None:
    assert url_of("http", host, 8000) == url
