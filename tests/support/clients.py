"""A client of a real edge, over real HTTP: what it reads, and where it stopped."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.sse import Block, Reader

_PATIENCE_S = 60.0


class StreamClient:
    """One open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.blocks: list[Block] = []
        self.reader = Reader()
        self._chunks = response.aiter_bytes()
        self.ended = False

    async def until(self, done: Callable[[list[Block]], bool]) -> list[Block]:
        """Read until the blocks so far are enough; the stream must not end before."""
        async with asyncio.timeout(_PATIENCE_S):
            while not done(self.blocks):
                assert not self.ended, f"the stream has ended: {self.blocks[-3:]}"
                await self.more()
        return self.blocks

    async def events(self, name: str, count: int) -> list[Block]:
        """Read until so many events of a name have come; these."""

        def named(blocks: list[Block]) -> list[Block]:
            return [block for block in blocks if block.event == name]

        await self.until(lambda blocks: len(named(blocks)) >= count)
        return named(self.blocks)

    async def to_event(self, *names: str) -> list[Block]:
        """Read until an event with one of the names has come; the stream stays open."""
        return await self.until(lambda blocks: any(block.event in names for block in blocks))

    async def to_end(self) -> list[Block]:
        """Read until the server ends the stream."""
        return await self.until(lambda _: self.ended)

    async def more(self) -> None:
        """Read one piece."""
        try:
            self.blocks += self.reader.feed(await anext(self._chunks))
        except StopAsyncIteration:
            self.ended = True

    @property
    def last_id(self) -> str:
        return next((block.id for block in reversed(self.blocks) if block.id), "")


@asynccontextmanager
async def stream(
    base: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    since: str | None = None,
    **params: Any,
) -> AsyncGenerator[StreamClient]:
    """Open a stream on an edge; `since` is the parameter `from`."""
    accept = {"Accept": "text/event-stream"}
    if since is not None:
        params["from"] = since
    async with (
        httpx.AsyncClient(base_url=base, timeout=httpx.Timeout(10.0, read=_PATIENCE_S)) as http,
        http.stream("GET", path, params=params, headers=accept | dict(headers or {})) as response,
    ):
        yield StreamClient(response)
