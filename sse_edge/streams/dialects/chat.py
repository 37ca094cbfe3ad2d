"""The response dialect: named events with bare data, for chat rooms and user streams. Pure."""

import json
from collections.abc import Mapping

from schemas.events import ChatEvent, ChatEventKind, UserUpdate, UserUpdateKind
from schemas.instants import to_rfc3339
from sse_edge.frame import Text
from sse_edge.streams.dialect import ClientInfo, Dialect, EventBlock, Rendered, UnknownWord

_HEARTBEAT_S = 15.0
_CHAT_KINDS = frozenset(ChatEventKind)
_UPDATE_KINDS = frozenset(UserUpdateKind)


def chat_event(event: ChatEvent) -> Rendered:
    """Render a message; for a user that joins or leaves, only the name.

    Raises:
        UnknownWord: it is no event that clients know.
    """
    if event.kind not in _CHAT_KINDS:
        raise UnknownWord(f"{event.kind!r} is no event of a room")
    if event.kind != ChatEventKind.MESSAGE:
        return Rendered(event.kind, Text(event.user))
    data = {
        "user": event.user,
        "message": event.message,
        "timestamp": to_rfc3339(event.event_time_us),
    }
    return Rendered("message", data)


def user_update(event: UserUpdate) -> Rendered:
    """Render an update for a user; a fatal error ends the stream.

    Raises:
        UnknownWord: it is no update that clients know.
    """
    if event.kind not in _UPDATE_KINDS:
        raise UnknownWord(f"{event.kind!r} is no update of a user")
    return Rendered(
        event.kind, json.loads(event.data), ends=event.kind == UserUpdateKind.FATAL_ERROR
    )


def _bare(rendered: Rendered, _: str) -> EventBlock:
    return EventBlock(rendered.event, rendered.data)


def _notice(_: ClientInfo, event: str, data: Mapping[str, object], timestamp: str) -> EventBlock:
    return EventBlock(event, {**data, "timestamp": timestamp})


def _join(client_info: ClientInfo, _: str) -> EventBlock:
    return EventBlock("join", Text(client_info.client_id))


RESPONSE: Dialect = Dialect("response", wrap=_bare, notice=_notice, heartbeat_s=_HEARTBEAT_S)
CHAT: Dialect = Dialect(
    "response", wrap=_bare, notice=_notice, opening=_join, heartbeat_s=_HEARTBEAT_S
)
