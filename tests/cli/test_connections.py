from typing import Any

import pytest

from cli.connections import addresses_of, close, find, lines_of
from cli.errors import RequestRefused
from infra.embedded_broker import free_port
from tests.support.scripted_server import Scripted, scripted

ROW = {
    "id": "edge-1.7",
    "number": 7,
    "client_id": "desk\n",
    "channels": ["alerts"],
    "address": "192.0.2.7",
    "tenant": "acme",
    "since": "2026-11-30T08:00:00Z",
    "behind": 12,
    "paused": True,
}


def page(node_id: str, *rows: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"node_id": node_id, "total": len(rows), "connections": rows}


def script(*nodes: tuple[str, str]) -> dict[str, list[tuple[int, Any]]]:
    status = {"nodes": [{"node_id": name, "address": address} for name, address in nodes]}
    return {"GET /api/v1/sse/status": [(200, status)]}


def test_all_processes_at_an_address_are_asked() -> None:
    responses = script(("edge-1", ""), ("edge-2", ""))
    other = ROW | {"id": "edge-2.1", "since": "2026-11-30T07:00:00Z"}
    responses["GET /api/v1/connections?limit=5"] = [
        *(page("edge-1", ROW), page("edge-1", ROW), page("edge-2", other)),
    ]
    with scripted(responses) as edge:
        rows, notes = find(edge.url, "t", 5)
    assert [row["id"] for row in rows] == ["edge-2.1", "edge-1.7"]
    assert notes == []
    assert edge.received[-1].headers["authorization"] == "Bearer t"


def test_an_edge_that_does_not_answer_is_named_beside_the_others() -> None:
    gone = f"http://localhost:{free_port()}"
    responses = script(("edge-1", ""), ("edge-3", gone))
    responses["GET /api/v1/connections?limit=5"] = [page("edge-1", ROW)]
    with scripted(responses) as edge:
        rows, notes = find(edge.url, None, 5)
    assert len(rows) == 1
    assert notes[0].startswith(f"the connections at {gone} are not known: no edge answers")


def test_a_token_goes_to_no_address_that_only_the_topic_of_edges_names() -> None:
    with scripted({"GET /api/v1/connections?limit=5": [page("evil", ROW)]}) as thief:
        responses = script(("edge-1", ""), ("evil", thief.url))
        responses["GET /api/v1/connections?limit=5"] = [page("edge-1", ROW)]
        missing = (404, {"detail": "this node has no such connection: 'evil.7'"})
        responses["DELETE /api/v1/connections/evil.7"] = [missing]
        with scripted(responses) as edge:
            rows, notes = find(edge.url, "secret", 5)
            assert [row["edge"] for row in rows] == [edge.url]
            assert "the token goes to no address that you have not named" in notes[0]
            with pytest.raises(RequestRefused, match="with --edge"):
                close(edge.url, "secret", "evil.7")
            assert thief.received == []
            find(edge.url, "secret", 5, [f"{thief.url}/"])
        assert thief.received[0].headers["authorization"] == "Bearer secret"


def test_edges_behind_one_address_are_found_without_their_own() -> None:
    responses = script(("edge-1", "http://10.0.0.1:8000"), ("edge-2", "http://10.0.0.2:8000"))
    other = ROW | {"id": "edge-2.1"}
    responses["GET /api/v1/connections?limit=5"] = [page("edge-1", ROW), page("edge-2", other)]
    with scripted(responses) as proxy:
        rows, notes = find(proxy.url, "secret", 5)
    assert {row["id"] for row in rows} == {"edge-1.7", "edge-2.1"}
    assert notes == []


def closing(edge: Scripted, connection_id: str = "edge-1.7") -> Any:
    return close(edge.url, None, connection_id)["id"]


def test_a_connection_is_closed_by_the_process_that_has_it() -> None:
    missing = (404, {"detail": "this node has no such connection: 'edge-1.7'"})
    responses = script(("edge-1", ""), ("edge-2", ""))
    responses["DELETE /api/v1/connections/edge-1.7"] = [missing, (200, {"closed": ROW})]
    with scripted(responses) as edge:
        assert closing(edge) == "edge-1.7"
    alone = script(("edge-1", ""))
    alone["DELETE /api/v1/connections/edge-1.7"] = [missing]
    with scripted(alone) as edge, pytest.raises(RequestRefused, match="it may have ended"):
        closing(edge)
    alone["DELETE /api/v1/connections/edge-1.7"] = [(403, {"detail": "lacks the scope admin"})]
    with scripted(alone) as edge, pytest.raises(RequestRefused, match="lacks the scope admin"):
        closing(edge)


def test_the_id_of_a_connection_leads_to_no_other_path() -> None:
    alone = script(("edge-1", ""))
    name = "../risk/books/edge-1.7"
    closed = "DELETE /api/v1/connections/..%2Frisk%2Fbooks%2Fedge-1.7"
    alone[closed] = [(404, {"detail": "this node has no such connection"})]
    with scripted(alone) as edge, pytest.raises(RequestRefused, match="it may have ended"):
        closing(edge, name)


def test_a_line_says_who_since_when_and_how_far_behind() -> None:
    (line,) = lines_of([ROW], [])
    assert line == (
        "edge-1.7                 since 2026-11-30T08:00:00Z  alerts  desk\\n from 192.0.2.7 of "
        "acme, 12 records behind, does not read"
    )
    assert lines_of([], ["a\nnote"]) == ["nobody is connected", "a\\nnote"]
    assert addresses_of({}, "u", None) == {"u": []}
