"""Requests that schemathesis draws from the OpenAPI document, sent to an edge by several callers.

The edge is whole but for Kafka, and answers over sockets; the client is in a thread. It reads the
first events of a stream that does not end. Each answer is compared with the document: status,
content type and content. Faults are collected, one example of each kind.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import jwt
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings, strategies as st
from schemathesis import Case, GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from tests.support.edge_server import edge_server
from tests.support.tenants_log import ALICE, TASKS, TenantsLog

_ISSUER = "https://issuer.example"
_SECRET = "the secret of a test, of thirty-two bytes"  # it protects nothing
_CHECKS: Any = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
_KNOWN = {"job_id": "J", "task_id": TASKS[ALICE], "user_id": ALICE.subject}
"""The names of things of the caller's; all others are called P."""
_STREAM_BYTES = 16 << 10
"""How much of a stream the client reads, unless its first events come earlier."""
_STREAM_S = 0.5
_ANSWER_S = 20.0


def roles() -> Mapping[str, Mapping[str, str]]:
    """Return the headers of each caller."""

    def headers(**claims: str) -> Mapping[str, str]:
        whole = {"iss": _ISSUER, "sub": ALICE.subject, "tenant": ALICE.tenant} | claims
        token = jwt.encode({**whole, "exp": time.time() + 86_400}, _SECRET, algorithm="HS256")
        return {"Authorization": f"Bearer {token}"}

    return {
        "nobody": {},
        "reader": headers(scope="read"),
        "admin": headers(scope="read write limits ack admin"),
    }


@dataclass
class Account:
    """What came of a run."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter[tuple[str, int]])
    """How many answers each role got of each status."""
    faults: dict[tuple[str, str, str], str] = field(default_factory=dict[tuple[str, str, str], str])
    """By role, operation and kind, an example of an answer that is not as documented."""
    logged: list[str] = field(default_factory=list[str])
    """What the edge has logged as errors."""

    def lines(self) -> Sequence[str]:
        """Return the account as text."""
        counts = []
        for role in roles():
            found = sorted((status, n) for (who, status), n in self.answers.items() if who == role)
            total = sum(map(itemgetter(1), found))
            statuses = ", ".join(f"{n} x {status}" for status, n in found)
            counts.append(f"{role:<8} {total:>7} requests: {statuses}")
        faults = [f"{' '.join(kind)}\n    {text}" for kind, text in sorted(self.faults.items())]
        return [
            *counts,
            *faults,
            *(f"logged: {line}" for line in self.logged),
            f"{len(self.faults)} kinds of faults, {len(self.logged)} errors in the log",
        ]


_EDGE: Mapping[str, Any] = {
    "jwt_issuer": _ISSUER,
    "jwt_hs256_secret": _SECRET,
    "jwt_scope_claim": "scope",
    "cursor_secret": "of sixteen bytes",
    "broker_patience_s": 10.0,
    "processor_patience_s": 0.01,
    "writes_per_minute_max": 1_000_000,
    "pending_jobs_max": 1_000_000,
    "connections_per_ip_max": 100_000,
    "connections_per_user_max": 100_000,
}


async def play(examples: int, seed_of_run: int) -> Account:
    """Send requests to each operation as each role.

    Args:
        examples: how many are drawn for an operation and a role, half of them against the document.
        seed_of_run: decides what is drawn.
    """
    account = Account()
    handler = _Keeping(account.logged)
    logging.getLogger().addHandler(handler)
    try:
        async with edge_server(log=TenantsLog(), **_EDGE) as server:
            await asyncio.to_thread(_play_at, server.url, account, examples, seed_of_run)
    finally:
        logging.getLogger().removeHandler(handler)
    return account


def _play_at(url: str, account: Account, examples: int, seed_of_run: int) -> None:
    with requests.Session() as session:
        schema: Any = openapi.from_url(f"{url}/openapi.json")
        for role, headers in roles().items():
            client = _Client(url, role, headers, session, account)
            for operation in schema.get_all_operations():
                client.play(operation.ok(), examples, seed_of_run)


class _Client:
    """One caller."""

    def __init__(
        self,
        url: str,
        role: str,
        headers: Mapping[str, str],
        session: requests.Session,
        account: Account,
    ) -> None:
        self._url = url
        self._role = role
        self._headers = headers
        self._session = session
        self._account = account

    def play(self, operation: Any, examples: int, seed_of_run: int) -> None:
        """Send drawn requests to an operation."""

        @seed(seed_of_run)
        @settings(
            max_examples=examples,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            deadline=None,
            database=None,
        )
        @given(case=st.one_of(_cases(operation)))
        def send(case: Case[Any]) -> None:
            self._send(operation.label, case)

        send()

    def _send(self, label: str, case: Case[Any]) -> None:
        given_request = case.as_transport_kwargs(self._url, headers=dict(self._headers))
        try:
            answer = self._session.request(
                **given_request, stream=True, timeout=(_ANSWER_S, _ANSWER_S), allow_redirects=False
            )
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL):
            return  # requests cannot send what was drawn
        with answer:
            content = _content_of(answer)
        self._account.answers[self._role, answer.status_code] += 1
        response = Response(
            status_code=answer.status_code,
            headers={name: [value] for name, value in answer.headers.items()},
            content=content,
            request=answer.request,
            elapsed=answer.elapsed.total_seconds(),
            verify=False,
            encoding=answer.encoding,
        )
        try:
            case.validate_response(response, checks=_CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                kind = (self._role, label, f"{type(failure).__name__} {answer.status_code}")
                self._account.faults.setdefault(
                    kind,
                    f"{answer.request.method} {answer.request.url} {answer.request.body!r}\n    "
                    f"{answer.status_code} {content[:300]!r}\n    {str(failure)[:600]}",
                )


def _cases(operation: Any) -> Sequence[st.SearchStrategy[Case[Any]]]:
    """Return strategies of requests as documented, of others, and of some for what is there."""
    cases = [operation.as_strategy(mode) for mode in GenerationMode]
    names = {parameter.name for parameter in operation.path_parameters}
    if names:
        known = {name: _KNOWN.get(name, "P") for name in names}
        cases.append(operation.as_strategy(path_parameters=known))
    return cases


def _content_of(answer: requests.Response) -> bytes:
    """Return the content of an answer; of a stream, its first events."""
    if "event-stream" not in answer.headers.get("content-type", ""):
        return answer.content
    found = b""
    try:
        held = getattr(answer.raw.connection, "sock", None)
        if held is not None:  # else the answer has come whole, or its end closes the socket
            held.settimeout(_STREAM_S)
        for piece in answer.iter_content(None):
            found += piece
            if b"\n\n" in found or len(found) > _STREAM_BYTES:
                break
    except requests.exceptions.RequestException:
        pass
    return found


class _Keeping(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(self.format(record))
