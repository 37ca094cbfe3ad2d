"""The wire: one client's socket, as far as a connection needs it.

Writing never waits. What the socket does not take is kept for it, and it is said to be full; a
connection that sees this writes nothing more until there is room, so that a slow client costs what
one write left over, and nothing else.
"""

from typing import Protocol


class Chunk:
    """Bytes that many clients get, put into HTTP's chunked encoding once."""

    __slots__ = ("data", "framed")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.framed = b"%x\r\n%b\r\n" % (len(data), data)


class Transport(Protocol):
    """A client's socket, with a response begun on it."""

    is_paused: bool
    """Whether what was written is still waiting for the client to read."""

    def write(self, chunk: Chunk) -> None:
        """Hand whole blocks over."""
        ...

    async def drained(self) -> None:
        """Wait until it is not full."""
        ...

    def end(self, within_s: float) -> None:
        """End the response and the connection; what is not read by then will not be."""
        ...
