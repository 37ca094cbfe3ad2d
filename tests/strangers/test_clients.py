"""Clients of other houses: where they put a cursor, a token and what they accept."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from infra.demo_issuer import ISSUER, jwks_path, token
from kafka_io.clock import now_us
from kafka_io.publisher import Publisher
from schemas.events import BacktestProgress, JobStep
from schemas.topics import CHAT_MESSAGES
from tests.conftest import World
from tests.support.clients import stream
from tests.support.topic_config import configure

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

JOB = "/api/sse/backtest/over"


async def end_a_job(world: World) -> None:
    async with Publisher(world.producer_settings) as publisher:
        for kind in ("submitted", "completed"):
            job = JobStep(kind=kind, symbol="IBM", strategy="buy_and_hold", owner="alice")
            event = BacktestProgress(
                backtest_id="over",
                progress=100.0,
                status="completed",
                message="",
                results={},
                event_time_us=now_us(),
                job=job,
            )
            await publisher.publish(event)


async def heard(url: str, **options: Any) -> tuple[list[str], int | None, str | None]:
    """The events of a WebSocket up to its end, its close code, and its subprotocol."""
    async with connect(url.replace("http://", "ws://"), **options) as socket:
        said: list[str] = []
        with suppress(ConnectionClosedError):
            said.extend([json.loads(message)["type"] async for message in socket])
    return said, socket.close_code, socket.subprotocol


async def test_a_finished_job_is_over_in_every_spelling_of_its_last_id(
    world: World, tmp_path: Path
) -> None:
    edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks_path(tmp_path))
    await world.worker()
    await end_a_job(world)
    alice = token(tmp_path, "alice", None, 600)  # so long that no stream asks for a fresh one
    bearer = {"Authorization": f"Bearer {alice}"}
    async with stream(edge.url, JOB, headers=bearer) as client:
        await client.to_event("completed")
        last_id = client.last_id
    spellings: list[dict[str, Any]] = [
        {"params": {name: last_id}}
        for name in ("last_event_id", "lastEventId", "Last-Event-ID", "last-event-id")
    ]
    spellings += [
        {"headers": [("Last-Event-ID", last_id)]},
        {"headers": [("Last-Event-ID", f"AAAA, {last_id}")]},
        {"headers": [("last-event-id", "AAAA"), ("LAST-EVENT-ID", last_id)]},
        {"headers": [("Accept", "application/json"), ("Accept", "text/event-stream")],
         "params": {"lastEventId": last_id}},
    ]  # fmt: skip
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        for spelling in spellings:
            headers = [*bearer.items(), *spelling.pop("headers", [])]
            answer = await http.get(JOB, headers=headers, **spelling)
            assert answer.status_code == 204, spelling

    socket = f"{edge.url}/ws/backtest/over"
    story = ["connection", "progress", "completed"]
    cookie = {"Cookie": f"token={alice}"}
    for options, subprotocol in (
        ({"additional_headers": bearer}, None),
        ({"additional_headers": cookie}, None),
        ({"additional_headers": cookie, "origin": edge.url}, None),
        ({"subprotocols": ["bearer", alice]}, "bearer"),
        ({"subprotocols": [alice]}, alice),
    ):
        assert await heard(socket, **options) == (story, 1000, subprotocol)
    assert await heard(f"{socket}?token={alice}") == (story, 1000, None)
    assert await heard(f"{socket}?token={alice}&lastEventId={last_id}") == ([], 1000, None)
    # A page of another site makes a browser send the cookie, too.
    with pytest.raises(InvalidStatus) as refused:
        await heard(socket, additional_headers=cookie, origin="https://other.example")
    assert refused.value.response.status_code == 403


async def test_a_message_that_kafka_does_not_take_is_refused_with_the_reason(world: World) -> None:
    await configure(world, {CHAT_MESSAGES.name: {"max.message.bytes": "2000"}})
    edge = await world.edge()
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:

        async def say(text: str) -> httpx.Response:
            return await http.post("/send-message", json={"user": "a", "message": text})

        async with asyncio.TaskGroup() as sending:
            large = sending.create_task(say("x" * 5_000))
            small = [sending.create_task(say(f"{number}")) for number in range(20)]
        assert {answer.result().status_code for answer in small} == {200}
        refused = large.result()
        assert (refused.status_code, refused.json()["reason"]) == (503, "refused")
        assert "larger than the topic's max.message.bytes" in refused.json()["detail"]
