"""Tokens, secrets and the paths of keys: they are in no log, answer or metric, whatever happens."""

import asyncio
import secrets
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import jwt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from infra.demo_issuer import ISSUER, jwks_path, token
from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ALERTS = "/api/v1/sse/alerts"
JOBS = "/api/backtesting/jobs"
HS256_ISSUER = "https://issuer.example"


def parts_of(text: str) -> set[str]:
    """Return a token's payload and signature; its header says nothing."""
    return {part for part in text.split(".")[1:] if len(part) > 15}


async def attempt(http: httpx.AsyncClient, text: str) -> list[str]:
    """Send a token in every way, with requests that succeed and fail; return the answers."""
    found = []
    ways: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"Authorization": f"Bearer {text}"}, {}),
        ({"Cookie": f"token={text}"}, {}),
        ({}, {"token": text}),
    ]
    for headers, query in ways:
        found += [
            (await http.head(ALERTS, headers=headers, params=query)).text,
            (await http.get("/nowhere", headers=headers, params=query)).text,
            (await http.get(JOBS, headers=headers, params=query | {"limit": "x"})).text,
            (await http.get("/api/v1/sse/status", headers=headers, params=query)).text,
            (await http.post(JOBS, headers=headers, params=query, json={"symbol": "IBM"})).text,
            (
                await http.get(
                    ALERTS, headers=headers | {"Last-Event-ID": "nonsense"}, params=query
                )
            ).text,
            (await http.post("/send-message", headers=headers, params=query, content="{")).text,
        ]
    address = str(http.base_url).replace("http", "ws") + "/ws/backtest/x"
    for url, headers, protocols in (
        (f"{address}?token={text}", {}, None),
        (address, {"Authorization": f"Bearer {text}"}, None),
        (address, {"Cookie": f"token={text}"}, None),
        (address, {}, ["bearer", text]),
    ):
        with suppress(WebSocketException, TimeoutError):
            async with (
                asyncio.timeout(20),
                connect(url, additional_headers=headers, subprotocols=protocols) as socket,  # type: ignore[arg-type]
            ):
                found.append(str(await socket.recv()))
    return found


async def test_no_token_secret_or_path_of_a_key_is_shown_at_any_level(
    world: World, tmp_path: Path
) -> None:
    log_level = "DEBUG"
    hidden, cursor_secret = secrets.token_urlsafe(40), secrets.token_urlsafe(40)
    before = secrets.token_urlsafe(40)
    keys = tmp_path / "s3cr3t-place"
    jwks = jwks_path(keys)
    common = {
        "log_level": log_level,
        "cursor_secret": cursor_secret,
        "cursor_secrets_before": before,
        "processor_patience_s": 0.2,  # the eight WebSockets of good tokens name an unknown job
    }
    by_keys = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks, **common)
    by_secret = await world.edge(jwt_issuer=HS256_ISSUER, jwt_hs256_secret=hidden, **common)
    await world.backtester(log_level=log_level)
    claims = {"iss": HS256_ISSUER, "sub": "alice", "exp": int(time.time()) + 600}
    tokens = {
        by_keys.url: [
            token(keys, "alice", "acme", 600),
            token(keys, "alice", None, -600),
            token(keys, "alice", "acme", 600)[:-8],
            secrets.token_urlsafe(60),
        ],
        by_secret.url: [
            jwt.encode(claims, hidden, "HS256"),
            jwt.encode(claims | {"tenant": ["acme"]}, hidden, "HS256"),
            jwt.encode(claims, "another secret of thirty-two bytes", "HS256"),
        ],
    }
    shown: list[str] = []
    for url, texts in tokens.items():
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            async with asyncio.TaskGroup() as attempts:
                made = [attempts.create_task(attempt(http, text)) for text in texts]
            shown += [answer for task in made for answer in task.result()]
            good = {"Authorization": f"Bearer {texts[0]}"}
            async with stream(url, ALERTS, headers=good) as client:
                await client.until(lambda blocks: any(block.id for block in blocks))
                shown += [repr(client.blocks)]
            for path in ("/metrics", "/sse-metrics", "/health/ready", "/openapi.json"):
                shown.append((await http.get(path, headers=good)).text)
    # The keys vanish, and what is said of that names no path.
    jwks.write_text("damaged")
    async with httpx.AsyncClient(base_url=by_keys.url, timeout=60) as http:
        unknown = jwt.encode(claims | {"iss": ISSUER}, hidden, "HS256", {"kid": "unknown"})
        shown += await attempt(http, unknown)
    tokens[by_keys.url].append(unknown)

    logs = sorted(world.folder.glob("*.log"))
    assert len(logs) >= 3
    shown += [path.read_text(errors="replace") for path in logs]
    needles = {hidden, cursor_secret, before, "s3cr3t-place"}
    needles |= {part for texts in tokens.values() for text in texts for part in parts_of(text)}
    needles.add(tokens[by_keys.url][3])
    for text in shown:
        for needle in needles:
            at = text.find(needle)
            assert at < 0, text[max(0, at - 300) : at + 20]


@pytest.mark.parametrize(
    "settings",
    [
        {"TAPEWIRE_CURSOR_SECRET": "s3cr3t"},
        {"TAPEWIRE_JWT_ISSUER": "me", "TAPEWIRE_JWT_HS256_SECRET": "s3cr3t"},
        {"TAPEWIRE_JWT_HS256_SECRET": "s3cr3t" * 6},
        {"TAPEWIRE_CURSOR_SECRETS_BEFORE": "s3cr3t,s3cr3t"},
        {"TAPEWIRE_CURSOR_SECRET_NEXT": "s3cr3t"},
        {"TAPEWIRE_PORT": "-1", "TAPEWIRE_CURSOR_SECRET": "s3cr3t" * 6},
    ],
)
def test_a_setting_that_is_refused_shows_no_secret(settings: dict[str, str]) -> None:
    done = subprocess.run(  # our own
        [sys.executable, "-m", "sse_edge"],
        check=False,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "TAPEWIRE_" in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
