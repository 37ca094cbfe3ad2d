"""Channels, alone or several in one connection; open connections; token renewal."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.routing import APIRoute

from kafka_io.clock import now_us
from schemas.events import StreamRenewal
from schemas.instants import LATEST_US
from sse_edge.caller import OWNED_ID_CHARS, Scope, is_owned
from sse_edge.errors import NoSuchThing
from sse_edge.http import openapi
from sse_edge.http.dependencies import caller_of, tenant_read_by
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import event_names, open_stream, stream_route, write
from sse_edge.routes.cluster import ClusterDep, NodeStatus, channel_totals, scope, summary
from sse_edge.streams.channels import CHANNELS
from sse_edge.streams.requests import many_channels, one_channel

router = APIRouter(prefix="/api/v1/sse", tags=["streams"])


def _channel_endpoint(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def channel(request: Request) -> Response:
        return open_stream(request, one_channel(name, request.query_params, event_names(request)))

    return channel


for _name in CHANNELS.mystocks:
    stream_route(router, f"/{_name}", f"Follow the {_name} channel", openapi.of(_name))(
        _channel_endpoint(_name)
    )


def plain_streams() -> list[APIRoute]:
    """Return the routes of single channels: their paths and endpoints have no parameters."""
    paths = {f"{router.prefix}/{name}" for name in CHANNELS.mystocks}
    return [route for route in router.routes if isinstance(route, APIRoute) and route.path in paths]


@stream_route(router, "/streams", "Follow several channels in one connection", openapi.of_many())
async def streams(
    request: Request,
    topic: Annotated[
        list[str] | None,
        Query(description="A channel, `NAME` or `NAME:ENTITY`; repeat it for several."),
    ] = None,
) -> Response:
    """The field `stream` names the channel and entity of an event; one id is the cursor of all."""
    return open_stream(request, many_channels(topic or (), event_names(request)))


@router.get("/channels", summary="List the channels")
async def channels() -> list[dict[str, object]]:
    """Each channel with the names of its events, and the parameter that selects one entity."""
    return [
        {
            "channel": name,
            "events": sorted(CHANNELS[name].events),
            "entity_parameter": CHANNELS[name].entity_parameters[0],
        }
        for name in CHANNELS.mystocks
    ]


@router.get("/status", summary="List open connections of all nodes")
async def status(request: Request, cluster: ClusterDep) -> dict[str, object]:
    """Return the connections of the cluster by channel, its nodes, and this process as `node`.

    A caller with a token sees the connections of its own tenant only.

    Figures of other nodes are some seconds old, and name at most 100 clients of a channel. Where
    only this process is known, `scope` is `node`, and `note` says why.
    """
    members = await cluster.members(tenant_read_by(request))
    own, nodes = members.nodes[0], members.nodes
    is_active = any(node.status == NodeStatus.ACTIVE for node in nodes)
    return {
        "status": NodeStatus.ACTIVE if is_active else NodeStatus.DRAINING,
        "total_connections": sum(node.connections for node in nodes),
        "channels": channel_totals(nodes),
        **scope(members),
        "nodes": [summary(node) for node in nodes],
        "node": summary(own) | {"channels": channel_totals([own])},
    }


@router.post(
    "/renew/{challenge}",
    status_code=204,
    dependencies=[require(Scope.READ)],
    summary="Renew the token of a stream",
)
async def renew(
    request: Request,
    challenge: Annotated[str, Path(description="The id in the `url` of the event `challenge`.")],
) -> None:
    """Send a fresh token to any node; the node that serves the stream reads it from the log."""
    caller = caller_of(request)
    if caller is None or len(challenge) != OWNED_ID_CHARS or not is_owned(challenge, caller):
        raise NoSuchThing("there is no such challenge; POST to the `url` of the event `challenge`")
    renewal = StreamRenewal(
        challenge=challenge,
        expires_us=min(int(caller.expires_s * 1e6), LATEST_US),
        event_time_us=now_us(),
    )
    await write(request, renewal)
