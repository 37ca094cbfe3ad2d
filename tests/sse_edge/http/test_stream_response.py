"""Which cursor a request has, by header or by parameter."""

import pytest
from starlette.requests import HTTPConnection

from sse_edge.http.stream_response import given_cursor


def request(*headers: str, query: str = "") -> HTTPConnection:
    pairs = [(b"last-event-id", header.encode()) for header in headers]
    return HTTPConnection({"type": "http", "headers": pairs, "query_string": query.encode()})


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "Last-Event-ID"])
def test_a_parameter_has_the_name_that_the_clients_library_gives_it(name: str) -> None:
    assert given_cursor(request(query=f"{name}=AXRg_-")) == "AXRg_-"


@pytest.mark.parametrize(
    ("headers", "query", "cursor"),
    [
        ((), "", None),
        ((), "last_event_id=", None),
        (("A",), "last_event_id=B", "A"),
        (("",), "last_event_id=B", "B"),
        (("A", "B"), "", "B"),
        (("A, B",), "", "B"),
        (("A,B", "C , D "), "", "D"),
        (("A, ",), "", None),
        ((), "last_event_id=A&lastEventId=B", "B"),
        ((), "Last-Event-ID=B&last_event_id=A", "A"),
    ],
)
def test_the_header_wins_of_several_the_last_and_an_empty_one_is_none(
    headers: tuple[str, ...], query: str, cursor: str | None
) -> None:
    assert given_cursor(request(*headers, query=query)) == cursor
