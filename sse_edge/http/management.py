"""The management port: metrics and documentation apart from what clients reach.

The same processes serve both ports, with the same TLS. The address of the socket tells which port a
request has come in by, not what the request says. So a network policy, or an address such as
127.0.0.1, keeps outsiders from metrics without a token. Health checks are on both ports, since a
load balancer asks the one that it sends clients to.
"""

from starlette.types import Scope

from sse_edge.errors import NoSuchThing

METRICS_PATH = "/metrics"
DOCS_PATHS = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
_SCRIPTS_OF_DOCS = "/static-offline-docs/"
_HEALTH = ("/health", "/health/", "/health/live", "/health/ready")


def refuse_on_other_port(scope: Scope, management_port: int | None) -> None:
    """Return if the port that a request has come in by serves its path.

    Args:
        scope: a request or a WebSocket.
        management_port: the port; None if there is none, and the main port serves everything.

    Raises:
        NoSuchThing: the other port serves the path, or neither does.
    """
    path: str = scope["path"]
    if management_port is None or path in _HEALTH:
        return
    is_managing = path == METRICS_PATH or path in DOCS_PATHS or path.startswith(_SCRIPTS_OF_DOCS)
    server = scope.get("server") or ("", None)
    if is_managing != (server[1] == management_port):
        raise NoSuchThing("this port does not serve this path")
