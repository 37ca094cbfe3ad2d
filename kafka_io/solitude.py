"""Lets the commands of one process run at once, but one that may end the process runs alone.

A process that dies takes all of its commands along, and only one of them is to blame.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Solitude:
    """Any number of running commands of a process, or one that is alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._running = 0
        self._is_alone = False
        self._waiting_alone = 0

    @asynccontextmanager
    async def entered(self, *, is_alone: bool) -> AsyncGenerator[None]:
        """Run in this context, beside others or alone.

        Those that are to be alone come first: there are few of them.

        Args:
            is_alone: whether to wait until nothing else runs, and to keep all others out.
        """
        async with self._changed:
            self._waiting_alone += is_alone
            try:
                await self._changed.wait_for(self._is_empty if is_alone else self._may_be_joined)
            finally:
                self._waiting_alone -= is_alone
                self._changed.notify_all()
            self._running += 1
            self._is_alone = is_alone
        try:
            yield
        finally:
            async with self._changed:
                self._running -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _is_empty(self) -> bool:
        return self._running == 0

    def _may_be_joined(self) -> bool:
        return not self._is_alone and self._waiting_alone == 0
