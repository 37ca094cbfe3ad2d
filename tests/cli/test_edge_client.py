import socket
import time

import httpx
import pytest

from cli.edge_client import ask, authorization, no_edge_at, require_edge
from cli.errors import EdgeUnreachable, InvalidArgument
from tests.support.local_server import QuietHandler, serving
from tests.support.scripted_server import scripted


class Page(QuietHandler):
    """Answers everything with a page."""

    def do_GET(self) -> None:  # noqa: N802  # the library calls it
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>")


def test_an_edge_that_lives_passes() -> None:
    with scripted({"GET /health/live": [(200, {"status": "live"})]}) as edge:
        require_edge(edge.url)


def test_an_edge_that_hangs_is_named_within_three_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(EdgeUnreachable, match=f"no edge answers at {url}"):
            require_edge(url)
        assert time.monotonic() - began < 3


def test_another_server_is_no_edge() -> None:
    with (
        scripted({}) as other,
        pytest.raises(EdgeUnreachable, match=r"not as an edge of Tapewire.*404"),
    ):
        require_edge(other.url)


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "ftp://localhost"])
def test_what_is_no_address_is_named(url: str) -> None:
    with pytest.raises(EdgeUnreachable, match="no edge answers at"):
        require_edge(url)


def test_a_token_is_a_header() -> None:
    assert authorization("t") == {"Authorization": "Bearer t"}
    assert authorization(None) == {}


def test_the_error_says_how_to_start_one() -> None:
    error = no_edge_at("http://a", httpx.ConnectError("refused"))
    assert str(error) == "no edge answers at http://a (refused); `tapewire up` starts one"
    assert "(ReadTimeout)" in str(no_edge_at("http://a", httpx.ReadTimeout("")))


@pytest.mark.parametrize("token", ["é", "a\nb", "a\x00b"])
def test_a_token_that_no_header_can_have_is_not_sent(token: str) -> None:
    with pytest.raises(InvalidArgument, match="characters that no token has"):
        authorization(token)


def test_a_number_that_json_lacks_is_not_sent() -> None:
    with pytest.raises(InvalidArgument, match="a number is infinite or NaN"):
        ask("PUT", "http://localhost:1", "/", None, body={"limit": float("nan")})


def test_a_server_that_answers_no_json_is_no_edge() -> None:
    with (
        serving(Page) as url,
        pytest.raises(EdgeUnreachable, match="answers, but not as an edge"),
    ):
        ask("GET", url, "/api/v1/limits", None)
