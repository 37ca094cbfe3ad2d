"""Each of the ten example streams, in virtual time; and all of them from an edge."""

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.conftest import World
from tests.support.clients import stream
from tests.support.sse import Block, Reader

FOLDER = Path(__file__).parents[2] / "examples" / "sse-response"
NAME = "sse_response_examples"

in_virtual_time = pytest.mark.virtual_time


@pytest.fixture(scope="module")
def examples() -> Generator[ModuleType]:
    spec = importlib.util.spec_from_file_location(NAME, FOLDER / f"{NAME}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[NAME]


class Visit:
    """A client of one stream of the example application."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.blocks: list[Block] = []
        self.reader = Reader()
        self.ended = False
        self._gone = asyncio.Event()
        self._news = asyncio.Event()

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): text.decode() for name, text in message["headers"]}
        elif self.headers["content-type"] == "text/event-stream":
            self.blocks += self.reader.feed(message["body"])
            self.ended = not message.get("more_body")
        self._news.set()

    async def until(self, count: int) -> list[Block]:
        """Wait for so many blocks, or for the end; return the first of them."""
        async with asyncio.timeout(10_000):
            while len(self.blocks) < count and not self.ended:
                self._news.clear()
                await self._news.wait()
        return self.blocks[:count]

    async def answered(self) -> int:
        while not self.status:
            self._news.clear()
            await self._news.wait()
        return self.status


@asynccontextmanager
async def visit(
    examples: ModuleType, path: str, *, address: str = "10.0.0.1", token: str | None = None
) -> AsyncGenerator[Visit]:
    """Open a stream, and leave it after the context."""
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": (address, 1),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("testserver", 80),
    }
    visitor = Visit()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(examples.app(scope, visitor._receive, visitor._send))
        yield visitor
        visitor._gone.set()
        await asyncio.wait([serving])


def kinds(blocks: list[Block]) -> list[str | None]:
    return [block.event for block in blocks]


@in_virtual_time
async def test_a_counter_is_text(examples: ModuleType) -> None:
    async with visit(examples, "/live-counter") as visitor:
        blocks = await visitor.until(11)
    assert visitor.headers["content-type"] == "text/event-stream"
    assert [block.data for block in blocks] == [f"Count: {number}" for number in range(10)]
    assert set(kinds(blocks)) == {None}


@in_virtual_time
async def test_readings_are_json(examples: ModuleType) -> None:
    async with visit(examples, "/live-data") as visitor:
        blocks = await visitor.until(21)
    assert len(blocks) == 20
    assert all(set(block.json) == {"temperature", "humidity", "timestamp"} for block in blocks)


@in_virtual_time
async def test_whole_events_have_names_ids_and_a_time_to_reconnect(examples: ModuleType) -> None:
    async with visit(examples, "/structured-events") as visitor:
        blocks = await visitor.until(8)
    assert kinds(blocks) == ["welcome", *["status"] * 5, "complete"]
    assert [block.id for block in blocks[::6]] == ["welcome-1", "final"]
    assert [block.json["progress"] for block in blocks[1:6]] == [20, 40, 60, 80, 100]
    assert {block.retry_ms for block in blocks[1:6]} == {3000}


@in_virtual_time
async def test_a_long_stream_goes_on_over_its_pauses(examples: ModuleType) -> None:
    async with visit(examples, "/long-stream") as visitor:
        blocks = await visitor.until(21)
    assert [block.id for block in blocks] == [str(number) for number in range(20)]
    assert blocks[3].data == "Update 3"


@in_virtual_time
async def test_a_source_that_fails_for_a_moment_sends_an_error_and_goes_on(
    examples: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples, "ERROR_RATE", 0.3)
    async with visit(examples, "/resilient-stream") as visitor:
        blocks = await visitor.until(101)
    assert len(blocks) == 100
    assert set(kinds(blocks)) == {"data", "error"}
    for number, block in enumerate(blocks):
        if block.event == "data":
            assert block.json == {"value": number, "status": "ok"}
        else:
            assert block.json == {"error": "Temporary data unavailable"}


@in_virtual_time
async def test_a_source_that_breaks_ends_the_stream_with_a_fatal_error(
    examples: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(examples, "reading", broken)
    async with visit(examples, "/resilient-stream") as visitor:
        (error,) = await visitor.until(2)
    assert error.event == "fatal_error"
    assert "secret" not in error.raw.decode()


@in_virtual_time
async def test_a_large_data_set_comes_page_by_page(examples: ModuleType) -> None:
    async with visit(examples, "/memory-efficient-stream") as visitor:
        blocks = await visitor.until(1_001)
    assert [block.id for block in blocks] == [str(number) for number in range(1_000)]
    assert blocks[9].json == {"id": "9", "square": 81}


@in_virtual_time
async def test_a_managed_stream_is_ended_by_the_server_and_cleans_up(examples: ModuleType) -> None:
    async with (
        visit(examples, "/managed-stream") as first,
        visit(examples, "/managed-stream") as two,
    ):
        connection_id = (await first.until(3))[0].json["connection_id"]
        await two.until(2)
        assert len(examples.active_connections) == 2
        examples.active_connections.discard(connection_id)
        await first.until(1_000)
        assert first.ended
    assert kinds(first.blocks)[:2] == ["connected", "data"]
    assert not two.ended
    assert examples.active_connections == set()


@in_virtual_time
async def test_an_address_holds_five_rate_limited_streams(examples: ModuleType) -> None:
    path = "/rate-limited-stream"
    opened = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):

            async def follow() -> None:
                async with visit(examples, path) as visitor:
                    await visitor.until(1)
                    opened.release()
                    assert (await visitor.until(4))[0].data == "Data: 0"

            tasks.create_task(follow())
        for _ in range(5):
            await opened.acquire()
        async with visit(examples, path) as sixth, visit(examples, path, address="::2") as other:
            assert await sixth.answered() == 429
            assert sixth.headers["retry-after"] == "30"
            assert await other.answered() == 200
    async with visit(examples, path) as again:
        assert await again.answered() == 200
    assert not examples.open_streams


@in_virtual_time
async def test_protected_data_needs_a_token(examples: ModuleType) -> None:
    path = "/authenticated-stream"
    for token in (None, "guess"):
        async with visit(examples, path, token=token) as refused:
            assert await refused.answered() == 401
            assert refused.headers["www-authenticate"] == "Bearer"
    async with visit(examples, path, token=examples.TOKEN) as visitor:
        blocks = await visitor.until(3)
    assert (blocks[0].event, blocks[0].data) == ("auth", "Authenticated stream")
    assert [block.json for block in blocks[1:]] == [{"protected": 0}, {"protected": 1}]


@in_virtual_time
async def test_a_monitored_stream_sends_a_hundred_events(examples: ModuleType) -> None:
    async with visit(examples, "/monitored-stream") as visitor:
        blocks = await visitor.until(101)
    assert [block.data for block in blocks] == [f"Event {number}" for number in range(100)]


@pytest.mark.kafka
@pytest.mark.timeout(120)
async def test_an_edge_serves_all_of_them_and_counts_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    edge = await world.edge(routers=f"{NAME}:router")
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
        found = {
            path for path, how in paths.items() if "examples" in how.get("get", {}).get("tags", ())
        }
        assert len(found) == 10
        assert (await http.get("/authenticated-stream")).status_code == 401
        async with stream(edge.url, "/monitored-stream") as client:
            await client.until(lambda blocks: len(blocks) >= 2)
            assert client.response.headers["content-type"] == "text/event-stream"
            metrics = (await http.get("/sse-metrics")).json()
        assert metrics["active_connections"] == 1
        assert metrics["total_events_sent"] >= 2
