"""The keys of an issuer that rotates, hangs, lies and comes back."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from sse_edge.errors import Unavailable
from sse_edge.http.issuer_keys import AGAIN_AFTER_S, ANSWER_S, BYTES_MAX, KEPT_S, IssuerKeys

ED: Any = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True)
PRIVATE_RSA: Any = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048), as_dict=True)
SHORT_RSA: Any = RSAAlgorithm.to_jwk(
    rsa.generate_private_key(65537, 1024).public_key(),  # noqa: S505  # to be refused
    as_dict=True,
)
P384: Any = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)


def key_set(*ids: str) -> bytes:
    return json.dumps({"keys": [ED | {"kid": key_id} for key_id in ids]}).encode()


class Issuer:
    """An issuer whose answers a test sets."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.delay_s = 0.0
        self.reads = 0

    async def __call__(self) -> bytes:
        self.reads += 1
        await asyncio.sleep(self.delay_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def reading(issuer: Issuer) -> AsyncGenerator[IssuerKeys]:
    keys = IssuerKeys("unused", issuer)
    async with keys.refreshing():
        yield keys


async def refusal(keys: IssuerKeys, key_id: str) -> type[Exception]:
    try:
        await keys.find(key_id)
    except (jwt.InvalidTokenError, Unavailable) as error:
        return type(error)
    raise AssertionError(f"the key {key_id} was found")


@pytest.mark.virtual_time
async def test_a_rotated_key_is_found_without_a_restart_and_the_old_one_no_more() -> None:
    issuer = Issuer(key_set("a"))
    async with reading(issuer) as keys:
        assert await keys.find("a")
        issuer.answer = key_set("b")
        assert await refusal(keys, "b") is jwt.InvalidTokenError  # it has looked a moment ago
        await asyncio.sleep(AGAIN_AFTER_S)
        assert await keys.find("b")
        assert await refusal(keys, "a") is jwt.InvalidTokenError
        assert issuer.reads == 2


@pytest.mark.virtual_time
async def test_failed_reads_are_counted_and_the_last_good_one_has_its_time() -> None:
    issuer = Issuer(OSError("away"))
    before_s = time.time()
    async with reading(issuer) as keys:
        await refusal(keys, "a")
        assert (keys.reads.failures, keys.reads.is_failing) == (1, True)
        assert keys.reads.succeeded_s is None
        issuer.answer = key_set("a")
        await asyncio.sleep(AGAIN_AFTER_S + 1)
        good_s = keys.reads.succeeded_s
        assert good_s is not None
        assert good_s >= before_s
        assert (keys.reads.failures, keys.reads.is_failing) == (1, False)
        issuer.answer = b"{}"
        await asyncio.sleep(KEPT_S + 1)
        assert (keys.reads.failures, keys.reads.is_failing) == (2, True)
        assert keys.reads.succeeded_s == good_s


@pytest.mark.virtual_time
async def test_known_keys_never_wait_while_the_issuer_hangs() -> None:
    issuer, loop = Issuer(key_set("a")), asyncio.get_running_loop()
    async with reading(issuer) as keys:
        await keys.find("a")
        issuer.delay_s = 3_600
        await asyncio.sleep(KEPT_S + 1)
        assert issuer.reads == 2
        began_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            unknown = tasks.create_task(refusal(keys, "other"))
            await asyncio.sleep(0)
            assert await keys.find("a")
            assert loop.time() == began_s
        assert unknown.result() is Unavailable


@pytest.mark.virtual_time
async def test_twenty_callers_of_an_issuer_that_hangs_wait_for_one_answer_together() -> None:
    issuer, loop = Issuer(key_set("a")), asyncio.get_running_loop()
    issuer.delay_s = 3_600
    async with reading(issuer) as keys:
        async with asyncio.TaskGroup() as tasks:
            refused = [tasks.create_task(refusal(keys, f"key-{n}")) for n in range(20)]
        assert {task.result() for task in refused} == {Unavailable}
        assert loop.time() <= ANSWER_S
        assert issuer.reads == 1
        await asyncio.sleep(1)
        before_s = loop.time()
        assert await refusal(keys, "later") is Unavailable  # the failure is remembered
        assert loop.time() == before_s
        issuer.delay_s = 0
        await asyncio.sleep(AGAIN_AFTER_S)
        assert await keys.find("a")


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "answer",
    [
        b'{"keys":[]}',
        b"",
        b"{}",
        b"[]",
        b'{"keys":{}}',
        b'{"keys":[{"kty":"oct","k":"AAAA"}]}',
        b"[" * 100_000,
        b"\xff",
        OSError("away"),
        RuntimeError("unforeseen"),
    ],
)
async def test_one_bad_answer_drops_no_good_key(
    answer: bytes | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = Issuer(key_set("a"))
    async with reading(issuer) as keys:
        await keys.find("a")
        issuer.answer = answer
        await asyncio.sleep(KEPT_S + 1)
        assert issuer.reads == 2
        assert await keys.find("a")
        await asyncio.sleep(10 * AGAIN_AFTER_S)
        warnings = [message for message in caplog.messages if "cannot be read" in message]
        assert len(warnings) == 1
        assert warnings[0].endswith("the 1 known keys stay valid")
        issuer.answer = key_set("b")
        await asyncio.sleep(AGAIN_AFTER_S)
        assert await keys.find("b")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (SHORT_RSA, "it has 1024 bits; at least 2048 are needed"),
        (PRIVATE_RSA | {"alg": "PS256"}, "its `alg` is 'PS256', not RS256"),
        (P384, "its `crv` is 'P-384', not P-256"),
        (PRIVATE_RSA | {"n": "not base64!"}, "it is damaged"),
        ({"kty": "RSA"}, "it is damaged"),
        ({"kty": "OKP", "crv": "X25519", "x": "AAAA"}, "it is damaged"),
        (ED | {"kid": ["a"]}, "its `kid` is no text"),
        ("text", "it is no object"),
    ],
)
async def test_a_key_that_cannot_be_used_is_passed_over_with_a_warning(
    key: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    unusable = key | {"kid": "bad"} if isinstance(key, dict) and "kid" not in key else key
    answer = json.dumps({"keys": [unusable, ED | {"kid": "good"}]}).encode()
    async with reading(Issuer(answer)) as keys:
        assert await keys.find("good")
        assert await refusal(keys, "bad") is jwt.InvalidTokenError
    assert f"key 0 of TAPEWIRE_JWT_JWKS is passed over: {why}" in caplog.text


@pytest.mark.parametrize("other", [{"kty": "oct"}, ED | {"use": "enc"}, {"kty": ["RSA"]}])
async def test_a_key_for_something_else_is_passed_over_in_silence(
    other: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(Issuer(json.dumps({"keys": [other, ED]}).encode())) as keys:
        assert await keys.find(None)
    assert caplog.text == ""


async def test_only_the_public_part_of_a_private_key_is_taken() -> None:
    async with reading(Issuer(json.dumps({"keys": [PRIVATE_RSA | {"kid": "a"}]}).encode())) as keys:
        found = await keys.find("a")
    assert isinstance(found.key, rsa.RSAPublicKey)


Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        yield f"http://127.0.0.1:{port}/s3cr3t?key=s3cr3t"
    finally:
        await runner.cleanup()


async def _good(request: web.Request) -> web.Response:
    del request
    return web.Response(body=key_set("a"))


async def _redirect(request: web.Request) -> web.Response:
    if request.path == "/there":
        return await _good(request)
    raise web.HTTPFound("/there")


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2 * BYTES_MAX // 65_536):
        await response.write(b" " * 65_536)
    return response


async def _bomb(request: web.Request) -> web.Response:
    del request
    response = web.Response(body=b" " * (8 << 20))
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def _missing(request: web.Request) -> web.Response:
    del request
    return web.Response(status=404)


async def test_the_keys_are_read_from_an_address() -> None:
    async with serving(_good) as url:
        keys = IssuerKeys(url)
        async with keys.refreshing():
            assert await keys.find("a")


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (_redirect, "it redirects to another address"),
        (_endless, f"more than {BYTES_MAX} bytes"),
        (_bomb, "more than|no JSON Web Key Set"),
        (_missing, "status 404"),
    ],
)
async def test_an_answer_that_is_no_set_of_bounded_size_is_refused(
    handler: Handler, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sse_edge")
    async with serving(handler) as url:
        keys = IssuerKeys(url)
        async with keys.refreshing():
            with pytest.raises(Unavailable) as refused:
                await keys.find("a")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("sse_edge")]
    assert re.search(f"cannot be read: .*({why})", "\n".join(lines))
    assert "s3cr3t" not in str(refused.value) + "".join(lines)


@pytest.mark.parametrize("kind", ["none", "pipe", "folder", "long"])
async def test_a_file_that_is_no_set_is_refused_and_its_path_is_not_shown(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s3cr3t.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "long":
        path.write_bytes(b" " * (BYTES_MAX + 1))
    keys = IssuerKeys(str(path))
    async with keys.refreshing():
        with pytest.raises(Unavailable, match="cannot be read") as refused:
            await keys.find("a")
    assert "the keys of TAPEWIRE_JWT_JWKS cannot be read" in caplog.text
    assert "s3cr3t" not in str(refused.value) + caplog.text
