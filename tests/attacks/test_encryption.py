"""TLS on the edge, and what needs a token where tokens are required."""

import asyncio
import socket
import ssl
import time
from pathlib import Path

import httpx
import jwt
import pytest

from kafka_io.errors import InvalidSetting
from sse_edge.http import tls
from sse_edge.settings import EdgeSettings
from tests.support.certificates import Authority, encrypted
from tests.support.edge_server import EdgeServer, edge_server

CLOSED = {"jwt_issuer": "https://issuer.example", "jwt_hs256_secret": "s" * 32}


async def shown(edge: EdgeServer) -> bytes:
    """Return the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate


async def until_shown(edge: EdgeServer, certificate: bytes) -> None:
    """Wait until new connections are shown a certificate; the edge looks at files repeatedly."""
    async with asyncio.timeout(20):
        while True:
            if await shown(edge) == certificate:
                return
            await asyncio.sleep(0.05)  # only a handshake shows which certificate is in use


async def test_an_edge_speaks_https_and_takes_a_renewed_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_S", 0.05)
    authority = Authority(tmp_path)
    used = authority.server("127.0.0.1")
    first = (used.certificate.read_bytes(), used.key.read_bytes())
    async with edge_server(tls_cert=used.certificate, tls_key=used.key) as edge:
        trusted = ssl.create_default_context(cafile=authority.file)
        async with httpx.AsyncClient(base_url=edge.url, verify=trusted) as http:
            assert (await http.get("/health/live")).status_code == 200
            before = await shown(edge)
            renewed = authority.server("127.0.0.1")  # in the same files
            certificate, key = renewed.certificate.read_bytes(), renewed.key.read_bytes()
            await until_shown(edge, ssl.PEM_cert_to_DER_cert(certificate.decode().split("\n\n")[0]))
            # The open connection goes on, and a key without its certificate is not taken.
            assert (await http.get("/health/live")).status_code == 200
            refused = asyncio.Event()
            monkeypatch.setattr(tls.logger, "warning", lambda *_: refused.set())
            renewed.key.write_bytes(first[1])
            async with asyncio.timeout(20):
                await refused.wait()
            assert (await shown(edge)) != before
            renewed.certificate.write_bytes(first[0])
            await until_shown(edge, before)
    assert key != first[1]


async def test_an_edge_with_tls_speaks_neither_plain_http_nor_old_versions(tmp_path: Path) -> None:
    used = Authority(tmp_path).server("127.0.0.1")
    async with edge_server(tls_cert=used.certificate, tls_key=used.key) as edge:
        plain = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert not (await edge.answer(plain)).startswith(b"HTTP")
    assert tls.context_of(used.certificate, used.key).minimum_version == ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_pair_are_refused_without_their_paths(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority = Authority(tmp_path)
    used, other = authority.server("127.0.0.1"), Authority(tmp_path / "other").client("other")
    for files in (
        (used.certificate, other.key),
        (used.certificate, tmp_path / "none"),
        (used.certificate, encrypted(used.key, "a password")),
        (used.key, None),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011  # of several classes
            tls.context_of(*files)
        assert str(tmp_path) not in tls.reason_of(caught.value)


def test_a_server_that_is_not_encrypted_beyond_this_machine_is_known() -> None:
    def is_clear(**settings: object) -> bool:
        return EdgeSettings(**(CLOSED | settings)).is_clear  # type: ignore[arg-type]  # as given

    assert is_clear(host="0.0.0.0")  # noqa: S104  # never listened on
    assert not is_clear()
    assert is_clear(management_host="192.0.2.1", management_port=9000, metrics_token=True)
    assert not is_clear(management_host="192.0.2.1", management_port=9000)  # it takes no token
    assert not is_clear(host="192.0.2.1", tls_cert="edge.crt")
    assert not is_clear(host="192.0.2.1", trusted_proxies="192.0.2.2")


def token(**claims: object) -> dict[str, str]:
    whole = {"iss": CLOSED["jwt_issuer"], "sub": "u", "exp": time.time() + 600} | claims
    return {"Authorization": f"Bearer {jwt.encode(whole, CLOSED['jwt_hs256_secret'], 'HS256')}"}


async def test_metrics_and_documentation_need_a_token_where_the_settings_say_so() -> None:
    paths = ("/metrics", "/docs", "/openapi.json", "/redoc")
    async with edge_server(**CLOSED) as edge, httpx.AsyncClient(base_url=edge.url) as http:
        assert {(await http.get(path)).status_code for path in paths} == {200}
    async with (
        edge_server(metrics_token=True, docs_token=True, jwt_scope_claim="scope", **CLOSED) as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        assert {(await http.get(path)).status_code for path in paths} == {401}
        assert (await http.get("/health/live")).status_code == 200
        reader, admin = token(scope="read"), token(scope="admin")
        assert (await http.get("/metrics", headers=reader)).status_code == 403
        assert {(await http.get(path, headers=admin)).status_code for path in paths} == {200}
        docs = await http.get("/docs", headers=reader)
        assert (docs.status_code, docs.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"tls_key": "edge.key"}, "TAPEWIRE_TLS_CERT is not"),
        ({"metrics_token": True}, "this edge is open"),
        ({"docs_token": True}, "this edge is open"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        EdgeSettings(**settings)  # type: ignore[arg-type]  # as given


async def test_a_handshake_that_does_not_come_keeps_others_from_nothing(tmp_path: Path) -> None:
    used = Authority(tmp_path).server("127.0.0.1")
    async with edge_server(tls_cert=used.certificate, tls_key=used.key) as edge:
        silent = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(100)]
        try:
            assert await shown(edge)
        finally:
            for held in silent:
                held.close()
