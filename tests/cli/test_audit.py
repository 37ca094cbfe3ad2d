import pytest

from cli import audit
from cli.errors import RequestRefused
from tests.support.scripted_server import scripted

PATH = "GET /api/v1/audit?limit=5"
START = "2026-01-02T03:04:05Z         limits            desk/a"
CHANGE = {
    "what": "limits",
    "id": "desk/a",
    "by": "alice",
    "tenant": "acme",
    "origin": "192.0.2.7",
    "at": "2026-01-02T03:04:05Z",
    "comment": "after the review",
}


def test_each_change_has_its_author_and_its_reason() -> None:
    others = {"by": None, "tenant": None, "origin": None, "comment": ""}
    with scripted({PATH: [(200, [CHANGE, CHANGE | others])]}) as edge:
        assert audit.show(edge.url, 5, "token") == [
            f"{START}, by alice of acme from 192.0.2.7: after the review",
            f"{START}, by a caller without a token",
        ]
    (request,) = edge.received
    assert request.headers["authorization"] == "Bearer token"


def test_without_changes_the_list_says_so() -> None:
    with scripted({PATH: [(200, [])]}) as edge:
        assert audit.show(edge.url, 5, None) == ["nothing was changed"]


def test_a_token_without_the_scope_is_refused_with_the_reason() -> None:
    with (
        scripted({PATH: [(403, {"detail": "the token lacks the scope admin"})]}) as edge,
        pytest.raises(RequestRefused, match="lacks the scope admin"),
    ):
        audit.show(edge.url, 5, None)
