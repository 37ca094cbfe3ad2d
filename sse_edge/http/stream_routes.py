"""Streams by GET whose path has no parameters, found by one look into a table.

FastAPI tries the routes one after another, and solves the dependencies of the one that it finds.
Both are a third of the work of a request for a stream, and a thousand clients that come back at
once wait for it. Such a stream has one dependency and no parameters of FastAPI's, so its route is
looked up here, and its dependency and endpoint are called: the same functions, in the same order,
inside the same middleware and handlers of errors. Everything else is left to FastAPI's own routes,
also what OpenAPI says of these.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send


class StreamRoutes(BaseRoute):
    """A route that stands before FastAPI's, and takes the requests for some of them."""

    def __init__(
        self, routes: Iterable[APIRoute], check: Callable[[Request], Awaitable[None]]
    ) -> None:
        """Take requests for some routes.

        Args:
            routes: routes without parameters, whose endpoint takes the request only.
            check: the one dependency of them all, which is called before the endpoint.
        """
        self._by_path = {route.path: route for route in routes if "GET" in (route.methods or ())}
        self._check = check

    @property
    def routes(self) -> Sequence[APIRoute]:
        """The routes whose requests it takes."""
        return tuple(self._by_path.values())

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether one of the routes serves a request, and what FastAPI says of it then."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope.get("root_path"):
            return Match.NONE, {}
        route = self._by_path.get(scope["path"])
        if route is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": route.endpoint, "path_params": {}, "route": route}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that matches; errors are answered where those of all routes are."""
        request = Request(scope, receive, send)
        await self._check(request)
        endpoint: Callable[[Request], Awaitable[Any]] = scope["endpoint"]
        response = await endpoint(request)
        await response(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> NoReturn:
        """Leave the paths of names to FastAPI's own routes."""
        raise NoMatchFound(name, path_params)
