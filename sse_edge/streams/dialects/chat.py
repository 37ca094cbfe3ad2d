"""The response dialect: named events with bare data, as chat rooms and users' own streams have it.

Pure.
"""

import json
from collections.abc import Mapping

from schemas.events import ChatEvent, UserUpdate
from schemas.instants import to_rfc3339
from sse_edge.frame import Text
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered

CHAT_EVENTS = frozenset({"join", "message", "leave"})
USER_EVENTS = frozenset({"update", "error", "fatal_error"})

_HEARTBEAT_S = 15.0


def chat_event(event: ChatEvent) -> Rendered:
    """Somebody's words; of one who joins or leaves, the name alone."""
    if event.kind != "message":
        return Rendered(event.kind, Text(event.user))
    said = {
        "user": event.user,
        "message": event.message,
        "timestamp": to_rfc3339(event.event_time_us),
    }
    return Rendered("message", said)


def user_update(event: UserUpdate) -> Rendered:
    """What a user is to see; after a fatal error there is no more."""
    return Rendered(event.kind, json.loads(event.data), ends=event.kind == "fatal_error")


def _bare(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(rendered.event, rendered.data)


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(event, {**data, "timestamp": timestamp})


def _join(client_info: ClientInfo, _: str) -> EventBlock:
    return EventBlock("join", Text(client_info.client_id))


RESPONSE = Dialect("response", wrap=_bare, notice=_notice, heartbeat_s=_HEARTBEAT_S)
CHAT = Dialect("response", wrap=_bare, notice=_notice, opening=_join, heartbeat_s=_HEARTBEAT_S)
