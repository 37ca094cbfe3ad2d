from typing import Any

import pytest

from cli import limits
from cli.errors import EdgeUnreachable, RequestRefused
from infra.embedded_broker import free_port
from tests.support.scripted_server import scripted

ROW = {
    "portfolio_id": "desk/a",
    "limits": [{"metric": "var_95", "limit": 0.05, "warn_ratio": 0.8, "critical_ratio": None}],
    "set_at": "2026-01-02T03:04:05Z",
    "set_by": "alice",
}
LINE = (
    "desk/a                   var_95  0.05     warn at 80%, critical never; "
    "set 2026-01-02T03:04:05Z by alice"
)


def test_limits_are_shown_as_a_table() -> None:
    with scripted({"GET /api/v1/limits": [(200, [ROW, ROW])]}) as edge:
        assert limits.show(edge.url, None, "token").lines == [LINE, LINE]
    (request,) = edge.received
    assert request.headers["authorization"] == "Bearer token"


def test_a_portfolios_name_is_quoted_in_the_path() -> None:
    with scripted({"PUT /api/v1/limits/desk%2Fa": [(200, ROW)]}) as edge:
        assert limits.put(edge.url, "desk/a", {"limits": []}, None).lines == [LINE]
    (request,) = edge.received
    assert request.body == {"limits": []}
    assert "authorization" not in request.headers


def test_without_limits_the_defaults_hold() -> None:
    responses: dict[str, list[tuple[int, Any]]] = {
        "DELETE /api/v1/limits/p": [(200, {"portfolio_id": "p", "limits": []})],
        "GET /api/v1/limits": [(200, [])],
    }
    with scripted(responses) as edge:
        assert limits.withdraw(edge.url, "p", None).lines == ["p: the processors' defaults hold"]
        assert limits.show(edge.url, None, None).lines == [
            "no limits were set; the processors' defaults hold"
        ]


def test_a_refusal_and_a_missing_edge_are_named() -> None:
    with (
        scripted({"GET /api/v1/limits/p": [(404, {"detail": "no limits of p"})]}) as edge,
        pytest.raises(RequestRefused, match="no limits of p"),
    ):
        limits.show(edge.url, "p", None)
    with pytest.raises(EdgeUnreachable, match="no edge answers at http://localhost"):
        limits.show(f"http://localhost:{free_port()}", "p", None)


def test_a_temporary_limit_is_shown_with_its_end_and_its_approver() -> None:
    temporary = {"limit": 0.07, "valid_until": "2026-12-31T18:00:00Z", "approved_by": "bob"}
    limit = {"metric": "var_95", "limit": 0.05, "warn_ratio": 0.8, "critical_ratio": None}
    row = ROW | {"limits": [limit | {"temporary": temporary}]}
    with scripted({"GET /api/v1/limits": [(200, [row])]}) as edge:
        [line] = limits.show(edge.url, None, None).lines
    assert " 0.05     0.07 until 2026-12-31T18:00:00Z by bob; warn at 80%" in line
