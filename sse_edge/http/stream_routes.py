"""Streams by GET whose path has no parameters, found by one look into a table.

FastAPI tries the routes one after another, and solves the dependencies of the one that it finds.
Both are a third of the work of a request for a stream, and a thousand clients that come back at
once wait for it. Such a stream has one dependency and no parameters of FastAPI's, so its route is
looked up here, and its dependency and endpoint are called: the same functions, in the same order,
inside the middleware of the edge. Everything else is left to FastAPI's own routes, also what
OpenAPI says of these.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sse_edge.errors import EdgeError
from sse_edge.http.problem import answer_of


class StreamRoutes:
    """An ASGI middleware before FastAPI's routes, which takes the requests for some of them."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Iterable[APIRoute],
        check: Callable[[Request], Awaitable[None]],
    ) -> None:
        """Take requests for some routes.

        Args:
            app: serves all other requests.
            routes: routes without parameters, whose endpoint takes the request only. Their errors
                are those of the edge; others pass to the middleware around this one.
            check: the one dependency of them all, which is called before the endpoint.
        """
        self._app = app
        self._by_path = {route.path: route for route in routes if "GET" in (route.methods or ())}
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, WebSocket or lifespan."""
        route = self.route_of(scope)
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        endpoint: Callable[[Request], Awaitable[Any]] = route.endpoint
        try:
            await self._check(request)
            response = await endpoint(request)
        except EdgeError as error:
            response = answer_of(request, error)
        await response(scope, receive, send)

    def route_of(self, scope: Scope) -> APIRoute | None:
        """Return the route that serves a request here; None for what FastAPI serves."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope.get("root_path"):
            return None
        return self._by_path.get(scope["path"])
