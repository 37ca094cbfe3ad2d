"""`python -m sse_edge`: one edge node."""

import asyncio
import logging
import socket
import sys
from types import FrameType

import sdnotify
import uvicorn
from pydantic import ValidationError

from sse_edge.app import build_app
from sse_edge.protocol import EdgeProtocol
from sse_edge.settings import EdgeSettings

_SHUTDOWN_S = 2


class DrainingServer(uvicorn.Server):
    """Lets streams end at an event's boundary before it stops.

    Uvicorn alone waits for open streams for ever, or cuts them in the middle. A second signal
    stops at once.
    """

    def __init__(self, config: uvicorn.Config, drain_s: float) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell whoever started this node where."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            sdnotify.SystemdNotifier().notify(f"READY=1\nSTATUS=http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain first, then stop."""
        del sig, frame
        hub = getattr(getattr(self.config.app, "state", None), "hub", None)
        if self._draining or hub is None or not hub.connections:
            self.should_exit = True
            return
        self._draining = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(hub.drain)
        loop.call_soon_threadsafe(loop.call_later, self._drain_s + 0.5, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; exit with 2 where a setting has no meaning."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # While Kafka is away it says ten times a second what the tail says once.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        settings = EdgeSettings()
    except ValidationError as error:
        sys.exit(f"a setting has no meaning: {error}")
    config = uvicorn.Config(
        build_app(settings),
        host=settings.host,
        port=settings.port,
        access_log=False,  # it would print query strings, tokens included
        log_config=None,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        timeout_keep_alive=75,
        backlog=4096,
        http=EdgeProtocol,
    )
    DrainingServer(config, settings.drain_s).run()


if __name__ == "__main__":
    main()
