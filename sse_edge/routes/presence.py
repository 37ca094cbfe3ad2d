"""The clients in the chat rooms of this node: one that reconnects has neither left nor joined.

A client's `leave` is written some seconds after its last stream has ended, unless it is back by
then. Browsers reconnect by themselves after a few seconds, and a network that flickers would
otherwise fill the room with comings and goings.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sse_edge.log.record import Partition


class Presence(NamedTuple):
    """A client in a room."""

    tenant: str | None
    subject: str | None
    """The `sub` of its token; None without one."""
    room: str
    address: str
    """Its address if it gives itself no name; else empty."""
    name: str


class Joined(NamedTuple):
    """Where a client's `join` is in the log."""

    partition: Partition
    offset: int


class Presences:
    """The clients in the rooms of this node."""

    def __init__(self, leave_after_s: float, is_draining: Callable[[], bool]) -> None:
        """Start without clients.

        Args:
            leave_after_s: how long a client may be away.
            is_draining: whether this node ends its streams, so that nobody comes back to it.
        """
        self._leave_after_s = leave_after_s
        self._is_draining = is_draining
        self._streams: Counter[Presence] = Counter()
        self._away: dict[Presence, asyncio.Event] = {}
        """The clients without a stream that may still come back; the event is set when they do."""
        self.joined_at: dict[Presence, Joined] = {}
        """Where each client's `join` is in the log."""

    def find_away(self, unnamed: Presence) -> Presence | None:
        """Return a client that is away and could be one that gives itself no name."""
        return next((known for known in self._away if known[:-1] == unnamed[:-1]), None)

    def enter(self, presence: Presence) -> bool:
        """Count a stream of a client, and return whether the client was absent."""
        self._streams[presence] += 1
        back = self._away.pop(presence, None)
        if back is not None:
            back.set()
        return self._streams[presence] == 1 and back is None

    def forget(self, presence: Presence) -> None:
        """Count a stream less whose client could not be written into its room."""
        self._streams[presence] -= 1
        if self._streams[presence] <= 0:
            del self._streams[presence]

    async def leave(self, presence: Presence, write: Callable[[], Awaitable[None]]) -> None:
        """Count a stream less; if it was the client's last, write that it has left unless it comes.

        Args:
            presence: the client.
            write: writes that it has left.
        """
        self.forget(presence)
        if presence in self._streams:
            return
        back = self._away[presence] = asyncio.Event()
        try:
            async with asyncio.timeout(0 if self._is_draining() else self._leave_after_s):
                await back.wait()
        except TimeoutError:
            if self._away.get(presence) is back:
                del self._away[presence]
                await write()
                self.joined_at.pop(presence, None)
