"""Messages to agents: streamed, resumed on another edge, and never run twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import async_playwright

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.publisher import Publisher
from kafka_io.reader import read_all
from schemas.events import AgentEvent, RiskMeasure
from schemas.topics import AGENT_EVENTS
from tests.conftest import Started, World
from tests.support.clients import StreamClient, stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

PATH = "/process/stream"
STEPS = ["routing_started", "routing_completed", "agent_execution_started"]


def events_of(blocks: list[Block]) -> list[Any]:
    return [block.json for block in blocks if block.data]


def text_of(steps: list[Any]) -> str:
    """An answer as its pieces come."""
    chunks = [step for step in steps if step["event"] == "response_chunk"]
    return "".join(
        part["text"] for chunk in chunks for part in chunk["response_data"]["raw_response"]["parts"]
    )


async def edges(world: World) -> tuple[Started, Started]:
    async with asyncio.TaskGroup() as starting:
        first, second = starting.create_task(world.edge()), starting.create_task(world.edge())
        starting.create_task(world.orchestrator())
    return first.result(), second.result()


async def runs_in_the_log(world: World) -> dict[str, list[str]]:
    """The steps of each run."""
    found: dict[str, list[str]] = {}
    for event in await read_all(AGENT_EVENTS, world.producer_settings):
        assert isinstance(event, AgentEvent)
        found.setdefault(event.run_id, []).append(event.kind)
    return found


async def test_an_answer_comes_in_steps_and_ends(world: World) -> None:
    first, _ = await edges(world)
    async with (
        httpx.AsyncClient(base_url=first.url, timeout=60) as http,
        http.stream("POST", PATH, json={"message": "What is 17 * 23?"}) as response,
    ):
        client = StreamClient(response)
        steps = events_of(await client.to_end())
    assert [step["event"] for step in steps[:3]] == STEPS
    routed = steps[1]
    assert (routed["agent_id"], routed["protocol"]) == ("arithmetic", "local")
    assert routed["agent_name"] == "Arithmetic"
    assert 0 < routed["confidence"] <= 1
    assert "Arithmetic" in routed["reasoning"]
    assert text_of(steps) == "17 * 23 = 391"
    assert steps[-1]["event"] == "completed"
    assert steps[-1]["response_data"]["raw_response"]["parts"][0]["text"] == "17 * 23 = 391"
    # A client that reconnects after the end gets 204, and stops.
    async with stream(
        first.url, PATH, headers={"Last-Event-ID": client.last_id}, message="x"
    ) as it:
        assert it.response.status_code == 204


async def test_a_client_that_drops_resumes_elsewhere_and_nothing_runs_twice(world: World) -> None:
    first, second = await edges(world)
    question = "how do I use this API?"
    blocks: list[Block] = []
    async with stream(first.url, PATH, message=question) as client:
        await client.until(
            lambda seen: any("response_chunk" in (record.data or "") for record in seen)
        )
        # A connection may break at any block; take it that it did after the first piece.
        for block in client.blocks:
            blocks.append(block)
            if "response_chunk" in (block.data or ""):
                break
    last_id = next(block.id for block in reversed(blocks) if block.id)
    async with stream(
        second.url, PATH, headers={"Last-Event-ID": last_id}, message=question
    ) as client:
        blocks += await client.to_end()
    steps = events_of(blocks)
    assert steps[-1]["event"] == "completed"
    assert text_of(steps) == steps[-1]["response_data"]["raw_response"]["parts"][0]["text"]
    (kinds,) = (await runs_in_the_log(world)).values()
    assert kinds == [step["event"] for step in steps]


async def test_a_repeated_request_with_a_key_joins_the_first(world: World) -> None:
    first, second = await edges(world)
    asked: Any = {"message": "what is 6 * 7", "idempotency_key": "k-1"}
    answers = []
    for edge in (first, second):
        async with stream(edge.url, PATH, **asked) as client:
            answers.append(events_of(await client.to_end()))
    assert answers[0] == answers[1]
    assert text_of(answers[0]) == "6 * 7 = 42"
    assert len(await runs_in_the_log(world)) == 1


async def test_a_run_is_its_owners(world: World, tmp_path: Path) -> None:
    """Neither another's id nor the same key and message lets anybody read an answer."""
    edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    await world.orchestrator()
    asked: Any = {"message": "what is 6 * 7", "idempotency_key": "k-1"}
    ids = {}
    for name, tenant in (("alice", "acme"), ("bob", "acme"), ("alice", "other")):
        bearer = {"Authorization": f"Bearer {token(tmp_path, name, tenant, 60)}"}
        async with stream(edge.url, PATH, headers=bearer, **asked) as client:
            blocks = await client.until(
                lambda seen: any(
                    record.data and record.json["event"] == "completed" for record in seen
                )
            )
        assert text_of(events_of(blocks)) == "6 * 7 = 42"
        ids[name, tenant] = next(block.id for block in blocks if block.id)
        for owner, last_id in ids.items():
            async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
                answer = await http.get(
                    PATH, params=asked, headers={"Last-Event-ID": str(last_id), **bearer}
                )
            # Another tenant's cursor is of another stream, a colleague's is not one's own.
            refused = 400 if owner[1] != tenant else 404
            assert answer.status_code == (200 if owner == (name, tenant) else refused)
    assert len(await runs_in_the_log(world)) == 3


async def test_a_caller_that_asks_too_often_gets_the_time_to_retry(
    world: World, tmp_path: Path
) -> None:
    edge = await world.edge(
        jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path), writes_per_minute_max=2
    )
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:

        async def say(name: str) -> httpx.Response:
            bearer = {"Authorization": f"Bearer {token(tmp_path, name, None, 60)}"}
            body = {"user": name, "message": "hello"}
            return await http.post("/send-message", json=body, headers=bearer)

        assert [(await say("alice")).status_code for _ in range(3)] == [200, 200, 429]
        refused = await say("alice")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "2 writes a minute are allowed" in refused.json()["detail"]
        assert (await say("bob")).status_code == 200


def measure(portfolio_id: str, var_95: float) -> RiskMeasure:
    return RiskMeasure(
        portfolio_id=portfolio_id,
        as_of_us=1_230_000_000_000_000,
        method="historical",
        status="ok",
        observations=250,
        var_95=var_95,
        es_95=0.0345,
        threshold=0.05,
        utilisation=var_95 / 0.05,
        event_id=f"m-{portfolio_id}-{var_95}",
        source_topic="t",
        source_partition=0,
        source_offset=0,
    )


async def test_risk_questions_are_answered_from_the_live_measures(world: World) -> None:
    first, _ = await edges(world)
    async with Publisher(world.producer_settings) as publisher:
        for var_95 in (0.01, 0.0234):
            await publisher.publish(measure("growth", var_95))
        for name in ("growth", "secret"):  # another tenant's, also of the same name
            await publisher.publish(measure(name, 0.0456), tenant="acme")
    async with stream(first.url, PATH, message="What is the VaR of Growth?") as client:
        answer = text_of(events_of(await client.to_end()))
    assert "growth as of 2008-12-23: VaR 95 % is 0.0234" in answer
    assert "47% of its limit of 0.0500" in answer
    async with stream(first.url, PATH, message="what is the VaR of nothing?") as client:
        last = events_of(await client.to_end())[-1]
    assert last["event"] == "error"
    assert last["error"] == "name a measured portfolio; these are measured: growth"


async def test_a_tenant_asks_for_its_own_measures_only(world: World, tmp_path: Path) -> None:
    edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    await world.orchestrator()
    async with Publisher(world.producer_settings) as publisher:
        await publisher.publish(measure("growth", 0.0123), tenant="acme")
        await publisher.publish(measure("growth", 0.0456), tenant="other")
        await publisher.publish(measure("secret", 0.0456), tenant="other")
        await publisher.publish(measure("untenanted", 0.0456))
    bearer = {"Authorization": f"Bearer {token(tmp_path, 'alice', 'acme', 60)}"}
    async with stream(edge.url, PATH, headers=bearer, message="the VaR of growth") as client:
        answer = text_of(events_of(await client.to_end()))
    assert answer.count("VaR 95 %") == 1
    assert "VaR 95 % is 0.0123" in answer
    async with stream(edge.url, PATH, headers=bearer, message="the VaR of secret") as client:
        last = events_of(await client.to_end())[-1]
    assert last["error"] == "name a measured portfolio; these are measured: growth"


@pytest.mark.long
async def test_a_browser_asks(world: World, chromium: str) -> None:
    first, _ = await edges(world)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{first.url}/health/live")
        seen = await page.evaluate(
            """() => new Promise(done => {
                const seen = [];
                const message = encodeURIComponent("What's 2+2?");
                const eventSource = new EventSource(`/process/stream?message=${message}`);
                eventSource.onmessage = (event) => {
                    const data = JSON.parse(event.data);
                    seen.push(data);
                    if (data.event === 'completed' || data.event === 'error') {
                        eventSource.close();
                        done(seen);
                    }
                };
            })"""
        )
        await browser.close()
    assert [record["event"] for record in seen[:3]] == STEPS
    assert text_of(seen) == "2+2 = 4"
    assert seen[1]["agent"] == "Arithmetic"
    assert json.dumps(seen[-1])


async def test_refusals_name_their_reason_and_a_browser_gets_help_without_a_message(
    world: World,
) -> None:
    wrong: list[tuple[dict[str, str], dict[str, str], str]] = [
        ({}, {}, "message"),
        ({"message": ""}, {}, "message"),
        ({"message": "x"}, {"Last-Event-ID": "short"}, "too short"),
        ({"message": "x"}, {"Last-Event-ID": "A" * 60}, "cursor"),
        ({"message": "x", "events": "answers"}, {}, "answers"),
    ]
    edge = await world.edge()
    async with stream(edge.url, PATH) as browser:  # without a message
        chunk, completed = await browser.to_end()
    assert [chunk.json["event"], completed.json["event"]] == ["response_chunk", "completed"]
    assert "message=" in chunk.json["text"]
    assert chunk.retry_ms is not None
    assert chunk.retry_ms >= 3_600_000
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as client:
        for query, headers, named in wrong:
            answer = await client.get(PATH, params=query, headers=headers)
            assert answer.status_code == 400
            assert answer.headers["content-type"] == "application/problem+json"
            assert named in answer.text
