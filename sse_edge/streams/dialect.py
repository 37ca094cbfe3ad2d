"""A dialect: how the clients of one system expect events to be rendered.

A dialect renders the edge's own events, such as the opening event, the heartbeat, a gap or an
error, and it wraps the rendered events of a channel. Windows, cursors and connections know no
dialect, so a new one is a new value of this class. This module is pure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sse_edge.frame import FRAME_BYTES_MAX, block
from sse_edge.log.record import Record


class UnknownWord(ValueError):
    """A dialect with a closed vocabulary has no event for a word; the message names the word."""


class Rendered(NamedTuple):
    """A record as the clients of a dialect see it."""

    event: str
    """The event's name, also for the `events=` filter."""
    data: Any
    """A value that JSON can hold, or a `Text`."""
    ends: bool = False
    """Whether it is the last event of its entity."""


class EventBlock(NamedTuple):
    """The content of a block: its event name, None for an unnamed event, and its data."""

    event: str | None
    data: object


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The client that the edge's own events are for."""

    client_id: str
    stream: str
    """The names of the channels, separated by commas."""
    entities: Sequence[str] = ()
    """The entities that it follows; all, if it is empty."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Functions that turn events into the content of blocks. Times are RFC 3339 text."""

    name: str
    wrap: Callable[[Rendered, str], EventBlock]
    """Wraps a rendered event, with its time in the log."""
    notice: Callable[[ClientInfo, str, Mapping[str, object], str], EventBlock]
    """Renders an event about the stream itself, such as a gap, an error or a conflation."""
    opening: Callable[[ClientInfo, str], EventBlock] | None = None
    """Renders the opening event; None if there is none, and `retry:` goes into the first event."""
    heartbeat: Callable[[ClientInfo, str], EventBlock] | None = None
    """Renders the heartbeat; None for a comment, which no client sees."""
    heartbeat_s: float | None = None
    """Seconds of silence before a heartbeat; None for the edge's setting."""
    lasts_s: float | None = None
    """Seconds that a stream stays open; None for no bound."""
    context: Callable[[Record, str], bytes] | None = None
    """Returns the JSON of members that each event's object has besides those that are rendered, for
    its record and the number of its part; None for none."""
    frame_bytes_max: int = FRAME_BYTES_MAX
    """The most bytes of a block without its id and context."""
    stays_open: bool = False
    """Whether a stream stays open after its last event, until its client closes it."""

    def open(self, client_info: ClientInfo, timestamp: str, retry_ms: int) -> bytes:
        """Return a stream's first bytes; without an opening event they are the start of a block."""
        if self.opening is None:
            return b"retry: %d\n" % retry_ms
        return block(*self.opening(client_info, timestamp), retry_ms=retry_ms)

    def beat(self, client_info: ClientInfo, timestamp: str) -> bytes:
        """Return the heartbeat of a silent connection."""
        # No blank line follows the comment: some clients take an empty block for an event.
        return b":\n" if self.heartbeat is None else block(*self.heartbeat(client_info, timestamp))
