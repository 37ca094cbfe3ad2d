"""A fair queue: many waiters take turns, so that a crowd does not block the loop.

Setting up a stream, or rendering a piece for one that catches up, takes about a millisecond. A
thousand of them in one iteration of the loop would delay every other event by a second.
"""

import asyncio
from collections import deque

_PAUSE = 8
"""Iterations of the loop between two turns of a crowd. They cost little if nothing else is to do,
and an event needs as many on its way from Kafka's socket to the tail."""


class FairQueue:
    """Lets one waiter pass at a time, in the order of arrival, with a pause between two."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_busy = False
        self._goes_on = False
        """Whether nobody has gone on in the last turn."""

    def goes_on(self) -> bool:
        """Return whether the last turn lasts for one more piece of work; once for each turn.

        The first events of a stream are written in the turn of its request, and so with its head.
        """
        goes_on, self._goes_on = self._goes_on, False
        return goes_on

    async def slot(self) -> None:
        """Wait for a turn; the turn lasts until the caller awaits something."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if not self._is_busy:
            self._is_busy = True
            self._next(0)
        await turn

    def _next(self, pause: int) -> None:
        if pause > 0:
            asyncio.get_running_loop().call_soon(self._next, pause - 1)
            return
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                self._goes_on = True
                pause = _PAUSE if self._waiting else 1
                asyncio.get_running_loop().call_soon(self._next, pause)
                return
        self._is_busy = False
