"""A turnstile: lets many take turns, so that a crowd does not hold the loop.

Setting up one stream, or finishing a piece for one that catches up, takes about a millisecond. A
thousand of them in one round of the loop would be a second in which nobody else hears anything.
"""

import asyncio
from collections import deque


class Turnstile:
    """One goes through in each round of the loop, in the order of coming."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turns = False

    async def turn(self) -> None:
        """Wait for one's turn; what is done until the next wait is one's turn."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        if not self._turns:
            self._turns = True
            self._next()
        await mine

    def _next(self) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._turns = False
