"""A cursor, a token, a start and `Accept`, in every spelling that clients use."""

from typing import Any

import pytest
from starlette.requests import HTTPConnection

from sse_edge.delivery.start import FromEdge, FromTime
from sse_edge.errors import InvalidParameter
from sse_edge.http.request_values import (
    GivenToken,
    accepted_subprotocol,
    accepts_stream,
    asks_for_stream,
    given_cursor,
    given_token,
    parse_start,
)

NOW_S = 1_780_000_000.0
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln_-"


def request(
    *headers: tuple[str, str], query: str = "", kind: str = "http", **more: Any
) -> HTTPConnection:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "headers": pairs, "query_string": query.encode()}
    return HTTPConnection(scope | more)


@pytest.mark.parametrize(
    "name",
    [
        *("last_event_id", "lastEventId", "Last-Event-ID", "last-event-id", "lasteventid"),
        *("LAST-EVENT-ID", "Last-Event-Id", "lastEventID", "last_event_ID"),
    ],
)
def test_a_cursor_has_the_name_that_the_clients_library_gives_it(name: str) -> None:
    assert given_cursor(request(query=f"{name}=AXRg_-")) == "AXRg_-"
    assert given_cursor(request(query=f"x{name}=AXRg_-")) is None


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
        ((), "lastEventId=A,%20B", "B"),
    ],
)
def test_the_header_wins_of_several_the_last_and_an_empty_one_is_none(
    headers: tuple[str, ...], query: str, cursor: str | None
) -> None:
    lines = [("Last-Event-ID", header) for header in headers]
    assert given_cursor(request(*lines, query=query)) == cursor


@pytest.mark.parametrize(
    ("lines", "accepts", "asks"),
    [
        ((), True, False),
        (("",), True, False),
        (("*/*",), True, False),
        (("text/event-stream",), True, True),
        (("Text/Event-Stream; q=0.5",), True, True),
        (("application/json", "text/event-stream"), True, True),
        (("application/json", "image/png"), False, False),
        (("application/json, text/*",), True, False),
        (("text/html", "*/*;q=0.1"), True, False),
        (("text/event-stream;q=0, */*",), False, False),
        (("text/event-stream;q=x",), True, True),
        (("application/x-text/event-streaming",), False, False),
    ],
)
def test_several_lines_of_accept_are_one_list(
    lines: tuple[str, ...], *, accepts: bool, asks: bool
) -> None:
    given = request(*(("Accept", line) for line in lines))
    assert accepts_stream(given) is accepts
    assert asks_for_stream(given) is asks


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("earliest", FromEdge.EARLIEST),
        ("LATEST", FromEdge.LATEST),
        ("2026-01-31T09:30:00Z", FromTime(1_769_851_800_000)),
        ("2026-01-31t09:30:00z", FromTime(1_769_851_800_000)),
        ("2026-01-31 09:30:00z", FromTime(1_769_851_800_000)),
        ("2026-01-31T10:30:00 01:00", FromTime(1_769_851_800_000)),
        ("2026-01-31T10:30:00+01:00", FromTime(1_769_851_800_000)),
        ("2026-01-31T09:30:00.123456789Z", FromTime(1_769_851_800_123)),
        ("0001-01-01T00:00:00Z", FromEdge.EARLIEST),
        ("0001-01-01T00:00:00+14:00", FromEdge.EARLIEST),
        ("1601-01-01T00:00:00Z", FromEdge.EARLIEST),
        ("1970-01-01T00:00:00Z", FromEdge.EARLIEST),
        ("1969-12-31T23:59:59.999999Z", FromEdge.EARLIEST),
        ("2026-05-29T20:26:39Z", FromTime(1_780_086_399_000)),
    ],
)
def test_a_start_is_an_end_of_the_log_or_a_time(text: str, start: object) -> None:
    assert parse_start(text, NOW_S) == start


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(
            (text, "neither earliest nor latest nor an RFC 3339 time")
            for text in ("", "NaN", "inf", "-1", "0", "1e400", "9" * 5_000, "1780000000", "now")
        ),
        ("2026-01-31T09:30:00", "neither earliest nor latest"),
        ("99999-01-01T00:00:00Z", "neither earliest nor latest"),
        ("\u0661\u0662", "neither earliest nor latest"),
        ("2026-05-30T00:00:00Z", r"has not come: it is 2026-05-28T20:26:40\+00:00 now"),
        ("9999-12-31T23:59:59Z", "has not come"),
        ("9999-12-31T23:59:59-14:00", "has not come"),
    ],
)
def test_a_start_that_is_no_time_or_has_not_come_is_refused_by_name(text: str, why: str) -> None:
    with pytest.raises(InvalidParameter, match=f"from: .*{why}") as refused:
        parse_start(text, NOW_S)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("headers", "query", "token"),
    [
        ((), "", None),
        ((("Authorization", "Bearer t"),), "token=u", GivenToken("t")),
        ((("Authorization", "bearer  t "),), "", GivenToken("t")),
        ((("Authorization", "Basic x"), ("Authorization", "Bearer t")), "", GivenToken("t")),
        ((("Authorization", "Basic x"),), "token=u", GivenToken("u")),
        ((("Cookie", "a=b; token=c"),), "", GivenToken("c", is_cookie=True)),
        ((("Cookie", "token=c"),), "token=u", GivenToken("u")),
        ((("Cookie", "token="),), "token=", None),
        ((("Sec-WebSocket-Protocol", f"bearer, {JWT}"),), "", None),
    ],
)
def test_a_token_comes_by_header_query_or_cookie(
    headers: tuple[tuple[str, str], ...], query: str, token: GivenToken | None
) -> None:
    assert given_token(request(*headers, query=query), "token") == token


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ((f"bearer, {JWT}",), "bearer"),
        (("Bearer", JWT), "Bearer"),
        ((f"access_token,{JWT}",), "access_token"),
        ((f"json, bearer.{JWT}",), "json"),
        ((f"{JWT}, json",), "json"),
        ((JWT,), JWT),
    ],
)
def test_a_websocket_sends_its_token_as_a_subprotocol_and_gets_an_answer(
    lines: tuple[str, ...], answer: str
) -> None:
    headers = [("Sec-WebSocket-Protocol", line) for line in lines]
    socket = request(*headers, query="token=other", kind="websocket")
    assert given_token(socket, "token") == GivenToken(JWT)
    assert accepted_subprotocol(socket) == answer


def test_a_websocket_without_subprotocols_gets_none() -> None:
    socket = request(("Cookie", "token=c"), kind="websocket")
    assert given_token(socket, "token") == GivenToken("c", is_cookie=True)
    assert accepted_subprotocol(socket) is None
    assert accepted_subprotocol(request(("Sec-WebSocket-Protocol", "v1"), kind="websocket")) == "v1"
