"""A client cannot give itself another address, and proxies that are named can give it its own."""

import httpx
import pytest

from kafka_io.errors import InvalidSetting
from sse_edge.settings import EdgeSettings
from tests.support.edge_server import EdgeServer, edge_server

HERE = "127.0.0.0/8"


async def statuses(edge: EdgeServer, *forwarded: str) -> list[int]:
    """Write once for each forwarded address, on an edge that lets each address write once."""
    found = []
    async with httpx.AsyncClient(base_url=edge.url) as http:
        for address in forwarded:
            headers = {"X-Forwarded-For": address} if address else {}
            answer = await http.post("/send-message", json={}, headers=headers)
            found.append(answer.status_code)
    return found


async def test_forwarded_addresses_of_clients_are_ignored_also_on_this_machine() -> None:
    async with edge_server(writes_per_minute_max=1) as edge:
        assert await statuses(edge, "", "203.0.113.1", "203.0.113.2") == [503, 429, 429]


async def test_clients_of_a_named_proxy_have_their_own_addresses() -> None:
    async with edge_server(writes_per_minute_max=1, trusted_proxies=HERE) as edge:
        assert await statuses(edge, "203.0.113.1", "203.0.113.2", "203.0.113.1") == [503, 503, 429]


async def test_a_client_of_a_proxy_gets_no_other_address_by_naming_one() -> None:
    async with edge_server(writes_per_minute_max=1, trusted_proxies=HERE) as edge:
        forged = [f"198.51.100.{number}, 203.0.113.1" for number in range(3)]
        assert await statuses(edge, *forged) == [503, 429, 429]


async def test_all_addresses_of_a_network_of_ipv6_count_as_one() -> None:
    async with edge_server(writes_per_minute_max=1, trusted_proxies=HERE) as edge:
        addresses = ("2001:db8::1", "2001:db8::ffff:1:2", "2001:db8:0:1::1")
        assert await statuses(edge, *addresses) == [503, 429, 503]


async def test_a_proxy_says_that_its_clients_speak_tls() -> None:
    async with (
        edge_server(trusted_proxies=HERE) as edge,
        httpx.AsyncClient(base_url=edge.url) as http,
    ):
        headers = {"Origin": "http://edge.localhost", "Host": "edge.localhost"}
        assert (await http.post("/send-message", json={}, headers=headers)).status_code == 503
        headers["X-Forwarded-Proto"] = "https"
        assert (await http.post("/send-message", json={}, headers=headers)).status_code == 403


@pytest.mark.parametrize("proxy", ["*", "a-proxy", "10.0.0.0/99"])
def test_a_proxy_that_is_no_address_is_refused_at_start(proxy: str) -> None:
    with pytest.raises(InvalidSetting, match="neither an address nor a network"):
        EdgeSettings(trusted_proxies=proxy)  # type: ignore[arg-type]  # read as from the environment
