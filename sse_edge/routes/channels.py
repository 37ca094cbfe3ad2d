"""The channels, alone and several in one connection, who is connected, and fresh tokens."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from schemas.events import StreamRenewal
from schemas.instants import LATEST_US
from sse_edge.http import openapi as described
from sse_edge.errors import Forbidden, NoSuchThing
from sse_edge.delivery.node import Hub
from sse_edge.http.auth import OWNED_ID_CHARS, is_owned
from sse_edge.http.stream_response import answer, caller_of, event_names, stream_route, write
from sse_edge.streams.stream import MYSTOCKS_CHANNELS, many_channels, one_channel

routes = APIRouter(prefix="/api/v1/sse", tags=["streams"])


def _channel_endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def channel(request: Request) -> Response:
        return answer(request, one_channel(name, request.query_params, event_names(request)))

    return channel


for _name in MYSTOCKS_CHANNELS:
    stream_route(routes, f"/{_name}", f"The {_name} channel", described.of(_name))(
        _channel_endpoint(_name)
    )


@stream_route(routes, "/streams", "Several channels in one connection", described.of_many())
async def streams(
    request: Request,
    topic: Annotated[list[str] | None, Query(description="`NAME` or `NAME:ENTITY`")] = None,
) -> Response:
    """Each event says by `stream` which it is of; one id is the cursor of all."""
    return answer(request, many_channels(topic or (), event_names(request)))


@routes.get("/status", summary="Who is connected")
async def status(request: Request) -> dict[str, object]:
    """The connections of this process."""
    hub: Hub = request.app.state.hub
    return {
        "status": "draining" if hub.draining else "active",
        "total_connections": hub.connections,
        "channels": {
            name: {"connection_count": len(clients), "clients": list(clients)}
            for name, clients in hub.clients.items()
        },
    }


@routes.post("/renew/{challenge}", status_code=204, summary="Keep a stream with a fresh token")
async def renew(request: Request, challenge: str) -> None:
    """The token comes as tokens do, to any node; the one that asked hears of it from the log."""
    caller = caller_of(request)
    if len(challenge) != OWNED_ID_CHARS:
        raise NoSuchThing("no stream asks by this; POST to the url that `challenge` has told")
    if caller is None or not is_owned(challenge, caller):
        raise Forbidden("the token is somebody else's than the stream's")
    renewal = StreamRenewal(
        challenge=challenge,
        expires_us=min(int(caller.expires_s * 1e6), LATEST_US),
        event_time_us=time.time_ns() // 1000,
    )
    await write(request, renewal)
