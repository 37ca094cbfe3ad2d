"""How uvicorn serves the edge: our protocols and their bounds, proxies, TLS, and the URL."""

import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any

from sse_edge.http import tls
from sse_edge.http.protocol import (
    WEBSOCKET_MESSAGE_BYTES_MAX,
    EdgeProtocol,
    EdgeWebSocketProtocol,
)
from sse_edge.settings import EdgeSettings

_KEEP_ALIVE_S = 75


def server_options(settings: EdgeSettings) -> Mapping[str, Any]:
    """Return the options of `uvicorn.Config` that do not depend on how a process is started."""
    proxies = _networks(settings)
    encrypted = settings.tls_cert is not None
    return {
        "http": EdgeProtocol,
        "ws": EdgeWebSocketProtocol,
        "ws_max_size": WEBSOCKET_MESSAGE_BYTES_MAX,
        "server_header": False,
        "access_log": False,  # it would print query strings, tokens included
        "log_config": None,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        # Uvicorn's own default trusts whatever runs on this machine.
        "proxy_headers": bool(proxies),
        "forwarded_allow_ips": proxies,
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        "ssl_context_factory": tls.make_context if encrypted else None,
    }


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL at which other machines find a server.

    Args:
        scheme: `http` or `https`.
        host: the IP address that the server listens on. If it listens on all, it is found by the
            name of its machine, which is also that of a container.
        port: its port.
    """
    address = ip_address(host)
    if address.is_unspecified:
        host = socket.gethostname()
    elif isinstance(address, IPv6Address):
        host = f"[{host}]"
    return f"{scheme}://{host}:{port}"


def _networks(settings: EdgeSettings) -> list[str]:
    """Return the networks of trusted proxies, those of IPv4 also as a socket for both names them.

    Where the edge listens on IPv6, a proxy with an IPv4 address has one that begins with `::ffff:`.
    """
    networks = [ip_network(text, strict=False) for text in settings.trusted_proxies]
    mapped = [
        f"::ffff:{network.network_address}/{96 + network.prefixlen}"
        for network in networks
        if isinstance(network, IPv4Network)
    ]
    return [*map(str, networks), *mapped]
