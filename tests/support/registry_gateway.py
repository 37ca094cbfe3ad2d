"""A gateway before a schema registry, as operators put one there: it demands a header, by TLS.

Apicurio gives schemas no GUIDs, which Confluent's registry does. So the gateway adds one to each
answer that has an id, and finds a schema by it.
"""

import http.client
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit
from uuid import UUID

from tests.support.local_server import QuietHandler

_GUID_BASE = 0x7A7E << 112
_BY_GUID = "/schemas/guids/"


@dataclass
class Gateway:
    """The gateway: where it listens, and whom it lets pass."""

    url: str
    accepted: set[str] = field(default_factory=set)
    """The values of the header `Authorization` that pass."""
    requests: list[str] = field(default_factory=list)
    """The method and path of each request that has passed."""

    def accept_user(self, name: str, password: str) -> None:
        """Let requests with a password pass."""
        self.accepted.add("Basic " + b64encode(f"{name}:{password}".encode()).decode())

    def accept_only(self, token: str) -> None:
        """Let requests with a bearer token pass, and no others any more."""
        self.accepted = {f"Bearer {token}"}


@contextmanager
def gateway_to(registry_url: str, context: ssl.SSLContext) -> Generator[Gateway]:
    """Serve a gateway on loopback until the block ends.

    Args:
        registry_url: the address of the registry's API, in plain HTTP.
        context: how to speak TLS.
    """
    target = urlsplit(registry_url)
    assert target.hostname is not None

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base class names it
            self._pass_on()

        def do_POST(self) -> None:  # noqa: N802  # as above
            self._pass_on()

        def do_PUT(self) -> None:  # noqa: N802  # as above
            self._pass_on()

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") not in gateway.accepted:
                status, content = 401, b'{"error_code":401,"message":"Unauthorized"}'
            else:
                gateway.requests.append(f"{self.command} {self.path}")
                status, content = self._asked(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _asked(self, body: bytes) -> tuple[int, bytes]:
            path, _, guid = self.path.partition(_BY_GUID)
            if guid:
                path = f"/schemas/ids/{UUID(guid.partition('?')[0]).int - _GUID_BASE}"
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=30)
            try:
                kind = {"Content-Type": "application/json"} if body else {}
                connection.request(self.command, target.path + path, body or None, kind)
                answer = connection.getresponse()
                return answer.status, _with_guid(answer.read())
            finally:
                connection.close()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        gateway = Gateway(f"https://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()


def _with_guid(content: bytes) -> bytes:
    answer = json.loads(content) if content else None
    if isinstance(answer, dict) and "id" in answer:
        answer["guid"] = str(UUID(int=_GUID_BASE | int(answer["id"])))
        return json.dumps(answer).encode()
    return content
