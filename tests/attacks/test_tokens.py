"""Tokens as weapons against a real edge: an issuer that hangs, keys that lie, claims that break."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sse_edge.http.issuer_keys import AGAIN_AFTER_S, ANSWER_S
from tests.conftest import World
from tests.support.clients import stream

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

ISSUER = "https://issuer.example"
KEY = Ed25519PrivateKey.generate()
ALERTS = "/api/v1/sse/alerts"
STATUS = "/api/v1/sse/status"


def token(key_id: str = "a", **claims: object) -> str:
    known = {"iss": ISSUER, "sub": "alice", "exp": int(time.time()) + 600}
    return jwt.encode(known | claims, KEY, "EdDSA", {"kid": key_id})


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


class Issuer:
    """An issuer on loopback, which hangs until a test lets it answer."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.reads = 0

    async def keys(self, request: web.Request) -> web.Response:
        del request
        self.reads += 1
        await self.answers.wait()
        key = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        return web.json_response({"keys": [key | {"kid": "a"}]})


@asynccontextmanager
async def running_issuer() -> AsyncGenerator[tuple[Issuer, str]]:
    issuer, app = Issuer(), web.Application()
    app.router.add_get("/keys", issuer.keys)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield issuer, f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    finally:
        issuer.answers.set()
        await runner.cleanup()


async def timed(http: httpx.AsyncClient, key_id: str) -> tuple[int, float]:
    began_s = time.monotonic()
    answer = await http.get(STATUS, headers=bearer(token(key_id)))
    return answer.status_code, time.monotonic() - began_s


async def test_an_issuer_that_hangs_costs_one_time_out_and_never_a_known_key(world: World) -> None:
    async with running_issuer() as (issuer, url):
        edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=url)
        async with httpx.AsyncClient(base_url=edge.url, timeout=60) as http:
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                answers = [tasks.create_task(timed(http, f"key-{n}")) for n in range(20)]
            assert {task.result()[0] for task in answers} == {503}
            assert time.monotonic() - began_s < ANSWER_S + 2
            assert issuer.reads <= 2

            # A browser's stream gets an answer from which it comes back.
            headers = bearer(token("a")) | {"Accept": "text/event-stream"}
            async with stream(edge.url, ALERTS, headers=headers) as client:
                assert client.response.status_code == 200
                [block] = await client.to_end()
            assert (block.event, block.json["reason"]) == ("error", "no_keys")
            assert block.retry_ms
            with pytest.raises(ConnectionClosed) as closed:
                async with connect(
                    edge.url.replace("http", "ws") + "/ws/backtest/x",
                    additional_headers=bearer(token("a")),
                ) as socket:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013

            issuer.answers.set()
            async with asyncio.timeout(2 * (AGAIN_AFTER_S + ANSWER_S)):
                while (await timed(http, "a"))[0] != 200:  # noqa: ASYNC110  # of another process
                    await asyncio.sleep(0.2)  # nothing tells a client that keys were read

            issuer.answers.clear()
            await asyncio.sleep(AGAIN_AFTER_S)
            async with asyncio.TaskGroup() as tasks:
                unknown = tasks.create_task(timed(http, "other"))
                good = [tasks.create_task(timed(http, "a")) for _ in range(20)]
            assert {task.result()[0] for task in good} == {200}
            assert max(task.result()[1] for task in good) < ANSWER_S / 2 < unknown.result()[1]
            assert unknown.result()[0] == 503


async def test_no_token_makes_an_edge_fail(world: World, tmp_path: Path) -> None:
    key = OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    jwks = tmp_path / "keys.json"
    jwks.write_text(json.dumps({"keys": [{"kty": "RSA", "kid": "bad"}, key | {"kid": "a"}]}))
    edge = await world.edge(jwt_issuer=ISSUER, jwt_jwks=jwks, jwt_scope_claim="scope")

    def of_exp(exp: str) -> str:
        claims = json.dumps({"iss": ISSUER, "sub": "alice", "exp": 0}).replace(": 0}", f": {exp}}}")
        return jwt.PyJWS().encode(claims.encode(), KEY, "EdDSA", {"kid": "a"})

    absurd = ("1e999", "-1e999", "NaN", str(10**400), "1e308", "9" * 5_000, "{}", "[1]", '"x"')
    bad = [of_exp(exp) for exp in absurd]
    bad += [token(tenant=tenant) for tenant in (["acme"], {"id": "acme"}, True, "x" * 300)]
    bad += [token(scope=scope) for scope in (7, {"read": True}, [1])]
    bad += [token(sub=sub) for sub in (7, None, "", ["alice"], "x" * 300)]
    bad += [jwt.PyJWS().encode(b"[" * 9_000, KEY, "EdDSA", {"kid": "a"})]
    bad += ["s3cr3t", "e30.e30.", "a.b.c", ".", "..", "x" * 17_000]
    async with httpx.AsyncClient(base_url=edge.url, timeout=30) as http:
        assert (await http.get(STATUS, headers=bearer(token()))).status_code == 200
        for text in bad:
            answer = await http.get(STATUS, headers=bearer(text))
            assert answer.status_code == 401, (text[:200], answer.text)
            assert text not in answer.text
