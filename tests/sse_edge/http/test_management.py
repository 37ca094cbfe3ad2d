import re
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sse_edge.app import build_api
from sse_edge.delivery.fair_queue import FairQueue
from sse_edge.errors import NoSuchThing
from sse_edge.http.management import DOCS_PATHS, METRICS_PATH, refuse_on_other_port
from sse_edge.settings import EdgeSettings
from tests.support.certificates import Authority
from tests.support.edge_server import edge_server
from tests.support.fake_log import FakeLog

MANAGED = (METRICS_PATH, *sorted(DOCS_PATHS))
HEALTH = ("/health", "/health/", "/health/live")
MAIN = ("/", "/assets/app.js", "/api/v1/about", "/api/v1/sse/channels", "/nothing")


async def test_each_port_serves_its_own_paths_and_both_the_health_checks() -> None:
    async with (
        edge_server(log=FakeLog(slowest_s=0), management_port=0) as edge,
        httpx.AsyncClient() as http,
    ):

        async def status(url: str, path: str, **headers: str) -> int:
            return (await http.get(url + path, headers=headers)).status_code

        main, managing = edge.url, edge.management_url
        assert {await status(managing, path) for path in (*MANAGED, *HEALTH)} == {200}
        assert {await status(managing, path) for path in MAIN} == {404}
        assert {await status(main, path) for path in (*MAIN[:-1], *HEALTH)} == {200}
        # What a request says of its host has no say.
        host = managing.removeprefix("http://")
        assert {await status(main, path, host=host) for path in MANAGED} == {404}
        script = re.findall(
            r'/static-offline-docs/[^"]+\.js', (await http.get(f"{managing}/docs")).text
        )[0]
        assert await status(managing, script) == 200
        assert await status(main, script) == 404
        refused = await http.get(f"{main}/metrics")
        assert refused.json()["reason"] == "not_found"
        assert "/docs" not in (await http.get(main)).text
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(f"{managing.replace('http', 'ws')}/ws/backtest/j"):
                pass


async def test_the_management_port_speaks_tls_as_the_main_port_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    used = authority.server("127.0.0.1")
    async with (
        edge_server(tls_cert=used.certificate, tls_key=used.key, management_port=0) as edge,
        httpx.AsyncClient(verify=ssl.create_default_context(cafile=authority.file)) as http,
    ):
        assert edge.management_url.startswith("https")
        assert (await http.get(f"{edge.management_url}/metrics")).status_code == 200


async def test_a_token_is_needed_on_the_management_port_where_the_settings_say_so() -> None:
    closed = {"jwt_issuer": "https://issuer.example", "jwt_hs256_secret": "s" * 32}
    async with (
        edge_server(metrics_token=True, management_port=0, **closed) as edge,
        httpx.AsyncClient() as http,
    ):
        assert (await http.get(f"{edge.management_url}/metrics")).status_code == 401
        assert (await http.get(f"{edge.url}/metrics")).status_code == 404


def test_the_documentation_is_all_that_the_application_serves_of_it() -> None:
    app = build_api(EdgeSettings(), FairQueue())
    assert {
        app.docs_url or "/docs",
        app.redoc_url or "/redoc",
        app.openapi_url,
        app.swagger_ui_oauth2_redirect_url,
    } == DOCS_PATHS


@pytest.mark.parametrize("server", [None, ("/run/edge.sock", None), ("::1", 80, 0, 0)])
def test_a_request_by_no_port_is_one_to_the_main_port(server: object) -> None:
    refuse_on_other_port({"path": "/", "server": server}, 9000)
    with pytest.raises(NoSuchThing):
        refuse_on_other_port({"path": "/metrics", "server": server}, 9000)
    refuse_on_other_port({"path": "/metrics", "server": server}, None)
