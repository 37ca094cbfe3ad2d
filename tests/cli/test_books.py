"""`tapewire books`, against an edge that answers as it is told."""

from typing import Any

import pytest

from cli import books
from cli.errors import InvalidArgument, RequestRefused
from tests.support.scripted_server import scripted

HELD = {"series_id": "AAPL", "quantity": -100.0, "price": 190.5}
RISK = {
    "path": "firm/firm",
    "amounts": {"var_95": 1_234.567},
    "var_95": 0.0525,
    "status": "ok",
    "as_of": "2026-01-02T00:00:00Z",
}


def test_a_book_is_put_as_its_file_says_and_closed() -> None:
    responses: dict[str, list[tuple[int, Any]]] = {
        "PUT /api/v1/books/firm/a%20b": [(200, {"currency": "USD", "holdings": [HELD]})],
        "DELETE /api/v1/books/firm/a%20b": [(200, {})],
    }
    with scripted(responses) as edge:
        assert books.put(edge.url, "firm/a b", {"currency": "USD"}, "token").lines == [
            "AAPL                               -100 at 190.5 USD"
        ]
        assert books.close(edge.url, "firm/a b", None).lines == ["firm/a b is closed"]
    assert edge.received[0].body == {"currency": "USD"}
    assert edge.received[0].headers["authorization"] == "Bearer token"


def test_the_risk_of_a_tree_is_shown_with_its_reason() -> None:
    short = RISK | {
        "path": "firm/s",
        "var_95": None,
        "reason": "no_positive_nav",
        "currency": "USD",
    }
    blind = RISK | {"path": "firm/n", "amounts": {}, "var_95": None, "status": "insufficient_data"}
    with scripted({"GET /api/v1/books/firm": [(200, [RISK, short, blind])]}) as edge:
        lines = books.show(edge.url, "firm", None).lines
    when = "as of 2026-01-02T00:00:00Z"
    assert lines == [
        f"firm/firm                VaR 1234.57, 5.25% of the net asset value; ok, {when}",
        f"firm/s                   VaR 1234.57 USD; ok (no_positive_nav), {when}",
        f"firm/n                   no VaR; insufficient_data, {when}",
    ]


def test_limits_are_set_and_withdrawn() -> None:
    limit = {"metric": "concentration", "limit": 0.5}
    temporary = {"limit": 0.6, "valid_until": "2026-12-31T18:00:00Z", "approved_by": "cro"}
    higher = {"metric": "var_95", "limit": 0.02, "temporary": temporary}
    body = {"limits": [limit, higher], "stale_after_s": 60.0, "comment": "why"}
    responses: dict[str, list[tuple[int, Any]]] = {
        "PUT /api/v1/books/firm/tech/limits": [(200, {"limits": [limit, higher]})],
        "DELETE /api/v1/books/firm/tech/limits": [(200, {})],
    }
    with scripted(responses) as edge:
        assert books.put_limits(edge.url, "firm/tech", body, None).lines == [
            "firm/tech: concentration up to 0.5",
            "firm/tech: var_95 up to 0.02; 0.6 until 2026-12-31T18:00:00Z by cro",
        ]
        assert books.withdraw_limits(edge.url, "firm/tech", None).lines == [
            "firm/tech has no limits"
        ]
    assert edge.received[0].body == body


def test_refusals_are_named() -> None:
    detail = "currency: desk is in EUR, and tech of the same tree in USD; a tree has one currency"
    with (
        scripted({"PUT /api/v1/books/firm/desk": [(400, {"detail": detail})]}) as edge,
        pytest.raises(RequestRefused, match="desk is in EUR, and tech of the same tree in USD"),
    ):
        books.put(edge.url, "firm/desk", {}, None)
    for name in ("firm", "firm/", "/desk", "a/b/c"):
        with pytest.raises(InvalidArgument, match="write ROOT/BOOK"):
            books.close("http://localhost", name, None)
