"""Preflights of pages: those that are allowed, and those that are refused."""

import re

import httpx
import pytest
from fastapi import FastAPI

from sse_edge.http.cors import EdgeCors

ORIGIN = "https://app.example"


def preflight(**headers: str) -> dict[str, str]:
    whole = {"origin": ORIGIN, "access-control-request-method": "GET"}
    return whole | {name.replace("_", "-"): value for name, value in headers.items()}


async def ask(headers: dict[str, str]) -> httpx.Response:
    app = FastAPI()
    app.add_middleware(EdgeCors, allow_origins=[ORIGIN], allow_methods=["GET"])
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as http:
        return await http.options("/x", headers=headers)


async def test_an_allowed_preflight_is_answered_as_starlette_does() -> None:
    answer = await ask(preflight())
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"origin": "https://evil.example"}, "origin"),
        ({"access_control_request_method": "PUT"}, "method"),
        ({"access_control_request_headers": "x-odd"}, "headers"),
        ({"origin": "x" * 500, "access_control_request_method": "PUT"}, "origin, method"),
    ],
)
async def test_a_refusal_is_a_problem_with_the_id_of_its_line(
    headers: dict[str, str], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answer = await ask(preflight(**headers))
    problem = answer.json()
    assert answer.status_code == problem["status"] == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"its {what} is not allowed" in problem["detail"]
    assert len(problem["detail"]) < 300
    assert re.search(f"refused {problem['id']}: preflight_refused 400 to OPTIONS /x", caplog.text)
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (ORIGIN if "origin" not in headers else None)
