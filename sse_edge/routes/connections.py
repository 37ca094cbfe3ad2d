"""Open connections of one node: who is connected, since when and how far behind; one can be closed.

A node knows its own connections; `/api/v1/sse/status` names the nodes of the cluster. Tokens need
the scope `admin`, and each tenant sees and closes its own connections. A closed stream ends between
two events, and the client comes back at its cursor. Each closing is in the log.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from kafka_io.clock import now_us
from schemas.events import OperatorAction, OperatorActionKind
from schemas.instants import to_rfc3339
from sse_edge.caller import Scope
from sse_edge.delivery.node import OpenSession
from sse_edge.errors import NoSuchThing
from sse_edge.http.dependencies import NodeDep, caller_of, tenant_read_by
from sse_edge.http.scopes import require
from sse_edge.http.stream_response import write
from sse_edge.routes.cluster import Cluster, ClusterDep

router = APIRouter(prefix="/api/v1", tags=["streams"])

_ID_CHARS_MAX = 100

Limit = Annotated[int, Query(ge=1, le=1_000, description="The most connections.")]
After = Annotated[
    int, Query(ge=0, le=1 << 53, description="The `number` after which to go on; 0 for the oldest.")
]
ConnectionId = Annotated[
    str, Path(max_length=_ID_CHARS_MAX, description="The `id` of a connection in the list.")
]


@router.get(
    "/connections",
    dependencies=[require(Scope.ADMIN)],
    summary="List the open connections of this node, the oldest first",
)
async def connections(
    request: Request, node: NodeDep, cluster: ClusterDep, limit: Limit = 100, after: After = 0
) -> dict[str, object]:
    """`behind` is the number of records between a stream that catches up and the end of the log.

    `total` counts all connections of the caller's tenant; `node_id` is the node that answers.
    """
    found = node.open_sessions(tenant_read_by(request))
    return {
        "node_id": cluster.node_id,
        "total": len(found),
        "connections": [_described(opened, cluster) for opened in found if opened.number > after][
            :limit
        ],
    }


@router.delete(
    "/connections/{connection_id}",
    dependencies=[require(Scope.ADMIN)],
    summary="Close a connection of this node",
)
async def close(
    request: Request, node: NodeDep, cluster: ClusterDep, connection_id: ConnectionId
) -> dict[str, object]:
    """End a stream between two events, after the log has who did it.

    Another node answers 404: send it to the one that lists the connection.
    """
    of_tenant = node.open_sessions(tenant_read_by(request))
    for opened in of_tenant:
        if _id_of(opened, cluster) == connection_id:
            caller = caller_of(request)
            action = OperatorAction(
                action=OperatorActionKind.CLOSE_CONNECTION,
                subject=connection_id,
                by=None if caller is None else caller.subject,
                comment=opened.session.client_id,
                event_time_us=now_us(),
            )
            await write(request, action)
            opened.session.leave()
            return {"closed": _described(opened, cluster)}
    raise NoSuchThing(f"this node has no such connection: {connection_id!r}")


def _id_of(opened: OpenSession, cluster: Cluster) -> str:
    return f"{cluster.node_id}.{opened.number}"


def _described(opened: OpenSession, cluster: Cluster) -> dict[str, object]:
    session = opened.session
    return {
        "id": _id_of(opened, cluster),
        "number": opened.number,
        "client_id": session.client_id,
        "channels": [source.channel.name for source in session.stream.selections],
        "address": session.address,
        "tenant": session.tenant or None,
        "since": to_rfc3339(opened.since_us),
        "behind": opened.behind,
        "paused": opened.is_paused,
    }
