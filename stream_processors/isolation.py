"""Isolation: one task of a process handles a message while no other one handles any."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Isolation:
    """The tasks of a process that handle messages, side by side or alone."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._sharing = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    @asynccontextmanager
    async def shared(self) -> AsyncGenerator[None]:
        """Handle messages beside other tasks, when none is alone."""
        while not self._is_open.is_set():
            await self._is_open.wait()
        self._sharing += 1
        self._is_empty.clear()
        try:
            yield
        finally:
            self._sharing -= 1
            if not self._sharing:
                self._is_empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[None]:
        """Handle messages when no other task does."""
        async with self._lock:
            self._is_open.clear()
            try:
                await self._is_empty.wait()
                yield
            finally:
                self._is_open.set()
            await asyncio.sleep(0)  # lets the tasks that share go on before the next one is alone
