"""`python -m sse_edge`: one edge node, of one process or several on one port."""

import argparse
import os
import socket
import sys
import tempfile

import uvicorn
from uvicorn.supervisors import Multiprocess

from kafka_io.client import check_framing, check_security
from kafka_io.errors import InvalidSetting
from kafka_io.settings import number_range
from sse_edge.app import ADDRESS, SHUTDOWN_S, SIBLINGS
from sse_edge.http.server import server_options, url_of
from sse_edge.http.tls import context_of, reason_of
from sse_edge.settings import EdgeSettings

_APPLICATION = f"{__package__}.app:from_environment"
_BACKLOG = 4096
_MANAGEMENT_PORT = "TAPEWIRE_MANAGEMENT_PORT"


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; exit with 1 if a setting is invalid."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("--workers", type=int, help="processes on the one port")
    try:
        settings = EdgeSettings()
        check_security()
        check_framing()
    except InvalidSetting as error:
        sys.exit(f"a setting is invalid: {error}")
    given: int | None = parser.parse_args().workers
    workers = settings.workers if given is None else given
    allowed = number_range(EdgeSettings.model_fields["workers"])
    if allowed is not None and not allowed.allows(workers):
        parser.error(f"--workers is {workers}; it must be {allowed}")
    if settings.tls_cert is not None:
        try:
            context_of(settings.tls_cert, settings.tls_key)
        except OSError as error:
            sys.exit(f"TAPEWIRE_TLS_CERT and TAPEWIRE_TLS_KEY cannot be used: {reason_of(error)}")
    config = uvicorn.Config(
        _APPLICATION,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=workers,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=_BACKLOG,
        **server_options(settings),
    )
    sockets = [config.bind_socket()]
    host, port = sockets[0].getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    os.environ[ADDRESS] = url_of(scheme, host, port)
    if settings.management_port is not None:
        sockets.append(_management_socket(settings.management_host, settings.management_port))
    for listening in sockets:
        listening.listen(_BACKLOG)
    if workers == 1:
        uvicorn.Server(config).run(sockets)
        return
    with tempfile.TemporaryDirectory(prefix="tapewire-") as folder:
        os.environ[SIBLINGS] = folder
        Multiprocess(config, sockets).run()


def _management_socket(host: str, port: int) -> socket.socket:
    """Bind the management port, and tell this process and its children which one it is."""
    bound = uvicorn.Config(_APPLICATION, host=host, port=port, log_config=None).bind_socket()
    os.environ[_MANAGEMENT_PORT] = str(bound.getsockname()[1])
    return bound


if __name__ == "__main__":
    main()
