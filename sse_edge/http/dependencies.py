"""The parts of the application, as typed dependencies of endpoints.

The application keeps its parts in `app.state`. The dependencies here read those of this layer and
below; parts that belong to the routes are read in the route's own module.
"""

from collections.abc import Sequence
from typing import Annotated, cast

from fastapi import Depends
from pydantic import BeforeValidator
from starlette.requests import HTTPConnection

from kafka_io.publisher import Publisher
from sse_edge.cache.table_rows import S
from sse_edge.cache.table_view import TableView
from sse_edge.caller import Caller
from sse_edge.delivery.node import Node
from sse_edge.http.auth import Authenticator
from sse_edge.http.rate_limit import RateLimiter
from sse_edge.metrics.multiprocess import MultiprocessMetrics


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)
"""Lets a name of a closed vocabulary be written in any case."""


def node_of(connection: HTTPConnection) -> Node:
    """Return the node that serves a request."""
    return cast("Node", connection.app.state.node)


def publisher_of(connection: HTTPConnection) -> Publisher:
    """Return the publisher that writes for a request."""
    return cast("Publisher", connection.app.state.publisher)


def authenticator_of(connection: HTTPConnection) -> Authenticator:
    """Return the authenticator of the application."""
    return cast("Authenticator", connection.app.state.authenticator)


def rate_limiter_of(connection: HTTPConnection) -> RateLimiter:
    """Return the rate limiter of the application."""
    return cast("RateLimiter", connection.app.state.rate_limiter)


def multiprocess_metrics_of(connection: HTTPConnection) -> MultiprocessMetrics | None:
    """Return the metrics that all processes behind one port share; None for a single process."""
    return getattr(connection.app.state, "multiprocess_metrics", None)


def caller_of(connection: HTTPConnection) -> Caller | None:
    """Return the authenticated caller; None if the edge is open and the request has no token."""
    return getattr(connection.state, "caller", None)


def subject_of(connection: HTTPConnection) -> str | None:
    """Return the `sub` of the caller's token; None without a caller."""
    caller = caller_of(connection)
    return None if caller is None else caller.subject


def tenant_read_by(connection: HTTPConnection) -> str | None:
    """Return the tenant whose records a caller reads; "" for none, None for all without a token."""
    caller = caller_of(connection)
    return None if caller is None else caller.tenant or ""


def tenant_written_by(connection: HTTPConnection) -> str | None:
    """Return the tenant of what a caller writes.

    A token without a tenant writes what has none; the edge's own tenant counts without a token.
    """
    caller = caller_of(connection)
    return (node_of(connection).settings.tenant if caller is None else caller.tenant) or None


async def rows_of(connection: HTTPConnection, table: TableView[S]) -> Sequence[S]:
    """Return the rows of a table that the caller's tenant may read, the last changed one last.

    Raises:
        LogUnavailable: the table could not be read in time.
    """
    return await table.all(tenant_read_by(connection))


async def dated_rows_of(connection: HTTPConnection, table: TableView[S]) -> Sequence[tuple[S, int]]:
    """Return the rows as `rows_of` does, each with the log's time in milliseconds since 1970.

    Raises:
        LogUnavailable: the table could not be read in time.
    """
    return await table.all_with_times(tenant_read_by(connection))


NodeDep = Annotated[Node, Depends(node_of)]
