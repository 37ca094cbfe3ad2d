"""The options of a connection, beside the stream itself."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum

from opentelemetry.trace import Span

from sse_edge.caller import Caller
from sse_edge.delivery.start import Start


class SlowClientPolicy(StrEnum):
    """How to treat a client that does not read the bytes that wait for it."""

    PAUSE = "pause"
    """It keeps its position, and gets everything once it reads again."""
    CONFLATE = "conflate"
    """It gets the newest event of each key once it reads again."""
    CLOSE = "close"
    """Its stream is closed after `slow_close_s`; the client can resume at its cursor."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """The choices that a request makes for its connection."""

    client_id: str
    start: Start
    close_on_gap: bool = False
    named_checkpoints: bool = False
    slow: SlowClientPolicy = SlowClientPolicy.PAUSE
    gzip: bool = False
    stays_open_s: float = 0.0
    """Seconds that the connection stays open after its stream's last event."""
    prelude: bytes = b""
    """Blocks without ids, written after the opening event."""
    caller: Caller | None = None
    """The owner of the request's token; None without a token."""
    heartbeat_s: float | None = None
    """The seconds of silence before a heartbeat; None for those of the dialect."""
    opening: AbstractContextManager[Span | None] = field(default_factory=nullcontext)
    """The span in which the stream opens; a context without one where nothing is traced."""
