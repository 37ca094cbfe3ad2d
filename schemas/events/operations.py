"""Events of the system itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRenewal:
    """A client sent a fresh token for an open stream. The stream's node then keeps it open."""

    challenge: str
    """The id of the challenge that asked the client for the token."""
    expires_us: int
    """When the token expires."""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record, or its part number `index`, that could not be applied, and the reason."""

    reason: str
    error: str
    topic: str
    partition: int
    offset: int
    index: int | None = None
    key: bytes | None = None
    value: bytes | None = None
    event_time_us: int

    @property
    def event_id(self) -> str:
        """The CloudEvents id, made of the record's topic, partition, offset and part."""
        part = "" if self.index is None else f"/{self.index}"
        return f"dead:{self.topic}/{self.partition}/{self.offset}{part}"
