"""A turnstile: lets many take turns, so that a crowd does not hold the loop.

Setting up one stream, or finishing a piece for one that catches up, takes about a millisecond. A
thousand of them in one round of the loop would be a second in which nobody else hears anything.
"""

import asyncio
from collections import deque

_REST = 8
"""Rounds of the loop between two turns of a crowd. They cost little where nobody else has anything
to do; and an event that comes from Kafka takes as many, from the socket to the tail."""


class FairQueue:
    """One goes through at a time, in the order of coming, and then the loop has some rounds."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turns = False

    async def slot(self) -> None:
        """Wait for one's turn; what is done until the next wait is one's turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if not self._turns:
            self._turns = True
            self._next(0)
        await mine

    def _next(self, rest: int) -> None:
        if rest > 0:
            asyncio.get_running_loop().call_soon(self._next, rest - 1)
            return
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                rest = _REST if self._waiting else 1
                asyncio.get_running_loop().call_soon(self._next, rest)
                return
        self._turns = False
