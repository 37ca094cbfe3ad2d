from typing import Any

import pytest
from typer.testing import CliRunner

from cli import scenarios
from cli.commands.scenarios import scenarios_cli
from cli.errors import RequestRefused
from tests.support.scripted_server import scripted

HISTORICAL: dict[str, Any] = {
    "name": "lehman",
    "version": 2,
    "kind": "historical",
    "from": "2008-09-15",
    "to": "2008-10-10",
    "days": 20,
    "factor": None,
    "series": 1,
    "set_at": "2026-01-02T03:04:05Z",
    "set_by": "alice",
    "shocks": [{"series_id": "SPX", "value": -0.3}],
}
LINE = (
    "lehman                   version 2, 2008-09-15 to 2008-10-10, 20 days, 1 shocks; "
    "set 2026-01-02T03:04:05Z by alice"
)


def test_scenarios_are_listed_shown_and_deleted() -> None:
    crash = {**HISTORICAL, "name": "crash", "from": None, "set_by": None}
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /api/v1/scenarios": [
            (200, [HISTORICAL, crash, {**crash, "factor": "SPX"}]),
            (200, []),
        ],
        "GET /api/v1/scenarios/lehman": [(200, HISTORICAL)],
        "DELETE /api/v1/scenarios/lehman": [(200, {"name": "lehman", "status": "withdrawn"})],
    }
    with scripted(responses) as edge:
        lines = scenarios.listed(edge.url, "token").lines
        assert lines[0] == LINE
        assert "hypothetical, others zero, 1 shocks" in lines[1]
        assert "hypothetical, others by beta to SPX, 1 shocks" in lines[2]
        assert scenarios.listed(edge.url, None).lines == ["there are no scenarios"]
        assert scenarios.shown(edge.url, "lehman", None).lines == [
            LINE,
            "  SPX                      -0.3",
        ]
        assert scenarios.delete(edge.url, "lehman", None).lines == ["lehman: withdrawn"]


def test_a_put_names_the_refusal() -> None:
    refusal = {"detail": "from: the log has returns from 2020-01-02 to 2020-12-31"}
    with (
        scripted({"PUT /api/v1/scenarios/lehman": [(400, refusal)]}) as edge,
        pytest.raises(RequestRefused, match="from 2020-01-02 to 2020-12-31"),
    ):
        scenarios.put(edge.url, "lehman", {"kind": "historical"}, None)


def test_the_options_of_put_make_a_request() -> None:
    responses: dict[str, list[tuple[int, Any]]] = {
        "GET /health/live": [(200, {})],
        "PUT /api/v1/scenarios/s": [(200, HISTORICAL)],
    }
    with scripted(responses) as edge:
        for options in (
            ("--from", "2008-09-15", "--to", "2008-10-10"),
            ("--from", "2008-09-15", "--calendar", "America/New_York"),
            ("--shock", "SPX=-0.2", "--shock", "a=b=0.1", "--comment", "why"),
            ("--shock", "SPX=-0.2", "--factor", "SPX"),
        ):
            result = CliRunner().invoke(scenarios_cli, ["put", "s", *options, "--url", edge.url])
            assert result.exit_code == 0, result.output
    bodies = [request.body for request in edge.received if request.method == "PUT"]
    assert bodies == [
        {"kind": "historical", "from": "2008-09-15", "to": "2008-10-10", "comment": ""},
        {
            "kind": "historical",
            "from": "2008-09-15",
            "to": "2008-09-15",
            "calendar": "America/New_York",
            "comment": "",
        },
        {"kind": "hypothetical", "shocks": {"SPX": -0.2, "a=b": 0.1}, "comment": "why"},
        {
            "kind": "hypothetical",
            "shocks": {"SPX": -0.2},
            "others": "beta",
            "factor": "SPX",
            "comment": "",
        },
    ]
