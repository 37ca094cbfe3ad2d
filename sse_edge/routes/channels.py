"""The channels, alone and several in one connection, who is connected, and fresh tokens."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from kafka_io.clock import now_us
from schemas.events import StreamRenewal
from schemas.instants import LATEST_US
from sse_edge.caller import OWNED_ID_CHARS, is_owned
from sse_edge.delivery.node import Node
from sse_edge.errors import Forbidden, NoSuchThing
from sse_edge.http import openapi
from sse_edge.http.stream_response import caller_of, event_names, open_stream, stream_route, write
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import many_channels, one_channel

router = APIRouter(prefix="/api/v1/sse", tags=["streams"])


def _channel_endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def channel(request: Request) -> Response:
        return open_stream(request, one_channel(name, request.query_params, event_names(request)))

    return channel


for _name in CHANNELS.mystocks:
    stream_route(router, f"/{_name}", f"The {_name} channel", openapi.of(_name))(
        _channel_endpoint(_name)
    )


@stream_route(router, "/streams", "Several channels in one connection", openapi.of_many())
async def streams(
    request: Request,
    topic: Annotated[list[str] | None, Query(description="`NAME` or `NAME:ENTITY`")] = None,
) -> Response:
    """Each event says by `stream` which it is of; one id is the cursor of all."""
    return open_stream(request, many_channels(topic or (), event_names(request)))


@router.get("/status", summary="Who is connected")
async def status(request: Request) -> dict[str, object]:
    """The connections of this process."""
    node: Node = request.app.state.node
    return {
        "status": "draining" if node.draining else "active",
        "total_connections": node.connections,
        "channels": {
            name: {"connection_count": len(clients), "clients": list(clients)}
            for name, clients in node.clients.items()
        },
    }


@router.post("/renew/{challenge}", status_code=204, summary="Keep a stream with a fresh token")
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
        event_time_us=now_us(),
    )
    await write(request, renewal)
