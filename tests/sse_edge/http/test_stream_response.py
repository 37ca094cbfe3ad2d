"""The filter of a stream by the names of its events."""

import pytest
from fastapi import Request

from sse_edge.http.stream_response import event_names


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", []),
        ("events=", []),
        ("events=a,b", ["a", "b"]),
        ("events=a&events=b", ["a", "b"]),
        ("events=a, &events=,%20b", ["a", "b"]),
    ],
)
def test_the_names_of_events_are_one_list(query: str, names: list[str]) -> None:
    scope = {"type": "http", "headers": [], "query_string": query.encode()}
    assert event_names(Request(scope)) == names
