"""A dialect: how one system's clients expect the same events to be worded.

Pure. A dialect words what the edge itself has to say: the opening event, the heartbeat, a gap, an
error; and it wraps what a channel makes of an event. Windows, cursors and connections know none
of them: adding one is adding a value of this class.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sse_edge.frame import block


class Rendered(NamedTuple):
    """An event of the catalogue as clients of a dialect see it."""

    event: str
    """Its name, for the `events=` filter, too."""
    data: Any
    """A JSON-able value, or a `Text`."""
    ends: bool = False
    """Whether it is the last of its entity's story."""


class EventBlock(NamedTuple):
    """A block's event name, or None for an unnamed one, and its data."""

    event: str | None
    data: object


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Whom the edge speaks to."""

    client_id: str
    stream: str
    """The channels' names."""
    entities: Sequence[str] = ()
    """Whose events it follows; everybody's, where it is empty."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How events and the edge's own words become blocks. Times are RFC 3339 texts."""

    name: str
    wrap: Callable[[Rendered, str], EventBlock]
    """An event, and its time in the log."""
    notice: Callable[[ClientInfo, str, Mapping[str, object], str], EventBlock]
    """What the edge says of the stream itself: a gap, an error, events that were left out."""
    opening: Callable[[ClientInfo, str], EventBlock] | None = None
    """The opening event; None where there is none, and `retry:` goes into the first event."""
    heartbeat: Callable[[ClientInfo, str], EventBlock] | None = None
    """What is said in silence; None for a comment, which no client sees."""
    heartbeat_s: float | None = None
    """Silence after which that is said; None for the setting."""
    lasts_s: float | None = None
    """How long a stream is kept open; None for as long as the client likes."""

    def open(self, client_info: ClientInfo, timestamp: str, retry_ms: int) -> bytes:
        """The first bytes; they end in the middle of a block where there is no opening event."""
        if self.opening is None:
            return b"retry: %d\n" % retry_ms
        return block(*self.opening(client_info, timestamp), retry_ms=retry_ms)

    def beat(self, client_info: ClientInfo, timestamp: str) -> bytes:
        """What keeps a silent connection alive."""
        # A comment has no blank line after it: some clients take an empty block for an event.
        return b":\n" if self.heartbeat is None else block(*self.heartbeat(client_info, timestamp))
