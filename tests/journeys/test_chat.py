"""Chat rooms and users' own streams, over two edges and a real log."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.async_api import async_playwright

from producers.broadcaster import SSEBroadcaster
from tests.conftest import Started, World
from tests.support.clients import stream
from tests.support.sse import Block

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def say(edge: Started, message: str, **more: str) -> None:
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as client:
        body = {"user": "alice", "message": message} | more
        answer = await client.post("/send-message", json=body)
    assert (answer.status_code, answer.json()) == (200, {"status": "sent"})


def heard(blocks: list[Block]) -> list[tuple[str | None, Any]]:
    """Return the messages, and the names in `join` and `leave`."""
    return [
        (block.event, block.json["message"] if block.event == "message" else block.data)
        for block in blocks
        if block.event
    ]


def saw(*what: tuple[str, str]) -> Callable[[list[Block]], bool]:
    return lambda blocks: all(item in heard(blocks) for item in what)


def is_placed(blocks: list[Block]) -> bool:
    """Whether the stream has sent the cursor of its beginning."""
    return any(block.id for block in blocks)


async def test_a_room_is_one_room_on_two_edges(world: World) -> None:
    first, second = await world.edge(), await world.edge()
    for number in range(12):
        await say(first, f"before {number}")
    await say(first, "elsewhere", room="other")
    async with stream(first.url, "/chat-stream", user="bob") as bob:
        await bob.until(saw(("message", "before 11")))
        async with stream(second.url, "/chat-stream", user="carol") as carol:
            await carol.until(saw(("message", "before 11")))
            await say(second, "hello\r\n\u2028")
            for client in (bob, carol):
                await client.until(saw(("message", "hello\r\n\u2028")))
        await bob.until(saw(("leave", "carol")))
        last_id = bob.last_id
    await say(second, "while bob is away")
    headers = {"Last-Event-ID": last_id}
    async with stream(second.url, "/chat-stream", headers=headers, user="bob") as again:
        await again.until(lambda blocks: heard(blocks).count(("join", "bob")) == 2)

    history = [("message", f"before {number}") for number in range(2, 12)]
    live = [("join", "carol"), ("message", "hello\r\n\u2028"), ("leave", "carol")]
    assert heard(bob.blocks) == [("join", "bob"), *history, *live]
    assert heard(carol.blocks) == [("join", "carol"), *history, live[1]]
    # The other node cannot know that he was there; the first one sees that he is back.
    assert heard(again.blocks) == [
        *[("join", "bob"), ("message", "while bob is away"), ("join", "bob")]
    ]


@pytest.mark.parametrize("query", ["?user=bob", ""])
async def test_a_client_that_is_back_at_once_has_neither_left_nor_joined(
    world: World, query: str
) -> None:
    edge = await world.edge(retry_ms=1_000, writes_per_minute_max=2)
    async with stream(edge.url, "/chat-stream", user="watcher") as watcher:
        await watcher.until(is_placed)
        async with stream(edge.url, f"/chat-stream{query}") as client:
            await client.until(is_placed)
            last_id = {"Last-Event-ID": client.last_id}
        for _ in range(5):
            async with stream(edge.url, f"/chat-stream{query}", headers=last_id) as client:
                await client.until(bool)
        await watcher.events("leave", 1)
    assert [name for name, _ in heard(watcher.blocks)] == ["join", "join", "leave"]


async def test_joining_is_a_write_and_under_the_limit_of_writes(world: World) -> None:
    edge = await world.edge(writes_per_minute_max=3)
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:

        async def join(user: str) -> int:
            async with http.stream("GET", "/chat-stream", params={"user": user}) as response:
                return response.status_code

        # The limit is for a minute, so a slow machine writes more than three times. An edge that
        # cannot write at the moment answers 503, which is no write.
        statuses: list[int] = []
        while statuses[-1:] != [429] and len(statuses) < 30:
            statuses.append(await join(f"user {len(statuses)}"))
        taken = [status for status in statuses if status != 503]
        assert len(taken) > 3
        assert taken == [*[200] * (len(taken) - 1), 429]
        assert (await http.head("/chat-stream")).status_code == 200


async def test_a_browser_chats(world: World, chromium: str) -> None:
    edge = await world.edge()
    await say(edge, "first")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{edge.url}/health/live")
        lines = await page.evaluate(
            """() => new Promise(done => {
                const lines = [];
                const add = (text) => { lines.push(text); if (lines.length === 3) done(lines); };
                const chatSource = new EventSource('/chat-stream');
                chatSource.addEventListener('join', event => add(`${event.data} joined`));
                chatSource.addEventListener('message', event => {
                    const msg = JSON.parse(event.data);
                    add(`${msg.user}: ${msg.message}`);
                    if (msg.message === 'first') {
                        const body = JSON.stringify({user: 'dave', message: 'second'});
                        const headers = {'Content-Type': 'application/json'};
                        fetch('/send-message', {method: 'POST', headers, body});
                    }
                });
            })"""
        )
        await browser.close()
    assert lines[0].startswith("User-")
    assert lines[1:] == ["alice: first", "dave: second"]


async def test_a_user_sees_their_own_and_a_fatal_error_is_the_end(world: World) -> None:
    first, second = await world.edge(), await world.edge()
    async with (
        SSEBroadcaster(world.producer_settings) as reporter,
        stream(first.url, "/user-specific-stream/7") as seven,
    ):
        await seven.until(is_placed)
        await reporter.send_user_update("7", {"id": 1, "text": "yours"})
        await reporter.send_user_update("8", {"id": 2, "text": "not yours"})
        await reporter.send_user_update("7", {"error": "a moment"}, "error")
        await seven.events("error", 1)
        # The rest comes on the other edge.
        headers = {"Last-Event-ID": seven.last_id}
        async with stream(second.url, "/user-specific-stream/7", headers=headers) as again:
            await reporter.send_user_update("7", ["any", "value"])
            await reporter.send_user_update("7", {"error": "gone"}, "fatal_error")
            await again.to_end()
    events = [(item.event, item.json) for item in (*seven.blocks, *again.blocks) if item.event]
    assert events == [
        ("update", {"id": 1, "text": "yours"}),
        ("error", {"error": "a moment"}),
        ("update", ["any", "value"]),
        ("fatal_error", {"error": "gone"}),
    ]


async def test_the_small_metrics_count(world: World) -> None:
    edge = await world.edge()
    async with (
        httpx.AsyncClient(base_url=edge.url, timeout=30) as http,
        stream(edge.url, "/chat-stream", user="eve") as eve,
    ):
        await eve.until(is_placed)
        await say(edge, "counted")
        await eve.events("message", 1)
        found = (await http.get("/sse-metrics")).json()
        own = {"active_connections": 1, "total_events_sent": 1, "errors": 0}
        assert found == own | {"scope": "cluster", "node": own}
        refused = await http.get("/chat-stream", params={"room": ""})
        assert (refused.status_code, "room" in refused.text) == (400, True)
        refused = await http.get("/chat-stream", headers={"Last-Event-ID": "nonsense"})
        assert refused.status_code == 400
        assert (await http.get("/sse-metrics")).json()["errors"] == 2
