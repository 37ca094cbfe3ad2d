"""The transport: one client's socket, as far as a connection needs it.

Writing never waits. Bytes that the socket does not accept are buffered, and the transport is
paused; a connection writes nothing more until it is drained. So a slow client costs the rest of one
write, and nothing else.
"""

from typing import Protocol


class Chunk:
    """Bytes for many clients, put into HTTP's chunked encoding once."""

    __slots__ = ("_framed", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._framed: bytes | None = None

    @property
    def framed(self) -> bytes:
        """The bytes in HTTP's chunked encoding."""
        if self._framed is None:
            self._framed = b"%x\r\n%b\r\n" % (len(self.data), self.data)
        return self._framed


class Transport(Protocol):
    """A client's socket, with a response begun on it."""

    is_paused: bool
    """Whether written bytes still wait for the client to read."""

    def write(self, chunk: Chunk) -> None:
        """Write whole blocks."""
        ...

    async def drained(self) -> None:
        """Wait until the transport is not paused."""
        ...

    def end(self, within_s: float) -> None:
        """End the response, and close the socket at the latest after `within_s`."""
        ...
