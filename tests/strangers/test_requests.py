"""Whatever strangers send to the edge, it answers with JSON or events, and never with a 5xx.

Bodies of any bytes, tokens with any header and claims, WebSockets with any messages, and cursors of
any text. The edge is whole but for Kafka and sockets; `tests/attacks` has what sockets can do.
"""

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from schemas.run_ids import new_id
from tests.strangers.test_endpoints import check, strict
from tests.support.asgi_edge import AsgiEdge, log_of_the_catalogue, serving
from tests.support.strangers import EXAMPLES

pytestmark = [pytest.mark.strangers, pytest.mark.virtual_time]

any_draws = settings(
    max_examples=max(3, EXAMPLES // 5),  # each begins a whole edge
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    deadline=None,
    phases=set(Phase) - {Phase.explain},
)

SECRET = "the secret of a test, of thirty-two bytes"  # it protects nothing
ISSUER = "https://issuer.example"
WITH_TOKENS: Mapping[str, Any] = {
    "jwt_issuer": ISSUER,
    "jwt_hs256_secret": SECRET,
    "jwt_scope_claim": "scope",
    "jwt_tenant_claim": "org.id",
    "cursor_secret": "another secret of a test",
}
RUN_ID = new_id(1_700_000_000_000_000)
REQUESTS_MAX = 12

WRITES: Sequence[tuple[str, str, Any]] = (
    (
        "PUT",
        "/api/v1/limits/p",
        {
            "limits": [{"metric": "var_95", "limit": 0.1, "warn_ratio": 0.8, "raise_after": 1}],
            "stale_after_s": 60,
            "comment": "x",
        },
    ),
    ("DELETE", "/api/v1/limits/p", None),
    (
        "PUT",
        "/api/v1/books/p/p",
        {
            "parent": None,
            "nav": 1.5,
            "holdings": [
                {
                    "series_id": "p",
                    "quantity": 1,
                    "price": 2.5,
                    "priced_at": "2026-01-02T03:04:05Z",
                }
            ],
        },
    ),
    ("DELETE", "/api/v1/books/p/q", None),
    ("PUT", "/api/v1/scenarios/p", {"kind": "hypothetical", "shocks": {"p": -0.2}}),
    (
        "PUT",
        "/api/v1/scenarios/q",
        {"kind": "historical", "from": "2008-09-01", "to": "2008-10-01"},
    ),
    ("DELETE", "/api/v1/scenarios/p", None),
    ("POST", "/api/v1/alerts/p/ack", {"comment": "seen"}),
    ("POST", "/trainmodel/", {"meter_id": "m", "meter_type": "gas"}),
    ("POST", "/send-message", {"user": "u", "message": "m", "room": "r"}),
    (
        "POST",
        "/api/backtesting/jobs",
        {
            "symbol": "IBM",
            "strategy": "crossover",
            "parameters": {"short": 2, "long": 5},
            "start_date": "2008-01-01",
            "end_date": "2009-01-01",
            "initial_cash": 10_000,
            "cost": 0.001,
        },
    ),
    ("DELETE", f"/api/backtesting/jobs/{RUN_ID}", None),
    ("POST", "/process/stream", {"message": "1 + 1", "idempotency_key": "k"}),
    ("POST", "/api/v1/sse/renew/p", {"token": "x"}),
)
"""Each request that writes, with a body that is taken where its names are known."""

PARTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**53 + 1, -(2**63), 2**64, 10**400, -1, 0]),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(["x" * 300, "\x00", "\ud800", "\u2028", "0001-01-01", "9999-12-31T23:59:60Z"]),
)
VALUES = st.recursive(
    PARTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
TYPES = st.sampled_from(
    [
        *(b"application/json", b"application/json; charset=utf-16", b"application/problem+json"),
        *(b"text/plain", b"application/x-www-form-urlencoded", b"application/octet-stream"),
        *(
            b"multipart/form-data; boundary=x",
            b"multipart/form-data",
            b"",
            b"\xff",
            b"/",
            b"a" * 999,
        ),
    ]
)
DEPTHS = st.sampled_from([50, 500, 5_000, 60_000])


def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a value that has another value at one place."""
    places = list(value) if isinstance(value, dict) else range(len(value))
    if not places or draw(st.integers(0, 3)) == 0:
        return draw(VALUES)
    place = draw(st.sampled_from(list(places)))
    inner = value[place]
    if isinstance(inner, dict | list) and draw(st.booleans()):
        other = changed(draw, inner)
    else:
        other = draw(VALUES)
    return {**value, place: other} if isinstance(value, dict) else [*value[:place], other]


@st.composite
def bodies(draw: st.DrawFn, valid: Any) -> bytes:
    """Draw a body: the valid one with a change, or anything else."""
    match draw(st.integers(0, 9)):
        case 0:
            return draw(st.binary(max_size=200))
        case 1:
            depth = draw(DEPTHS)
            opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
            return opening * depth + b"1" + closing * draw(st.sampled_from([depth, 0]))
        case 2:
            return b"[" + b",".join([b'"x"'] * draw(st.sampled_from([10, 60_000, 300_000]))) + b"]"
        case 3:
            form = st.dictionaries(st.sampled_from(["message", "user", "x"]), st.text(max_size=9))
            return "&".join(f"{k}={v}" for k, v in draw(form).items()).encode(errors="replace")
        case _:
            pass
    value = draw(VALUES) if valid is None else changed(draw, valid)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    content = text.encode(draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "utf-7"])), "replace")
    if draw(st.integers(0, 5)) == 0:
        return content[: draw(st.integers(0, len(content)))]
    return content


async def is_healthy(edge: AsgiEdge) -> None:
    """Check that the edge is as well as before."""
    assert (await edge.request("/health/ready")).status == 200
    assert edge.errors == []


@any_draws
@given(data=st.data())
async def test_bodies_of_any_bytes_are_answered(data: st.DataObject) -> None:
    async with serving(log_of_the_catalogue()) as edge:
        for _ in range(REQUESTS_MAX):
            method, path, valid = data.draw(st.sampled_from(WRITES))
            content = data.draw(bodies(valid))
            headers = [(b"content-type", data.draw(TYPES))]
            if data.draw(st.booleans()):
                headers = [(b"content-type", b"application/json")]
            if data.draw(st.booleans()):
                headers.append((b"content-length", b"%d" % len(content)))
            check(await edge.request(path, method=method, content=content, headers=headers))
        await is_healthy(edge)


def encoded(value: object) -> str:
    text = json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


CLAIMS = ("exp", "nbf", "iat", "sub", "iss", "aud", "scope", "org.id", "org", "jti", "tenant")


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """Draw a token: signed rightly, with any claims; or anything else."""
    claims = {"sub": "alice", "iss": ISSUER, "exp": 4_000_000_000, "scope": "read write"}
    claims |= draw(
        st.dictionaries(st.sampled_from(CLAIMS), VALUES | st.just({"id": "t"}), max_size=3)
    )
    headers = draw(
        st.dictionaries(
            st.sampled_from(["kid", "typ", "crit", "jku", "x5u", "zip"]), VALUES, max_size=2
        )
    )
    match draw(st.integers(0, 4)):
        case 0:
            return draw(st.text(st.characters(codec="ascii"), max_size=60))
        case 1:
            parts = draw(st.lists(VALUES.map(encoded), min_size=2, max_size=4))
            return ".".join(parts)
        case 2:
            head = encoded(
                {"alg": draw(st.sampled_from(["none", "HS256", "RS256", "", 7])), **headers}
            )
            return f"{head}.{encoded(claims)}.{draw(st.sampled_from(['', 'AAAA', '?']))}"
        case _:
            pass
    signed = f"{encoded({'alg': 'HS256', **headers})}.{encoded(claims)}"
    digest = hmac.digest(SECRET.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


GIVEN = ("bearer", "basic", "query", "cookie")
READS = (
    "/api/v1/limits",
    "/api/v1/audit",
    "/api/v1/sse/status",
    "/api/v1/sse/alerts",
    "/trainmodel/running",
    "/user-specific-stream/alice",
    "/metrics",
)


def with_token(how: str, token: str) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Return the query and the headers that give a token."""
    if how == "query":
        return f"token={quote(token)}&access_token={quote(token)}", []
    raw = token.replace("\r", "").replace("\n", "").encode("latin-1", "replace")
    if how == "cookie":
        return "", [(b"cookie", b"token=" + raw + b"; access_token=" + raw)]
    return "", [(b"authorization", how.encode() + b" " + raw)]


@any_draws
@given(data=st.data())
async def test_tokens_of_any_claims_are_answered(data: st.DataObject) -> None:
    async with serving(log_of_the_catalogue(), **WITH_TOKENS) as edge:
        for _ in range(REQUESTS_MAX):
            query, headers = with_token(data.draw(st.sampled_from(GIVEN)), data.draw(tokens()))
            if data.draw(st.booleans()):
                method, path, valid = data.draw(st.sampled_from(WRITES))
                content = json.dumps(valid).encode()
                headers.append((b"content-type", b"application/json"))
                answer = await edge.request(
                    path, query, method=method, content=content, headers=headers
                )
            else:
                path = data.draw(st.sampled_from(READS))
                answer = await edge.request(path, query, headers=headers, stays_s=0.2)
            check(answer)
        await is_healthy(edge)


MESSAGES = st.one_of(
    st.text(max_size=50).map(lambda text: {"type": "websocket.receive", "text": text}),
    st.binary(max_size=50).map(lambda data: {"type": "websocket.receive", "bytes": data}),
    st.just({"type": "websocket.receive", "text": "x" * 1_000_000}),
    VALUES.map(lambda value: {"type": "websocket.receive", "text": json.dumps(value)}),
)


@any_draws
@given(data=st.data())
async def test_websockets_with_any_messages_are_answered(data: st.DataObject) -> None:
    options = data.draw(st.sampled_from([{}, WITH_TOKENS]))
    async with serving(log_of_the_catalogue(), **options) as edge:
        for _ in range(REQUESTS_MAX):
            query, headers = with_token(data.draw(st.sampled_from(GIVEN)), data.draw(tokens()))
            parameter = data.draw(
                st.sampled_from(["last_id", "lastEventId", "from", "cursor", "x"])
            )
            query += f"&{parameter}={quote(data.draw(CURSORS), errors='replace')}"
            offered = data.draw(st.lists(st.text(max_size=20) | tokens(), max_size=3))
            name = data.draw(st.sampled_from([RUN_ID, "p", "", "%00", "x" * 300, "\u2028"]))
            found = await edge.websocket(
                f"/ws/backtest/{quote(name)}",
                query,
                headers=headers,
                subprotocols=offered,
                messages=data.draw(st.lists(MESSAGES, max_size=3)),
                stays_s=0.2,
            )
            assert found
            for message in found:
                if message["type"] == "websocket.send":
                    strict(message["text"])
                assert message.get("code") != 1011, message  # an internal error
                assert len(message.get("reason", "").encode()) <= 123
        await is_healthy(edge)


CURSORS = st.one_of(
    st.text(max_size=80),
    st.text(st.sampled_from("ABCDwxyz0189-_="), min_size=1, max_size=300),
    st.sampled_from(["", "earliest", "latest", "0", "-1", "9" * 400, "A" * 128, "\x00", "\ud800"]),
)
FOLLOWED = (
    "/api/v1/sse/alerts",
    "/api/v1/sse/streams",
    "/process/stream",
    "/chat-stream",
    "/api/sse/backtest/jobs",
)
OPTIONS = (
    "from",
    "lastEventId",
    "Last-Event-ID",
    "id",
    "channel",
    "topic",
    "slow",
    "client_id",
    "message",
)


@any_draws
@given(data=st.data())
async def test_cursors_of_any_text_are_answered(data: st.DataObject) -> None:
    options = data.draw(st.sampled_from([{}, {"cursor_secret": WITH_TOKENS["cursor_secret"]}]))
    async with serving(log_of_the_catalogue(), **options) as edge:
        for _ in range(REQUESTS_MAX):
            path = data.draw(st.sampled_from(["/api/v1/sse/cursor", *FOLLOWED]))
            names = data.draw(st.lists(st.sampled_from(OPTIONS), max_size=4))
            values = [data.draw(CURSORS | st.sampled_from(["alerts", "training:p"])) for _ in names]
            query = "&".join(
                f"{name}={quote(value, errors='replace')}"
                for name, value in zip(names, values, strict=True)
            )
            last = data.draw(CURSORS).encode("utf-8", "replace")
            headers = [(b"last-event-id", last)] if data.draw(st.booleans()) else []
            check(await edge.request(path, query, headers=headers, stays_s=0.2))
        await is_healthy(edge)
