"""A schema registry in this process: the calls of Confluent's REST API that the system makes."""

import json
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import NAMESPACE_URL, uuid5

from tests.support.local_server import QuietHandler

Answer = tuple[int, Any]


@dataclass
class FakeRegistry:
    """Schemas by subject; a text has one id, whatever its subject."""

    texts: list[str] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """The method and path of each request."""
    lies: dict[int, Any] = field(default_factory=dict)
    """False answers, by the ids of the schemas in whose place they are given."""
    refused: set[str] = field(default_factory=set)
    """The subjects for which no schema is compatible."""
    is_away: bool = False
    """Whether each request is answered with 503."""
    authorization: str | None = None
    """The header that each request must have."""
    url: str = ""

    def expect_user(self, name: str, password: str) -> None:
        self.authorization = "Basic " + b64encode(f"{name}:{password}".encode()).decode()

    def add(self, text: str, subject: str = "others-value") -> int:
        """Register a schema, and return its id."""
        if text not in self.texts:
            self.texts.append(text)
        number = self.texts.index(text) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def answer(self, method: str, path: str, body: Any) -> Answer:
        for verb, pattern, respond in _ROUTES:
            match = re.fullmatch(pattern, path)
            if verb == method and match is not None:
                return respond(self, body, *map(unquote, match.groups()))
        return 404, {"error_code": 404, "message": f"no route {method} {path}"}


def guid_of(text: str) -> str:
    return str(uuid5(NAMESPACE_URL, text))


def _by_id(known: FakeRegistry, _: Any, number: str) -> Answer:
    if int(number) in known.lies:
        return 200, known.lies[int(number)]
    if not 0 < int(number) <= len(known.texts):
        return 404, {"error_code": 40403, "message": "Schema not found"}
    text = known.texts[int(number) - 1]
    return 200, {"schema": text, "guid": guid_of(text)}


def _by_guid(known: FakeRegistry, _: Any, guid: str) -> Answer:
    for text in known.texts:
        if guid_of(text) == guid:
            return 200, {"schema": text}
    return 404, {"error_code": 40403, "message": "Schema not found"}


def _subjects(known: FakeRegistry, _: Any) -> Answer:
    return 200, sorted(known.subjects)


def _versions(known: FakeRegistry, _: Any, subject: str) -> Answer:
    if subject not in known.subjects:
        return 404, {"error_code": 40401, "message": "Subject not found"}
    return 200, list(range(1, len(known.subjects[subject]) + 1))


def _version(known: FakeRegistry, _: Any, subject: str, version: str) -> Answer:
    number = known.subjects[subject][int(version) - 1]
    return 200, _described(known, subject, number)


def _register(known: FakeRegistry, body: Any, subject: str) -> Answer:
    if subject in known.refused:
        return 409, {"error_code": 409, "message": "Schema is incompatible"}
    return 200, {"id": known.add(body["schema"], subject), "guid": guid_of(body["schema"])}


def _look_up(known: FakeRegistry, body: Any, subject: str) -> Answer:
    for number in known.subjects.get(subject, ()):
        if known.texts[number - 1] == body["schema"]:
            return 200, _described(known, subject, number)
    return 404, {"error_code": 40403, "message": "Schema not found"}


def _described(known: FakeRegistry, subject: str, number: int) -> dict[str, Any]:
    return {
        "subject": subject,
        "version": known.subjects[subject].index(number) + 1,
        "id": number,
        "guid": guid_of(known.texts[number - 1]),
        "schema": known.texts[number - 1],
    }


def _level(known: FakeRegistry, _: Any, subject: str) -> Answer:
    if subject not in known.levels:
        return 404, {"error_code": 40408, "message": "Subject-level configuration not found"}
    return 200, {"compatibilityLevel": known.levels[subject]}


def _set_level(known: FakeRegistry, body: Any, subject: str) -> Answer:
    known.levels[subject] = body["compatibility"]
    return 200, body


_ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", "/schemas/ids/([0-9]+)", _by_id),
    ("GET", "/schemas/guids/([^/]+)", _by_guid),
    ("GET", "/subjects", _subjects),
    ("GET", "/subjects/([^/]+)/versions", _versions),
    ("GET", "/subjects/([^/]+)/versions/([0-9]+)", _version),
    ("POST", "/subjects/([^/]+)/versions", _register),
    ("POST", "/subjects/([^/]+)", _look_up),
    ("GET", "/config/([^/]+)", _level),
    ("PUT", "/config/([^/]+)", _set_level),
)


@contextmanager
def fake_registry(context: ssl.SSLContext | None = None) -> Generator[FakeRegistry]:
    """Serve a registry until the block ends.

    Args:
        context: how to speak TLS; None for plain HTTP.
    """
    known = FakeRegistry()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802  # the base class names it
            self._respond()

        def do_POST(self) -> None:  # noqa: N802  # as above
            self._respond()

        def do_PUT(self) -> None:  # noqa: N802  # as above
            self._respond()

        def _respond(self) -> None:
            path = urlsplit(self.path).path
            known.requests.append(f"{self.command} {path}")
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            answer: Any
            if known.is_away:
                status, answer = 503, {"error_code": 503, "message": "away"}
            elif known.authorization not in (None, self.headers.get("Authorization")):
                status, answer = 401, {"error_code": 401, "message": "Unauthorized"}
            else:
                status, answer = known.answer(self.command, path, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        known.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()
