"""Chat rooms, and streams of single users."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEvent:
    """A user joined a room, wrote a message in it, or left it."""

    room: str
    kind: str
    user: str
    message: str = ""
    event_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdate:
    """An update for one user. `data` is JSON."""

    user_id: str
    kind: str
    data: str
    event_time_us: int
