"""An HTTP server with scripted responses, for clients of the edge."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Scripted:
    """Responses by method and path, each a status and a body; lists are used up in turn."""

    responses: dict[str, list[tuple[int, Any]]]
    url: str = ""
    received: list[Received] = field(default_factory=list)

    def take(self, key: str) -> tuple[int, Any]:
        left = self.responses.get(key, [(404, {"detail": f"nothing at {key}"})])
        return left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def scripted(responses: dict[str, list[tuple[int, Any]]]) -> Generator[Scripted]:
    """Serve responses at a free port. A `str` body is a stream of events, others are JSON."""
    script = Scripted(responses)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.command, self.path, headers, body)
            script.received.append(request)
            status, content = script.take(f"{self.command} {self.path}")
            is_stream = isinstance(content, str)
            data = content.encode() if is_stream else json.dumps(content).encode()
            self.send_response(status)
            kind = "text/event-stream" if is_stream else "application/json"
            self.send_header("content-type", kind)
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(data)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Write no line for a request."""

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
