"""Clients of the response dialect: servers built on `SSEResponse`, their clients, and chat."""

import asyncio
import socket
import sys
import types
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser

from infra.embedded_broker import free_port
from sse_edge.http.sse_response import SSEResponse
from tests.seeds.conftest import Open, System
from tests.seeds.snippets import CLIENTS, SERVER, Documents, Snippets

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="session"),
]


class AnnouncedServer(uvicorn.Server):
    """A server that sets an event when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind the port, then set the event."""
        await super().startup(sockets)
        self.has_started.set()


@asynccontextmanager
async def serving(snippets: Snippets, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """Run the server that the clients are for, with this project's `SSEResponse`; its address."""
    names: dict[str, Any] = {"Velithon": FastAPI, "SSEResponse": SSEResponse}
    for name in ("velithon", "velithon.responses"):
        module = types.ModuleType(name)
        module.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, module)
    if isinstance(snippets, Documents):
        text = "\n".join(snippets.block(place) for place in SERVER)
    else:
        text = (CLIENTS / "response" / "server.py").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(compile(text, "server", "exec"), namespace)  # noqa: S102  # the program under test
    port = free_port()
    config = uvicorn.Config(namespace["app"], port=port, log_config=None, lifespan="off")
    server = AnnouncedServer(config)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve())
        await server.has_started.wait()
        yield f"http://127.0.0.1:{port}"
        server.force_exit = server.should_exit = True
        with suppress(asyncio.CancelledError):
            await running


async def test_pages_show_what_a_server_yields(
    snippets: Snippets, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(snippets, monkeypatch) as url:
        context = await browser.new_context()
        logged: list[str] = []
        counter, structured = await context.new_page(), await context.new_page()
        structured.on("console", lambda message: logged.append(f"{message.type}: {message.text}"))
        for page, file in ((counter, "counter.js"), (structured, "structured.js")):
            text = snippets.text(f"response/{file}")
            await page.goto(f"{url}/openapi.json")  # any page of this origin
            await page.set_content(f"<p id=output></p><script>{text}</script>")
        await counter.wait_for_selector("text=Count: 2", timeout=60_000)
        async with asyncio.timeout(60):
            while not any("completed" in message for message in logged):
                await structured.wait_for_event("console", timeout=60_000)
        assert any("Welcome" in message for message in logged)
        assert any("Progress: 100%" in message for message in logged)
        assert [message for message in logged if message.startswith("error")] == []
        await context.close()


async def test_programs_read_what_a_server_yields(
    snippets: Snippets, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(snippets, monkeypatch) as url:
        # httpx has removed the argument `app`, and reads the response of an app only as a whole.
        shim = types.ModuleType("httpx")
        shim.__dict__["AsyncClient"] = lambda **_: httpx.AsyncClient(base_url=url)
        monkeypatch.setitem(sys.modules, "httpx", shim)
        names: dict[str, Any] = {"app": None}
        for file in ("client_httpx.py", "client_aiohttp.py"):
            text = snippets.text(f"response/{file}", url)
            exec(compile(text, file, "exec"), names)  # noqa: S102  # the program under test
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(names["test_sse_endpoint"]())
            tasks.create_task(names["test_sse_integration"]())


async def test_a_page_shows_a_chat(system: System, snippets: Snippets, open_page: Open) -> None:
    html = "<div id=messages></div>"
    script = snippets.text("response/chat.js")
    first = await open_page(script, html)
    await first.page.wait_for_selector("text=joined the chat", timeout=60_000)
    answer = await system.call("POST", "/send-message", {"user": "ann", "message": "hello"})
    assert answer == {"status": "sent"}
    await first.page.wait_for_selector("text=ann: hello", timeout=60_000)
    second = await open_page(script, html)
    await second.page.wait_for_selector("text=ann: hello", timeout=60_000)
    await second.page.context.close()
    await first.page.wait_for_selector("text=left the chat", timeout=60_000)
