"""No client writes a line of the log, and each refusal has a line that its answer names."""

import io
import logging
from collections.abc import Generator
from urllib.parse import quote

import httpx
import pytest

from kafka_io.log_lines import LineFormatter
from tests.support.edge_server import edge_server

FORGED = "\r\n2026-01-01 00:00:00,000 INFO sse_edge.app forged\x1b[2J\u2028"


@pytest.fixture
def log() -> Generator[io.StringIO]:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter())
    handler.addFilter(lambda record: record.name != "httpx")  # the clients of the tests
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


async def test_what_clients_send_begins_no_line_of_the_log(log: io.StringIO) -> None:
    forged = quote(FORGED)
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        for path in (
            f"/{forged}",
            f"/api/v1/sse/alerts?events={forged}",
            f"/api/v1/sse/alerts?from={forged}",
            f"/api/v1/sse/streams?topic={forged}",
            f"/user-specific-stream/{forged}?token={forged}",
            f"/api/v1/limits/{forged}",
        ):
            await http.get(path, headers={"Accept": "application/json"})
        await http.put(f"/api/v1/limits/{forged}", json={"limits": [{"metric": FORGED}]})
        await http.post("/send-message", json={"room": FORGED, "user": FORGED})
    lines = log.getvalue().split("\n")
    assert "forged" in log.getvalue()
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert not any(character in log.getvalue() for character in "\r\x1b\u2028")


async def test_an_answer_names_its_line_and_tells_nothing_of_brokers(log: io.StringIO) -> None:
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        sent = await http.post("/send-message?token=a.secret.token", json={"message": "x"})
        missing = await http.get("/nothing?token=a.secret.token")
        wrong = await http.put("/api/v1/limits/p", json={"limits": 3})
        listed = await http.get("/api/v1/limits")
    for answer, status, reason in (
        (sent, 503, "no_broker"),
        (missing, 404, "not_found"),
        (wrong, 400, "invalid_parameter"),
        (listed, 503, "no_broker"),
    ):
        body = answer.json()
        assert (answer.status_code, body["reason"]) == (status, reason)
        assert f"refused {body['id']}: {reason} {status} to " in log.getvalue()
        assert "localhost:1" not in answer.text
    assert "secret" not in log.getvalue()


async def test_a_failure_of_the_edge_is_answered_and_logged_by_its_id(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a detail of the inside")

    monkeypatch.setattr("sse_edge.routes.health._readiness", fail)
    async with edge_server() as edge, httpx.AsyncClient(base_url=edge.url) as http:
        answer = await http.get("/health/ready")
    assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
    assert "inside" not in answer.text
    assert f"refused {answer.json()['id']}: internal 500 to GET /health/ready" in log.getvalue()
    assert "    RuntimeError: a detail of the inside" in log.getvalue()
