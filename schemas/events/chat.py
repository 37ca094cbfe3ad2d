"""Chat rooms, and streams of single users."""

from dataclasses import dataclass

from schemas.bounds import EventJson, Name, ObservedUs, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatEvent:
    """A user joined a room, wrote a message in it, or left it."""

    room: Name
    kind: Name
    user: Name
    message: Text = ""
    event_time_us: ObservedUs


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdate:
    """An update for one user. `data` is JSON."""

    user_id: Name
    kind: Name
    data: EventJson
    event_time_us: ObservedUs
